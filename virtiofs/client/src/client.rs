//! A vhost-user connection to a virtio-fs server, and FUSE requests over it.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use boxbuild_virtiofs::fuse::abi::{InHeader, OutHeader};
use boxbuild_vmm_driver::{Access, Buffer, Used};
use nix::sys::memfd::{MFdFlags, memfd_create};
use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use vm_memory::{ByteValued, Bytes, FileOffset, GuestAddress, GuestMemoryMmap};

use crate::ring::{self, Ring};

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
/// Address of guest memory in the address space of the VMM, for the server; any number.
const USER_BASE: u64 = 0x1_0000_0000;

/// How long a server may be silent before a test fails, so that no test hangs for ever.
const REPLY_TIMEOUT: Duration = Duration::from_secs(60);

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
    /// Sets the device up for `slots` requests at once.
    ///
    /// # Errors
    /// If the server violates the protocol.
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

    /// Returns the guest's memory.
    pub fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    /// Returns the queue for all but urgent requests, and the memory that it is in.
    pub fn ring(&mut self) -> (&mut Ring, &GuestMemoryMmap) {
        (&mut self.rings[NORMAL], &self.memory)
    }

    /// Returns an address in guest memory that no queue and no other slot uses.
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
        let layout = ring.queue().layout();
        let address = |guest: GuestAddress| USER_BASE + guest.0;
        let config = VringConfigData {
            queue_max_size: ring::SIZE,
            queue_size: ring::SIZE,
            flags: 0,
            desc_table_addr: address(layout.descriptors()),
            used_ring_addr: address(layout.used()),
            avail_ring_addr: address(layout.available()),
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
    /// The inode.
    pub node: u64,
    /// The bytes after the header, in parts.
    pub body: &'a [&'a [u8]],
    /// Bytes of data after the body, from the slot's [outgoing](Client::outgoing) pages.
    pub data: u32,
    /// Bytes that the reply may have after its header.
    pub capacity: u32,
}

/// The reply to a request; its bytes stay in the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// The slot of the request.
    pub slot: u16,
    /// Number of bytes after the reply's header, or an errno.
    pub result: Result<u32, i32>,
}

/// A FUSE client.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    slots: u16,
    unique: Vec<u64>,
    next_unique: u64,
    /// How long to wait for a reply.
    timeout: Option<Duration>,
    /// Of the last request; kept so that no request allocates.
    buffers: Vec<Buffer>,
    /// User id of the process that makes the requests.
    pub uid: u32,
    /// Group id of the process that makes the requests.
    pub gid: u32,
    /// Negotiated INIT flags.
    pub flags: u64,
}

impl Client {
    /// Connects, without INIT.
    ///
    /// # Errors
    /// If the server violates the protocol.
    pub fn connect(stream: UnixStream, slots: u16) -> io::Result<Self> {
        Ok(Self {
            connection: Connection::new(stream, slots)?,
            slots,
            unique: vec![0; usize::from(slots)],
            next_unique: 2,
            timeout: Some(REPLY_TIMEOUT),
            buffers: Vec::new(),
            uid: 0,
            gid: 0,
            flags: 0,
        })
    }

    /// Starts a session with one request at a time.
    ///
    /// # Panics
    /// If connection or INIT fails.
    pub fn mount(stream: UnixStream) -> Self {
        let mut client = Self::connect(stream, 1).expect("a virtio-fs device");
        client.init().expect("a FUSE session");
        client
    }

    /// Waits for replies without a timeout, as a guest does: one system call less for each.
    pub fn disable_timeout(&mut self) {
        self.timeout = None;
    }

    /// Returns the connection, for what no driver does.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Returns how many requests there may be at once.
    pub fn slots(&self) -> u16 {
        self.slots
    }

    fn base(slot: u16) -> u64 {
        Connection::scratch(slot).0
    }

    /// Returns the address of the pages with the data of a WRITE.
    pub fn outgoing(slot: u16) -> GuestAddress {
        GuestAddress(Self::base(slot) + OUTGOING)
    }

    /// Returns the address of the bytes after the reply's header.
    pub fn incoming(slot: u16) -> GuestAddress {
        GuestAddress(Self::base(slot) + INCOMING)
    }

    /// Puts a request into a slot and submits it.
    ///
    /// # Panics
    /// If it does not fit.
    pub fn submit(&mut self, slot: u16, request: &Request<'_>) {
        self.submit_to(NORMAL, slot, request);
    }

    fn submit_to(&mut self, queue: usize, slot: u16, request: &Request<'_>) {
        self.put(queue, slot, request);
        let memory = &self.connection.memory;
        self.connection.rings[queue].submit(memory, slot);
    }

    /// Puts a request into a slot, without submitting it.
    fn put(&mut self, queue: usize, slot: u16, request: &Request<'_>) {
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
        let buffers = &mut self.buffers;
        buffers.clear();
        buffers.push(Buffer::readable(arguments, size_of::<InHeader>() as u32));
        if body > 0 {
            let after = arguments + size_of::<InHeader>() as u64;
            buffers.push(Buffer::readable(after, body as u32));
        }
        push_pages(buffers, base + OUTGOING, request.data, Access::Readable);
        if queue == NORMAL {
            let header = size_of::<OutHeader>() as u32;
            buffers.push(Buffer::writable(base + REPLY, header));
            push_pages(buffers, base + INCOMING, request.capacity, Access::Writable);
        }
        self.connection.rings[queue]
            .write(memory, slot, GuestAddress(base + TABLE), buffers)
            .expect("a slot is in memory");
    }

    /// Waits for the next reply.
    ///
    /// # Panics
    /// If there is none, or it violates the protocol.
    pub fn reply(&mut self) -> Reply {
        let (ring, memory) = self.connection.ring();
        let Used { head, len } = ring.wait(memory, self.timeout).expect("the server answers");
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

    /// Makes one request; returns the bytes of its reply.
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
            capacity: 1 << 16,
        })?;
        let mut bytes = vec![0; len as usize];
        self.copy_incoming(&mut bytes);
        Ok(bytes)
    }

    /// Makes one request; returns the number of bytes of its reply, which stay in the slot.
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

    /// Copies the last reply's bytes from guest memory.
    pub fn copy_incoming(&self, bytes: &mut [u8]) {
        self.connection
            .memory
            .read_slice(bytes, Self::incoming(0))
            .expect("a slot is in memory");
    }

    /// Copies data for a WRITE to guest memory.
    pub fn copy_outgoing(&self, bytes: &[u8]) {
        self.connection
            .memory
            .write_slice(bytes, Self::outgoing(0))
            .expect("a slot is in memory");
    }

    /// Makes one request; returns its reply as a structure.
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
        let capacity = size_of::<T>() as u32;
        let len = self.exchange(&Request {
            opcode,
            node,
            body,
            data: 0,
            capacity,
        })?;
        assert_eq!(len, capacity, "the reply's size");
        let memory = &self.connection.memory;
        Ok(memory
            .read_obj(Self::incoming(0))
            .expect("a slot is in memory"))
    }

    /// Makes an urgent request, which has no reply; waits until the server has handled it.
    ///
    /// # Panics
    /// If the server does not handle it.
    pub fn urgent(&mut self, opcode: u32, node: u64, body: &[&[u8]]) {
        let request = Request {
            opcode,
            node,
            body,
            data: 0,
            capacity: 0,
        };
        self.submit_to(URGENT, 0, &request);
        let memory = &self.connection.memory;
        let used = self.connection.rings[URGENT].wait(memory, self.timeout);
        let none = Some(Used { head: 0, len: 0 });
        assert_eq!(used, none, "urgent requests have no reply");
    }
}

impl Client {
    /// Makes a request, and before it an urgent one `times` times. The server is only notified when all
    /// of them are in their queues. Needs two slots.
    ///
    /// # Errors
    /// The server's errno for the request that is not urgent.
    ///
    /// # Panics
    /// As [`reply`](Self::reply).
    pub fn call_after_urgent(
        &mut self,
        (urgent, times): (&Request<'_>, usize),
        request: &Request<'_>,
    ) -> Result<u32, i32> {
        self.put(URGENT, 1, urgent);
        self.put(NORMAL, 0, request);
        let Connection { memory, rings, .. } = &mut self.connection;
        for _ in 0..times {
            rings[URGENT].publish(memory, 1);
        }
        rings[NORMAL].publish(memory, 0);
        rings[NORMAL].notify();
        let result = self.reply().result;
        for _ in 0..times {
            let Connection { memory, rings, .. } = &mut self.connection;
            let used = rings[URGENT].wait(memory, self.timeout);
            assert_eq!(used, Some(Used { head: 1, len: 0 }));
        }
        result
    }
}

/// Appends one buffer for each page, as Linux does.
fn push_pages(buffers: &mut Vec<Buffer>, address: u64, len: u32, access: Access) {
    assert!(u64::from(len) <= DATA, "a transfer of {len} bytes");
    let mut done = 0;
    while done < len {
        let part = (len - done).min(PAGE as u32);
        buffers.push(Buffer {
            address: address + u64::from(done),
            len: part,
            access,
        });
        done += part;
    }
}
