//! boxbuild inside of a container: a profile of system calls, limits, no home, a user without a name.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use boxbuild_tests::{ProcessOutput, Sandbox, skip};
use nix::libc;
use nix::unistd::{Uid, chown, geteuid};

crate::tests! {
    Qemu:
        a_build_in_a_container_with_dockers_profile;
    Program:
        a_system_call_that_is_forbidden_is_named;
}

/// What Docker's default profile forbids without capabilities, as far as boxbuild has to do with it, and
/// Landlock, which older ones do not know.
const FORBIDDEN_BY_DOCKER: &[libc::c_long] = &[
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_io_uring_setup,
    libc::SYS_userfaultfd,
    libc::SYS_keyctl,
    libc::SYS_perf_event_open,
    libc::SYS_bpf,
    libc::SYS_landlock_create_ruleset,
    libc::SYS_landlock_add_rule,
    libc::SYS_landlock_restrict_self,
];

/// A user that /etc/passwd does not have.
const NAMELESS: u32 = 54_321;

/// A filter that refuses `calls` with EPERM (seccomp(2), "Filters").
fn filter(calls: &[libc::c_long]) -> Vec<libc::sock_filter> {
    const LOAD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut filter = vec![step(LOAD, 0, 0, 0)];
    for call in calls {
        filter.push(step(JUMP_IF_EQUAL, 0, 1, u32::try_from(*call).unwrap()));
        let error = libc::SECCOMP_RET_ERRNO | u32::try_from(libc::EPERM).unwrap();
        filter.push(step(RETURN, 0, 0, error));
    }
    filter.push(step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    filter
}

/// Lets `command` run in what is like a container that forbids `calls`.
fn contain(command: &mut Command, calls: &[libc::c_long]) {
    let mut filter = filter(calls);
    for name in ["HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"] {
        command.env_remove(name);
    }
    if geteuid().is_root() {
        command.uid(NAMELESS).gid(NAMELESS);
    }
    let prepare = move || {
        let limit = libc::rlimit {
            rlim_cur: 1024,
            rlim_max: 1024,
        };
        let program = libc::sock_fprog {
            len: u16::try_from(filter.len()).unwrap_or(0),
            filter: filter.as_mut_ptr(),
        };
        // SAFETY: these calls are safe between fork and exec, and the filter outlives them.
        let done = unsafe {
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) == 0
                && libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(
                    libc::PR_SET_SECCOMP,
                    libc::SECCOMP_MODE_FILTER,
                    &raw const program,
                ) == 0
        };
        if done {
            Ok(())
        } else {
            Err(std::io::Error::last_os_error())
        }
    };
    // SAFETY: nothing in it allocates or takes a lock.
    unsafe { command.pre_exec(prepare) };
}

/// Gives the folders of the sandbox to the user that `contain` chooses.
fn hand_over(sandbox: &Sandbox) {
    if !geteuid().is_root() {
        return;
    }
    let own = |path: &Path| {
        let nameless = Uid::from_raw(NAMELESS);
        chown(path, Some(nameless), Some(NAMELESS.into())).unwrap();
    };
    own(&sandbox.path("."));
    own(&sandbox.store());
    own(&sandbox.temp());
    own(&sandbox.store().join(sandbox.box_name()));
    std::fs::create_dir(sandbox.target()).unwrap();
    own(&sandbox.target());
    let all = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(sandbox.path("."), all).unwrap();
}

/// Whether a user without a name can run the program at all, wherever it is.
fn can_run(sandbox: &Sandbox, test: &str) -> bool {
    let mut version = sandbox.command(["--version"]);
    contain(&mut version, &[]);
    let can = version.output().is_ok_and(|output| output.status.success());
    if !can {
        skip(test, "another user cannot reach the program");
    }
    can
}

/// E9: no build started in Docker, whose profile forbids unshare(2).
fn a_build_in_a_container_with_dockers_profile() {
    let sandbox = Sandbox::new("echo image >/result/image");
    hand_over(&sandbox);
    if !can_run(&sandbox, "a_build_in_a_container_with_dockers_profile") {
        return;
    }
    let mut build = sandbox.build_command(&["--boot", "fast"], &[]);
    contain(&mut build, FORBIDDEN_BY_DOCKER);
    ProcessOutput::of(&mut build).expect(0, &["no Landlock"]);
    assert_eq!(sandbox.result("image"), "image\n");
    // The modes are those that the user's umask gives, though the server has none of its own.
    let mode = std::fs::metadata(sandbox.target().join("image")).unwrap();
    assert_eq!(mode.permissions().mode() & 0o002, 0);
    sandbox.assert_nothing_left();
}

fn a_system_call_that_is_forbidden_is_named() {
    let sandbox = Sandbox::new("");
    hand_over(&sandbox);
    if !can_run(&sandbox, "a_system_call_that_is_forbidden_is_named") {
        return;
    }
    for (call, name) in [
        (libc::SYS_openat2, "openat2"),
        (libc::SYS_memfd_create, "memfd_create"),
    ] {
        let mut build = sandbox.build_command(&[], &[]);
        contain(&mut build, &[call]);
        let output = ProcessOutput::of(&mut build);
        let text = format!("this host forbids the system call {name}");
        output.expect(3, &[&text, "seccomp"]);
        assert_eq!(output.stderr.lines().count(), 1, "{output:?}");
    }
    // Where there is no telling where boxes are, one line says what to set.
    let mut build = sandbox.build_command(&[], &[]);
    contain(&mut build, &[]);
    let output = ProcessOutput::of(build.env_remove(OsStr::new("KIWI_BOXED_CACHE_DIR")));
    output.expect(3, &["set HOME, or KIWI_BOXED_CACHE_DIR"]);
}
