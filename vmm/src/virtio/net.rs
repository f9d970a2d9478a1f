//! Network card (virtio 1.2, section 5.1) with a NAT behind it.

use std::mem::offset_of;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use boxbuild_virtiofs::Traffic;
use virtio_bindings::virtio_net as net;
use vm_memory::ByteValued;

use super::chain::split_chain;
use super::config::DeviceConfig;
use super::device::{Context, Device};
use super::fault::Fault;
use super::kind::Kind;
use super::queue::ActiveQueue;
use super::wire::{NetConfig, NetHeader};
use crate::guest_io::Buffers;
use crate::memory::GuestRam;
use crate::net::{Frame, GUEST_MAC, LARGEST_FRAME, Nat, NetworkConfig, NetworkError, Offloads};

/// Queues: what the guest receives, what it transmits.
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
/// Entries of a queue. A frame of 64 KiB takes 43 of a driver that posts 1.5 KiB each.
const QUEUE: u16 = 1024;
/// Bytes of `virtio_net_hdr_v1` (section 5.1.6).
pub const HEADER: usize = size_of::<NetHeader>();
/// Offset of the status in the configuration space (section 5.1.4), and its "link is up".
const STATUS: usize = offset_of!(net::virtio_net_config, status);
const LINK_UP: u16 = net::VIRTIO_NET_S_LINK_UP as u16;
/// Bytes of the configuration space: without the fields of features that are not offered.
const CONFIG: usize = offset_of!(net::virtio_net_config, max_virtqueue_pairs);

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
    /// `None` after a panic: the link is down then.
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
    /// Creates a card with a NAT as `config` says.
    ///
    /// # Errors
    /// See [`Nat::new`].
    pub fn new(config: NetworkConfig) -> Result<Net, NetworkError> {
        let space = NetConfig(net::virtio_net_config {
            mac: GUEST_MAC,
            status: LINK_UP.to_le(),
            ..net::virtio_net_config::default()
        });
        let space = space.as_slice().get(..CONFIG).unwrap_or_default().to_vec();
        Ok(Net {
            nat: Some(Nat::new(config)?),
            config: Arc::new(DeviceConfig::new(space, 0..0)),
            waiting: None,
            mergeable: false,
            buffer: Vec::new(),
            traffic: Traffic::default(),
        })
    }

    /// Calls `act` with the NAT. If that panics, the link goes down, and the machine goes on.
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

    /// Takes the frames that the guest sends.
    fn transmit(&mut self, context: &mut Context) -> Result<(), Fault> {
        let ram = context.ram.clone();
        let Some(Some(mut queue)) = context.queues.get_mut(TRANSMIT).map(Option::take) else {
            return Ok(());
        };
        let interrupt = context.interrupt.clone();
        let drained = queue.drain(&ram, &interrupt, |chain| {
            let (mut readable, _) = split_chain(&ram, chain, QUEUE)?;
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

    /// Delivers frames to the guest, as far as it has buffers.
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
        for _ in 0..QUEUE {
            if context.stop.is_raised() {
                return Ok(());
            }
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
        // A host that sends faster than the guest takes must not keep other events away.
        queue.look_again()
    }
}

/// Buffers that the driver has for a frame, with the heads of their chains.
type ReceiveBuffers<'m> = Vec<(u16, Buffers<'m>)>;

/// Takes buffers for `len` bytes from the queue; `None` if the driver has not made as much
/// available, which then notifies us of more.
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
                let (_, writable) = split_chain(ram, chain, QUEUE)?;
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
    let mut header = net::virtio_net_hdr_v1 {
        num_buffers: buffers.to_le(),
        ..net::virtio_net_hdr_v1::default()
    };
    if let Some(offload) = frame.offload {
        header.flags = net::VIRTIO_NET_HDR_F_NEEDS_CSUM as u8;
        header.__bindgen_anon_1.csum = net::virtio_net_hdr_v1__bindgen_ty_1__bindgen_ty_2 {
            start: offload.checksum_start.to_le(),
            offset: offload.checksum_offset.to_le(),
        };
        if let Some(segmentation) = offload.segmentation {
            header.gso_type = if segmentation.ipv6 {
                net::VIRTIO_NET_HDR_GSO_TCPV6 as u8
            } else {
                net::VIRTIO_NET_HDR_GSO_TCPV4 as u8
            };
            header.hdr_len = segmentation.headers.to_le();
            header.gso_size = segmentation.size.to_le();
        }
    }
    let mut bytes = [0; HEADER];
    bytes.copy_from_slice(NetHeader(header).as_slice());
    bytes
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
