//! System calls that boxbuild cannot do without, and that a kernel or a container may not have.

use nix::errno::Errno;

/// What is asked for: a name for people, and a call with arguments that no kernel accepts. One that is
/// there complains about them and does nothing.
const NEEDED: &[(&str, libc::c_long)] = &[
    ("openat2", libc::SYS_openat2),
    ("memfd_create", libc::SYS_memfd_create),
    ("renameat2", libc::SYS_renameat2),
    ("statx", libc::SYS_statx),
    ("getrandom", libc::SYS_getrandom),
    ("clone3", libc::SYS_clone3),
    ("pidfd_open", libc::SYS_pidfd_open),
    ("close_range", libc::SYS_close_range),
];

/// Those whose absence the C library and others provide for; only a refusal stops them.
const MAY_BE_MISSING: &[&str] = &["clone3", "pidfd_open", "close_range"];

/// Returns why boxbuild cannot work here: a call that it needs is missing or forbidden.
#[must_use]
pub fn problem() -> Option<String> {
    problem_with(try_call)
}

fn problem_with(call: impl Fn(libc::c_long) -> Errno) -> Option<String> {
    NEEDED.iter().find_map(|(name, number)| {
        let why = match call(*number) {
            Errno::ENOSYS if MAY_BE_MISSING.contains(name) => return None,
            Errno::ENOSYS => "the kernel of this host has no system call",
            Errno::EPERM => "this host forbids the system call",
            _ => return None,
        };
        Some(format!(
            "{why} {name}, which boxbuild needs: Linux 5.6 or newer has it, and old container \
             runtimes forbid it (in a container, update the runtime, or start it with --security-opt \
             seccomp=unconfined)"
        ))
    })
}

/// Calls with arguments that are wrong for each of them, and returns the error.
fn try_call(number: libc::c_long) -> Errno {
    // Descriptors that are none, addresses that are not mapped, flags that there are not, and lengths that
    // are too long or too short: -1 is all of these.
    //
    // SAFETY: none of the calls reads or writes memory of this process before it has checked the
    // addresses, and the highest one is never mapped; none has an effect with such flags.
    let result = unsafe { libc::syscall(number, -1_i64, -1_i64, -1_i64, -1_i64, -1_i64, -1_i64) };
    if result == -1 {
        Errno::last()
    } else {
        Errno::UnknownErrno
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_runs_tests_has_all_of_them() {
        assert_eq!(problem(), None);
        for (name, number) in NEEDED {
            let error = try_call(*number);
            assert_ne!(error, Errno::UnknownErrno, "{name} did something");
        }
    }

    #[test]
    fn what_is_forbidden_is_named() {
        let with = |wrong: libc::c_long, error: Errno| {
            problem_with(|number| {
                if number == wrong {
                    error
                } else {
                    Errno::EINVAL
                }
            })
        };
        let text = with(libc::SYS_openat2, Errno::EPERM).unwrap();
        assert!(text.contains("forbids the system call openat2"), "{text}");
        let text = with(libc::SYS_openat2, Errno::ENOSYS).unwrap();
        assert!(text.contains("has no system call openat2"), "{text}");
        let text = with(libc::SYS_clone3, Errno::EPERM).unwrap();
        assert!(text.contains("clone3"), "{text}");
        assert_eq!(with(libc::SYS_clone3, Errno::ENOSYS), None);
    }
}
