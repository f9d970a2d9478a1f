//! Emulation of other architectures, whose programs making a box runs: QEMU's user emulation.
//!
//! Nothing has to be done if the host's kernel has an interpreter for them. Otherwise the root tree
//! is made in a user namespace with a binfmt_misc of its own (Linux 6.7 or newer), in which an
//! interpreter is registered that only processes in it see: the host is not changed.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use boxbuild_host::arch::Arch;
use boxbuild_host::binfmt::{FOLDER as BINFMT, registration, runs_programs_of};
use nix::sched::CloneFlags;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid};

use crate::source::error::SourceError;
use crate::source::host::Host;

/// Script that registers the interpreter in its first argument, and runs the rest.
const REGISTER: &str = "mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc && \
    printf %s \"$0\" >/proc/sys/fs/binfmt_misc/register && exec \"$@\"";

/// Longest table of ids of a user namespace (user_namespaces(7): 340 lines since Linux 4.15).
const LONGEST_MAP: usize = 340 * 36;

/// How programs of an architecture run on this host.
#[derive(Debug)]
pub(super) enum Emulation {
    /// The kernel runs them: they are the host's own, or it has an interpreter for all processes.
    Kernel,
    /// An interpreter is registered for one process and its children, by this line for `register`.
    Registered(OsString),
}

/// Script that runs its arguments in a mount namespace, so that mounts end with the processes. Root of
/// a container may not be allowed to.
const OWN_MOUNTS: &str =
    r#"unshare --mount -- true 2>/dev/null && exec unshare --mount -- "$@"; exec "$@""#;

impl Emulation {
    /// Finds out how programs for `arch` can be run on this host. Changes nothing.
    ///
    /// # Errors
    /// Fails with [`SourceError::Host`] if they cannot. The text says how to get what is missing.
    pub(super) fn find(host: &Host, arch: Arch) -> Result<Emulation, SourceError> {
        if runs_programs_of(arch) {
            return Ok(Emulation::Kernel);
        }
        let Some(interpreter) = interpreter(host, arch) else {
            return Err(SourceError::Host(format!(
                "this host cannot run programs for {arch}, which creating a box of that architecture \
                 needs.\nOn Debian and Ubuntu: sudo apt-get install qemu-user-static"
            )));
        };
        let emulation = Emulation::Registered(registration(arch, &interpreter));
        // Only an attempt tells whether the kernel allows it.
        let tried = emulation
            .command(host, Path::new("true"))
            .stdin(Stdio::null())
            .output();
        let problem = match tried {
            Ok(output) if output.status.success() => return Ok(emulation),
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => error.to_string(),
        };
        Err(SourceError::Host(format!(
            "this host cannot run programs for {arch}, which creating a box of that architecture \
             needs: {BINFMT} has no entry for them that is enabled and has the flag F, and a \
             binfmt_misc of its own (Linux 6.7 or newer, with user namespaces) is not possible: \
             {problem}\nHave the host's kernel run them: sudo systemctl restart systemd-binfmt, \
             or on Debian and Ubuntu: sudo apt-get install binfmt-support"
        )))
    }

    /// Whether commands run in a user namespace, as its root.
    pub(super) fn in_namespace(&self) -> bool {
        matches!(self, Emulation::Registered(_))
    }

    /// Returns a command that runs `program` so that it can run programs for the architecture.
    /// Arguments of `program` can be added.
    pub(super) fn command(&self, host: &Host, program: &Path) -> Command {
        let Emulation::Registered(registration) = self else {
            if !host.is_root() {
                return Command::new(program);
            }
            let mut command = Command::new("sh");
            command
                .args(["-c", OWN_MOUNTS, "sh"])
                .arg(program)
                .env("PATH", host.path());
            return command;
        };
        let mut command = if host.is_root() {
            let mut command = Command::new("sh");
            isolate(&mut command);
            command
        } else {
            let mut command = Command::new("unshare");
            command.args(["--map-root-user", "--map-auto", "--mount", "--", "sh"]);
            command
        };
        command
            .args(["-c", REGISTER])
            .arg(registration)
            .arg(program)
            .env("PATH", host.path());
        command
    }
}

/// Returns QEMU's user emulation of `arch`, if it is linked statically: the box has none of the
/// host's libraries.
fn interpreter(host: &Host, arch: Arch) -> Option<PathBuf> {
    [format!("qemu-{arch}-static"), format!("qemu-{arch}")]
        .iter()
        .filter_map(|name| host.find(name))
        .filter_map(|path| fs::canonicalize(path).ok())
        .find(|path| is_static(path) && !path.to_string_lossy().contains([':', '\n']))
}

/// Whether a program of the host's architecture needs no dynamic loader: none of its program headers
/// is PT_INTERP (gABI, "Program Header").
fn is_static(path: &Path) -> bool {
    const PT_INTERP: u32 = 3;
    let read = || -> io::Result<bool> {
        // Linkers put the headers into the first page.
        let mut head = Vec::new();
        fs::File::open(path)?.take(4096).read_to_end(&mut head)?;
        let half = |at: usize| {
            head.get(at..at + 2)
                .map(|b| u16::from_ne_bytes([b[0], b[1]]))
        };
        let short = || io::Error::from(io::ErrorKind::UnexpectedEof);
        // e_phoff (its low half is enough), e_phentsize, e_phnum of a 64-bit header.
        let (start, size, count) = (
            half(32).ok_or_else(short)?,
            half(54).ok_or_else(short)?,
            half(56).ok_or_else(short)?,
        );
        for number in 0..count {
            let at = usize::from(start) + usize::from(size) * usize::from(number);
            let kind = head.get(at..at + 4).ok_or_else(short)?;
            if kind == PT_INTERP.to_ne_bytes() {
                return Ok(false);
            }
        }
        Ok(head.starts_with(b"\x7fELF\x02") && count > 0)
    };
    read().unwrap_or(false)
}

/// Runs the child of root in new user and mount namespaces that map each id to itself, for which
/// `unshare` would need subordinate ids.
fn isolate(command: &mut Command) {
    let map = |name: &str| identical(&fs::read_to_string(name).unwrap_or_default());
    let maps = [map("/proc/self/uid_map"), map("/proc/self/gid_map")];
    // SAFETY: between fork and exec, only pipe, fork, unshare, read, open, write, close, waitpid,
    // getppid and _exit are called, which are async-signal-safe; nothing is allocated: the tables
    // exist already, and names are made on the stack.
    unsafe {
        command.pre_exec(move || {
            let (wait, unshared) = nix::unistd::pipe()?;
            // The child that stays outside may write the tables.
            match nix::unistd::fork()? {
                ForkResult::Child => {
                    drop(unshared);
                    let good = write_maps(&wait, &maps).is_ok();
                    libc::_exit(i32::from(!good))
                }
                ForkResult::Parent { child } => {
                    drop(wait);
                    nix::sched::unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
                    drop(unshared);
                    match waitpid(child, None)? {
                        WaitStatus::Exited(_, 0) => Ok(()),
                        _ => Err(io::ErrorKind::PermissionDenied.into()),
                    }
                }
            }
        });
    }
}

/// Writes the id tables of the parent's new namespace once `wait` is closed at its other end.
fn write_maps(wait: &OwnedFd, maps: &[String; 2]) -> io::Result<()> {
    let parent = nix::unistd::getppid();
    while nix::unistd::read(wait, &mut [0]) == Err(nix::errno::Errno::EINTR) {}
    for (name, map) in ["uid_map", "gid_map"].iter().zip(maps) {
        let mut buffer = [0_u8; 40];
        let path = map_name(parent, name, &mut buffer)?;
        let file = nix::fcntl::open(
            path,
            nix::fcntl::OFlag::O_WRONLY | nix::fcntl::OFlag::O_CLOEXEC,
            nix::sys::stat::Mode::empty(),
        )?;
        // The kernel takes a table in one write only.
        nix::unistd::write(&file, map.as_bytes())?;
    }
    Ok(())
}

/// Writes `/proc/PID/NAME` to `buffer`, without allocating.
fn map_name<'a>(pid: Pid, name: &str, buffer: &'a mut [u8; 40]) -> io::Result<&'a std::ffi::CStr> {
    let mut rest = &mut buffer[..];
    io::Write::write_fmt(&mut rest, format_args!("/proc/{pid}/{name}\0"))?;
    std::ffi::CStr::from_bytes_until_nul(buffer)
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

/// Returns a table that maps each id in the table `own` to itself (user_namespaces(7): first id
/// inside, first id outside, count).
fn identical(own: &str) -> String {
    let mut map = String::new();
    for line in own.lines() {
        let mut words = line.split_ascii_whitespace();
        if let (Some(first), Some(_), Some(count)) = (words.next(), words.next(), words.next()) {
            map += &format!("{first} {first} {count}\n");
        }
    }
    map.truncate(LONGEST_MAP);
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_static_programs_are_interpreters() {
        let dir = tempfile::tempdir().unwrap();
        let program = |kind: u32| {
            let mut head = vec![0; 64 + 56];
            head[..5].copy_from_slice(b"\x7fELF\x02");
            head[32] = 64;
            head[54] = 56;
            head[56] = 1;
            head[64..68].copy_from_slice(&kind.to_ne_bytes());
            let path = dir.path().join("program");
            fs::write(&path, head).unwrap();
            is_static(&path)
        };
        assert!(program(1));
        assert!(!program(3));
        assert!(!is_static(Path::new("/etc/passwd")));
    }

    #[test]
    fn ids_are_mapped_to_themselves() {
        assert_eq!(
            identical("         0          0 4294967295\n"),
            "0 0 4294967295\n"
        );
        assert_eq!(
            identical("0 1000 1\n1 100000 65536\n"),
            "0 0 1\n1 1 65536\n"
        );
        let mut buffer = [0; 40];
        let name = map_name(Pid::from_raw(i32::MAX), "uid_map", &mut buffer).unwrap();
        assert_eq!(name.to_str().unwrap(), "/proc/2147483647/uid_map");
    }

    /// As root and as a normal user, whether or not the host's kernel has an interpreter for it.
    #[test]
    fn a_foreign_program_runs() {
        const PROGRAM: &str = "/usr/lib/arch-test/arm64";
        let skip = |why: &str| println!("skipped: a_foreign_program_runs: {why}");
        if !Path::new(PROGRAM).exists() {
            return skip("arch-test is not installed");
        }
        let host = match Host::check(&[]) {
            Ok(host) => host,
            Err(error) => return skip(&error.to_string()),
        };
        let emulation = match Emulation::find(&host, Arch::Aarch64) {
            Ok(emulation) => emulation,
            Err(error) => return skip(&error.to_string()),
        };
        let output = emulation
            .command(&host, Path::new(PROGRAM))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(!output.stdout.is_empty());
    }

    #[test]
    fn root_keeps_all_ids() {
        if !nix::unistd::getuid().is_root() {
            return;
        }
        let mut command = Command::new("cat");
        isolate(&mut command);
        let output = command.arg("/proc/self/uid_map").output();
        match output {
            Ok(output) => {
                let table = String::from_utf8(output.stdout).unwrap();
                let own = fs::read_to_string("/proc/self/uid_map").unwrap();
                assert_eq!(identical(&table), identical(&own));
            }
            // Containers often forbid user namespaces.
            Err(error) => println!("skipped: a user namespace of root's: {error}"),
        }
    }
}
