//! The command line of `podman run`: a vector, never through a shell.

use std::ffi::OsString;
use std::path::Path;

use boxbuild_firmware::guest::ContainerBuild;

use super::host::Host;
use super::{Container, Guest, Mode};
use crate::engine::Network;

/// Capabilities that builds need beyond podman's defaults. `--privileged` has them, too; they
/// are named for hosts whose policy takes that away.
const CAPABILITIES: &str = "AUDIT_WRITE,AUDIT_CONTROL,MKNOD,SYS_ADMIN";

/// What `podman run` shall run.
#[derive(Debug)]
pub(super) struct Run<'a> {
    pub(super) host: &'a Host,
    pub(super) container: &'a Container,
    pub(super) name: &'a str,
    pub(super) folder: &'a Path,
    pub(super) image: &'a str,
    pub(super) cache: Option<&'a Path>,
}

/// Words after `podman`.
pub(super) fn run(run: &Run<'_>) -> Vec<OsString> {
    let container = run.container;
    let mut args = run.host.global_options();
    let mut add = |words: &[&str]| args.extend(words.iter().map(OsString::from));
    add(&[
        "run",
        "--rm",
        "--name",
        run.name,
        "--label",
        "org.boxbuild=build",
    ]);
    // The image is in the store; what the container says goes through pipes, not into a log.
    add(&["--pull", "never", "--log-driver", "none", "--privileged"]);
    add(&["--cap-add", CAPABILITIES, "--http-proxy=false"]);
    add(&[
        "--network",
        match container.network {
            Network::User => "host",
            Network::None => "none",
        },
    ]);
    for limit in Host::limits() {
        add(&["--ulimit", &limit]);
    }
    let mut volume = |from: &Path, to: &str, read_only: bool| {
        let mut word = from.as_os_str().to_owned();
        word.push(":");
        word.push(to);
        if read_only {
            word.push(":ro");
        }
        args.extend(["--volume".into(), word]);
    };
    volume(
        &run.folder.join("description"),
        "/description",
        !container.description_rw,
    );
    volume(&run.folder.join("bundle"), "/bundle", false);
    if container.devices && run.host.mode == Mode::Rootful {
        volume(Path::new("/dev"), "/dev", false);
    }
    if let Some(cache) = run.cache {
        volume(cache, &cache.to_string_lossy(), false);
    }
    match &container.guest {
        Guest::Own { .. } => {
            volume(&run.folder.join("guest"), ContainerBuild::PLACE, true);
            let script = format!("{}/{}", ContainerBuild::PLACE, ContainerBuild::SCRIPT);
            args.extend(["--entrypoint", "/bin/sh", run.image, &script].map(OsString::from));
        }
        Guest::Published { environment, .. } => {
            volume(&run.folder.join("cmdline"), "/container.cmdline", true);
            for (name, value) in environment {
                let mut word = OsString::from(name);
                word.push("=");
                word.push(value);
                args.extend(["--env".into(), word]);
            }
            args.push(run.image.into());
        }
    }
    args
}
