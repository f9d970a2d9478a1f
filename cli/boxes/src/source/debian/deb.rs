//! Debian packages of our own, made by dpkg-deb.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use boxbuild_host::error::IoError;

use super::files::write;
use crate::source::command::Workshop;
use crate::source::error::SourceError;

/// Makes the package `to` of the files in `tree` and of the fields in `control`.
///
/// # Errors
/// Fails if dpkg-deb does.
pub(super) fn build(
    workshop: &Workshop<'_>,
    tree: &Path,
    control: &str,
    to: &Path,
) -> Result<(), SourceError> {
    write(tree, "DEBIAN/control", 0o644, control).map_err(IoError::on("write", tree))?;
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(IoError::on("write", parent))?;
    }
    let mut args = ["--root-owner-group", "-Zxz", "--build"]
        .map(OsString::from)
        .to_vec();
    args.extend([tree.into(), to.into()]);
    Ok(workshop.run("dpkg-deb", args, &[])?)
}
