//! File system (virtio 1.2, section 5.11): a folder of the host, served in this process.

use std::sync::Arc;

use boxbuild_virtiofs::{PassthroughFs, Server, Traffic, confine_thread};

use super::config::DeviceConfig;
use super::device::{Context, Device};
use super::fault::Fault;
use super::kind::Kind;

/// Queues: urgent requests, all others.
const QUEUES: usize = 2;
/// Entries of a queue: FUSE's readahead keeps some dozens of requests under way.
const QUEUE: u16 = 512;

/// A shared folder.
pub struct Fs {
    server: Server<PassthroughFs>,
    config: Arc<DeviceConfig>,
}

impl std::fmt::Debug for Fs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fs")
            .field("share", self.server.file_system().share())
            .finish_non_exhaustive()
    }
}

impl Fs {
    /// Creates the device of a share.
    pub fn new(fs: PassthroughFs) -> Fs {
        let mut config = fs.share().tag.to_field().to_vec();
        // Queues for ordinary requests.
        config.extend(1_u32.to_le_bytes());
        Fs {
            server: Server::new(fs),
            config: Arc::new(DeviceConfig::new(config, 0..0)),
        }
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
        let confinement = confine_thread(self.server.file_system())
            .map_err(|error| Fault::Host(error.to_string()))?;
        if !confinement.is_enforced() {
            log::warn!(
                "this host's kernel does not confine the server of {} (Landlock: {confinement:?}); \
                 names from the guest are checked all the same",
                self.server.file_system().share().root.display()
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
