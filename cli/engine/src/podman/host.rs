//! What containers need of the host, and how to get what it lacks.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{User, getuid};
use serde::Deserialize;

use super::caller::Caller;
use super::container::Mode;
use super::loops::Loops;
use crate::unusable::Unusable;
use boxbuild_host::ids::has_subordinate_ids;
use boxbuild_host::program;

/// Oldest podman that has `rm --time`.
const OLDEST: u32 = 4;

/// Most processes that a container gets: podman lowers its own limit to this before it starts
/// one, and only a process with CAP_SYS_RESOURCE can raise it again.
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
        let program = program::find("podman").ok_or_else(|| {
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
                    "{} is too old (version {}; {OLDEST}.0 or newer is needed): install a newer one",
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
            super::output::last_line(&output.stderr)
        )));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| {
        Unusable(format!(
            "the output of 'podman info --format json' is not as expected ({error}): version \
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
    match program::find("runc")
        .or_else(|| Some(PathBuf::from("/usr/sbin/runc")).filter(|p| p.exists()))
    {
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
    if program::find("newuidmap").is_none() || program::find("newgidmap").is_none() {
        return Err(Unusable(String::from(
            "the programs newuidmap and newgidmap are not installed, which rootless containers \
             need (Debian and Ubuntu: sudo apt-get install uidmap, Fedora: shadow-utils, \
             openSUSE: shadow)",
        )));
    }
    Ok(())
}

/// What `boxbuild doctor` tells of containers: the subject and how it is. Asks for no password.
pub fn examine() -> Vec<(&'static str, Result<String, Unusable>)> {
    let works = |mode, how: &str| {
        let caller = Caller::find(mode, false)?;
        let host = Host::examine(&caller, mode)?;
        Ok(format!("{}; {how} works", host.describe(&caller)))
    };
    let mut findings = vec![("containers", works(Mode::Rootful, "--container"))];
    if !getuid().is_root() {
        let rootless = works(Mode::Rootless, "--container --rootless");
        findings.push(("rootless", rootless));
    }
    findings.push(("loop devices", Loops::count().examine()));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_those_of_this_process_at_most() {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(Host::limits()[0], format!("nofile={soft}:{hard}"));
    }
}
