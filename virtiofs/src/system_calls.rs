//! The system calls of the threads that serve a share, beside
//! [`COMMON`](boxbuild_jail::seccomp::COMMON): none of them starts a program or a process, or makes
//! a socket.

use boxbuild_jail::seccomp::Check::{Is, IsBut, Within, Without};
use boxbuild_jail::seccomp::{Condition, Rule};

/// `getxattrat`, which the crate libc does not have yet; see `passthrough::sys`.
const SYS_GETXATTRAT: libc::c_long = 464;

/// Permission bits of new and changed files: never a set-id or sticky bit.
const MODES: u32 = 0o777;

/// A file is opened with openat2(2) only by a name of the guest, and created with it only.
const NEVER_BY_OPENAT: u32 = libc::O_CREAT as u32;

/// To answer the requests of a guest.
pub const SERVE: &[Rule] = &[
    Rule::any(libc::SYS_openat2),
    Rule::when(
        libc::SYS_openat,
        &[Condition::new(2, Without(NEVER_BY_OPENAT))],
    ),
    Rule::any(libc::SYS_statx),
    Rule::any(libc::SYS_getdents64),
    Rule::any(libc::SYS_lseek),
    Rule::any(libc::SYS_readlinkat),
    Rule::any(libc::SYS_fstatfs),
    // Data.
    Rule::any(libc::SYS_preadv),
    Rule::any(libc::SYS_pwritev),
    Rule::any(libc::SYS_copy_file_range),
    Rule::any(libc::SYS_fallocate),
    Rule::any(libc::SYS_ftruncate),
    Rule::any(libc::SYS_truncate),
    Rule::any(libc::SYS_fsync),
    Rule::any(libc::SYS_fdatasync),
    Rule::any(libc::SYS_syncfs),
    // Names.
    Rule::when(libc::SYS_mkdirat, &[Condition::new(2, Within(MODES))]),
    Rule::when(
        libc::SYS_mknodat,
        &[Condition::new(
            2,
            IsBut {
                value: libc::S_IFIFO,
                ignored: MODES,
            },
        )],
    ),
    Rule::when(
        libc::SYS_mknodat,
        &[Condition::new(
            2,
            IsBut {
                value: libc::S_IFSOCK,
                ignored: MODES,
            },
        )],
    ),
    Rule::any(libc::SYS_symlinkat),
    Rule::when(
        libc::SYS_linkat,
        &[Condition::new(4, Is(libc::AT_SYMLINK_FOLLOW as u32))],
    ),
    Rule::any(libc::SYS_renameat2),
    Rule::any(libc::SYS_unlinkat),
    // Attributes.
    Rule::when(libc::SYS_fchmodat, &[Condition::new(2, Within(MODES))]),
    Rule::any(libc::SYS_utimensat),
    Rule::any(SYS_GETXATTRAT),
    // Before Linux 6.13.
    Rule::any(libc::SYS_getxattr),
    Rule::any(libc::SYS_setxattr),
    Rule::any(libc::SYS_listxattr),
    Rule::any(libc::SYS_removexattr),
];
