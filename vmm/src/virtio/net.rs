//! Network card (virtio 1.2, section 5.1) with a NAT behind it.

use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use virtio_bindings::virtio_net as net;

use super::chain::split_chain;
use super::config::DeviceConfig;
use super::device::Context;
use super::device::Device;
use super::fault::Fault;
use super::kind::Kind;
use super::queue::ActiveQueue;
use crate::guest_io::Buffers;
use crate::memory::GuestRam;
use crate::net::{Frame, GUEST_MAC, LARGEST_FRAME, Nat, NetworkConfig, NetworkError, Offloads};
use boxbuild_virtiofs::Traffic;

/// Queues: what the guest receives, what it transmits.
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
/// Entries of a queue. A frame of 64 KiB takes 43 of a driver that posts 1.5 KiB each.
const QUEUE: u16 = 1024;
/// Bytes of `virtio_net_hdr_v1` (section 5.1.6).
pub const HEADER: usize = 12;
/// Offset of the status in the configuration space (section 5.1.4), and its "link is up".
const STATUS: usize = 6;
const LINK_UP: u16 = 1;
/// Flag and kinds of the header (section 5.1.6).
const NEEDS_CHECKSUM: u8 = 1;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;

const FEATURES: u64 = 1 << net::VIRTIO_NET_F_CSUM
    | 1 << net::VIRTIO_NET_F_GUEST_CSUM
    | 1 << net::VIRTIO_NET_F_MAC
    | 1 << net::VIRTIO_NET_F_GUEST_TSO4
    | 1 << net::VIRTIO_NET_F_GUEST_TSO6
    | 1 << net::VIRTIO_NET_F_HOST_TSO4
    | 1 << net::VIRTIO_NET_F_HOST_TSO6
    | 1 << net::VIRTIO_NET_F_MRG_RXBUF
    | 1 << net::VIRTIO_NET_F_STATUS;

/// A network card.
#[derive(Debug)]
pub struct Net {
    /// Gone if it panicked: the link is down then.
    nat: Option<Nat>,
    config: Arc<DeviceConfig>,
    /// The frame that waits for room in the guest.
    waiting: Option<Frame>,
    /// The driver takes frames in several buffers.
    mergeable: bool,
    buffer: Vec<u8>,
    traffic: Traffic,
}

impl Net {
    /// A card on a network as `config` says.
    ///
    /// # Errors
    /// See [`Nat::new`].
    pub fn new(config: NetworkConfig) -> Result<Net, NetworkError> {
        let mut space = GUEST_MAC.to_vec();
        space.extend(LINK_UP.to_le_bytes());
        Ok(Net {
            nat: Some(Nat::new(config)?),
            config: Arc::new(DeviceConfig::new(space, 0..0)),
            waiting: None,
            mergeable: false,
            buffer: Vec::new(),
            traffic: Traffic::default(),
        })
    }

    /// Does something with the NAT. If that panics, the link goes down, and nothing else.
    fn with<T>(&mut self, context: &Context, act: impl FnOnce(&mut Nat) -> T) -> Option<T> {
        let nat = self.nat.as_mut()?;
        // It is dropped, so nothing sees what is half done.
        match catch_unwind(AssertUnwindSafe(|| act(nat))) {
            Ok(result) => Some(result),
            Err(_) => {
                log::error!("the network failed and is gone; the guest's link is down");
                self.nat = None;
                self.waiting = None;
                self.config.set(STATUS, &[0; 2]);
                context.interrupt.config();
                None
            }
        }
    }

    /// What the guest has to send.
    fn transmit(&mut self, context: &mut Context) -> Result<(), Fault> {
        let ram = context.ram.clone();
        let Some(Some(mut queue)) = context.queues.get_mut(TRANSMIT).map(Option::take) else {
            return Ok(());
        };
        let interrupt = context.interrupt.clone();
        let drained = queue.drain(&ram, &interrupt, |chain| {
            let (mut readable, _) = split_chain(&ram, chain)?;
            // Offloads need no undoing: nothing looks at checksums or sizes on the way.
            readable.take_front(HEADER)?;
            if readable.len() <= LARGEST_FRAME {
                let mut buffer = std::mem::take(&mut self.buffer);
                buffer.resize(readable.len(), 0);
                readable.copy_to(&mut buffer);
                self.traffic.add_from_guest(buffer.len());
                self.with(context, |nat| nat.take(&buffer));
                self.buffer = buffer;
            }
            Ok(0)
        });
        if let Some(slot) = context.queues.get_mut(TRANSMIT) {
            *slot = Some(queue);
        }
        drained
    }

    /// What there is for the guest, as far as it has room.
    fn receive(&mut self, context: &mut Context) -> Result<(), Fault> {
        let Some(Some(mut queue)) = context.queues.get_mut(RECEIVE).map(Option::take) else {
            return Ok(());
        };
        let ram = context.ram.clone();
        let delivered = self.deliver(context, &ram, &mut queue);
        let signalled = queue.signal(&ram, &context.interrupt);
        if let Some(slot) = context.queues.get_mut(RECEIVE) {
            *slot = Some(queue);
        }
        delivered.and(signalled)
    }

    fn deliver(
        &mut self,
        context: &Context,
        ram: &GuestRam,
        queue: &mut ActiveQueue,
    ) -> Result<(), Fault> {
        loop {
            if self.waiting.is_none() {
                self.waiting = self.with(context, Nat::next_frame).flatten();
            }
            let Some(frame) = &self.waiting else {
                return Ok(());
            };
            let Some(room) = room(HEADER + frame.bytes.len(), self.mergeable, ram, queue)? else {
                return Ok(());
            };
            let len = frame.bytes.len();
            put(frame, room, ram, queue)?;
            self.traffic.add_to_guest(len);
            self.waiting = None;
        }
    }
}

/// Buffers that the driver has for a frame, with the heads of their chains.
type ReceiveBuffers<'m> = Vec<(u16, Buffers<'m>)>;

/// ReceiveBuffers for `len` bytes; nothing if the driver has not put in as much, which then notifies us
/// of more.
fn room<'m>(
    len: usize,
    mergeable: bool,
    ram: &'m GuestRam,
    queue: &mut ActiveQueue,
) -> Result<Option<ReceiveBuffers<'m>>, Fault> {
    let mut room = ReceiveBuffers::new();
    let mut found = 0;
    loop {
        match queue.pop(ram)? {
            Some(chain) => {
                let head = chain.head_index();
                let (_, writable) = split_chain(ram, chain)?;
                if writable.is_empty() {
                    return Err(Fault::Request(String::from("no room for a frame")));
                }
                found += writable.len();
                room.push((head, writable));
                if found >= len {
                    return Ok(Some(room));
                }
                if !mergeable || room.len() >= usize::from(QUEUE) {
                    return Err(Fault::Request(format!(
                        "room for {found} bytes where a frame has {len}"
                    )));
                }
            }
            // The driver shall notify us of what comes behind all that is there.
            None if queue.listen(ram)? => {}
            None => {
                for _ in &room {
                    queue.put_back();
                }
                return Ok(None);
            }
        }
    }
}

/// Writes a frame with its header where there is room for it.
fn put(
    frame: &Frame,
    room: ReceiveBuffers<'_>,
    ram: &GuestRam,
    queue: &mut ActiveQueue,
) -> Result<(), Fault> {
    let header = header(frame, room.len() as u16);
    let (mut header, mut body) = (header.as_slice(), frame.bytes.as_slice());
    for (head, mut buffers) in room {
        // A driver may let the header end anywhere.
        let front = buffers.take_front(header.len().min(buffers.len()))?;
        let count = front.copy_from(header);
        header = header.get(count..).unwrap_or_default();
        let more = buffers.copy_from(body);
        body = body.get(more..).unwrap_or_default();
        queue.add_used(ram, head, (count + more) as u32)?;
    }
    Ok(())
}

/// `virtio_net_hdr_v1` of a frame in `buffers` chains.
pub fn header(frame: &Frame, buffers: u16) -> [u8; HEADER] {
    let (mut flags, mut kind) = (0, 0);
    let mut words = [0_u16; 5];
    if let Some(offload) = frame.offload {
        flags = NEEDS_CHECKSUM;
        words[2] = offload.checksum_start;
        words[3] = offload.checksum_offset;
        if let Some(segmentation) = offload.segmentation {
            kind = if segmentation.ipv6 {
                GSO_TCPV6
            } else {
                GSO_TCPV4
            };
            words[0] = segmentation.headers;
            words[1] = segmentation.size;
        }
    }
    words[4] = buffers;
    let mut header = [0; HEADER];
    header[0] = flags;
    header[1] = kind;
    for (bytes, word) in header[2..].chunks_exact_mut(2).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    header
}

impl Device for Net {
    fn kind(&self) -> Kind {
        Kind::Net
    }

    fn features(&self) -> u64 {
        FEATURES
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE; 2]
    }

    fn traffic(&self) -> Traffic {
        self.traffic.clone()
    }

    fn config(&self) -> Arc<DeviceConfig> {
        Arc::clone(&self.config)
    }

    fn wakeup(&self) -> Option<OwnedFd> {
        self.nat.as_ref()?.pollable().ok()
    }

    fn activate(&mut self, context: &mut Context) -> Result<(), Fault> {
        let has = |bit: u32| context.features & 1 << bit != 0;
        self.mergeable = has(net::VIRTIO_NET_F_MRG_RXBUF);
        self.waiting = None;
        let offloads = Offloads {
            checksum: has(net::VIRTIO_NET_F_GUEST_CSUM),
            tcp4: has(net::VIRTIO_NET_F_GUEST_TSO4),
            tcp6: has(net::VIRTIO_NET_F_GUEST_TSO6),
        };
        self.with(context, |nat| nat.set_offloads(offloads));
        Ok(())
    }

    fn notified(&mut self, index: usize, context: &mut Context) -> Result<(), Fault> {
        if index == TRANSMIT {
            self.transmit(context)?;
        }
        // An answer may be there already.
        self.receive(context)
    }

    fn woken(&mut self, context: &mut Context) -> Result<(), Fault> {
        self.with(context, Nat::poll);
        self.receive(context)
    }
}

#[cfg(test)]
#[path = "net_tests.rs"]
mod tests;
