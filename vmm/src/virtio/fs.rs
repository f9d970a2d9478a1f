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

    /// Urgent requests are served before each other one: the guest gives a file back with one of them
    /// and then removes its folder, which some file systems of the host (NFS) allow only when the file is
    /// closed here.
    fn notified(&mut self, index: usize, context: &mut Context) -> Result<(), Fault> {
        let ram = &context.ram;
        let interrupt = &context.interrupt;
        let server = &self.server;
        let handle = |chain| {
            server
                .handle(ram, chain)
                .map_err(|error| Fault::Request(error.to_string()))
        };
        let (urgent, others) = context.queues.split_at_mut(1);
        let mut urgent = urgent.first_mut().and_then(Option::as_mut);
        let queue = index.checked_sub(1).and_then(|at| others.get_mut(at));
        let Some(Some(queue)) = queue else {
            return urgent.map_or(Ok(()), |urgent| urgent.drain(ram, interrupt, handle));
        };
        queue.drain(ram, interrupt, |chain| {
            if let Some(urgent) = &mut urgent
                && urgent.has_next(ram)?
            {
                urgent.drain(ram, interrupt, handle)?;
            }
            handle(chain)
        })
    }
}

#[cfg(test)]
mod tests {
    use boxbuild_virtiofs::fuse::abi::{self, EntryOut, InHeader, OutHeader, opcode};
    use boxbuild_virtiofs::{MountTag, Share};
    use boxbuild_vmm_driver::{Buffer, DriverQueue, QueueLayout};
    use vm_memory::{ByteValued, Bytes, GuestAddress};

    use super::*;
    use crate::memory::{GuestRam, flat};
    use crate::test_support::{Recorder, context};

    const REQUESTS: u64 = 0x10_0000;
    const REPLY: u64 = 0x20_0000;

    fn request(opcode: u32, nodeid: u64, body: &[u8]) -> Vec<u8> {
        let header = InHeader {
            len: (size_of::<InHeader>() + body.len()) as u32,
            opcode,
            unique: 2,
            nodeid,
            ..Default::default()
        };
        [header.as_slice(), body].concat()
    }

    fn add(ram: &GuestRam, queue: &mut DriverQueue, at: u64, request: &[u8], reply: bool) {
        ram.write_slice(request, GuestAddress(at)).unwrap();
        let mut chain = vec![Buffer::readable(at, request.len() as u32)];
        if reply {
            chain.push(Buffer::writable(REPLY, 4096));
        }
        queue.add(ram, &chain).unwrap();
    }

    /// Removing a folder on NFS found a file in it that the guest had given back already.
    #[test]
    fn what_is_given_back_goes_before_the_next_request() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        let share = Share::new(MountTag::new("share").unwrap(), folder.path());
        let mut fs = Fs::new(PassthroughFs::new(share).unwrap());
        let ram = flat(64).unwrap();
        let mut queues = [0x1_0000, 0x2_0000]
            .map(|at| DriverQueue::new(QueueLayout::new(GuestAddress(at), 16).unwrap()));
        let active = queues.iter().map(|queue| queue.device_queue().ok());
        let mut context = context(&ram, active.collect(), Arc::new(Recorder::default()));
        let [urgent, others] = &mut queues;
        let init = abi::InitIn {
            major: abi::KERNEL_VERSION,
            minor: abi::KERNEL_MINOR_VERSION,
            ..Default::default()
        };
        let init = request(opcode::INIT, 0, init.as_slice());
        add(&ram, others, REQUESTS, &init, true);
        let lookup = request(opcode::LOOKUP, abi::ROOT_ID, b"file\0");
        add(&ram, others, REQUESTS + 0x1000, &lookup, true);
        fs.notified(1, &mut context).unwrap();
        let head: OutHeader = ram.read_obj(GuestAddress(REPLY)).unwrap();
        assert_eq!(head.error, 0);
        let at = GuestAddress(REPLY + size_of::<OutHeader>() as u64);
        let entry: EntryOut = ram.read_obj(at).unwrap();
        // Both are there when the device looks, and only the second is announced.
        let forget = abi::ForgetIn { nlookup: 1 };
        let forget = request(opcode::FORGET, entry.nodeid, forget.as_slice());
        add(&ram, urgent, REQUESTS + 0x2000, &forget, false);
        let get = abi::GetattrIn::default();
        let get = request(opcode::GETATTR, entry.nodeid, get.as_slice());
        add(&ram, others, REQUESTS + 0x3000, &get, true);
        fs.notified(1, &mut context).unwrap();
        let head: OutHeader = ram.read_obj(GuestAddress(REPLY)).unwrap();
        assert_eq!(head.error, -libc::ENOENT);
        assert!(urgent.next_used(&ram).unwrap().is_some());
        // And alone.
        add(&ram, urgent, REQUESTS + 0x2000, &forget, false);
        fs.notified(0, &mut context).unwrap();
        assert!(urgent.next_used(&ram).unwrap().is_some());
    }
}
