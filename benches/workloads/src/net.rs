//! The network card and the NAT behind it: one TCP connection of the guest to this host.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use boxbuild_vmm::net::{GATEWAY, GUEST, GUEST_MAC, NetworkConfig, Policy};
use boxbuild_vmm::virtio::net::Net;
use boxbuild_vmm_driver::Buffer;
use virtio_bindings::virtio_net as bits;

use crate::driver::{BUFFERS, DeviceDriver};
use crate::{Rounds, Workload};

/// Queues.
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
/// Bytes of `virtio_net_hdr_v1`, and of Ethernet, IPv4 and TCP headers.
const VIRTIO: usize = 12;
const HEADERS: usize = 14 + 20 + 20;
/// Payload of a frame of 1500 bytes, and of a large segment that the host divides.
const SEGMENT: usize = 1460;
const LARGE: usize = 32 << 10;
/// Frames at a time.
const FRAMES: usize = 16;
/// Buffers that the driver has for frames, with room for a page each, as Linux' mergeable ones.
const ROOM: usize = 128;
const PAGE: usize = 4096;
const RECEIVED: u64 = BUFFERS;
const SENT: u64 = BUFFERS + 0x10_0000;
/// The host's side of the same machine answers at once, or never.
const PATIENCE: Duration = Duration::from_secs(20);

/// TCP flags (RFC 9293, section 3.1).
const FIN: u8 = 1;
const SYN: u8 = 2;
const PSH: u8 = 8;
const ACK: u8 = 16;

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "net/send-1460",
        count: FRAMES as u64,
        unit: "segments",
        bytes: Some((FRAMES * SEGMENT) as u64),
        make: || Ok(Box::new(Send(Guest::new()?, SEGMENT, FRAMES))),
    },
    Workload {
        name: "net/send-32k",
        count: 1,
        unit: "segment",
        bytes: Some(LARGE as u64),
        make: || Ok(Box::new(Send(Guest::new()?, LARGE, 1))),
    },
    Workload {
        name: "net/receive-32k",
        count: 1,
        unit: "segment",
        bytes: Some(LARGE as u64),
        make: || Ok(Box::new(Receive(Guest::new()?, vec![0x64; LARGE]))),
    },
    Workload {
        name: "net/connect",
        count: 1,
        unit: "connection",
        bytes: None,
        make: || Ok(Box::new(Connect(Guest::new()?))),
    },
];

/// A guest with one connection to a listener on this host.
struct Guest {
    driver: DeviceDriver,
    listener: TcpListener,
    stream: Option<TcpStream>,
    /// The guest's port, and what it has sent and received: sequence numbers.
    port: u16,
    next: u32,
    expected: u32,
    /// What the last frame carried.
    flags: u8,
    /// The buffer that is filled next.
    buffer: usize,
}

impl Guest {
    fn new() -> Result<Guest> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let device = Net::new(NetworkConfig {
            policy: Policy {
                services: vec![listener.local_addr()?],
                ..Policy::default()
            },
            ..NetworkConfig::default()
        })?;
        let features = 1 << bits::VIRTIO_NET_F_CSUM
            | 1 << bits::VIRTIO_NET_F_GUEST_CSUM
            | 1 << bits::VIRTIO_NET_F_GUEST_TSO4
            | 1 << bits::VIRTIO_NET_F_HOST_TSO4
            | 1 << bits::VIRTIO_NET_F_MRG_RXBUF;
        let mut driver = DeviceDriver::new(Box::new(device), features)?;
        driver.activate()?;
        for number in 0..ROOM {
            driver.put(RECEIVE, &[buffer(number)])?;
        }
        let mut guest = Guest {
            driver,
            listener,
            stream: None,
            port: 40_000,
            next: 0,
            expected: 0,
            flags: 0,
            buffer: 0,
        };
        guest.connect()?;
        Ok(guest)
    }

    /// Sends a segment, and takes what comes back at once.
    fn send(&mut self, flags: u8, len: usize, count: usize) -> Result<()> {
        let options: &[u8] = if flags & SYN != 0 {
            // Segment size 1460; window scale 7.
            &[2, 4, 0x05, 0xb4, 1, 3, 3, 7]
        } else {
            &[]
        };
        let remote = self.listener.local_addr()?.port();
        for number in 0..count {
            let mut frame = Vec::with_capacity(VIRTIO + HEADERS + 8);
            frame.extend([0; VIRTIO]);
            frame.extend([0x02, 0x62, 0x6f, 0x78, 0x00, 0x02]);
            frame.extend(GUEST_MAC);
            frame.extend(0x0800_u16.to_be_bytes());
            let total = 20 + 20 + options.len() + len;
            frame.extend([0x45, 0]);
            frame.extend((total as u16).to_be_bytes());
            frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
            frame.extend(GUEST.octets());
            frame.extend(GATEWAY.octets());
            frame.extend(self.port.to_be_bytes());
            frame.extend(remote.to_be_bytes());
            frame.extend(self.next.to_be_bytes());
            frame.extend(self.expected.to_be_bytes());
            frame.extend([((20 + options.len()) / 4 * 16) as u8, flags, 0xff, 0xff]);
            frame.extend([0; 4]);
            frame.extend(options);
            let at = SENT + 0x1_0000 * number as u64;
            self.driver.write(&frame, at)?;
            // The payload is whatever lies behind.
            let part = Buffer::readable(at, (frame.len() + len) as u32);
            self.driver.put(TRANSMIT, &[part])?;
            self.next = self
                .next
                .wrapping_add(len as u32 + u32::from(flags & (SYN | FIN) != 0));
        }
        self.driver.notify(TRANSMIT)?;
        self.driver.expect(TRANSMIT, count)
    }

    /// Takes the frames that have arrived; returns the bytes of payload.
    fn take(&mut self) -> Result<usize> {
        let mut payload = 0;
        while let Some(first) = self.driver.used(RECEIVE)? {
            let mut frame = [0; VIRTIO + HEADERS];
            self.driver
                .read(&mut frame, RECEIVED + (self.buffer * PAGE) as u64)?;
            let buffers = u16::from_le_bytes([frame[10], frame[11]]);
            let mut len = first as usize;
            for number in 0..buffers {
                if number > 0 {
                    len += self.driver.used(RECEIVE)?.context("a part of a frame")? as usize;
                }
                self.driver.put(RECEIVE, &[buffer(self.buffer)])?;
                self.buffer = (self.buffer + 1) % ROOM;
            }
            let frame = &frame[VIRTIO..];
            if frame[12..14] != [0x08, 0x00] || frame[23] != 6 {
                continue;
            }
            let segment = &frame[34..];
            let headers = VIRTIO + 34 + usize::from(segment[12] >> 4) * 4;
            let count = len.saturating_sub(headers);
            self.flags = segment[13];
            let sequence = u32::from_be_bytes([segment[4], segment[5], segment[6], segment[7]]);
            let ends = u32::from(self.flags & (SYN | FIN) != 0);
            if self.flags & SYN != 0 || sequence == self.expected {
                self.expected = sequence.wrapping_add(count as u32 + ends);
                payload += count;
            }
        }
        Ok(payload)
    }

    /// Lets the NAT work until `done`.
    fn until(&mut self, mut done: impl FnMut(&mut Guest) -> Result<bool>) -> Result<()> {
        let start = Instant::now();
        while !done(self)? {
            if start.elapsed() > PATIENCE {
                bail!("the network does not answer");
            }
            self.driver.wake()?;
        }
        Ok(())
    }

    fn connect(&mut self) -> Result<()> {
        self.flags = 0;
        self.send(SYN, 0, 1)?;
        self.until(|guest| {
            guest.take()?;
            Ok(guest.flags & SYN != 0)
        })?;
        self.send(ACK, 0, 1)?;
        let (stream, _) = self.listener.accept()?;
        stream.set_nonblocking(true)?;
        self.stream = Some(stream);
        Ok(())
    }

    fn stream(&self) -> Result<&TcpStream> {
        self.stream.as_ref().context("there is no connection")
    }
}

fn buffer(number: usize) -> Buffer {
    Buffer::writable(RECEIVED + (number * PAGE) as u64, PAGE as u32)
}

/// Segments of one size from the guest to the host: size and number.
struct Send(Guest, usize, usize);

impl Rounds for Send {
    fn round(&mut self) -> Result<()> {
        let Send(guest, len, count) = self;
        let mut left = *len * *count;
        guest.send(ACK | PSH, *len, *count)?;
        let mut scratch = [0; 64 << 10];
        guest.until(|guest| {
            loop {
                match guest.stream()?.read(&mut scratch) {
                    Ok(0) => bail!("the connection ended"),
                    Ok(count) => left -= count,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(left == 0)
        })?;
        guest.take().map(|_| ())
    }
}

/// Data from the host to the guest.
struct Receive(Guest, Vec<u8>);

impl Rounds for Receive {
    fn round(&mut self) -> Result<()> {
        let Receive(guest, data) = self;
        let (mut unsent, mut left) = (data.as_slice(), data.len());
        guest.until(|guest| {
            if !unsent.is_empty() {
                let count = guest.stream()?.write(unsent)?;
                unsent = unsent.get(count..).unwrap_or_default();
            }
            let count = guest.take()?;
            left = left.saturating_sub(count);
            if count > 0 {
                guest.send(ACK, 0, 1)?;
            }
            Ok(left == 0)
        })
    }
}

/// Closes a connection from both sides and opens the next.
struct Connect(Guest);

impl Rounds for Connect {
    fn round(&mut self) -> Result<()> {
        let guest = &mut self.0;
        // The one before: the guest is done, the host is done.
        guest.send(FIN | ACK, 0, 1)?;
        guest.stream = None;
        guest.flags = 0;
        guest.until(|guest| {
            guest.take()?;
            Ok(guest.flags & FIN != 0)
        })?;
        guest.send(ACK, 0, 1)?;
        guest.take()?;
        guest.port = if guest.port == u16::MAX {
            40_000
        } else {
            guest.port + 1
        };
        guest.connect()
    }
}
