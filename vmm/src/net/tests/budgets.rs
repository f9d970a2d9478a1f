//! Every limit of docs/network.md, driven from the guest's side: segments written one by one, by a guest
//! that keeps no rule.

use std::net::TcpStream;

use smoltcp::wire::{EthernetFrame, TcpPacket};

use super::super::tcp::{ACK, RST, SYN};
use super::*;

/// Bytes that the guest of these tests sends in one segment.
const SEGMENT: usize = 60 << 10;

/// A connection as a hostile guest has it.
pub(super) struct Raw {
    pub(super) port: u16,
    pub(super) next: u32,
    pub(super) expected: u32,
}

impl Guest {
    pub(super) fn raw_segment(&mut self, to: SocketAddr, raw: &Raw, flags: u8, payload: &[u8]) {
        let mut segment = raw.port.to_be_bytes().to_vec();
        segment.extend(to.port().to_be_bytes());
        segment.extend(raw.next.to_be_bytes());
        segment.extend(raw.expected.to_be_bytes());
        segment.extend([0x50, flags, 0, 0, 0, 0, 0, 0]);
        segment.extend(payload);
        let ends = (IpAddr::V4(GUEST), to.ip());
        let frame = from_guest(with_headers(ends, PROTOCOL_TCP, 64, &segment));
        self.nat.take(&frame);
    }

    /// Opens a connection, with a window of nothing.
    pub(super) fn raw_connection(&mut self, to: SocketAddr, port: u16) -> Raw {
        let mut raw = Raw {
            port,
            next: 1,
            expected: 0,
        };
        self.raw_segment(to, &raw, SYN, &[]);
        raw.next = 2;
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < PATIENCE, "no answer to a SYN");
            self.nat.poll();
            while let Some((from, flags, sequence, _)) = self.raw_answer() {
                if from == port && flags == SYN | ACK {
                    raw.expected = sequence.wrapping_add(1);
                    self.raw_segment(to, &raw, ACK, &[]);
                    return raw;
                }
            }
        }
    }

    /// Port, flags, sequence number and acknowledgement of the next TCP segment for the guest.
    pub(super) fn raw_answer(&mut self) -> Option<(u16, u8, u32, u32)> {
        while let Some(frame) = self.nat.next_frame() {
            let frame = EthernetFrame::new_checked(&frame.bytes[..]).unwrap();
            let packet = Ipv4Packet::new_checked(frame.payload()).unwrap();
            if let Ok(segment) = TcpPacket::new_checked(packet.payload()) {
                return Some((
                    segment.dst_port(),
                    packet.payload()[13],
                    segment.seq_number().0 as u32,
                    segment.ack_number().0 as u32,
                ));
            }
        }
        None
    }
}

/// Fault 14: what waits for a host that does not read counts.
#[test]
fn bytes_towards_the_host_are_within_the_common_limit() {
    let (listener, port) = listener();
    let to = SocketAddr::from((GATEWAY, port));
    let mut guest = Guest::loopback(port, true);
    let mut accepted: Vec<TcpStream> = Vec::new();
    let payload = vec![7; SEGMENT];
    for number in 0..300 {
        let mut raw = guest.raw_connection(to, 1000 + number);
        accepted.push(listener.accept().unwrap().0);
        // Whatever window it is told, and as if all of it had been taken.
        for _ in 0..24 {
            guest.raw_segment(to, &raw, ACK, &payload);
            guest.nat.poll();
            while let Some((from, _, _, acknowledged)) = guest.raw_answer() {
                if from == raw.port {
                    raw.next = acknowledged;
                }
            }
        }
        let (_, _, buffered) = guest.nat.load();
        assert!(buffered <= limits::BUFFERS, "{buffered} bytes");
    }
    let (connections, _, buffered) = guest.nat.load();
    assert_eq!(connections, 300);
    assert!(buffered > limits::BUFFERS / 2, "{buffered} bytes: no load");
    // What waits is not lost, and goes on when the host reads.
    drop(listener);
    let mut first = accepted.swap_remove(0);
    first.set_nonblocking(true).unwrap();
    let mut read = 0;
    let start = Instant::now();
    while read < limits::FAIR_BUFFER {
        assert!(start.elapsed() < PATIENCE, "{read} bytes came");
        guest.nat.poll();
        let mut bytes = vec![0; SEGMENT];
        if let Ok(count) = first.read(&mut bytes) {
            assert!(bytes[..count].iter().all(|byte| *byte == 7));
            read += count;
        }
    }
}

/// The same for what a guest does not take.
#[test]
fn bytes_towards_the_guest_are_within_the_common_limit() {
    let (listener, port) = listener();
    let to = SocketAddr::from((GATEWAY, port));
    let mut guest = Guest::loopback(port, true);
    let mut accepted = Vec::new();
    let payload = vec![7; 1 << 20];
    for number in 0..200 {
        guest.raw_connection(to, 1000 + number);
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        for _ in 0..4 {
            let _ = stream.write(&payload);
            guest.nat.poll();
        }
        accepted.push(stream);
        let (_, _, buffered) = guest.nat.load();
        assert!(buffered <= limits::BUFFERS, "{buffered} bytes");
    }
    let (_, _, buffered) = guest.nat.load();
    assert!(buffered > limits::BUFFERS / 2, "{buffered} bytes: no load");
}

/// Connections that do not move take half of the common limit, and then no more than their fair share: a
/// further one has a window that is worth having.
#[test]
fn a_few_that_stand_still_leave_half_to_others() {
    let (listener, port) = listener();
    let to = SocketAddr::from((GATEWAY, port));
    let mut guest = Guest::loopback(port, true);
    let mut accepted = Vec::new();
    let payload = vec![7; 1 << 20];
    let mut largest = 0;
    for number in 0..24 {
        guest.raw_connection(to, 1000 + number);
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let before = guest.nat.load().2;
        for _ in 0..16 {
            let _ = stream.write(&payload);
            guest.nat.poll();
        }
        accepted.push(stream);
        let buffered = guest.nat.load().2;
        largest = largest.max(buffered - before);
        assert!(buffered - before <= limits::BUFFER);
    }
    let (_, _, buffered) = guest.nat.load();
    assert!(largest > limits::FAIR_BUFFER, "{largest} bytes of one");
    let most = limits::BUFFERS / 2 + 24 * limits::FAIR_BUFFER;
    assert!(buffered <= most, "{buffered} bytes");
}

/// What the kernel holds counts as well: only the first connections have buffers that grow.
#[test]
fn buffers_of_the_kernel_are_bounded() {
    let (listener, port) = listener();
    let to = SocketAddr::from((GATEWAY, port));
    let mut guest = Guest::loopback(port, true);
    let mut accepted = Vec::new();
    for number in 0..100 {
        guest.raw_connection(to, 1000 + number);
        accepted.push(listener.accept().unwrap().0);
    }
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    drop(server);
    for port in 5000..5100 {
        guest.nat.take(&datagram(port, to, b"x"));
    }
    let (connections, associations, _) = guest.nat.load();
    assert!(connections == 100 && associations > 0);
    // The kernel says twice what it was told (socket(7)).
    let small = |size: usize| size <= 2 * limits::KERNEL_BUFFER;
    let sizes = guest.nat.kernel_buffers();
    assert_eq!(sizes.len(), connections + associations);
    let large = sizes
        .iter()
        .filter(|(receive, send)| !small(*receive) || !small(*send));
    assert!(large.count() <= limits::TUNED);
    // One that ends makes room for another.
    for number in 0..100 {
        let raw = Raw {
            port: 1000 + number,
            next: 2,
            expected: 0,
        };
        guest.raw_segment(to, &raw, RST | ACK, &[]);
    }
    assert_eq!(guest.nat.load().0, 0);
    guest.raw_connection(to, 3000);
    assert!(
        guest
            .nat
            .kernel_buffers()
            .iter()
            .any(|(_, send)| !small(*send))
    );
}

/// Fault 15: a guest that takes no frame opens and resets connections.
#[test]
fn ids_of_dead_connections_are_not_kept() {
    let (listener, port) = listener();
    let to = SocketAddr::from((GATEWAY, port));
    let mut guest = Guest::loopback(port, true);
    for number in 0..2000_u16 {
        let mut raw = Raw {
            port: 1000 + number,
            next: 1,
            expected: 0,
        };
        guest.raw_segment(to, &raw, SYN, &[]);
        drop(listener.accept().unwrap());
        guest.nat.poll();
        raw.next = 2;
        guest.raw_segment(to, &raw, RST, &[]);
        assert_eq!(guest.nat.load().0, 0);
    }
    assert_eq!(guest.nat.queue(), 0);
}

#[test]
fn answers_that_wait_are_bounded_in_number_and_bytes() {
    let mut guest = Guest::new(NetworkConfig::default(), false);
    let ends = (IpAddr::V4(GUEST), IpAddr::V4(GATEWAY));
    for (size, count) in [
        (8, 2 * limits::REPLIES),
        (60_000, 2 * limits::REPLY_BYTES / 60_000),
    ] {
        let mut echo = vec![8, 0, 0, 0, 1, 2, 3, 4];
        echo.resize(size, 0);
        let frame = from_guest(with_headers(ends, ICMP, 64, &echo));
        for _ in 0..count {
            guest.nat.take(&frame);
        }
        let frames: Vec<Frame> = std::iter::from_fn(|| guest.nat.next_frame()).collect();
        let bytes: usize = frames.iter().map(|frame| frame.bytes.len()).sum();
        assert!(!frames.is_empty() && frames.len() <= limits::REPLIES);
        assert!(bytes <= limits::REPLY_BYTES, "{bytes}");
    }
}

/// A peer that sends without end has its turn, and no more.
#[test]
fn a_flood_of_datagrams_holds_nothing_up() {
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = server.local_addr().unwrap().port();
    let to = SocketAddr::from((GATEWAY, port));
    let mut guest = Guest::loopback(port, false);
    guest.nat.take(&datagram(5000, to, b"here"));
    let (_, from) = server.recv_from(&mut [0; 16]).unwrap();
    for _ in 0..10 * limits::BURST {
        server.send_to(b"flood", from).unwrap();
    }
    // Small datagrams: more than one turn's fit the kernel's buffer.
    let mut rounds = Vec::new();
    loop {
        guest.nat.poll();
        let taken = std::iter::from_fn(|| guest.nat.next_frame()).count();
        if taken == 0 {
            break;
        }
        rounds.push(taken);
    }
    assert!(rounds.len() > 1, "{rounds:?}");
    assert!(
        rounds.iter().all(|taken| *taken <= limits::BURST),
        "{rounds:?}"
    );
}

/// The largest datagram goes through small buffers.
#[test]
fn a_datagram_of_64_kib_fits() {
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = server.local_addr().unwrap().port();
    let to = SocketAddr::from((GATEWAY, port));
    let mut guest = Guest::loopback(port, false);
    guest.nat.take(&datagram(5000, to, &[3; 65_000]));
    let mut data = vec![0; 1 << 16];
    server
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let (len, from) = server.recv_from(&mut data).unwrap();
    assert_eq!(len, 65_000);
    server.send_to(&data[..len], from).unwrap();
    let mut answer = None;
    guest.until("the answer", |guest| {
        answer = guest.wire.to_guest.pop_front();
        answer.is_some()
    });
    assert!(answer.unwrap().bytes.len() > 65_000);
}
