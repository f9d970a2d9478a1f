//! What QEMU may open by name: Landlock, prepared here and applied in the child before its
//! program runs.
//!
//! All of the machine is in inherited descriptors. By name QEMU opens its own program, libraries
//! and firmware, a few files of the system, and what is behind inherited descriptors; it writes
//! nothing.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};

/// The newest ABI whose rights are used; older kernels use those that they know.
const NEWEST: ABI = ABI::V6;

/// Where programs, their libraries and their data are installed: what a package manager owns and
/// no user's secrets are in.
const SYSTEM: [&str; 9] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/opt",
    "/nix/store",
    "/gnu/store",
];

/// Files and folders that QEMU and its libraries read: the linker's cache, names and addresses of
/// hosts, the time zone, policies of cryptography, and what the kernel tells of the system. Of
/// other processes in /proc, Landlock closes what tracing would need.
const READ: [&str; 21] = [
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/ld-musl-x86_64.path",
    "/etc/ld-musl-aarch64.path",
    "/etc/qemu",
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/localtime",
    "/etc/ssl/openssl.cnf",
    "/etc/crypto-policies",
    "/etc/gnutls",
    "/etc/gcrypt",
    "/dev/null",
    "/dev/zero",
    "/dev/random",
    "/dev/urandom",
    "/proc",
    "/sys",
];

/// A file that is replaced while the machine runs, when the host comes to another network.
const RESOLVER: &str = "/etc/resolv.conf";

/// What is done to the child between fork and exec.
#[derive(Debug)]
pub(super) struct Confinement {
    /// `None` if the kernel has no Landlock.
    rules: Option<OwnedFd>,
}

/// Why QEMU cannot be confined.
#[derive(Debug, thiserror::Error)]
#[error("cannot make the rules of Landlock for QEMU")]
pub(super) struct ConfineError(#[from] RulesetError);

impl Confinement {
    /// Makes the rules for `program`, which has no network of its own; `reopened` are descriptors that it opens once
    /// more by the names that they have in /proc, `devices` what it opens by name and controls.
    pub(super) fn new(
        program: &Path,
        reopened: &[BorrowedFd<'_>],
        devices: &[&Path],
    ) -> Result<Confinement, ConfineError> {
        // The guest's network is boxbuild's, at the other end of a socket.
        let mut rules = rules(&programs(program), AccessNet::from_all(NEWEST), reopened)?;
        for device in devices {
            if let Ok(file) = open(device) {
                let access = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
                rules = add(rules, file.as_fd(), access)?;
            }
        }
        Ok(Confinement {
            rules: rules.into(),
        })
    }

    /// Returns what applies it, to be called in the child. It makes system calls that are safe
    /// between fork and exec, and nothing else.
    pub(super) fn apply(&self) -> impl FnMut() -> io::Result<()> + Send + Sync + 'static {
        let rules = self.rules.as_ref().map(AsRawFd::as_raw_fd);
        move || {
            setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
            // SAFETY: no handler is installed. A file beyond the size limit is an error then.
            unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }?;
            prctl::set_no_new_privs()?;
            rules.map_or(Ok(()), restrict)
        }
    }
}

fn restrict(rules: RawFd) -> io::Result<()> {
    // SAFETY: the call takes numbers only.
    let result = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules, 0) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Returns the folders that programs and their data are read from: those of the system, if
/// `program` is in one of them; otherwise any, as its libraries and its firmware may be anywhere.
fn programs(program: &Path) -> Vec<PathBuf> {
    let real = program.canonicalize();
    let real = real.as_deref().unwrap_or(program);
    if SYSTEM.iter().any(|folder| real.starts_with(folder)) {
        let libraries = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let libraries = std::env::split_paths(&libraries).filter(|path| path.is_absolute());
        SYSTEM.iter().map(PathBuf::from).chain(libraries).collect()
    } else {
        vec![PathBuf::from("/")]
    }
}

fn rules(
    programs: &[PathBuf],
    network: BitFlags<AccessNet>,
    reopened: &[BorrowedFd<'_>],
) -> Result<RulesetCreated, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?;
    if !network.is_empty() {
        ruleset = ruleset.handle_access(network)?;
    }
    let mut ruleset = ruleset.create()?;
    let resolver = Path::new(RESOLVER).canonicalize().ok();
    // In /etc itself there is more than that.
    let resolver = resolver
        .as_deref()
        .and_then(Path::parent)
        .filter(|folder| *folder != Path::new("/etc"));
    let system = READ.iter().map(Path::new).chain(resolver);
    let rules = programs
        .iter()
        .map(|path| (path.as_path(), read | AccessFs::Execute))
        .chain(system.map(|path| (path, read)));
    for (path, access) in rules {
        // What is not there needs no rule.
        if let Ok(file) = open(path) {
            ruleset = add(ruleset, file.as_fd(), access)?;
        }
    }
    for file in reopened {
        // Landlock neither takes rules for files of memory (memfd_create(2), EBADFD) nor is in
        // their way.
        if !is_memory(*file) {
            ruleset = add(ruleset, *file, read)?;
        }
    }
    Ok(ruleset)
}

/// Whether a file is one of memory, which has a name in no folder.
fn is_memory(file: BorrowedFd<'_>) -> bool {
    let name = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
    name.is_ok_and(|name| name.as_os_str().as_encoded_bytes().starts_with(b"/memfd:"))
}

/// Opens a file or folder for a rule.
fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(path)
}

/// Adds a rule with those of the rights that a file of this kind can have.
fn add(
    ruleset: RulesetCreated,
    file: BorrowedFd<'_>,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let folder =
        nix::sys::stat::fstat(file).is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFDIR);
    let access = if folder {
        access
    } else {
        access & AccessFs::from_file(NEWEST)
    };
    ruleset.add_rule(PathBeneath::new(file, access))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Output, Stdio};

    use super::*;

    /// Runs a shell command line confined as QEMU is.
    fn run(program: &Path, line: &str, network: BitFlags<AccessNet>, file: &File) -> Output {
        let rules = rules(&programs(program), network, &[file.as_fd()]).unwrap();
        let confinement = Confinement {
            rules: rules.into(),
        };
        let mut command = Command::new("/bin/sh");
        command.args(["-c", line]).stdin(Stdio::null());
        // SAFETY: it makes system calls only.
        unsafe { command.pre_exec(confinement.apply()) };
        command.output().unwrap()
    }

    fn enforced() -> bool {
        let has = boxbuild_jail::Landlock::of_host();
        if matches!(has, boxbuild_jail::Landlock::Enforced(_)) {
            return true;
        }
        use std::io::Write;
        let _ = writeln!(io::stderr(), "skipped: QEMU's confinement: no Landlock");
        false
    }

    #[test]
    fn a_confined_program_reads_the_system_and_no_users_files() {
        if !enforced() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(path("secret"), "secret").unwrap();
        std::fs::write(path("kernel"), "kernel").unwrap();
        let kernel = File::open(path("kernel")).unwrap();
        let (secret, kernel_path, made) = (path("secret"), path("kernel"), path("made"));
        let system = Path::new("/usr/bin/qemu-system-x86_64");
        let good = |line: &str| {
            let output = run(system, line, BitFlags::empty(), &kernel);
            assert!(output.status.success(), "{line}: {output:?}");
        };
        good("cat /proc/self/status | wc -c");
        good("head -c1 /dev/urandom | wc -c");
        good("ls /usr/share");
        good(&format!("cat {kernel_path}"));
        let memory = nix::sys::memfd::memfd_create("kernel", nix::sys::memfd::MFdFlags::empty());
        let memory = File::from(memory.unwrap());
        let line = format!("cat /proc/self/fd/{}", memory.as_raw_fd());
        let output = run(system, &line, BitFlags::empty(), &memory);
        assert!(output.status.success(), "{line}: {output:?}");
        for line in [
            format!("cat {secret}"),
            format!("ls {}", dir.path().display()),
            format!("echo >{made}"),
            format!("echo >>{kernel_path}"),
            format!("rm {secret}"),
            format!("mkdir {made}"),
            String::from("ls /home"),
            String::from("ls /tmp"),
            String::from("ls /etc"),
            String::from("cat /proc/1/environ"),
        ] {
            let output = run(system, &line, BitFlags::empty(), &kernel);
            assert!(!output.status.success(), "{line}: {output:?}");
        }
        assert!(!dir.path().join("made").exists());
        assert_eq!(std::fs::read(path("secret")).unwrap(), b"secret");
    }

    /// One that a user has built lies where its author wants.
    #[test]
    fn a_program_elsewhere_may_read_but_not_write() {
        if !enforced() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("qemu-system-x86_64");
        std::fs::write(&program, "data").unwrap();
        let file = File::open(&program).unwrap();
        let run = |line: String| run(&program, &line, BitFlags::empty(), &file);
        assert!(run(format!("cat {}", program.display())).status.success());
        let made = dir.path().join("made");
        assert!(!run(format!("echo >{}", made.display())).status.success());
        assert!(!made.exists());
    }

    #[test]
    fn limits_and_privileges_are_given_up() {
        let null = File::open("/dev/null").unwrap();
        let line = "ulimit -c; ulimit -Hc; grep NoNewPrivs /proc/self/status";
        let output = run(Path::new("/bin/sh"), line, BitFlags::empty(), &null);
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said, "0\n0\nNoNewPrivs:\t1\n");
    }
}
