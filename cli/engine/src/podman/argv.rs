//! The command line of `podman run`: a vector, never through a shell.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use boxbuild_firmware::guest::ContainerBuild;
use boxbuild_protocol::paths;

use super::container::{Container, Guest, Mode, shared};
use super::folder::ENVIRONMENT;
use super::host::Host;
use super::mask;
use super::network::ContainerNetwork;

/// Capabilities that builds need beyond podman's defaults. `--privileged` has them, too; they
/// are named for hosts whose policy takes that away.
const CAPABILITIES: &str = "AUDIT_WRITE,AUDIT_CONTROL,MKNOD,SYS_ADMIN";

/// Units that an init system does not start in a privileged container: they would set up the
/// host's devices, its kernel and its interfaces, or podman's, as if all were the box's own.
/// A unit whose file is /dev/null is masked (systemctl(1), "mask").
const MASKED: &[&str] = &[
    "systemd-udevd.service",
    "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket",
    "systemd-udev-trigger.service",
    "systemd-udev-settle.service",
    "systemd-tmpfiles-setup-dev.service",
    "systemd-tmpfiles-setup-dev-early.service",
    "systemd-modules-load.service",
    "systemd-sysctl.service",
    "systemd-binfmt.service",
    "systemd-random-seed.service",
    "systemd-networkd.service",
    "systemd-networkd.socket",
    "systemd-networkd-wait-online.service",
    "NetworkManager.service",
    "NetworkManager-wait-online.service",
    "wickedd.service",
    "wicked.service",
    "lvm2-monitor.service",
    "multipathd.service",
    "multipathd.socket",
    "mdmonitor.service",
];

/// The container that `podman run` starts.
#[derive(Debug)]
pub(super) struct Run<'a> {
    pub(super) host: &'a Host,
    pub(super) container: &'a Container,
    pub(super) name: &'a str,
    pub(super) folder: &'a Path,
    pub(super) image: &'a str,
    pub(super) cache: Option<&'a Path>,
}

/// Returns the arguments of podman.
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
    match (&container.network, &container.guest) {
        (ContainerNetwork::None, _) => add(&["--network", "none"]),
        // The host gives it one. Its name is the host's, as in the host's network.
        (ContainerNetwork::Private(_), _) => {
            add(&["--network", "none"]);
            if let Some(name) = host_name() {
                add(&["--hostname", &name]);
            }
        }
        // kiwi alone runs there, and proxies on the host's loopback are reachable.
        (ContainerNetwork::Podman, Guest::Own { .. }) => add(&["--network", "host"]),
        // podman's own NAT: an init system would take the host's interfaces and ports.
        (ContainerNetwork::Podman, Guest::Published { .. }) => {}
    }
    for limit in Host::limits() {
        add(&["--ulimit", &limit]);
    }
    let mut mounts = vec![(run.folder.join("bundle"), Path::new(paths::BUNDLE), false)];
    if !mask::covers_all(&container.masks) {
        mounts.push((
            run.folder.join("description"),
            Path::new(paths::DESCRIPTION),
            !container.description_rw,
        ));
    }
    if container.devices && run.host.mode == Mode::Rootful {
        mounts.push(("/dev".into(), Path::new("/dev"), false));
    }
    mounts.extend(run.cache.map(|cache| (cache.to_owned(), cache, false)));
    let masks = mask::mounts(&container.masks, run.folder, !container.description_rw);
    mounts.extend(
        masks
            .iter()
            .map(|(from, to, read_only)| (from.clone(), &**to, *read_only)),
    );
    for (link, mount) in shared(&container.mounts) {
        mounts.push((run.folder.join(link), &mount.place, mount.read_only));
    }
    let place = Path::new(ContainerBuild::FOLDER);
    let script = place.join(ContainerBuild::SCRIPT);
    let masked: Vec<PathBuf> = MASKED
        .iter()
        .map(|unit| Path::new("/etc/systemd/system").join(unit))
        .collect();
    match &container.guest {
        Guest::Own { .. } => mounts.push((run.folder.join("guest"), place, true)),
        Guest::Published { .. } => {
            let cmdline = Path::new("/container.cmdline");
            mounts.push((run.folder.join("cmdline"), cmdline, true));
            mounts.extend(
                masked
                    .iter()
                    .map(|unit| ("/dev/null".into(), &**unit, true)),
            );
        }
    }
    for (from, to, read_only) in mounts {
        args.extend(mount(&from, to, read_only));
    }
    match &container.guest {
        Guest::Own { .. } => {
            args.extend(["--entrypoint", "/bin/sh", run.image].map(OsString::from));
            args.push(script.into());
        }
        Guest::Published { .. } => {
            // Whatever the entry point is called.
            args.extend(["--systemd", "always"].map(OsString::from));
            // Values may be secret, and every user sees arguments. What sudo starts inherits nothing.
            args.extend(["--env-file".into(), run.folder.join(ENVIRONMENT).into()]);
            args.push(run.image.into());
        }
    }
    args
}

/// The name of this host, if it is one that a container may have (RFC 1123, section 2.1).
fn host_name() -> Option<String> {
    let name = nix::unistd::gethostname().ok()?.into_string().ok()?;
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
    let ends = |end: char| end.is_ascii_alphanumeric();
    let plain = name.starts_with(ends) && name.ends_with(ends) && name.bytes().all(good);
    // The kernel's limit (uname(2)).
    (plain && name.len() <= 64).then_some(name)
}

/// A bind mount, in the option that can express the place (see [`super::check_place`]). What
/// is mounted has a name without any of the characters in question.
fn mount(from: &Path, to: &Path, read_only: bool) -> [OsString; 2] {
    let colon = to.as_os_str().as_bytes().contains(&b':');
    let (option, parts) = if colon {
        let end = if read_only { ",ro=true" } else { "" };
        ("--mount", ["type=bind,src=", ",dst=", end])
    } else {
        let end = if read_only { ":ro" } else { "" };
        ("--volume", ["", ":", end])
    };
    let mut word = OsString::from(parts[0]);
    word.push(from);
    word.push(parts[1]);
    word.push(to);
    word.push(parts[2]);
    [option.into(), word]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_with_a_colon_needs_another_option() {
        let words = |to: &str, read_only| {
            let words = mount(Path::new("/private/link"), Path::new(to), read_only);
            words.map(|word| word.into_string().unwrap()).join(" ")
        };
        assert_eq!(words("/a, b", true), "--volume /private/link:/a, b:ro");
        assert_eq!(
            words("/a:b", false),
            "--mount type=bind,src=/private/link,dst=/a:b"
        );
        assert_eq!(
            words("/a:b", true),
            "--mount type=bind,src=/private/link,dst=/a:b,ro=true"
        );
    }
}
