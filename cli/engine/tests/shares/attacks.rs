//! A guest that has taken over a serving thread: what it tries ends the process, or is refused.

use std::ffi::CString;
use std::os::fd::AsRawFd;

use boxbuild_jail::{Entered, FileAccess, Jail, Launch, Role, seccomp};
use boxbuild_virtiofs::system_calls::SERVE;

use crate::support::this_program;
use crate::{Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    a_serving_thread_opens_nothing_beside_its_share,
    a_serving_thread_makes_no_process_program_or_socket,
    a_serving_thread_makes_no_device_and_no_set_id_program,
];

/// Does one thing that an attacker would, within a share, locked as the process is.
pub(crate) const ROLE: Role = Role {
    name: "attacker",
    run: attack,
};

fn attack(mut entered: Entered) -> Result<(), Box<dyn std::error::Error>> {
    let (what, path): (String, String) = entered.config()?;
    let root = entered.descriptor()?;
    Jail::default().allow(&root, FileAccess::Write).lock()?;
    if seccomp::is_available() {
        // To report.
        let send = [seccomp::Rule::any(libc::SYS_sendmsg)];
        seccomp::Filter::compile(&[seccomp::COMMON, SERVE, &send])?.install("attacker")?;
    }
    let path = CString::new(path)?;
    let fd = root.as_raw_fd();
    let name = c"made".as_ptr();
    // SAFETY: all strings end with a NUL, and what the calls return is only compared.
    let result = unsafe {
        match what.as_str() {
            "read" => i64::from(libc::openat(libc::AT_FDCWD, path.as_ptr(), libc::O_RDONLY)),
            "write" => i64::from(libc::openat(libc::AT_FDCWD, path.as_ptr(), libc::O_WRONLY)),
            "unlink" => i64::from(libc::unlinkat(libc::AT_FDCWD, path.as_ptr(), 0)),
            "create" => i64::from(libc::openat(
                fd,
                name,
                libc::O_WRONLY | libc::O_CREAT,
                0o600,
            )),
            "fork" => i64::from(libc::fork()),
            "exec" => i64::from(libc::execv(c"/bin/true".as_ptr(), std::ptr::null())),
            "unix" => i64::from(libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0)),
            "inet" => i64::from(libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0)),
            "ptrace" => libc::ptrace(libc::PTRACE_ATTACH, 1, 0, 0),
            "kill" => i64::from(libc::kill(libc::getppid(), 0)),
            "ioctl" => i64::from(libc::ioctl(fd, libc::FIONREAD, 0)),
            "device" => i64::from(libc::mknodat(fd, name, libc::S_IFCHR | 0o600, 0x103)),
            "fifo" => i64::from(libc::mknodat(fd, name, libc::S_IFIFO | 0o600, 0)),
            "set-id" => i64::from(libc::fchmodat(fd, c"file".as_ptr(), 0o4755, 0)),
            "mode" => i64::from(libc::fchmodat(fd, c"file".as_ptr(), 0o755, 0)),
            "code" => libc::mmap(
                std::ptr::null_mut(),
                4096,
                libc::PROT_READ | libc::PROT_EXEC,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            ) as i64,
            _ => return Err("an unknown attack".into()),
        }
    };
    entered
        .channel()
        .send(&result.to_string().into_bytes(), &[])?;
    Ok(())
}

/// How an attack ended.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    Refused,
    Trapped,
}

fn outcome(what: &str) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("share");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(root.join("file"), "").unwrap();
    let victim = dir.path().join("victim");
    std::fs::write(&victim, "secret").unwrap();
    let root = std::fs::File::open(root).unwrap();
    let path = victim.to_str().unwrap();
    let child = Launch::new(&this_program(), ROLE.name)
        .descriptor(&root)
        .start(&(what, path))
        .unwrap();
    let reply = child.channel().receive(None).unwrap();
    let exit = child.wait(std::time::Duration::from_secs(10)).unwrap();
    let secret = std::fs::read(&victim).unwrap();
    assert_eq!(secret, b"secret", "{what}");
    match reply {
        Some(reply) if reply.starts_with(b"-") => Outcome::Refused,
        Some(_) => Outcome::Done,
        None => {
            assert!(exit.is_trapped(), "{what}: {exit}");
            let words = String::from_utf8(exit.words).unwrap();
            assert!(
                words.contains("the thread attacker made a system call"),
                "{words}"
            );
            Outcome::Trapped
        }
    }
}

fn a_serving_thread_opens_nothing_beside_its_share() {
    if !matches!(
        boxbuild_jail::Landlock::of_host(),
        boxbuild_jail::Landlock::Enforced(_)
    ) {
        eprintln!("skipped: a_serving_thread_opens_nothing_beside_its_share: no Landlock");
        return;
    }
    for what in ["read", "write", "unlink"] {
        assert_eq!(outcome(what), Outcome::Refused, "{what}");
    }
}

fn a_serving_thread_makes_no_process_program_or_socket() {
    if !seccomp::is_available() {
        eprintln!("skipped: a_serving_thread_makes_no_process_program_or_socket: no seccomp");
        return;
    }
    for what in [
        "fork", "exec", "unix", "inet", "ptrace", "kill", "ioctl", "code",
    ] {
        assert_eq!(outcome(what), Outcome::Trapped, "{what}");
    }
}

fn a_serving_thread_makes_no_device_and_no_set_id_program() {
    if !seccomp::is_available() {
        eprintln!("skipped: a_serving_thread_makes_no_device_and_no_set_id_program: no seccomp");
        return;
    }
    for what in ["device", "set-id", "create"] {
        assert_eq!(outcome(what), Outcome::Trapped, "{what}");
    }
    for what in ["fifo", "mode"] {
        assert_eq!(outcome(what), Outcome::Done, "{what}");
    }
}
