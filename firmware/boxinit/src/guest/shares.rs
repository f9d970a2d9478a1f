//! Folders and files of the host.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use boxbuild_protocol::job::Job;
use boxbuild_protocol::paths::{BUNDLE, CODE, DESCRIPTION};
use boxbuild_protocol::share::{Access, BUNDLE_TAG, DESCRIPTION_TAG};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount as mount_call};

use super::error::{GuestError, failed};
use super::load::{Loader, without_driver};

/// Mounts the shares, the one for results first: if the job `builds`, a failure is recorded there
/// that holds until the build has ended.
pub(super) fn mount(loader: &mut Loader, job: &Job, builds: bool) -> Result<(), GuestError> {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !known.lines().any(|line| line.ends_with("\tvirtiofs")) {
        loader.load("virtiofs");
    }
    mount_share(BUNDLE_TAG, Path::new(BUNDLE), Access::ReadWrite)?;
    if builds {
        fs::write(CODE, "1\n").map_err(failed(format_args!("write {CODE}")))?;
    }
    // The host decides whether it is writable.
    mount_share(DESCRIPTION_TAG, Path::new(DESCRIPTION), Access::ReadWrite)?;
    for folder in &job.folders {
        mount_share(&folder.tag, &folder.path, folder.access)?;
    }
    Ok(())
}

fn mount_share(tag: &str, path: &Path, access: Access) -> Result<(), GuestError> {
    fs::create_dir_all(path).map_err(failed(format_args!("make the folder {}", path.display())))?;
    let flags = match access {
        Access::ReadOnly => MsFlags::MS_RDONLY,
        Access::ReadWrite => MsFlags::empty(),
    };
    mount_call(Some(tag), path, Some("virtiofs"), flags, None::<&str>).map_err(|error| {
        let text = format!(
            "cannot mount the share {tag} at {}: {error}",
            path.display()
        );
        match error {
            Errno::ENODEV => GuestError::Unfit(format!("{text}; {}", without_driver("virtiofs"))),
            _ => GuestError::Failed(text),
        }
    })
}

/// Makes the job's folders.
pub(super) fn make_folders(job: &Job) -> Result<(), GuestError> {
    job.made.iter().try_for_each(|path| {
        fs::create_dir_all(path).map_err(failed(format_args!("make the folder {}", path.display())))
    })
}

/// Writes the job's files.
pub(super) fn write_files(job: &Job, contents: Vec<Vec<u8>>) -> Result<(), GuestError> {
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
