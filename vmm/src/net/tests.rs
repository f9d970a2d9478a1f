use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{self, State};
use smoltcp::time::Instant as Moment;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr, Ipv4Packet, Ipv6Packet};

use super::addresses::{GATEWAY_6, OUR_MAC, PREFIX, PREFIX_6};
use super::packet::{self, ETHERNET, ICMP, ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP};
use super::*;

mod budgets;
mod dns;
mod fragments;
mod handover;
mod hermetic;
mod idle;
mod neighbours;
mod port_forward;
mod worlds;

const MAC: [u8; 6] = GUEST_MAC;

/// A test that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Wire {
    to_guest: VecDeque<Frame>,
    to_nat: VecDeque<Vec<u8>>,
    offload: bool,
}

struct In(Vec<u8>);
struct Out<'w>(&'w mut Wire);

impl RxToken for In {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Out<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.to_nat.push_back(frame);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = In;
    type TxToken<'a> = Out<'a>;

    fn receive(&mut self, _: Moment) -> Option<(In, Out<'_>)> {
        let frame = self.to_guest.pop_front()?;
        Some((In(frame.bytes), Out(self)))
    }

    fn transmit(&mut self, _: Moment) -> Option<Out<'_>> {
        Some(Out(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut caps = DeviceCapabilities::default();
        caps.medium = Medium::Ethernet;
        caps.max_transmission_unit = 1514;
        if self.offload {
            caps.checksum.tcp = Checksum::None;
        }
        caps
    }
}

struct Guest {
    nat: Nat,
    wire: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    start: Instant,
    largest: usize,
}

impl Guest {
    fn new(config: NetworkConfig, offload: bool) -> Guest {
        let mut nat = Nat::new(config).unwrap();
        nat.force_ipv6();
        nat.set_offloads(Offloads {
            checksum: offload,
            tcp4: offload,
            tcp6: offload,
        });
        let mut wire = Wire {
            offload,
            ..Wire::default()
        };
        let config = Config::new(HardwareAddress::Ethernet(EthernetAddress(MAC)));
        let mut interface = Interface::new(config, &mut wire, Moment::from_micros(0));
        interface.update_ip_addrs(|all| {
            all.push(IpCidr::new(IpAddr::V4(GUEST).into(), PREFIX))
                .unwrap();
            let mut own = PREFIX_6.segments();
            own[7] = 0x15;
            all.push(IpCidr::new(IpAddr::V6(own.into()).into(), 64))
                .unwrap();
        });
        interface
            .routes_mut()
            .add_default_ipv4_route(GATEWAY)
            .unwrap();
        Guest {
            nat,
            wire,
            interface,
            sockets: SocketSet::new(Vec::new()),
            start: Instant::now(),
            largest: 0,
        }
    }

    /// A guest that reaches one port of the host's loopback at its gateway.
    fn loopback(port: u16, offload: bool) -> Guest {
        Guest::with((Ipv4Addr::LOCALHOST, port).into(), offload)
    }

    fn with(service: SocketAddr, offload: bool) -> Guest {
        let policy = Policy {
            services: vec![service],
            ..Policy::default()
        };
        let config = NetworkConfig {
            policy,
            ..NetworkConfig::default()
        };
        Guest::new(config, offload)
    }

    fn turn(&mut self) {
        let now = Moment::from_micros(self.start.elapsed().as_micros() as i64);
        self.interface.poll(now, &mut self.wire, &mut self.sockets);
        for frame in std::mem::take(&mut self.wire.to_nat) {
            self.nat.take(&frame);
        }
        self.nat.poll();
        while let Some(frame) = self.nat.next_frame() {
            self.largest = self.largest.max(frame.bytes.len());
            self.wire.to_guest.push_back(frame);
        }
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Guest) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(start.elapsed() < PATIENCE, "{what} does not happen");
            self.turn();
        }
    }

    fn connect(&mut self, to: SocketAddr, port: u16) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 1 << 17]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        let context = self.interface.context();
        socket.connect(context, (to.ip(), to.port()), port).unwrap();
        self.sockets.add(socket)
    }

    fn socket(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// The answer to one frame.
    fn answer(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        self.nat.take(frame);
        self.nat.poll();
        self.nat.next_frame().map(|frame| frame.bytes)
    }
}

fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// The guest sends `len` bytes and closes; then the host sends them back and closes.
fn both_ways(guest: &mut Guest, to: SocketAddr, listener: TcpListener, len: usize) {
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.write_all(&all).unwrap();
    });
    let data: Vec<u8> = (0..len).map(|at| (at / 7 % 251) as u8).collect();
    let handle = guest.connect(to, 40000);
    let (mut sent, mut back) = (0, Vec::new());
    guest.until("the echo", |guest| {
        let socket = guest.socket(handle);
        if socket.may_send() && sent < len {
            sent += socket.send_slice(&data[sent..]).unwrap();
            if sent == len {
                socket.close();
            }
        }
        while socket.can_recv() {
            socket
                .recv(|bytes| {
                    back.extend_from_slice(bytes);
                    (bytes.len(), ())
                })
                .unwrap();
        }
        matches!(socket.state(), State::TimeWait | State::Closed)
    });
    assert!(back == data, "{} bytes of {len} came back", back.len());
    server.join().unwrap();
    guest.until("the end", |guest| guest.nat.load().0 == 0);
}

#[test]
fn tcp_both_ways_with_half_close() {
    for offload in [false, true] {
        let (listener, port) = listener();
        let mut guest = Guest::loopback(port, offload);
        both_ways(&mut guest, (GATEWAY, port).into(), listener, 3 << 20);
        // Large frames come if the guest takes them, and only then.
        assert_eq!(guest.largest > 1514, offload, "{}", guest.largest);
        assert!(guest.largest <= LARGEST_FRAME);
    }
}

#[test]
fn tcp_over_ipv6() {
    let Ok(listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else {
        let _ = writeln!(
            std::io::stderr(),
            "skipped: tcp_over_ipv6: the host has no ::1"
        );
        return;
    };
    let port = listener.local_addr().unwrap().port();
    let mut guest = Guest::with((Ipv6Addr::LOCALHOST, port).into(), true);
    both_ways(&mut guest, (GATEWAY_6, port).into(), listener, 1 << 20);
}

#[test]
fn refused_by_the_host_or_by_us() {
    let (listener, port) = listener();
    drop(listener);
    let mut guest = Guest::loopback(port, false);
    for to in [
        SocketAddr::from((GATEWAY, port)),
        (Ipv4Addr::new(127, 0, 0, 1), port).into(),
        (Ipv4Addr::new(169, 254, 169, 254), 80).into(),
    ] {
        let handle = guest.connect(to, 40001);
        guest.turn();
        guest.until("the reset", |guest| {
            guest.socket(handle).state() == State::Closed
        });
        guest.until("the end", |guest| guest.nat.load().0 == 0);
        guest.sockets.remove(handle);
    }
}

#[test]
fn without_being_asked_for_the_loopback_is_out_of_reach() {
    let (listener, port) = listener();
    let mut guest = Guest::new(NetworkConfig::default(), false);
    let handle = guest.connect((GATEWAY, port).into(), 40002);
    guest.turn();
    guest.until("the reset", |guest| {
        guest.socket(handle).state() == State::Closed
    });
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err());
}

#[test]
fn resets_go_through_both_ways() {
    let (listener, port) = listener();
    let mut guest = Guest::loopback(port, false);
    let handle = guest.connect((GATEWAY, port).into(), 40003);
    guest.until("the connection", |guest| guest.socket(handle).may_send());
    let (stream, _) = listener.accept().unwrap();
    let stream = socket2::Socket::from(stream);
    stream.set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
    guest.until("the host's reset", |guest| {
        guest.socket(handle).state() == State::Closed
    });

    let handle = guest.connect((GATEWAY, port).into(), 40004);
    guest.until("the connection", |guest| guest.socket(handle).may_send());
    let (mut stream, _) = listener.accept().unwrap();
    guest.socket(handle).abort();
    guest.until("the guest's reset", |guest| guest.nat.load().0 == 0);
    let error = stream.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn a_host_that_does_not_read_stops_the_guest() {
    let (listener, port) = listener();
    let mut guest = Guest::loopback(port, true);
    let handle = guest.connect((GATEWAY, port).into(), 40005);
    guest.until("the connection", |guest| guest.socket(handle).may_send());
    let (stream, _) = listener.accept().unwrap();
    let mut sent = 0;
    let mut quiet = 0;
    while quiet < 2000 {
        let socket = guest.socket(handle);
        let now = socket.send_slice(&[7; 65536]).unwrap();
        sent += now;
        quiet = if now == 0 { quiet + 1 } else { 0 };
        assert!(sent < 64 << 20, "nothing stops the guest");
        guest.turn();
    }
    stream.shutdown(Shutdown::Both).unwrap();
}

/// A packet for the guest, as far as these tests look at it.
struct Packet {
    from: IpAddr,
    to: IpAddr,
    payload: Vec<u8>,
}

impl Packet {
    fn parse(frame: &[u8]) -> Packet {
        let bytes = &frame[ETHERNET..];
        if bytes[0] >> 4 == 4 {
            let packet = Ipv4Packet::new_checked(bytes).unwrap();
            assert!(packet.verify_checksum());
            return Packet {
                from: packet.src_addr().into(),
                to: packet.dst_addr().into(),
                payload: packet.payload().to_vec(),
            };
        }
        let packet = Ipv6Packet::new_checked(bytes).unwrap();
        Packet {
            from: packet.src_addr().into(),
            to: packet.dst_addr().into(),
            payload: packet.payload().to_vec(),
        }
    }

    /// The checksum is right.
    fn is_whole(&self, protocol: u8) -> bool {
        let len = self.payload.len();
        let pseudo = match protocol {
            ICMP => 0,
            _ => packet::pseudo_header(self.from, self.to, protocol, len),
        };
        packet::checksum(&self.payload, pseudo) == 0
    }
}

fn with_headers((from, to): (IpAddr, IpAddr), protocol: u8, hops: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = packet::headers(from, to, protocol, payload.len());
    if from.is_ipv6() {
        frame[ETHERNET + 7] = hops;
    }
    frame.extend(payload);
    frame
}

/// A UDP frame of the guest.
fn datagram(from: u16, to: SocketAddr, data: &[u8]) -> Vec<u8> {
    from_guest(packet::udp((GUEST, from).into(), to, data).bytes)
}

fn from_guest(mut frame: Vec<u8>) -> Vec<u8> {
    frame[..6].copy_from_slice(&OUR_MAC);
    frame[6..12].copy_from_slice(&MAC);
    frame
}

#[test]
fn udp_there_and_back_and_a_flood() {
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = server.local_addr().unwrap().port();
    let to = SocketAddr::from((GATEWAY, port));
    let mut guest = Guest::loopback(port, false);
    assert!(guest.answer(&datagram(5000, to, b"ping")).is_none());
    let mut data = [0; 100];
    let (len, from) = server.recv_from(&mut data).unwrap();
    assert_eq!(&data[..len], b"ping");
    server.send_to(&[9; 3000], from).unwrap();
    let mut answer = None;
    guest.until("the answer", |guest| {
        answer = guest.wire.to_guest.pop_front();
        answer.is_some()
    });
    let bytes = answer.unwrap().bytes;
    let packet = Packet::parse(&bytes);
    assert_eq!((packet.from, packet.to), (to.ip(), IpAddr::V4(GUEST)));
    assert_eq!(packet.payload[..2], to.port().to_be_bytes());
    assert_eq!(packet.payload[2..4], 5000_u16.to_be_bytes());
    assert_eq!(packet.payload[8..], [9; 3000]);
    assert_eq!(bytes[..6], MAC);
    assert!(packet.is_whole(PROTOCOL_UDP));

    for port in 1000..3000 {
        guest.answer(&datagram(port, to, b"flood"));
    }
    assert_eq!(guest.nat.load().1, limits::ASSOCIATIONS);
}

#[test]
fn a_flood_of_syns_stops_at_the_limit() {
    let (_listener, port) = listener();
    let mut guest = Guest::loopback(port, false);
    guest.nat.limit(100);
    for source in 1000..3000_u16 {
        let mut syn = source.to_be_bytes().to_vec();
        syn.extend(port.to_be_bytes());
        syn.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
        let ends = (IpAddr::V4(GUEST), IpAddr::V4(GATEWAY));
        let frame = with_headers(ends, PROTOCOL_TCP, 64, &syn);
        guest.nat.take(&from_guest(frame));
        guest.nat.poll();
    }
    assert_eq!(guest.nat.load().0, 100);
    let mut waiting = 0;
    while guest.nat.next_frame().is_some() {
        waiting += 1;
    }
    assert!(waiting <= limits::REPLIES + 100, "{waiting}");
}

#[test]
fn dhcp_and_arp() {
    let mut guest = Guest::new(NetworkConfig::default(), false);
    let message = |kind: u8, more: &[u8]| {
        let mut bytes = vec![1, 1, 6, 0, 0xde, 0xad, 0xbe, 0xef];
        bytes.resize(28, 0);
        bytes.extend(MAC);
        bytes.resize(236, 0);
        bytes.extend([99, 130, 83, 99, 53, 1, kind]);
        bytes.extend(more);
        bytes.push(255);
        let to = SocketAddr::from((Ipv4Addr::BROADCAST, 67));
        let from = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 68));
        from_guest(packet::udp(from, to, &bytes).bytes)
    };
    for (kind, more, expected) in [
        (1, &[][..], 2),
        (3, &[50, 4, 10, 0, 2, 15, 54, 4, 10, 0, 2, 2][..], 5),
        (3, &[50, 4, 192, 0, 2, 1][..], 6),
    ] {
        let answer = guest.answer(&message(kind, more)).unwrap();
        let packet = Packet::parse(&answer);
        let dhcp = &packet.payload[8..];
        assert_eq!(dhcp[..8], [2, 1, 6, 0, 0xde, 0xad, 0xbe, 0xef]);
        assert_eq!(dhcp[242], expected);
        let yours = if expected == 6 {
            [0; 4]
        } else {
            GUEST.octets()
        };
        assert_eq!(dhcp[16..20], yours);
        assert_eq!(dhcp[28..34], MAC);
    }
    // Another server's offer, and no message at all.
    assert!(guest.answer(&message(3, &[54, 4, 10, 0, 2, 9])).is_none());
    assert!(
        guest
            .answer(&message(3, &[50, 200, 1]))
            .is_none_or(|a| a.len() > 300)
    );

    for (ip, answered) in [(GATEWAY, true), (NAME_SERVER, true), (GUEST, false)] {
        let mut arp = [255; 6].to_vec();
        arp.extend(MAC);
        arp.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        arp.extend(MAC);
        arp.extend(GUEST.octets());
        arp.extend([0; 6]);
        arp.extend(ip.octets());
        let answer = guest.answer(&arp);
        assert_eq!(answer.is_some(), answered);
        if let Some(answer) = answer {
            assert_eq!(answer[20..22], [0, 2]);
            assert_eq!(answer[22..28], OUR_MAC);
            assert_eq!(answer[28..32], ip.octets());
        }
    }
}

#[test]
fn the_gateway_answers_echo() {
    let mut guest = Guest::new(NetworkConfig::default(), false);
    let ends = (IpAddr::V4(GUEST), IpAddr::V4(GATEWAY));
    let payload = vec![8, 0, 0, 0, 1, 2, 3, 4, 5];
    let request = with_headers(ends, ICMP, 64, &payload);
    let answer = guest.answer(&from_guest(request)).unwrap();
    let packet = Packet::parse(&answer);
    assert_eq!(
        (packet.payload[0], &packet.payload[4..]),
        (0, &[1, 2, 3, 4, 5][..])
    );
    assert!(packet.is_whole(ICMP));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever comes: no panic, and no more than the limits. Destinations are the gateway,
    /// which refuses, so that nothing leaves the host.
    #[test]
    fn garbage(
        kind in prop::sample::select(vec![0x0806_u16, 0x0800, 0x86dd, 0x8100]),
        protocol in prop::sample::select(vec![1_u8, 6, 17, 58, 0]),
        sane in any::<bool>(),
        length in any::<u16>(),
        mut body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut guest = Guest::new(NetworkConfig::default(), length & 1 == 0);
        if sane && kind == 0x0800 && body.len() >= 20 {
            let total = u16::try_from(body.len()).unwrap();
            body[0] = 0x45;
            body[2..4].copy_from_slice(&total.to_be_bytes());
            body[6..8].fill(0);
            body[9] = protocol;
            body[12..16].copy_from_slice(&GUEST.octets());
            body[10..12].fill(0);
        } else if sane && kind == 0x86dd && body.len() >= 40 {
            body[0] = 0x60;
            let total = u16::try_from(body.len() - 40).unwrap();
            body[4..6].copy_from_slice(&total.to_be_bytes());
            body[6] = protocol;
            body[7] = 255;
        }
        if kind == 0x0800 && body.len() >= 20 {
            body[16..20].copy_from_slice(&GATEWAY.octets());
            let sum = packet::checksum(&body[..20], 0);
            body[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        if kind == 0x86dd && body.len() >= 40 {
            body[24..40].copy_from_slice(&GATEWAY_6.octets());
        }
        let mut frame = OUR_MAC.to_vec();
        frame.extend(MAC);
        frame.extend(kind.to_be_bytes());
        frame.extend(body);
        frame.truncate(usize::from(length % 250));
        guest.nat.take(&frame);
        guest.nat.poll();
        while let Some(frame) = guest.nat.next_frame() {
            prop_assert!(frame.bytes.len() <= LARGEST_FRAME);
        }
        prop_assert_eq!(guest.nat.load(), (0, 0, 0));
    }
}
