//! A connection to a virtio-fs server, and FUSE requests over it.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use boxbuild_virtiofs::fuse::abi::{InHeader, OutHeader};
use nix::sys::memfd::{MFdFlags, memfd_create};
use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use vm_memory::{ByteValued, Bytes, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use crate::ring::{self, Descriptor, Ring};

/// Urgent requests (FORGET, INTERRUPT), and all others (virtio 1.2, section 5.11.2).
const QUEUES: usize = 2;
const URGENT: usize = 0;
const NORMAL: usize = 1;

const PAGE: u64 = 4096;
/// The largest transfer in bytes.
const DATA: u64 = 1 << 20;
/// A slot holds one request: its descriptor table, its arguments, its data, its reply.
const TABLE: u64 = 0;
const ARGUMENTS: u64 = 0x4000;
const OUTGOING: u64 = ARGUMENTS + 0x20000;
const REPLY: u64 = OUTGOING + DATA;
const INCOMING: u64 = REPLY + PAGE;
const SLOT: u64 = INCOMING + DATA + PAGE;
const SLOTS: u64 = QUEUES as u64 * ring::BYTES;
/// Where the guest's memory lies in the address space that is told to the server; any number.
const USER_BASE: u64 = 0x1_0000_0000;

/// How long a server may be silent before a test fails: a guard against hanging for ever.
const PATIENCE: Duration = Duration::from_secs(60);

/// A vhost-user connection to a virtio-fs device.
#[derive(Debug)]
pub struct Connection {
    memory: GuestMemoryMmap,
    rings: Vec<Ring>,
    // Closing it ends the connection; the memory's file is for the server to map.
    _frontend: FrontendHandle,
    _file: File,
}

struct FrontendHandle(#[allow(dead_code)] Frontend);

impl std::fmt::Debug for FrontendHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Frontend")
    }
}

impl Connection {
    /// Sets the device up, with room for `slots` requests at once.
    ///
    /// # Errors
    /// If the server does not do its part.
    pub fn new(stream: UnixStream, slots: u16) -> io::Result<Self> {
        let size = SLOTS + SLOT * u64::from(slots);
        let file = File::from(memfd_create(c"guest-memory", MFdFlags::MFD_CLOEXEC)?);
        file.set_len(size)?;
        let range = (
            GuestAddress(0),
            size as usize,
            Some(FileOffset::new(file.try_clone()?, 0)),
        );
        let memory = GuestMemoryMmap::from_ranges_with_files([range]).map_err(io::Error::other)?;

        let mut frontend = Frontend::from_stream(stream, QUEUES as u64);
        let offered = frontend.get_features().map_err(io::Error::other)?;
        let protocol = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        let needed = (1 << VIRTIO_F_VERSION_1) | (1 << VIRTIO_RING_F_INDIRECT_DESC) | protocol;
        if offered & needed != needed {
            return Err(io::Error::other(format!(
                "the server offers only the features {offered:#x}"
            )));
        }
        let features = offered & (needed | 1 << VIRTIO_RING_F_EVENT_IDX);
        let event_idx = features & 1 << VIRTIO_RING_F_EVENT_IDX != 0;
        let rings = (0..QUEUES as u64)
            .map(|queue| Ring::new(queue * ring::BYTES, event_idx))
            .collect::<io::Result<Vec<_>>>()?;
        set_up(&mut frontend, features, (&file, size), &rings).map_err(io::Error::other)?;
        Ok(Self {
            memory,
            rings,
            _frontend: FrontendHandle(frontend),
            _file: file,
        })
    }

    /// The guest's memory.
    pub fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    /// The ring for everything but urgent requests, and the memory it is in.
    pub fn ring(&mut self) -> (&mut Ring, &GuestMemoryMmap) {
        (&mut self.rings[NORMAL], &self.memory)
    }

    /// An address in guest memory that no ring and no other slot uses.
    pub fn scratch(slot: u16) -> GuestAddress {
        GuestAddress(SLOTS + SLOT * u64::from(slot))
    }
}

fn set_up(
    frontend: &mut Frontend,
    features: u64,
    (file, size): (&File, u64),
    rings: &[Ring],
) -> Result<(), vhost::Error> {
    frontend.set_owner()?;
    frontend.set_features(features)?;
    let protocol = frontend.get_protocol_features()?;
    let wanted = VhostUserProtocolFeatures::MQ | VhostUserProtocolFeatures::REPLY_ACK;
    frontend.set_protocol_features(protocol & wanted)?;
    frontend.set_mem_table(&[VhostUserMemoryRegionInfo {
        guest_phys_addr: 0,
        memory_size: size,
        userspace_addr: USER_BASE,
        mmap_offset: 0,
        mmap_handle: file.as_raw_fd(),
    }])?;
    for (queue, ring) in rings.iter().enumerate() {
        let address = |guest: GuestAddress| USER_BASE + guest.0;
        let config = VringConfigData {
            queue_max_size: ring::SIZE,
            queue_size: ring::SIZE,
            flags: 0,
            desc_table_addr: address(ring.descriptor(0)),
            used_ring_addr: address(ring.used()),
            avail_ring_addr: address(ring.available()),
            log_addr: None,
        };
        let (kick, call) = ring.events();
        frontend.set_vring_num(queue, ring::SIZE)?;
        frontend.set_vring_addr(queue, &config)?;
        frontend.set_vring_base(queue, 0)?;
        frontend.set_vring_call(queue, call)?;
        frontend.set_vring_kick(queue, kick)?;
        frontend.set_vring_enable(queue, true)?;
    }
    Ok(())
}

/// One FUSE request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Request<'a> {
    /// `FUSE_*` operation.
    pub opcode: u32,
    /// Which inode it is about.
    pub node: u64,
    /// What follows the header, in parts.
    pub body: &'a [&'a [u8]],
    /// Bytes of data that follow the body, from the slot's [outgoing](Client::outgoing) pages.
    pub data: u32,
    /// Room for the reply apart from its header, in bytes.
    pub room: u32,
}

/// The reply to a request; its bytes are still in the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// The slot that the request was in.
    pub slot: u16,
    /// Bytes after the reply's header, or an errno.
    pub result: Result<u32, i32>,
}

/// A FUSE client.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    slots: u16,
    unique: Vec<u64>,
    next_unique: u64,
    patience: Option<Duration>,
    /// Kept to allocate nothing for each request.
    table: Vec<Descriptor>,
    /// On whose behalf requests are made.
    pub uid: u32,
    /// On whose behalf requests are made.
    pub gid: u32,
    /// INIT flags that the server agreed to.
    pub flags: u64,
}

impl Client {
    /// Connects, without INIT.
    ///
    /// # Errors
    /// If the server does not do its part of the connection.
    pub fn connect(stream: UnixStream, slots: u16) -> io::Result<Self> {
        Ok(Self {
            connection: Connection::new(stream, slots)?,
            slots,
            unique: vec![0; usize::from(slots)],
            next_unique: 2,
            patience: Some(PATIENCE),
            table: Vec::new(),
            uid: 0,
            gid: 0,
            flags: 0,
        })
    }

    /// A session with one request at a time, after INIT.
    ///
    /// # Panics
    /// If that fails.
    pub fn mount(stream: UnixStream) -> Self {
        let mut client = Self::connect(stream, 1).expect("a virtio-fs device");
        client.init().expect("a FUSE session");
        client
    }

    /// Waits for replies without looking at the clock, as a guest does: one system call less
    /// for each.
    pub fn wait_for_ever(&mut self) {
        self.patience = None;
    }

    /// The connection, for what no driver does.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// How many requests there may be at once.
    pub fn slots(&self) -> u16 {
        self.slots
    }

    fn base(slot: u16) -> u64 {
        Connection::scratch(slot).0
    }

    /// Address of the pages that a WRITE's data is in.
    pub fn outgoing(slot: u16) -> GuestAddress {
        GuestAddress(Self::base(slot) + OUTGOING)
    }

    /// Address of the bytes after the reply's header.
    pub fn incoming(slot: u16) -> GuestAddress {
        GuestAddress(Self::base(slot) + INCOMING)
    }

    /// Puts a request into a slot and tells the server.
    ///
    /// # Panics
    /// If it does not fit.
    pub fn submit(&mut self, slot: u16, request: &Request<'_>) {
        self.submit_to(NORMAL, slot, request);
    }

    fn submit_to(&mut self, queue: usize, slot: u16, request: &Request<'_>) {
        let base = Self::base(slot);
        let body: usize = request.body.iter().map(|part| part.len()).sum();
        let unique = self.next_unique;
        self.next_unique += 2;
        self.unique[usize::from(slot)] = unique;
        let header = InHeader {
            len: (size_of::<InHeader>() + body) as u32 + request.data,
            opcode: request.opcode,
            unique,
            nodeid: request.node,
            uid: self.uid,
            gid: self.gid,
            ..Default::default()
        };
        let memory = &self.connection.memory;
        let arguments = base + ARGUMENTS;
        memory
            .write_obj(header, GuestAddress(arguments))
            .expect("a slot is in memory");
        let mut place = arguments + size_of::<InHeader>() as u64;
        assert!(body as u64 + PAGE < OUTGOING - ARGUMENTS, "a long request");
        for part in request.body {
            memory
                .write_slice(part, GuestAddress(place))
                .expect("a slot is in memory");
            place += part.len() as u64;
        }
        let mut table = Table::new(base + TABLE, &mut self.table);
        table.push(arguments, size_of::<InHeader>() as u32, 0);
        if body > 0 {
            let after = arguments + size_of::<InHeader>() as u64;
            table.push(after, body as u32, 0);
        }
        table.pages(base + OUTGOING, request.data, 0);
        if queue == NORMAL {
            let header = size_of::<OutHeader>() as u32;
            table.push(base + REPLY, header, Descriptor::WRITE);
            table.pages(base + INCOMING, request.room, Descriptor::WRITE);
        }
        let head = table.finish(memory);
        let ring = &mut self.connection.rings[queue];
        memory
            .write_obj(head, ring.descriptor(slot))
            .expect("the ring is in memory");
        ring.submit(memory, slot);
    }

    /// Waits for the next reply.
    ///
    /// # Panics
    /// If there is none, or one that makes no sense.
    pub fn reply(&mut self) -> Reply {
        let (ring, memory) = self.connection.ring();
        let (head, len) = ring
            .wait(memory, self.patience)
            .expect("the server answers");
        let slot = u16::try_from(head).expect("a head that was submitted");
        let out: OutHeader = memory
            .read_obj(GuestAddress(Self::base(slot) + REPLY))
            .expect("a slot is in memory");
        assert_eq!(out.len, len, "the length of the reply");
        assert_eq!(out.unique, self.unique[usize::from(slot)], "whose reply");
        let header = size_of::<OutHeader>() as u32;
        let result = match out.error {
            0 => Ok(len.checked_sub(header).expect("a header")),
            error => {
                assert!((-511..0).contains(&error), "error number {error}");
                assert_eq!(len, header, "an error has no data");
                Err(-error)
            }
        };
        Reply { slot, result }
    }

    /// One request and its reply's bytes.
    ///
    /// # Errors
    /// The server's errno.
    ///
    /// # Panics
    /// As [`reply`](Self::reply).
    pub fn call(&mut self, opcode: u32, node: u64, body: &[&[u8]]) -> Result<Vec<u8>, i32> {
        let len = self.exchange(&Request {
            opcode,
            node,
            body,
            data: 0,
            room: 1 << 16,
        })?;
        let mut bytes = vec![0; len as usize];
        self.copy_incoming(&mut bytes);
        Ok(bytes)
    }

    /// One request; the reply's bytes stay in the slot, their number is returned.
    ///
    /// # Errors
    /// The server's errno.
    ///
    /// # Panics
    /// As [`reply`](Self::reply).
    pub fn exchange(&mut self, request: &Request<'_>) -> Result<u32, i32> {
        self.submit(0, request);
        self.reply().result
    }

    /// Copies the last reply's bytes out of the guest's memory.
    pub fn copy_incoming(&self, bytes: &mut [u8]) {
        self.connection
            .memory
            .read_slice(bytes, Self::incoming(0))
            .expect("a slot is in memory");
    }

    /// Copies data for a WRITE into the guest's memory.
    pub fn copy_outgoing(&self, bytes: &[u8]) {
        self.connection
            .memory
            .write_slice(bytes, Self::outgoing(0))
            .expect("a slot is in memory");
    }

    /// One request and its reply's bytes as a structure.
    ///
    /// # Errors
    /// The server's errno.
    ///
    /// # Panics
    /// As [`reply`](Self::reply).
    pub fn typed<T: ByteValued + Default>(
        &mut self,
        opcode: u32,
        node: u64,
        body: &[&[u8]],
    ) -> Result<T, i32> {
        let room = size_of::<T>() as u32;
        let len = self.exchange(&Request {
            opcode,
            node,
            body,
            data: 0,
            room,
        })?;
        assert_eq!(len, room, "the reply's size");
        let memory = &self.connection.memory;
        Ok(memory
            .read_obj(Self::incoming(0))
            .expect("a slot is in memory"))
    }

    /// An urgent request, which has no reply; waits until the server has taken it.
    ///
    /// # Panics
    /// If the server does not take it.
    pub fn urgent(&mut self, opcode: u32, node: u64, body: &[&[u8]]) {
        let request = Request {
            opcode,
            node,
            body,
            data: 0,
            room: 0,
        };
        self.submit_to(URGENT, 0, &request);
        let memory = &self.connection.memory;
        let used = self.connection.rings[URGENT].wait(memory, self.patience);
        assert_eq!(used, Some((0, 0)), "urgent requests have no reply");
    }
}

/// A slot's table of descriptors.
struct Table<'a> {
    base: u64,
    descriptors: &'a mut Vec<Descriptor>,
}

impl<'a> Table<'a> {
    fn new(base: u64, descriptors: &'a mut Vec<Descriptor>) -> Self {
        descriptors.clear();
        Self { base, descriptors }
    }

    fn push(&mut self, address: u64, len: u32, flags: u16) {
        let next = self.descriptors.len() as u16;
        if let Some(last) = self.descriptors.last_mut() {
            last.flags |= Descriptor::NEXT;
            last.next = next;
        }
        self.descriptors.push(Descriptor {
            address,
            len,
            flags,
            next: 0,
        });
    }

    /// One descriptor for each page, as Linux does.
    fn pages(&mut self, address: u64, len: u32, flags: u16) {
        assert!(u64::from(len) <= DATA, "a transfer of {len} bytes");
        let mut done = 0;
        while done < len {
            let part = (len - done).min(PAGE as u32);
            self.push(address + u64::from(done), part, flags);
            done += part;
        }
    }

    /// Stores the table; returns the descriptor that leads to it.
    fn finish(&self, memory: &GuestMemoryMmap) -> Descriptor {
        let size = 16 * self.descriptors.len();
        let slice = memory
            .get_slice(GuestAddress(self.base), size)
            .expect("a slot is in memory");
        slice.copy_from(self.descriptors);
        Descriptor {
            address: self.base,
            len: size as u32,
            flags: Descriptor::INDIRECT,
            next: 0,
        }
    }
}
