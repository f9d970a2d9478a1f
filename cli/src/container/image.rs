//! The box's container image, in podman's own store.

use std::ffi::OsString;
use std::process::{Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::process::last_line;
use super::{ContainerError, Podman, io_error};
use crate::guard::die_with_parent;
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::store::{ContainerImage, InstalledBox};

/// Label of the images that boxbuild made, with the name of the box.
const LABEL: &str = "org.boxbuild.box";

/// Hexadecimal digits of an archive's SHA-256 that its image is tagged with.
const TAG: usize = 16;

/// Brings the image into the store if it is not there. Returns its name.
pub(super) fn prepare(
    podman: &Podman,
    installed: &InstalledBox,
    interrupt: &Interrupt,
    progress: &mut Progress,
) -> Result<String, ContainerError> {
    let info = &installed.info;
    match &info.container {
        None => Err(ContainerError::NoImage {
            name: info.name.clone(),
            origin: info.origin.clone(),
        }),
        Some(ContainerImage::Archive(file)) => {
            let image = archive_image(&info.name, &file.sha256);
            if exists(podman, &image, interrupt)? {
                return Ok(image);
            }
            progress.begin("import");
            let label = format!("LABEL={LABEL}={}", info.name);
            let mut args = words(&["import", "--quiet", "--change", &label]);
            args.push(installed.path(file).into());
            args.push(image.clone().into());
            let action = format!("import the container image of the box '{}'", info.name);
            run(podman, args, &action, interrupt)?;
            remove_older(podman, &info.name, &image, interrupt);
            Ok(image)
        }
        Some(ContainerImage::Registry { registry }) => {
            progress.begin("pull");
            let args = words(&["pull", "--quiet", registry]);
            match run(
                podman,
                args,
                &format!("pull the image {registry}"),
                interrupt,
            ) {
                Ok(_) => {}
                // An image that is here already will do.
                Err(ContainerError::Podman { output, .. })
                    if exists(podman, registry, interrupt)? =>
                {
                    progress.note(&format!(
                        "using the image {registry} as it is on this host (podman cannot pull \
                         it: {output})"
                    ));
                }
                Err(error) => return Err(error),
            }
            Ok(registry.clone())
        }
    }
}

/// Name of the image made from an archive: another archive is another image.
fn archive_image(name: &str, sha256: &str) -> String {
    let tag = sha256.get(..TAG).unwrap_or(sha256);
    format!("localhost/boxbuild/{name}:{tag}")
}

fn exists(podman: &Podman, image: &str, interrupt: &Interrupt) -> Result<bool, ContainerError> {
    let output = collect(podman, words(&["image", "exists", image]), interrupt)?;
    match output.status.code() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        _ => Err(failed("look at its images", &output)),
    }
}

/// Removes the images of earlier versions of the box. Those that a container uses stay, which
/// is why errors are none.
fn remove_older(podman: &Podman, name: &str, image: &str, interrupt: &Interrupt) {
    let label = format!("label={LABEL}={name}");
    let format = "{{.Repository}}:{{.Tag}}";
    let list = words(&["images", "--filter", &label, "--format", format]);
    let Ok(output) = collect(podman, list, interrupt) else {
        return;
    };
    let listed = String::from_utf8_lossy(&output.stdout);
    let prefix = format!("localhost/boxbuild/{name}:");
    for old in listed
        .lines()
        .filter(|line| line.starts_with(&prefix) && *line != image)
    {
        let _ = collect(podman, words(&["image", "rm", old]), interrupt);
    }
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

fn failed(action: &str, output: &Output) -> ContainerError {
    ContainerError::Podman {
        action: action.to_owned(),
        output: last_line(&output.stderr),
    }
}

fn run(
    podman: &Podman,
    args: Vec<OsString>,
    action: &str,
    interrupt: &Interrupt,
) -> Result<Output, ContainerError> {
    let output = collect(podman, args, interrupt)?;
    if output.status.success() {
        Ok(output)
    } else {
        Err(failed(action, &output))
    }
}

/// Runs podman to its end, or until the user has had enough.
fn collect(
    podman: &Podman,
    args: Vec<OsString>,
    interrupt: &Interrupt,
) -> Result<Output, ContainerError> {
    let mut all = podman.host.global_options();
    all.extend(args);
    let mut command = podman.caller.command(&podman.host.program, all);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    die_with_parent(&mut command, Signal::SIGTERM);
    let child = command.spawn().map_err(io_error("run podman"))?;
    let group = i32::try_from(child.id()).map(Pid::from_raw);
    let waiting = std::thread::spawn(move || child.wait_with_output());
    let mut told = false;
    while !waiting.is_finished() {
        if interrupt.count() > 0 {
            if !told && let Ok(group) = group {
                let _ = killpg(group, Signal::SIGTERM);
            }
            told = true;
            // Under sudo, podman is not ours to end: it finishes in peace.
            if podman.caller.uses_sudo() {
                break;
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    if told {
        return Err(ContainerError::Interrupted);
    }
    waiting
        .join()
        .unwrap_or_else(|_| Err(std::io::Error::other("its reader is gone")))
        .map_err(io_error("run podman"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_archive_is_another_image() {
        assert_eq!(
            archive_image("debian", "0123456789abcdef0123"),
            "localhost/boxbuild/debian:0123456789abcdef"
        );
        assert_eq!(archive_image("d", "01"), "localhost/boxbuild/d:01");
    }
}
