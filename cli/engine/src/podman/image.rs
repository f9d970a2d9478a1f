//! The box's container image, in podman's own store.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use sha2::{Digest, Sha256};

use super::error::ContainerError;
use super::output::last_line;
use super::program::Program;
use boxbuild_host::arch::Arch;
use boxbuild_host::digest::hex;
use boxbuild_host::interrupt::Interrupt;
use boxbuild_host::reporter::Reporter;

/// The image that a container is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Name of the box, for messages and for the names of images made here.
    pub name: String,
    /// Architecture of the image.
    pub arch: Arch,
    /// Where it comes from.
    pub source: ImageSource,
    /// When a registry is asked for it.
    pub pull: PullPolicy,
}

/// Where an image comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSource {
    /// An archive of its root tree.
    Archive {
        /// The archive.
        path: PathBuf,
        /// Its SHA-256, in lower-case hex.
        sha256: String,
        /// The folder that it belongs to: images made of archives of another folder are left
        /// alone.
        store: PathBuf,
    },
    /// The name of an image, with registry and tag.
    Registry(String),
}

/// When a registry is asked for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    /// Always: it may have a newer one. The one that is here serves if it cannot be reached.
    Newer,
    /// Only if the image is not here.
    Missing,
    /// Never.
    Never,
}

/// Beginning of the names of images that boxbuild made.
const REPOSITORY: &str = "localhost/boxbuild/";

/// Label of the images that boxbuild made: the name of the box and its store (see [`label`]).
const LABEL: &str = "org.boxbuild.box";

/// Hexadecimal digits of an archive's SHA-256 that its image is tagged with, and of the digest
/// of a store's path.
const TAG: usize = 16;

/// Brings the image into the store if it is not there. Returns its name.
pub(super) fn prepare(
    podman: &Program,
    wanted: &Image,
    interrupt: &Interrupt,
    progress: &mut dyn Reporter,
) -> Result<String, ContainerError> {
    let name = &wanted.name;
    let arch = oci_arch(wanted.arch);
    match &wanted.source {
        ImageSource::Archive {
            path,
            sha256,
            store,
        } => {
            let image = archive_image(name, sha256);
            if exists(podman, &image, interrupt)? {
                return Ok(image);
            }
            progress.begin("import");
            let label = label(name, store);
            let change = format!("LABEL={label}");
            let mut args = words(&["import", "--quiet", "--arch", arch, "--change", &change]);
            args.push(path.into());
            args.push(image.clone().into());
            let action = format!("import the container image of the box '{name}'");
            run(podman, args, &action, interrupt)?;
            remove_older(podman, &label, &image, interrupt);
            Ok(image)
        }
        ImageSource::Registry(image) => pull(podman, wanted, image, interrupt, progress),
    }
}

/// Brings an image of a registry into the store, as far as `wanted` asks for that.
fn pull(
    podman: &Program,
    wanted: &Image,
    image: &str,
    interrupt: &Interrupt,
    progress: &mut dyn Reporter,
) -> Result<String, ContainerError> {
    let name = &wanted.name;
    if !is_reference(image) {
        return Err(ContainerError::BadImage {
            name: name.clone(),
            image: image.to_owned(),
        });
    }
    let here = exists(podman, image, interrupt)?;
    let pull = match wanted.pull {
        PullPolicy::Newer => true,
        PullPolicy::Missing => !here,
        PullPolicy::Never => false,
    };
    let reason = if pull {
        progress.begin("pull");
        let pull = words(&["pull", "--quiet", "--arch", oci_arch(wanted.arch), image]);
        let pulled = podman.collect(pull, interrupt)?;
        if pulled.status.success() {
            return Ok(image.to_owned());
        }
        format!("podman cannot pull it: {}", last_line(&pulled.stderr))
    } else {
        String::from("--offline does not allow fetching it")
    };
    if !here {
        return Err(ContainerError::NotHere {
            name: name.clone(),
            image: image.to_owned(),
            reason,
            command: podman.caller.in_words(&format!("podman pull {image}")),
        });
    }
    if pull {
        progress.note(&format!(
            "using the image {image} as it is on this host ({reason})"
        ));
    }
    Ok(image.to_owned())
}

/// Whether this is a name with a registry and perhaps a tag or digest, no option and no other
/// transport of podman's (`docker-archive:/path`): letters, digits and `.-_/:@`, as in the
/// grammar of github.com/distribution/reference.
fn is_reference(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.contains('/')
        && !name.contains(":/")
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || ".-_/:@".contains(c))
}

/// The name of an architecture in OCI images: Go's (image-spec, config.md, "architecture").
fn oci_arch(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "amd64",
        Arch::Aarch64 => "arm64",
        Arch::Ppc64le => "ppc64le",
        Arch::S390x => "s390x",
    }
}

/// Name of the image made from an archive: another archive is another image.
fn archive_image(name: &str, sha256: &str) -> String {
    let tag = sha256.get(..TAG).unwrap_or(sha256);
    format!("{REPOSITORY}{name}:{tag}")
}

fn exists(podman: &Program, image: &str, interrupt: &Interrupt) -> Result<bool, ContainerError> {
    let output = podman.collect(words(&["image", "exists", image]), interrupt)?;
    match output.status.code() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        _ => Err(failed("list its images", &output)),
    }
}

/// What the images of one box in one store are known by: a box of that name in another store,
/// perhaps of another user, has images of its own in the same podman.
fn label(name: &str, dir: &Path) -> String {
    let digest = hex(&Sha256::digest(dir.as_os_str().as_bytes()));
    format!("{LABEL}={name}@{}", &digest[..TAG])
}

/// Removes the images of earlier versions of the box. Those that a container uses stay, which
/// is why errors are none.
fn remove_older(podman: &Program, label: &str, image: &str, interrupt: &Interrupt) {
    let label = format!("label={label}");
    let format = "{{.Repository}}:{{.Tag}}";
    let list = words(&["images", "--filter", &label, "--format", format]);
    let Ok(output) = podman.collect(list, interrupt) else {
        return;
    };
    let listed = String::from_utf8_lossy(&output.stdout);
    for old in listed
        .lines()
        .filter(|line| line.starts_with(REPOSITORY) && *line != image)
    {
        let _ = podman.collect(words(&["image", "rm", old]), interrupt);
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
    podman: &Program,
    args: Vec<OsString>,
    action: &str,
    interrupt: &Interrupt,
) -> Result<Output, ContainerError> {
    let output = podman.collect(args, interrupt)?;
    if output.status.success() {
        Ok(output)
    } else {
        Err(failed(action, &output))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_of_an_image_gets_to_podman() {
        for good in [
            "localhost/box:latest",
            "registry.example:5000/a/b_c@sha256:00",
        ] {
            assert!(is_reference(good), "{good}");
        }
        for bad in [
            "",
            "-v/:/host",
            "--privileged",
            "docker-archive:/tmp/x",
            "dir:/etc/x",
            "box",
            "a/b c",
        ] {
            assert!(!is_reference(bad), "{bad}");
        }
    }

    #[test]
    fn another_store_has_images_of_its_own() {
        let mine = label("debian", Path::new("/home/me/.kiwi_boxes/debian"));
        let other = label("debian", Path::new("/home/you/.kiwi_boxes/debian"));
        assert!(mine.starts_with("org.boxbuild.box=debian@") && mine != other);
    }

    #[test]
    fn another_archive_is_another_image() {
        assert_eq!(
            archive_image("debian", "0123456789abcdef0123"),
            "localhost/boxbuild/debian:0123456789abcdef"
        );
        assert_eq!(archive_image("d", "01"), "localhost/boxbuild/d:01");
    }
}
