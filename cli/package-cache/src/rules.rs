//! The system calls of the cache's process, beside those of every thread.

use boxbuild_jail::seccomp::{COMMON, Check, Condition, Rule, SPAWN};

/// Every table of this package, with its name: for tests of each rule.
pub fn tables() -> Vec<(&'static str, &'static [Rule])> {
    vec![("package cache", SERVE)]
}

/// All tables of the process.
pub(crate) fn all() -> [&'static [Rule]; 3] {
    [COMMON, SPAWN, SERVE]
}

const fn is(argument: u8, value: libc::c_int) -> Condition {
    Condition::new(argument, Check::Is(value as u32))
}

/// Files beneath its folder (Landlock), and connections that are open: no socket of its own.
const SERVE: &[Rule] = &[
    #[cfg(target_arch = "x86_64")]
    Rule::any(libc::SYS_poll),
    Rule::any(libc::SYS_ppoll),
    Rule::any(libc::SYS_sendmsg),
    Rule::any(libc::SYS_recvmsg),
    Rule::any(libc::SYS_sendto),
    Rule::any(libc::SYS_recvfrom),
    Rule::any(libc::SYS_writev),
    Rule::any(libc::SYS_shutdown),
    Rule::any(libc::SYS_getpeername),
    Rule::any(libc::SYS_setsockopt),
    Rule::when(libc::SYS_ioctl, &[is(1, libc::FIONBIO as libc::c_int)]),
    Rule::when(libc::SYS_fcntl, &[is(1, libc::F_DUPFD_CLOEXEC)]),
    Rule::when(libc::SYS_fcntl, &[is(1, libc::F_GETFL)]),
    Rule::any(libc::SYS_openat),
    Rule::any(libc::SYS_statx),
    Rule::any(libc::SYS_fstat),
    Rule::any(libc::SYS_newfstatat),
    Rule::any(libc::SYS_fstatfs),
    Rule::any(libc::SYS_pread64),
    Rule::any(libc::SYS_lseek),
    Rule::any(libc::SYS_flock),
    Rule::any(libc::SYS_renameat),
    Rule::any(libc::SYS_renameat2),
    Rule::any(libc::SYS_linkat),
    Rule::any(libc::SYS_unlinkat),
    Rule::any(libc::SYS_utimensat),
    Rule::any(libc::SYS_getdents64),
];
