//! The system calls of each kind of thread, beside those of every thread
//! ([`boxbuild_jail::seccomp::COMMON`]).

use boxbuild_jail::seccomp::{COMMON, Check, Condition, FILTER_SETUP, LANDLOCK_SETUP, Rule, SPAWN};
use boxbuild_virtiofs::system_calls::SERVE;
use libc::{AF_INET, AF_INET6, AF_UNIX, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_NONBLOCK, SOCK_STREAM};

use super::ioctls;
use super::role::Role;
use crate::virtio::Kind;

/// A set of tables.
type Tables = Vec<&'static [Rule]>;

/// Every table of this package, with its name: for tests of each rule.
pub fn tables() -> Vec<(&'static str, &'static [Rule])> {
    vec![
        ("report", REPORT),
        ("vcpu", VCPU),
        ("vcpu, ioctl", ioctls::VCPU),
        ("events", EVENTS),
        ("poll", POLL),
        ("device", DEVICE),
        ("virtio-blk", BLOCK),
        ("unpack", UNPACK),
        ("virtio-fs", SERVE),
        ("virtio-net", NET),
        ("main", MAIN),
    ]
}

/// The calls of a thread that has this role.
pub(super) fn of(role: Role) -> Tables {
    let own: &[Rule] = match role {
        Role::Vcpu => return vec![COMMON, REPORT, VCPU, ioctls::VCPU],
        Role::Unpack => return vec![COMMON, UNPACK],
        Role::Device(Kind::Net) => NET,
        Role::Device(Kind::Block) => BLOCK,
        Role::Device(Kind::Fs) => SERVE,
        Role::Device(Kind::Console | Kind::Rng | Kind::Balloon) => &[],
    };
    vec![COMMON, REPORT, EVENTS, DEVICE, own]
}

/// The calls of a network that serves a stream of frames.
pub(super) fn of_stream() -> Tables {
    vec![COMMON, EVENTS, POLL, NET]
}

/// The calls of the main thread: its own, and all that the threads of devices make, because they
/// inherit its filter.
pub(super) fn of_main() -> Tables {
    vec![
        COMMON,
        REPORT,
        EVENTS,
        POLL,
        DEVICE,
        NET,
        BLOCK,
        SERVE,
        MAIN,
        SPAWN,
        FILTER_SETUP,
        LANDLOCK_SETUP,
    ]
}

const fn arg(argument: u8, check: Check) -> Condition {
    Condition::new(argument, check)
}

const fn is(argument: u8, value: libc::c_int) -> Condition {
    arg(argument, Check::Is(value as u32))
}

/// To tell the parent something: its channel is descriptor 0.
const REPORT: &[Rule] = &[Rule::when(libc::SYS_sendmsg, &[is(0, 0)])];

/// What CPUs do beside what their instructions ask of KVM: they make the events of queues that
/// their guest enables.
const VCPU: &[Rule] = &[
    Rule::any(libc::SYS_eventfd2),
    Rule::when(libc::SYS_fcntl, &[is(1, libc::F_DUPFD_CLOEXEC)]),
];

/// To wait for many descriptors.
const EVENTS: &[Rule] = &[
    #[cfg(target_arch = "x86_64")]
    Rule::any(libc::SYS_epoll_wait),
    Rule::any(libc::SYS_epoll_pwait),
    Rule::any(libc::SYS_epoll_ctl),
];

/// To wait for a few.
const POLL: &[Rule] = &[
    #[cfg(target_arch = "x86_64")]
    Rule::any(libc::SYS_poll),
    Rule::any(libc::SYS_ppoll),
];

/// What the thread of any device does: interrupt its driver.
const DEVICE: &[Rule] = ioctls::INTERRUPTS;

/// A disk, as open files.
const BLOCK: &[Rule] = &[
    Rule::any(libc::SYS_pread64),
    Rule::any(libc::SYS_preadv),
    Rule::any(libc::SYS_pwrite64),
    Rule::any(libc::SYS_pwritev),
    Rule::any(libc::SYS_fallocate),
    Rule::any(libc::SYS_fdatasync),
    // An image that is written in place and grows.
    Rule::any(libc::SYS_ftruncate),
    Rule::any(libc::SYS_statx),
];

/// To unpack parts of an open image.
const UNPACK: &[Rule] = &[Rule::any(libc::SYS_pread64)];

/// A new socket of this family and type.
macro_rules! socket {
    ($family:expr, $kind:expr) => {
        Rule::when(
            libc::SYS_socket,
            &[
                is(0, $family),
                arg(
                    1,
                    Check::IsBut {
                        value: $kind as u32,
                        ignored: (SOCK_NONBLOCK | SOCK_CLOEXEC) as u32,
                    },
                ),
            ],
        )
    };
}

/// A network: connections to other hosts, none from there but by the listener that is open.
const NET: &[Rule] = &[
    socket!(AF_INET, SOCK_STREAM),
    socket!(AF_INET, SOCK_DGRAM),
    socket!(AF_INET6, SOCK_STREAM),
    socket!(AF_INET6, SOCK_DGRAM),
    Rule::any(libc::SYS_connect),
    // Streams to the process that continues connections.
    Rule::when(
        libc::SYS_socketpair,
        &[
            is(0, AF_UNIX),
            arg(
                1,
                Check::IsBut {
                    value: SOCK_STREAM as u32,
                    ignored: (SOCK_NONBLOCK | SOCK_CLOEXEC) as u32,
                },
            ),
        ],
    ),
    Rule::any(libc::SYS_accept4),
    Rule::any(libc::SYS_shutdown),
    Rule::any(libc::SYS_sendto),
    Rule::any(libc::SYS_sendmsg),
    Rule::any(libc::SYS_recvfrom),
    Rule::any(libc::SYS_recvmsg),
    Rule::any(libc::SYS_getsockopt),
    Rule::any(libc::SYS_setsockopt),
    Rule::any(libc::SYS_getsockname),
    Rule::any(libc::SYS_getpeername),
    Rule::when(libc::SYS_ioctl, &[arg(1, Check::Is(libc::FIONBIO as u32))]),
    Rule::any(libc::SYS_timerfd_create),
    Rule::any(libc::SYS_timerfd_settime),
];

/// The parent's wishes, and what new threads of devices do before they have a filter of their own.
const MAIN: &[Rule] = &[
    Rule::when(libc::SYS_recvmsg, &[is(0, 0)]),
    Rule::any(libc::SYS_eventfd2),
    Rule::any(libc::SYS_epoll_create1),
    Rule::when(libc::SYS_fcntl, &[is(1, libc::F_DUPFD_CLOEXEC)]),
    Rule::when(libc::SYS_unshare, &[is(0, libc::CLONE_FS)]),
    Rule::any(libc::SYS_umask),
];
