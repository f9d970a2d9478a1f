//! What hostile code in a thread would try.

use std::ffi::CStr;
use std::io;

/// One thing to try. It returns what a system call does: negative for an error.
pub type Attempt = (&'static str, fn() -> libc::c_long);

/// The words of a thread that panics on purpose.
pub const LAST_WORDS: &str = "as planned by the test";

/// The place of the panic among the attempts: behind them.
pub const PANIC: usize = ATTEMPTS.len();

/// The name of what every thread may do.
pub const FREE_MEMORY: &str = "use much memory and free it";

/// All of them. Each is a system call as it is, because the C library may refuse first.
pub const ATTEMPTS: &[Attempt] = &[
    // Not hostile: glibc opened a file when it gave memory back, and the machine ended.
    (FREE_MEMORY, || {
        let blocks: Vec<Vec<u8>> = (0..32 << 10).map(|_| vec![1; 1 << 10]).collect();
        std::hint::black_box(&blocks);
        0
    }),
    ("read a file outside", || {
        open(c"/etc/passwd", libc::O_RDONLY)
    }),
    ("read a file outside by openat2", || {
        open2(c"/etc/passwd", libc::O_RDONLY)
    }),
    ("create a file outside", || {
        open(c"/tmp/boxbuild-escaped", libc::O_CREAT | libc::O_WRONLY)
    }),
    ("create a file outside by openat2", || {
        open2(c"/tmp/boxbuild-escaped", libc::O_CREAT | libc::O_WRONLY)
    }),
    ("read a file of the share", || {
        open2(c"file", libc::O_RDONLY)
    }),
    ("start a process", || {
        // SAFETY: the filter ends this process, or the new one has nothing to do.
        call(unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) })
    }),
    ("start a process by clone3", || {
        // Flags 0; SIGCHLD at the place of the exit signal (clone(2), struct clone_args).
        let arguments = [0_u64, 0, 0, 0, libc::SIGCHLD as u64, 0, 0, 0];
        // SAFETY: the structure is as large as is said, and only read.
        call(unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, 64) })
    }),
    ("start a program", || {
        let path = c"/bin/true".as_ptr();
        let arguments = [path, std::ptr::null()];
        // SAFETY: the strings and the list end as they must.
        call(unsafe { libc::syscall(libc::SYS_execve, path, &raw const arguments, 0) })
    }),
    ("make a TCP socket", || {
        socket(libc::AF_INET, libc::SOCK_STREAM)
    }),
    ("make a UDP socket", || {
        socket(libc::AF_INET6, libc::SOCK_DGRAM)
    }),
    ("make a raw socket", || {
        socket(libc::AF_INET, libc::SOCK_RAW)
    }),
    ("make a local socket", || {
        socket(libc::AF_UNIX, libc::SOCK_STREAM)
    }),
    ("make a socket of the kernel", || {
        socket(libc::AF_NETLINK, libc::SOCK_DGRAM)
    }),
    ("make a packet socket", || {
        socket(libc::AF_PACKET, libc::SOCK_DGRAM)
    }),
    ("listen", || plain(libc::SYS_listen, [-1, 1, 0])),
    ("bind", || plain(libc::SYS_bind, [-1, 0, 0])),
    ("map executable memory", || {
        let (prot, flags) = (
            libc::PROT_READ | libc::PROT_EXEC,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        );
        // SAFETY: a new mapping, which nothing uses.
        call(unsafe { libc::syscall(libc::SYS_mmap, 0, 4096, prot, flags, -1, 0) })
    }),
    ("make memory executable", || {
        plain(libc::SYS_mprotect, [0, 4096, libc::PROT_EXEC])
    }),
    ("trace a process", || {
        plain(libc::SYS_ptrace, [libc::PTRACE_ATTACH as i32, parent(), 0])
    }),
    ("signal a process", || {
        plain(libc::SYS_kill, [parent(), libc::SIGTERM, 0])
    }),
    ("signal a thread of a process", || {
        plain(libc::SYS_tgkill, [parent(), parent(), libc::SIGTERM])
    }),
    ("take over a terminal", || {
        plain(libc::SYS_ioctl, [0, libc::TIOCSTI as i32, 0])
    }),
    ("make a machine", || {
        const KVM_CREATE_VM: i32 = 0xae01;
        plain(libc::SYS_ioctl, [-1, KVM_CREATE_VM, 0])
    }),
    ("make a namespace", || {
        plain(libc::SYS_unshare, [libc::CLONE_NEWUSER, 0, 0])
    }),
    ("make rings for input and output", || {
        plain(libc::SYS_io_uring_setup, [1, 0, 0])
    }),
    ("load a program into the kernel", || {
        plain(libc::SYS_bpf, [0, 0, 0])
    }),
    ("handle its own page faults", || {
        plain(libc::SYS_userfaultfd, [0, 0, 0])
    }),
    ("make a file of memory", || {
        plain(libc::SYS_memfd_create, [0, 0, 0])
    }),
    ("be dumped again", || {
        plain(libc::SYS_prctl, [libc::PR_SET_DUMPABLE, 1, 0])
    }),
    ("raise a limit", || plain(libc::SYS_prlimit64, [0, 0, 0])),
    ("use a key", || plain(libc::SYS_keyctl, [0, 0, 0])),
];

/// The folder of the share is the working folder of the process.
fn open(path: &CStr, flags: libc::c_int) -> libc::c_long {
    // SAFETY: the path ends with a NUL.
    call(unsafe {
        libc::syscall(
            libc::SYS_openat,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            0o600,
        )
    })
}

fn open2(path: &CStr, flags: libc::c_int) -> libc::c_long {
    let how = [
        flags as u64,
        if flags & libc::O_CREAT == 0 { 0 } else { 0o600 },
        0,
    ];
    // SAFETY: the path ends with a NUL, and the structure is as large as is said.
    call(unsafe {
        libc::syscall(
            libc::SYS_openat2,
            libc::AT_FDCWD,
            path.as_ptr(),
            &raw const how,
            24,
        )
    })
}

fn socket(family: libc::c_int, kind: libc::c_int) -> libc::c_long {
    plain(libc::SYS_socket, [family, kind, 0])
}

/// A call whose arguments are numbers, or pointers to nothing.
fn plain(number: libc::c_long, [a, b, c]: [libc::c_int; 3]) -> libc::c_long {
    // SAFETY: no argument is an address of anything.
    call(unsafe { libc::syscall(number, a, b, c) })
}

/// The parent, which is found out before the filter would end the process.
fn parent() -> libc::c_int {
    PARENT.load(std::sync::atomic::Ordering::Relaxed)
}

pub static PARENT: std::sync::atomic::AtomicI32 = std::sync::atomic::AtomicI32::new(0);

/// The result, or the error as a negative number.
fn call(result: libc::c_long) -> libc::c_long {
    match result {
        -1 => -libc::c_long::from(io::Error::last_os_error().raw_os_error().unwrap_or(1)),
        result => result,
    }
}
