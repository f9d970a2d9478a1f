//! A container to run: a plain value.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::network::ContainerNetwork;

/// The user who runs the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The host's root runs it: loop devices work.
    Rootful,
    /// The caller runs it in a user namespace.
    Rootless,
}

/// A build that a container runs once.
#[derive(Debug)]
pub struct Container {
    /// How the image's process 1 learns what to build.
    pub guest: Guest,
    /// Description folder.
    pub description: PathBuf,
    /// The container may write into it.
    pub description_rw: bool,
    /// Folders in it of which the container sees only some entries.
    pub masks: Vec<Mask>,
    /// Folder for the results.
    pub bundle: PathBuf,
    /// Files and folders of the host that the container sees besides.
    pub mounts: Vec<Mount>,
    /// Network of the container.
    pub network: ContainerNetwork,
    /// The host's /dev is visible: loop devices and their partitions.
    pub devices: bool,
    /// The container stays after the build, for a shell.
    pub shell: bool,
}

/// A file or folder of the host that a container sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Its path, absolute.
    pub path: PathBuf,
    /// Its path in the container.
    pub place: PathBuf,
    /// The container cannot change it.
    pub read_only: bool,
}

/// What takes the place of a folder in the description: a folder with some of its entries, which the
/// container cannot change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    /// Path of the folder below the description; empty for that itself.
    pub place: PathBuf,
    /// The entries.
    pub entries: Vec<MaskedEntry>,
}

/// An entry that is seen through a [`Mask`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaskedEntry {
    /// What it is.
    pub kind: EntryKind,
    /// Its path on the host, whose last component is its name.
    pub path: PathBuf,
}

/// What can be seen through a [`Mask`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A folder.
    Folder,
    /// A symbolic link, which leads wherever it leads in the container.
    Link,
    /// Anything else.
    File,
}

/// The two kinds of process 1.
#[derive(Debug)]
pub enum Guest {
    /// boxbuild's own script.
    Own {
        /// See [`boxbuild_firmware::guest::ContainerBuild::args`].
        args: Vec<OsString>,
        /// See [`boxbuild_firmware::guest::ContainerBuild::box_packages`].
        box_packages: Vec<OsString>,
        /// See [`boxbuild_firmware::guest::ContainerBuild::environment`].
        environment: Vec<(String, OsString)>,
        /// See [`boxbuild_firmware::guest::ContainerBuild::made`].
        made: Vec<PathBuf>,
        /// The description is only checked.
        check_only: bool,
    },
    /// The image's entry point, which reads `/container.cmdline`.
    Published {
        /// The kernel command line that a machine would have.
        cmdline: String,
        /// Environment of process 1.
        environment: Vec<(String, OsString)>,
    },
}

/// Whether podman can be told of this place in a container. Its options cannot write a colon
/// and a comma in one path, and it hands paths on as text.
pub fn check_place(path: &Path) -> Result<(), String> {
    let sayable = path
        .to_str()
        .is_some_and(|text| !(text.contains(':') && text.contains([',', '"', '\\', '\n'])));
    if sayable {
        Ok(())
    } else {
        Err(format!(
            "{}: podman cannot mount a file of this name in a container (it has a colon and a \
             comma, or is not UTF-8): rename it",
            path.display()
        ))
    }
}

/// What the container sees besides its own folders, with the name of a link to it in the private
/// folder.
pub(super) fn shared(mounts: &[Mount]) -> impl Iterator<Item = (String, &Mount)> {
    let numbered = mounts.iter().enumerate();
    numbered.map(|(number, mount)| (format!("shared{number}"), mount))
}
