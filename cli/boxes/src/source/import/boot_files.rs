//! Kernel and initial ramdisk of a box that is imported.

use std::io;
use std::path::Path;

use boxbuild_host::error::IoError;
use boxbuild_host::input;

use crate::source::error::SourceError;
use crate::store::{BoxFile, HashedFile, Staging};

/// Larger than any kernel or initial ramdisk, in bytes.
const LARGEST: u64 = 1 << 30;

/// Copies a kernel or an initial ramdisk to the file `name` in the staging folder.
///
/// # Errors
/// Fails if it is empty or too large, or if it cannot be copied.
pub(super) fn copy(staging: &Staging, from: &Path, name: &str) -> Result<BoxFile, SourceError> {
    let to = staging.path().join(name);
    let file = input::open(from).map_err(IoError::on_named("read", from))?;
    let metadata = file.metadata().map_err(IoError::on_named("read", from))?;
    if metadata.len() == 0 || metadata.len() > LARGEST {
        return Err(SourceError::Usage(format!(
            "{} is not a kernel or an initial ramdisk: it has {} bytes",
            from.display(),
            metadata.len()
        )));
    }
    let mut out = HashedFile::create(&to).map_err(IoError::on("create", &to))?;
    io::copy(&mut io::Read::take(file, LARGEST), &mut out).map_err(IoError::on("write", &to))?;
    let (size, sha256) = out.finish();
    Ok(staging.adopt(name, size, sha256)?)
}
