//! The private folder of a container.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::PathBuf;

use boxbuild_firmware::guest::ContainerBuild;
use nix::unistd::{getgid, getuid};

use super::container::{Container, Guest, Mode, shared};
use super::error::ContainerError;
use super::mask;

/// The file with the environment of a published box's process 1.
pub(super) const ENVIRONMENT: &str = "environment";

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
        mask::make(&container.masks, &folder)?;
        symlink(&container.bundle, folder.join("bundle"))?;
        for (link, mount) in shared(&container.mounts) {
            symlink(&mount.path, folder.join(link))?;
        }
        match &container.guest {
            Guest::Own {
                args,
                box_packages,
                environment,
                made,
                check_only,
            } => {
                let inside = folder.join("guest");
                fs::create_dir(&inside)?;
                let owner = match mode {
                    Mode::Rootful => (getuid().as_raw(), getgid().as_raw()),
                    // The namespace's root is the caller.
                    Mode::Rootless => (0, 0),
                };
                let build = ContainerBuild {
                    args: args.clone(),
                    box_packages: box_packages.clone(),
                    environment: environment.clone(),
                    made: made.clone(),
                    name: name.to_owned(),
                    owner,
                    check_only: *check_only,
                    shell: container.shell,
                    loopback: container.network.loopback(),
                };
                for (name, content) in build.files() {
                    fs::write(inside.join(name), content)?;
                }
            }
            Guest::Published {
                cmdline,
                environment,
            } => {
                fs::write(folder.join("cmdline"), format!("{cmdline}\n"))?;
                fs::write(folder.join(ENVIRONMENT), environment_file(environment))?;
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

/// Variables for podman's `--env-file`: one a line, taken as it is (podman-run(1)). A value of several
/// lines cannot be said.
fn environment_file(environment: &[(String, OsString)]) -> Vec<u8> {
    let mut text = Vec::new();
    for (name, value) in environment {
        let value = value.as_bytes();
        if !value.contains(&b'\n') {
            text.extend_from_slice(name.as_bytes());
            text.push(b'=');
            text.extend_from_slice(value);
            text.push(b'\n');
        }
    }
    text
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_has_one_variable_a_line() {
        let environment = [
            ("http_proxy".to_owned(), "http://me:p w@h:1".into()),
            ("odd".to_owned(), "a\nLD_PRELOAD=x".into()),
            ("no_proxy".to_owned(), "localhost, x".into()),
        ];
        assert_eq!(
            environment_file(&environment),
            b"http_proxy=http://me:p w@h:1\nno_proxy=localhost, x\n"
        );
    }
}
