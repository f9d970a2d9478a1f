//! QEMU's block layer: a disk of qemu-storage-daemon over vhost-user.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::memfd::{MFdFlags, memfd_create};
use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use virtio_bindings::virtio_blk::VIRTIO_BLK_F_FLUSH;
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::EventFd;

use crate::ring::{self, Ring};

/// Where the memory lies in the address space that is told to the daemon; any number.
const USER_BASE: u64 = 0x1_0000_0000;

/// The daemon with one disk.
pub(crate) struct Qemu {
    child: Child,
    frontend: Option<Frontend>,
    memory: GuestMemoryMmap,
    file: File,
    size: u64,
    events: Vec<(EventFd, EventFd)>,
}

impl Qemu {
    /// A fresh qcow2 overlay over `image` in `scratch`.
    pub(crate) fn overlay(image: &Path, scratch: &Path, queues: u16, aio: &str) -> Result<Qemu> {
        let overlay = scratch.join("overlay.qcow2");
        let _ = std::fs::remove_file(&overlay);
        let status = Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"])
            .args([image, &overlay])
            .status()?;
        if !status.success() {
            bail!("qemu-img cannot make an overlay");
        }
        Qemu::start(&overlay, scratch, queues, aio)
    }

    /// `image` itself, or an overlay.
    pub(crate) fn start(image: &Path, scratch: &Path, queues: u16, aio: &str) -> Result<Qemu> {
        let socket = scratch.join("socket");
        let _ = std::fs::remove_file(&socket);
        let child = Command::new("qemu-storage-daemon")
            .arg("--blockdev")
            .arg(format!(
                "driver=file,node-name=file,aio={aio},filename={}",
                image.display()
            ))
            .args([
                "--blockdev",
                "driver=qcow2,node-name=disk,file=file,discard=unmap",
            ])
            .arg("--export")
            .arg(format!(
                "type=vhost-user-blk,id=disk,node-name=disk,writable=on,num-queues={queues},\
                 addr.type=unix,addr.path={}",
                socket.display()
            ))
            .spawn()
            .context("cannot start qemu-storage-daemon")?;
        let size = ring::BYTES * u64::from(queues);
        let file = File::from(memfd_create(c"guest-memory", MFdFlags::MFD_CLOEXEC)?);
        file.set_len(size)?;
        let range = (
            GuestAddress(0),
            size as usize,
            Some(FileOffset::new(file.try_clone()?, 0)),
        );
        let memory = GuestMemoryMmap::from_ranges_with_files([range])?;
        let mut qemu = Qemu {
            child,
            frontend: None,
            memory,
            file,
            size,
            events: Vec::new(),
        };
        qemu.frontend = Some(qemu.connect(&socket, u64::from(queues))?);
        Ok(qemu)
    }

    fn connect(&mut self, socket: &Path, queues: u64) -> Result<Frontend> {
        let mut tries = 0;
        let stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(error) if tries > 500 => return Err(error.into()),
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
            tries += 1;
        };
        let mut frontend = Frontend::from_stream(stream, queues);
        frontend.set_owner()?;
        let protocol = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        let wanted = 1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_BLK_F_FLUSH | protocol;
        let offered = frontend.get_features()?;
        frontend.set_features(offered & wanted)?;
        let protocol = frontend.get_protocol_features()?;
        let wanted = VhostUserProtocolFeatures::MQ | VhostUserProtocolFeatures::REPLY_ACK;
        frontend.set_protocol_features(protocol & wanted)?;
        frontend.set_mem_table(&[VhostUserMemoryRegionInfo {
            guest_phys_addr: 0,
            memory_size: self.size,
            userspace_addr: USER_BASE,
            mmap_offset: 0,
            mmap_handle: self.file.as_raw_fd(),
        }])?;
        for queue in 0..queues {
            let layout = ring::layout(USER_BASE + queue * ring::BYTES)?;
            let config = VringConfigData {
                queue_max_size: ring::SIZE,
                queue_size: ring::SIZE,
                flags: 0,
                desc_table_addr: layout.descriptors().0,
                used_ring_addr: layout.used().0,
                avail_ring_addr: layout.available().0,
                log_addr: None,
            };
            let (kick, call) = (EventFd::new(0)?, EventFd::new(0)?);
            let index = queue as usize;
            frontend.set_vring_num(index, ring::SIZE)?;
            frontend.set_vring_addr(index, &config)?;
            frontend.set_vring_base(index, 0)?;
            frontend.set_vring_call(index, &call)?;
            frontend.set_vring_kick(index, &kick)?;
            frontend.set_vring_enable(index, true)?;
            self.events.push((kick, call));
        }
        Ok(frontend)
    }

    pub(crate) fn rings(&self) -> Result<Vec<Ring<'_, GuestMemoryMmap>>> {
        let rings = self
            .events
            .iter()
            .zip(0_u64..)
            .map(|((kick, call), queue)| {
                let base = queue * ring::BYTES;
                Ring::new(&self.memory, base, kick.try_clone()?, call.try_clone()?)
            });
        rings.collect()
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        self.frontend = None;
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
