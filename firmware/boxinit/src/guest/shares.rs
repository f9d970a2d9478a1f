//! Folders and files of the host.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use boxinit::job::{Folder, Job};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount as mount_call};

use super::load::Loader;
use super::{Stop, failed};

/// Where the description and the folder for results are.
pub(super) const DESCRIPTION: &str = "/description";
pub(super) const BUNDLE: &str = "/bundle";
/// The exit code for the host, in the bundle.
pub(super) const CODE: &str = "/bundle/result.code";

/// Mounts the shares, the one for results first: from then on, the host reads a failure there
/// unless it is told otherwise. Without a build, nothing is written there.
pub(super) fn mount(loader: &mut Loader, job: &Job, builds: bool) -> Result<(), Stop> {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !known.lines().any(|line| line.ends_with("\tvirtiofs")) {
        loader.load("virtiofs");
    }
    share(OsStr::new("kiwibundle"), Path::new(BUNDLE), false)?;
    if builds {
        fs::write(CODE, "1\n").map_err(failed(format_args!("write {CODE}")))?;
    }
    // Whether it may be written to is up to the host.
    share(OsStr::new("kiwidescription"), Path::new(DESCRIPTION), false)?;
    for Folder {
        tag,
        path,
        read_only,
    } in &job.folders
    {
        share(tag, path, *read_only)?;
    }
    Ok(())
}

fn share(tag: &OsStr, path: &Path, read_only: bool) -> Result<(), Stop> {
    fs::create_dir_all(path).map_err(failed(format_args!("make the folder {}", path.display())))?;
    let flags = if read_only {
        MsFlags::MS_RDONLY
    } else {
        MsFlags::empty()
    };
    mount_call(Some(tag), path, Some("virtiofs"), flags, None::<&str>).map_err(|error| {
        let text = format!(
            "cannot mount the share {} at {}: {error}",
            tag.display(),
            path.display()
        );
        match error {
            Errno::ENODEV => Stop::Unfit(format!("{text} (its kernel has no virtiofs)")),
            _ => Stop::Failed(text),
        }
    })
}

/// Writes the host's files to their places.
pub(super) fn place(job: &Job, contents: Vec<Vec<u8>>) -> Result<(), Stop> {
    for (path, content) in job.files.iter().zip(contents) {
        let write = || -> std::io::Result<()> {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write(path, content)?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o644))
        };
        write().map_err(failed(format_args!("write {}", path.display())))?;
    }
    Ok(())
}
