//! Configuration files.

use std::io;
use std::path::Path;

use boxbuild_host::error::IoError;
use boxbuild_host::input;

use super::error::CatalogError;

/// Name of the configuration file.
pub const FILE_NAME: &str = "kiwi_boxed_plugin.yml";

/// Reads a configuration file; `None` if there is none.
pub(super) fn read(path: &Path) -> Result<Option<String>, CatalogError> {
    match input::read_text(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(IoError::on("read the configuration file", path)(error).into()),
    }
}
