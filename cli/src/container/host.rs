//! What containers need of the host, and how to get what it lacks.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{User, getuid};
use serde::Deserialize;

use super::Mode;
use super::caller::{Caller, program};
use crate::create::has_subordinate_ids;
use crate::engine::Unusable;

/// Oldest podman that has `rm --time`.
const OLDEST: u32 = 4;

/// Most processes that a container gets: podman lowers its own limit to this before it starts
/// one, and nobody without CAP_SYS_RESOURCE can raise it again.
const PROCESSES: u64 = 32768;

/// podman and what it runs containers with.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) program: PathBuf,
    pub(super) mode: Mode,
    version: String,
    /// The OCI runtime, if not podman's own choice.
    runtime: Option<PathBuf>,
    runtime_name: String,
}

/// The parts of `podman info --format json` that are used here.
#[derive(Debug, Deserialize)]
struct Info {
    host: InfoHost,
    version: InfoVersion,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct InfoHost {
    cgroup_version: String,
    oci_runtime: InfoRuntime,
}

#[derive(Debug, Deserialize)]
struct InfoRuntime {
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InfoVersion {
    version: String,
}

impl Host {
    /// Checks podman, its OCI runtime and, for rootless containers, the caller's ids.
    pub(super) fn examine(caller: &Caller, mode: Mode) -> Result<Host, Unusable> {
        if mode == Mode::Rootless {
            check_user()?;
        }
        let program = program("podman").ok_or_else(|| {
            Unusable(String::from(
                "the program podman is not installed (Debian and Ubuntu: sudo apt-get install \
                 podman uidmap, Fedora: sudo dnf install podman, openSUSE: sudo zypper install \
                 podman)",
            ))
        })?;
        let info = info(caller, &program)?;
        let major = info
            .version
            .version
            .split('.')
            .next()
            .map(str::parse::<u32>);
        match major {
            Some(Ok(major)) if major >= OLDEST => {}
            _ => {
                return Err(Unusable(format!(
                    "{} is too old (version {}; {OLDEST}.0 or newer is needed)",
                    program.display(),
                    info.version.version
                )));
            }
        }
        let (runtime, runtime_name) = runtime(&info.host)?;
        Ok(Host {
            program,
            mode,
            version: info.version.version,
            runtime,
            runtime_name,
        })
    }

    /// podman's options in front of any command.
    pub(super) fn global_options(&self) -> Vec<OsString> {
        match &self.runtime {
            Some(runtime) => vec!["--runtime".into(), runtime.into()],
            None => Vec::new(),
        }
    }

    /// `--ulimit` values that never ask for more than this process has: podman's own default
    /// is refused where root lacks CAP_SYS_RESOURCE (containers, sandboxes).
    pub(super) fn limits() -> Vec<String> {
        let mut limits = Vec::new();
        if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
            limits.push(format!("nofile={soft}:{hard}"));
        }
        if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NPROC) {
            let most = hard.min(PROCESSES);
            limits.push(format!("nproc={most}:{most}"));
        }
        limits
    }

    pub(super) fn describe(&self, caller: &Caller) -> String {
        format!(
            "podman {} with {}, {}{}",
            self.version,
            self.runtime_name,
            match self.mode {
                Mode::Rootful => "rootful",
                Mode::Rootless => "rootless",
            },
            if caller.uses_sudo() {
                " through sudo"
            } else {
                ""
            }
        )
    }
}

/// Asks podman about itself: a podman that cannot start says so here.
fn info(caller: &Caller, program: &Path) -> Result<Info, Unusable> {
    let output = caller
        .command(program, ["info", "--format", "json"].map(OsString::from))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Unusable(format!("cannot run {}: {error}", program.display())))?;
    if !output.status.success() {
        return Err(Unusable(format!(
            "podman does not work here ('podman info' ended with {}): {}",
            output.status,
            super::process::last_line(&output.stderr)
        )));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| {
        Unusable(format!(
            "podman does not say what 'podman info --format json' should ({error}): version \
             {OLDEST}.0 or newer is needed"
        ))
    })
}

/// crun refuses to work on hosts that mount both versions of cgroups; runc does not mind.
fn runtime(info: &InfoHost) -> Result<(Option<PathBuf>, String), Unusable> {
    let name = info.oci_runtime.name.clone();
    let hybrid = info.cgroup_version == "v1" && Path::new("/sys/fs/cgroup/unified").is_dir();
    if name != "crun" || !hybrid {
        return Ok((None, name));
    }
    match program("runc").or_else(|| Some(PathBuf::from("/usr/sbin/runc")).filter(|p| p.exists())) {
        Some(runc) => Ok((Some(runc), String::from("runc"))),
        None => Err(Unusable(String::from(
            "podman's OCI runtime crun does not work with this host's cgroups (hybrid mode): \
             install runc (Debian and Ubuntu: sudo apt-get install runc), or boot with \
             systemd.unified_cgroup_hierarchy=1",
        ))),
    }
}

/// Rootless containers need a normal user with subordinate ids.
fn check_user() -> Result<(), Unusable> {
    let uid = getuid();
    if uid.is_root() {
        return Err(Unusable(String::from(
            "--rootless is for normal users, and you are root: leave it out, or run boxbuild as \
             another user",
        )));
    }
    let name = User::from_uid(uid)
        .ok()
        .flatten()
        .map_or_else(|| uid.to_string(), |user| user.name);
    for file in ["/etc/subuid", "/etc/subgid"] {
        if !has_subordinate_ids(file, &name, uid.as_raw()) {
            return Err(Unusable(format!(
                "{file} gives {name} no range of 65536 subordinate ids, which rootless containers \
                 need. Get them with:\n    \
                 sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}\n\
                 (choose other numbers if that range is taken)"
            )));
        }
    }
    if program("newuidmap").is_none() || program("newgidmap").is_none() {
        return Err(Unusable(String::from(
            "the programs newuidmap and newgidmap are not installed, which rootless containers \
             need (Debian and Ubuntu: sudo apt-get install uidmap, Fedora: shadow-utils, \
             openSUSE: shadow)",
        )));
    }
    Ok(())
}

/// The host's loop devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loops {
    /// Device nodes.
    pub all: usize,
    /// Those that nothing is attached to.
    pub free: usize,
    /// The kernel makes new ones when they are asked for.
    pub growing: bool,
}

impl Loops {
    /// Counts them.
    pub fn count() -> Loops {
        Loops::below(Path::new("/"))
    }

    fn below(root: &Path) -> Loops {
        let mut loops = Loops {
            all: 0,
            free: 0,
            growing: root.join("dev/loop-control").exists(),
        };
        let entries = fs::read_dir(root.join("dev")).into_iter().flatten();
        for entry in entries.filter_map(Result::ok) {
            let name = entry.file_name();
            let Some(number) = name.to_str().and_then(|name| name.strip_prefix("loop")) else {
                continue;
            };
            if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
                continue;
            }
            loops.all += 1;
            let backing = format!("sys/block/loop{number}/loop/backing_file");
            loops.free += usize::from(!root.join(backing).exists());
        }
        loops
    }
}

impl std::fmt::Display for Loops {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} of {} loop devices are free: {} disk images can be built at once",
            self.free,
            self.all,
            if self.growing {
                String::from("that many and, as the kernel makes more, further")
            } else {
                self.free.to_string()
            }
        )
    }
}

/// Refuses an image type that needs a loop device where there is none.
pub(super) fn check_loops(mode: Mode, image_type: &str) -> Result<(), Unusable> {
    if mode == Mode::Rootless {
        return Err(Unusable(format!(
            "the image type {image_type} needs loop devices, which a rootless container cannot \
             have: leave out --rootless, or build in a virtual machine (leave out --container)"
        )));
    }
    let loops = Loops::count();
    if loops.free > 0 || loops.growing {
        return Ok(());
    }
    Err(Unusable(format!(
        "the image type {image_type} needs a loop device, and none of {} is free: load the module \
         with 'sudo modprobe loop max_loop=64', or detach unused ones (losetup --list, losetup \
         --detach)",
        loops.all
    )))
}

/// The state of podman for `boxbuild doctor`; asks for no password.
///
/// # Errors
/// If containers do not work for this user; the text says why and what would help.
pub fn describe() -> Result<String, Unusable> {
    let mode = if getuid().is_root() {
        Mode::Rootful
    } else {
        Mode::Rootless
    };
    let caller = Caller::find(mode)?;
    let host = Host::examine(&caller, mode)?;
    let mut text = host.describe(&caller);
    text += match mode {
        Mode::Rootful => "; --container works",
        Mode::Rootless => "; --container --rootless works, --container needs sudo",
    };
    Ok(format!("{text}\n{}", Loops::count()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loop_devices_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("dev/loopx")).unwrap();
        for name in ["loop0", "loop1", "loop10", "loop1p1", "null"] {
            fs::write(root.join("dev").join(name), "").unwrap();
        }
        fs::create_dir_all(root.join("sys/block/loop1/loop")).unwrap();
        fs::write(root.join("sys/block/loop1/loop/backing_file"), "/x\n").unwrap();
        let loops = Loops::below(root);
        assert_eq!(
            loops,
            Loops {
                all: 3,
                free: 2,
                growing: false
            }
        );
        assert!(loops.to_string().contains("2 of 3"), "{loops}");
    }

    #[test]
    fn a_disk_image_is_refused_without_root() {
        let Unusable(text) = check_loops(Mode::Rootless, "oem").unwrap_err();
        assert!(
            text.contains("oem") && text.contains("leave out --rootless"),
            "{text}"
        );
    }

    #[test]
    fn limits_are_those_of_this_process_at_most() {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(Host::limits()[0], format!("nofile={soft}:{hard}"));
    }
}
