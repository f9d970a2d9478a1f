//! File system (virtio 1.2, section 5.11): a folder of the host, served in this process.

use std::sync::Arc;

use boxbuild_virtiofs::{PassthroughFs, Server, ShareConfig, ShareError, Traffic, confine_thread};

use super::config::DeviceConfig;
use super::device::{Context, Device};
use super::fault::Fault;
use super::kind::Kind;

/// Bytes of a mount tag.
const TAG: usize = 36;
/// Queues: urgent requests, all others.
const QUEUES: usize = 2;
/// Entries of a queue: FUSE's readahead keeps some dozens of requests under way.
const QUEUE: u16 = 512;

/// A folder cannot be shared.
#[derive(Debug, thiserror::Error)]
pub enum FsError {
    /// The guest could not name it.
    #[error("the mount tag {0:?} must have 1 to {TAG} bytes and no NUL")]
    Tag(String),
    /// The folder itself.
    #[error(transparent)]
    Share(#[from] ShareError),
}

/// A shared folder.
pub struct Fs {
    server: Server<PassthroughFs>,
    share: ShareConfig,
    config: Arc<DeviceConfig>,
}

impl std::fmt::Debug for Fs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fs")
            .field("share", &self.share)
            .finish_non_exhaustive()
    }
}

impl Fs {
    /// Shares a folder under `tag`.
    ///
    /// # Errors
    /// If the tag is empty or too long, or the folder cannot be opened.
    pub fn new(tag: &str, share: ShareConfig) -> Result<Fs, FsError> {
        if tag.is_empty() || tag.len() > TAG || tag.contains('\0') {
            return Err(FsError::Tag(tag.to_owned()));
        }
        let mut config = tag.as_bytes().to_vec();
        config.resize(TAG, 0);
        // Queues for ordinary requests.
        config.extend(1_u32.to_le_bytes());
        Ok(Fs {
            server: Server::new(PassthroughFs::new(share.clone())?),
            share,
            config: Arc::new(DeviceConfig::new(config, 0..0)),
        })
    }
}

impl Device for Fs {
    fn kind(&self) -> Kind {
        Kind::Fs
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE; QUEUES]
    }

    fn traffic(&self) -> Traffic {
        self.server.traffic()
    }

    fn config(&self) -> Arc<DeviceConfig> {
        Arc::clone(&self.config)
    }

    fn activate(&mut self, _context: &mut Context) -> Result<(), Fault> {
        let confinement =
            confine_thread(&self.share).map_err(|error| Fault::Host(error.to_string()))?;
        if !confinement.is_enforced() {
            log::warn!(
                "this host's kernel does not confine the server of {} (Landlock: {confinement:?}); \
                 names from the guest are checked all the same",
                self.share.root.display()
            );
        }
        Ok(())
    }

    fn notified(&mut self, index: usize, context: &mut Context) -> Result<(), Fault> {
        let Some(Some(queue)) = context.queues.get_mut(index) else {
            return Ok(());
        };
        let ram = &context.ram;
        queue.drain(ram, &context.interrupt, |chain| {
            self.server
                .handle(ram, chain)
                .map_err(|error| Fault::Request(error.to_string()))
        })
    }
}
