//! What every thread of a jailed process may call, and what it takes to start further ones.

use libc::{
    CLONE_CHILD_CLEARTID, CLONE_DETACHED, CLONE_FILES, CLONE_FS, CLONE_PARENT_SETTID, CLONE_SETTLS,
    CLONE_SIGHAND, CLONE_SYSVSEM, CLONE_THREAD, CLONE_VM, MAP_ANONYMOUS, MAP_PRIVATE, PROT_EXEC,
};

use super::rule::Check::{Is, IsBut, OwnPid, Without};
use super::rule::{Condition, Rule};

/// Linux, include/uapi/linux/mman.h.
const MAP_DROPPABLE: libc::c_int = 0x08;

const fn arg(argument: u8, check: super::rule::Check) -> Condition {
    Condition::new(argument, check)
}

/// Memory, locks, the end of a thread and of the process, and the words of a panic.
pub const COMMON: &[Rule] = &[
    Rule::any(libc::SYS_futex),
    // The allocator. Never executable.
    Rule::any(libc::SYS_brk),
    Rule::when(
        libc::SYS_mmap,
        &[
            arg(2, Without(PROT_EXEC as u32)),
            arg(3, Is((MAP_PRIVATE | MAP_ANONYMOUS) as u32)),
        ],
    ),
    // Stacks of threads, and heaps of the allocator that grow in place.
    Rule::when(
        libc::SYS_mmap,
        &[
            arg(2, Without(PROT_EXEC as u32)),
            arg(
                3,
                IsBut {
                    value: (MAP_PRIVATE | MAP_ANONYMOUS) as u32,
                    ignored: (libc::MAP_STACK | libc::MAP_NORESERVE | libc::MAP_FIXED) as u32,
                },
            ),
        ],
    ),
    // Random numbers without a system call: glibc from 2.41 on maps the state that the vDSO keeps, for
    // each processor (sysdeps/unix/sysv/linux/getrandom.c), under Linux 6.11 and newer. It does so with all
    // signals blocked, so that a trap there ends the process without a word.
    Rule::when(
        libc::SYS_mmap,
        &[
            arg(2, Without(PROT_EXEC as u32)),
            arg(3, Is((MAP_DROPPABLE | MAP_ANONYMOUS) as u32)),
        ],
    ),
    // For that, and the C library looks for the borders of the stack.
    Rule::any(libc::SYS_sched_getaffinity),
    Rule::any(libc::SYS_munmap),
    Rule::any(libc::SYS_mremap),
    Rule::when(libc::SYS_mprotect, &[arg(2, Without(PROT_EXEC as u32))]),
    Rule::any(libc::SYS_madvise),
    // Descriptors.
    Rule::any(libc::SYS_close),
    Rule::any(libc::SYS_read),
    Rule::any(libc::SYS_write),
    // Rust's standard library looks, in debug builds, whether what it closes is open.
    Rule::when(libc::SYS_fcntl, &[arg(1, Is(libc::F_GETFD as u32))]),
    // Waiting, and what the kernel does behind a signal.
    Rule::any(libc::SYS_restart_syscall),
    Rule::any(libc::SYS_rt_sigreturn),
    Rule::any(libc::SYS_rt_sigprocmask),
    Rule::any(libc::SYS_sched_yield),
    Rule::any(libc::SYS_clock_nanosleep),
    Rule::any(libc::SYS_nanosleep),
    // The vDSO's fallback, where the host's clock cannot be read without the kernel.
    Rule::any(libc::SYS_clock_gettime),
    // The seed of a hash table, and random numbers for a guest.
    Rule::any(libc::SYS_getrandom),
    // abort() of the C library, after a panic within a panic.
    Rule::any(libc::SYS_gettid),
    Rule::any(libc::SYS_getpid),
    Rule::when(libc::SYS_tgkill, &[arg(0, OwnPid)]),
    // The end.
    Rule::any(libc::SYS_sigaltstack),
    Rule::any(libc::SYS_exit),
    Rule::any(libc::SYS_exit_group),
];

/// Flags of a thread of glibc; musl has one more, without a meaning.
const THREAD: libc::c_int = CLONE_VM
    | CLONE_FS
    | CLONE_FILES
    | CLONE_SIGHAND
    | CLONE_THREAD
    | CLONE_SYSVSEM
    | CLONE_SETTLS
    | CLONE_PARENT_SETTID
    | CLONE_CHILD_CLEARTID;

/// To start threads, and what a new one does first; never processes.
pub const SPAWN: &[Rule] = &[
    // Answered with ENOSYS, by another filter, because its flags cannot be seen.
    Rule::any(libc::SYS_clone3),
    Rule::when(
        libc::SYS_clone,
        &[arg(
            0,
            IsBut {
                value: THREAD as u32,
                ignored: CLONE_DETACHED as u32,
            },
        )],
    ),
    // With the first thread, glibc handles the signal of its setuid() (SIGSETXID in its nptl/).
    Rule::when(libc::SYS_rt_sigaction, &[arg(0, Is(33))]),
    Rule::any(libc::SYS_set_robust_list),
    Rule::any(libc::SYS_rseq),
    Rule::when(libc::SYS_prctl, &[arg(0, Is(libc::PR_SET_NAME as u32))]),
];

/// To install a narrower filter.
pub const FILTER_SETUP: &[Rule] = &[
    Rule::when(
        libc::SYS_prctl,
        &[arg(0, Is(libc::PR_SET_NO_NEW_PRIVS as u32))],
    ),
    Rule::when(
        libc::SYS_seccomp,
        &[arg(0, Is(libc::SECCOMP_SET_MODE_FILTER))],
    ),
];

/// To restrict a thread further with Landlock.
pub const LANDLOCK_SETUP: &[Rule] = &[
    Rule::when(
        libc::SYS_prctl,
        &[arg(0, Is(libc::PR_SET_NO_NEW_PRIVS as u32))],
    ),
    Rule::any(libc::SYS_landlock_create_ruleset),
    Rule::any(libc::SYS_landlock_add_rule),
    Rule::any(libc::SYS_landlock_restrict_self),
    // Whether a rule is for a file or for a folder: fstat(2) of the C library.
    Rule::any(libc::SYS_fstat),
    Rule::when(
        libc::SYS_newfstatat,
        &[arg(3, Is(libc::AT_EMPTY_PATH as u32))],
    ),
];
