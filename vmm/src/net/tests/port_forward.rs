//! Connections into the guest: callers are real sockets of the host, the guest listens with the TCP
//! of smoltcp, or misbehaves segment by segment.

use std::io::ErrorKind;
use std::net::TcpStream;

use smoltcp::wire::{EthernetFrame, TcpPacket};

use super::super::tcp::{ACK, FIN, RST, SYN};
use super::*;

const PORT: u16 = 22;

/// A guest, and the address of the host that leads to its port 22.
fn called(offload: bool) -> (Guest, SocketAddr) {
    let (listener, port) = listener();
    let config = NetworkConfig {
        forward: Some(Forward {
            listener,
            port: PORT,
        }),
        ..NetworkConfig::default()
    };
    let guest = Guest::new(config, offload);
    (guest, (Ipv4Addr::LOCALHOST, port).into())
}

impl Guest {
    fn listen(&mut self) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 1 << 17]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.listen(PORT).unwrap();
        self.sockets.add(socket)
    }

    /// The flags and numbers of the next TCP segment for the guest, whose own stack sees nothing.
    fn segment(&mut self) -> Option<Seen> {
        self.nat.poll();
        while let Some(frame) = self.nat.next_frame() {
            let frame = EthernetFrame::new_checked(&frame.bytes[..]).unwrap();
            let Ok(packet) = Ipv4Packet::new_checked(frame.payload()) else {
                continue;
            };
            let segment = TcpPacket::new_checked(packet.payload()).unwrap();
            assert_eq!(packet.src_addr(), GATEWAY);
            assert_eq!(packet.dst_addr(), GUEST);
            assert_eq!(segment.dst_port(), PORT);
            return Some(Seen {
                port: segment.src_port(),
                flags: packet.payload()[13],
                sequence: segment.seq_number().0 as u32,
            });
        }
        None
    }

    /// Waits for it.
    fn next_segment(&mut self, what: &str) -> Seen {
        let start = Instant::now();
        loop {
            if let Some(seen) = self.segment() {
                return seen;
            }
            assert!(start.elapsed() < PATIENCE, "{what} does not come");
        }
    }

    /// A segment of port 22 without payload.
    fn send(&mut self, port: u16, flags: u8, sequence: u32, acknowledgement: u32) {
        let mut segment = PORT.to_be_bytes().to_vec();
        segment.extend(port.to_be_bytes());
        segment.extend(sequence.to_be_bytes());
        segment.extend(acknowledgement.to_be_bytes());
        segment.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        let ends = (IpAddr::V4(GUEST), IpAddr::V4(GATEWAY));
        let frame = with_headers(ends, PROTOCOL_TCP, 64, &segment);
        self.nat.take(&from_guest(frame));
    }
}

struct Seen {
    port: u16,
    flags: u8,
    sequence: u32,
}

#[test]
fn a_caller_is_connected_both_ways_with_half_close() {
    for offload in [false, true] {
        let (mut guest, to) = called(offload);
        let handle = guest.listen();
        let data: Vec<u8> = (0..3 << 20).map(|at| (at / 7 % 251) as u8).collect();
        let sent = data.clone();
        let caller = thread::spawn(move || {
            let mut stream = TcpStream::connect(to).unwrap();
            let writer = {
                let mut stream = stream.try_clone().unwrap();
                thread::spawn(move || {
                    stream.write_all(&sent).unwrap();
                    stream.shutdown(Shutdown::Write).unwrap();
                })
            };
            let mut back = Vec::new();
            stream.read_to_end(&mut back).unwrap();
            writer.join().unwrap();
            back
        });
        // The guest sends back what it gets, and closes when the caller has.
        let (mut seen, mut waiting) = (0, VecDeque::new());
        guest.until("the echo", |guest| {
            let socket = guest.socket(handle);
            while socket.can_recv() && waiting.len() < 1 << 17 {
                socket
                    .recv(|bytes| {
                        waiting.extend(bytes.iter().copied());
                        seen += bytes.len();
                        (bytes.len(), ())
                    })
                    .unwrap();
            }
            if socket.can_send() {
                let sent = socket.send_slice(waiting.make_contiguous()).unwrap();
                waiting.drain(..sent);
            }
            if socket.state() == State::CloseWait && !socket.can_recv() && waiting.is_empty() {
                socket.close();
            }
            socket.state() == State::Closed
        });
        assert_eq!(seen, data.len());
        assert!(caller.join().unwrap() == data);
        assert_eq!(guest.largest > 1514, offload, "{}", guest.largest);
        guest.until("the end", |guest| guest.nat.load() == (0, 0, 0));
    }
}

#[test]
fn a_caller_of_a_closed_port_is_reset() {
    let (mut guest, to) = called(false);
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_nonblocking(true).unwrap();
    let mut error = None;
    guest.until("the reset", |_| {
        error = stream.read(&mut [0]).err().map(|error| error.kind());
        error != Some(ErrorKind::WouldBlock)
    });
    assert_eq!(error, Some(ErrorKind::ConnectionReset));
    assert_eq!(guest.nat.load(), (0, 0, 0));
}

#[test]
fn resets_of_caller_and_guest_go_through() {
    let (mut guest, to) = called(false);
    let handle = guest.listen();
    let stream = TcpStream::connect(to).unwrap();
    guest.until("the connection", |guest| guest.socket(handle).may_send());
    let stream = socket2::Socket::from(stream);
    stream.set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
    guest.until("the caller's reset", |guest| {
        guest.socket(handle).state() == State::Closed
    });

    guest.socket(handle).listen(PORT).unwrap();
    let mut stream = TcpStream::connect(to).unwrap();
    guest.until("the connection", |guest| guest.socket(handle).may_send());
    guest.socket(handle).abort();
    guest.until("the guest's reset", |guest| guest.nat.load().0 == 0);
    let error = stream.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_guest_that_does_not_read_stops_the_caller() {
    let (mut guest, to) = called(true);
    let handle = guest.listen();
    let mut stream = TcpStream::connect(to).unwrap();
    guest.until("the connection", |guest| guest.socket(handle).may_send());
    stream.set_nonblocking(true).unwrap();
    let (mut sent, mut quiet) = (0, 0);
    while quiet < 2000 {
        let now = stream.write(&[7; 65536]).unwrap_or(0);
        sent += now;
        quiet = if now == 0 { quiet + 1 } else { 0 };
        assert!(sent < 64 << 20, "nothing stops the caller");
        guest.turn();
    }
    assert!(guest.nat.load().2 <= 2 * limits::BUFFER);
    let mut read = 0;
    guest.until("the rest", |guest| {
        let socket = guest.socket(handle);
        if socket.can_recv() {
            read += socket.recv(|bytes| (bytes.len(), bytes.len())).unwrap();
        }
        read == sent
    });
}

/// As sshd does when a session is over: the caller sees the end, and its place is free when it goes.
#[test]
fn a_guest_that_closes_first_is_seen_to() {
    let (mut guest, to) = called(false);
    for _ in 0..2 * limits::INBOUND {
        let handle = guest.listen();
        let mut stream = TcpStream::connect(to).unwrap();
        guest.until("the connection", |guest| guest.socket(handle).may_send());
        guest.socket(handle).send_slice(b"bye").unwrap();
        guest.socket(handle).close();
        stream.set_nonblocking(true).unwrap();
        let mut heard = Vec::new();
        guest.until("the end", |_| stream.read_to_end(&mut heard).is_ok());
        assert_eq!(heard, b"bye");
        assert_eq!(guest.nat.load().0, 1);
        drop(stream);
        guest.until("the place", |guest| guest.nat.load().0 == 0);
        guest.sockets.remove(handle);
    }
}

/// Port scans of a guest that does not answer: a caller that waits has its turn.
#[test]
fn probes_do_not_keep_a_caller_out() {
    let (mut guest, to) = called(false);
    for _ in 0..limits::INBOUND {
        drop(TcpStream::connect(to).unwrap());
    }
    let start = Instant::now();
    while guest.nat.load().0 < limits::INBOUND {
        assert!(start.elapsed() < PATIENCE);
        guest.nat.poll();
    }
    let _stream = TcpStream::connect(to).unwrap();
    let first = 49152 + limits::INBOUND as u16;
    guest.nat.poll();
    guest.nat.pass(Duration::from_secs(11));
    guest.until("the call", |guest| {
        let mut seen = false;
        while let Some(segment) = guest.segment() {
            seen |= segment.flags == SYN && segment.port >= first;
        }
        seen
    });
    assert_eq!(guest.nat.load().0, limits::INBOUND);
}

/// A caller that is gone before the guest has been asked costs the guest nothing; one that is gone
/// before it has answered, a reset.
#[test]
fn a_caller_that_is_gone_is_forgotten() {
    let gone = |stream: TcpStream| {
        let stream = socket2::Socket::from(stream);
        stream.set_linger(Some(Duration::ZERO)).unwrap();
    };
    let (mut guest, to) = called(false);
    let stream = TcpStream::connect(to).unwrap();
    let start = Instant::now();
    while guest.nat.load().0 == 0 {
        assert!(start.elapsed() < PATIENCE);
        guest.nat.poll();
    }
    gone(stream);
    while guest.nat.load().0 > 0 {
        assert!(start.elapsed() < PATIENCE);
        guest.nat.poll();
    }
    assert!(guest.nat.next_frame().is_none());

    let stream = TcpStream::connect(to).unwrap();
    let syn = guest.next_segment("the call");
    assert_eq!(syn.flags, SYN);
    gone(stream);
    let reset = guest.next_segment("the reset");
    assert_eq!(reset.flags, RST | ACK);
    assert_eq!((reset.port, reset.sequence), (syn.port, syn.sequence + 1));
    assert_eq!(guest.nat.load(), (0, 0, 0));
}

/// Neither a guest that answers nonsense nor one that does not answer holds more than its share.
#[test]
fn answers_that_do_not_fit_change_nothing() {
    let (mut guest, to) = called(false);
    let mut stream = TcpStream::connect(to).unwrap();
    stream.write_all(b"hello").unwrap();
    stream.set_nonblocking(true).unwrap();
    // Nothing has been asked yet: an answer is a guess.
    guest.nat.poll();
    guest.send(49152, SYN | ACK, 7, 1);
    let syn = guest.next_segment("the call");
    assert_eq!((syn.flags, syn.port), (SYN, 49152));
    let ours = syn.sequence.wrapping_add(1);
    for (flags, acknowledgement) in [
        (SYN, 0),
        (SYN | ACK, ours.wrapping_add(1)),
        (SYN | ACK, ours.wrapping_sub(1)),
        (RST | ACK, ours.wrapping_add(1)),
        (RST, 0),
        (ACK, ours),
        (FIN | ACK, ours),
    ] {
        guest.send(syn.port, flags, 1000, acknowledgement);
        assert_eq!(guest.nat.load().0, 1, "{flags:#x}");
        assert!(guest.nat.next_frame().is_none(), "{flags:#x}");
    }
    // It is asked again.
    let again = guest.next_segment("the call again");
    assert_eq!((again.flags, again.sequence), (SYN, syn.sequence));
    // The real answer still counts, and what the caller has said by then arrives.
    guest.send(syn.port, SYN | ACK, 1000, ours);
    let data = guest.next_segment("the data");
    assert_eq!(data.sequence, ours);
    assert_eq!(data.flags & ACK, ACK);
    guest.send(syn.port, RST, 1001, 0);
    assert_eq!(guest.nat.load(), (0, 0, 0));
    let error = stream.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn no_more_callers_than_there_is_room_for() {
    let (mut guest, to) = called(false);
    let mut callers: Vec<TcpStream> = (0..limits::INBOUND + 8)
        .map(|_| TcpStream::connect(to).unwrap())
        .collect();
    let mut calls = 0;
    let mut count = |guest: &mut Guest, wanted: usize| {
        let start = Instant::now();
        while calls < wanted {
            assert!(start.elapsed() < PATIENCE, "{calls} calls of {wanted}");
            // Those that are not answered are repeated.
            while let Some(seen) = guest.segment() {
                if seen.flags == SYN {
                    guest.send(seen.port, SYN | ACK, 5, seen.sequence.wrapping_add(1));
                    calls += 1;
                }
            }
        }
        calls
    };
    assert_eq!(count(&mut guest, limits::INBOUND), limits::INBOUND);
    assert_eq!(guest.nat.load().0, limits::INBOUND);
    for caller in callers.drain(..3) {
        socket2::SockRef::from(&caller)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }
    assert_eq!(count(&mut guest, limits::INBOUND + 3), limits::INBOUND + 3);
    assert_eq!(guest.nat.load().0, limits::INBOUND);
}

#[test]
fn the_listener_is_gone_with_the_network() {
    let (guest, to) = called(false);
    drop(guest);
    let error = TcpStream::connect(to).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}
