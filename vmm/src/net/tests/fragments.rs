//! Datagrams that the guest cuts into fragments.

use super::*;

/// The frames that a packet of the guest becomes on a link of 1500 bytes.
fn cut(frame: &[u8], id: u16) -> Vec<Vec<u8>> {
    const HEADER: usize = 20;
    const PART: usize = 1480;
    let (headers, payload) = frame.split_at(ETHERNET + HEADER);
    let count = payload.len().div_ceil(PART);
    let part = |(number, part): (usize, &[u8])| {
        let mut frame = headers.to_vec();
        let ip = &mut frame[ETHERNET..];
        let len = (HEADER + part.len()) as u16;
        ip[2..4].copy_from_slice(&len.to_be_bytes());
        ip[4..6].copy_from_slice(&id.to_be_bytes());
        let more = if number + 1 < count { 0x2000 } else { 0 };
        let place = (number * PART / 8) as u16 | more;
        ip[6..8].copy_from_slice(&place.to_be_bytes());
        frame.extend(part);
        frame
    };
    payload.chunks(PART).enumerate().map(part).collect()
}

/// The same over IPv6.
fn cut_6(frame: &[u8], id: u32) -> Vec<Vec<u8>> {
    const HEADER: usize = 40;
    const PART: usize = 1440;
    let (headers, payload) = frame.split_at(ETHERNET + HEADER);
    let count = payload.len().div_ceil(PART);
    let part = |(number, part): (usize, &[u8])| {
        let mut frame = headers.to_vec();
        let ip = &mut frame[ETHERNET..];
        let len = (8 + part.len()) as u16;
        ip[4..6].copy_from_slice(&len.to_be_bytes());
        let protocol = std::mem::replace(&mut ip[6], 44);
        let place = (number * PART) as u16 | u16::from(number + 1 < count);
        frame.extend([protocol, 0]);
        frame.extend(place.to_be_bytes());
        frame.extend(id.to_be_bytes());
        frame.extend(part);
        frame
    };
    payload.chunks(PART).enumerate().map(part).collect()
}

/// C6.
#[test]
fn a_large_datagram_of_the_guest_arrives_whole() {
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    server
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let port = server.local_addr().unwrap().port();
    let mut guest = Guest::loopback(port, false);
    let mut buffer = vec![0; 1 << 16];
    for (id, size) in [(1, 1473), (2, 8000), (3, 65_000)] {
        let data: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
        let to = SocketAddr::from((GATEWAY, port));
        let mut parts = cut(&datagram(5000, to, &data), id);
        parts.reverse();
        for part in parts {
            guest.nat.take(&part);
        }
        let (len, _) = server.recv_from(&mut buffer).unwrap();
        assert!(buffer[..len] == data, "{len} bytes of {size}");

        let own = SocketAddr::new(
            IpAddr::V6(Ipv6Addr::from_bits(PREFIX_6.to_bits() | 0x15)),
            5000,
        );
        let to = SocketAddr::from((GATEWAY_6, port));
        for part in cut_6(
            &from_guest(packet::udp(own, to, &data).bytes),
            u32::from(id),
        ) {
            guest.nat.take(&part);
        }
        let (len, _) = server.recv_from(&mut buffer).unwrap();
        assert!(buffer[..len] == data, "{len} bytes of {size} over IPv6");
    }
}

/// `ping -s 3000`.
#[test]
fn a_large_echo_is_answered() {
    let mut guest = Guest::new(NetworkConfig::default(), false);
    let mut echo = vec![8, 0, 0, 0, 1, 2, 3, 4];
    echo.resize(3000, 7);
    let ends = (IpAddr::V4(GUEST), IpAddr::V4(GATEWAY));
    let parts = cut(&from_guest(with_headers(ends, ICMP, 64, &echo)), 9);
    assert_eq!(parts.len(), 3);
    let answers: Vec<_> = parts.iter().map(|part| guest.answer(part)).collect();
    assert!(answers[0].is_none() && answers[1].is_none());
    let packet = Packet::parse(answers[2].as_ref().unwrap());
    assert!(packet.is_whole(ICMP));
    assert_eq!(packet.payload[8..], echo[8..]);
}

#[test]
fn the_guest_is_told_of_a_packet_whose_rest_does_not_come() {
    let mut guest = Guest::new(NetworkConfig::default(), false);
    let to = SocketAddr::from((GATEWAY, 7));
    let parts = cut(&datagram(5000, to, &[1; 3000]), 9);
    assert!(guest.answer(&parts[0]).is_none());
    guest.nat.pass(Duration::from_secs(29));
    assert!(guest.nat.next_frame().is_none());
    guest.nat.pass(Duration::from_secs(31));
    let packet = Packet::parse(&guest.nat.next_frame().unwrap().bytes);
    // Time exceeded: reassembly; with the header and the first bytes of what was lost.
    assert_eq!(packet.payload[..2], [11, 1]);
    assert_eq!(packet.payload[8 + 20..][..4], [0x13, 0x88, 0, 7]);
    assert!(packet.is_whole(ICMP));
    // What comes later begins anew.
    for part in &parts[1..] {
        assert!(guest.answer(part).is_none());
    }
}
