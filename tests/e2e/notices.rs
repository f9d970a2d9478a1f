//! What a user is told while the build goes on.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use boxbuild_tests::{ProcessOutput, Sandbox};
use nix::libc;
use serde_json::Value;

crate::tests! {
    Engine:
        a_kernel_without_landlock_is_reported;
}

/// Lets the system calls of Landlock fail in `command`'s process, as on a kernel that was built
/// without it.
fn without_landlock(command: &mut Command) {
    // SAFETY: the closure only makes system calls.
    unsafe { command.pre_exec(hide_landlock) };
}

fn hide_landlock() -> io::Result<()> {
    /// The first of the three system calls, on all architectures; the others follow it
    /// (asm-generic/unistd.h).
    const CREATE_RULESET: u32 = 444;
    /// `seccomp_data.nr` (linux/seccomp.h).
    const NUMBER: u32 = 0;
    let instruction = |code: u32, jt, jf, k| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let compare = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
    let end = libc::BPF_RET | libc::BPF_K;
    let no_such_call = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    let mut code = [
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, NUMBER),
        instruction(compare, 0, 2, CREATE_RULESET),
        instruction(compare, 1, 0, CREATE_RULESET + 3),
        instruction(end, 0, 0, no_such_call),
        instruction(end, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: code.len() as u16,
        filter: code.as_mut_ptr(),
    };
    // SAFETY: the program lives until the second call has returned, which copies it.
    let set = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const program,
            ) == 0
    };
    if set {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The kvm engine only logged it.
fn a_kernel_without_landlock_is_reported() {
    let sandbox = Sandbox::new("echo image >/result/image");
    let mut command = sandbox.build_command(&[], &[]);
    without_landlock(&mut command);
    ProcessOutput::of(&mut command).expect(0, &["Landlock"]);

    let mut command = sandbox.build_command(&["--json"], &[]);
    without_landlock(&mut command);
    let output = ProcessOutput::of(&mut command);
    output.expect(0, &[]);
    let notes: Vec<Value> = output
        .stdout
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|event| event["event"] == "note")
        .collect();
    let told = |note: &Value| {
        note["text"]
            .as_str()
            .is_some_and(|text| text.contains("Landlock"))
    };
    assert!(notes.iter().any(told), "{notes:?}");
    // Once for the process, and once for each share at most.
    assert!(
        notes.iter().filter(|note| told(note)).count() <= 3,
        "{notes:?}"
    );
    sandbox.assert_nothing_left();
}
