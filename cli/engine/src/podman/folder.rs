//! The private folder of a container.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::PathBuf;

use boxbuild_firmware::guest::ContainerBuild;
use nix::unistd::{getgid, getuid};

use super::container::{Container, Guest, Mode, shared};
use super::error::ContainerError;

/// Makes the private folder that tells the container what to do. Folders of the user are linked
/// from it: their names can have colons, which podman's option syntax cannot.
pub(super) fn make(
    container: &Container,
    mode: Mode,
    name: &str,
) -> Result<PathBuf, ContainerError> {
    let folder = private_place().join(name);
    let fill = || -> io::Result<()> {
        fs::DirBuilder::new().mode(0o700).create(&folder)?;
        symlink(&container.description, folder.join("description"))?;
        symlink(&container.bundle, folder.join("bundle"))?;
        for (link, path, _) in shared(&container.mounts) {
            symlink(path, folder.join(link))?;
        }
        match &container.guest {
            Guest::Own { args, environment } => {
                let inside = folder.join("guest");
                fs::create_dir(&inside)?;
                let owner = match mode {
                    Mode::Rootful => (getuid().as_raw(), getgid().as_raw()),
                    // The namespace's root is the caller.
                    Mode::Rootless => (0, 0),
                };
                let build = ContainerBuild {
                    args: args.clone(),
                    environment: environment.clone(),
                    name: name.to_owned(),
                    owner,
                };
                for (name, content) in build.files() {
                    fs::write(inside.join(name), content)?;
                }
            }
            Guest::Published { cmdline, .. } => {
                fs::write(folder.join("cmdline"), format!("{cmdline}\n"))?;
            }
        }
        Ok(())
    };
    fill().map_err(|source| {
        let _ = fs::remove_dir_all(&folder);
        ContainerError::Io {
            action: format!("create the folder {}", folder.display()),
            source,
        }
    })?;
    Ok(folder)
}

/// A folder for small private files whose name podman's option syntax can express.
fn private_place() -> PathBuf {
    let place = std::env::temp_dir();
    match place.to_str() {
        Some(text) if place.is_absolute() && !text.contains([':', ',', '"', '\\', '\n']) => place,
        _ => PathBuf::from("/tmp"),
    }
}

/// A name that no other container has: process id, time, and a number that the kernel drew.
pub(super) fn unique_name() -> String {
    let drawn = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default();
    let drawn: String = drawn
        .chars()
        .filter(char::is_ascii_hexdigit)
        .take(12)
        .collect();
    format!("boxbuild-{}-{drawn}", std::process::id())
}
