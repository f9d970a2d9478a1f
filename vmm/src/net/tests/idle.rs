//! Connections that are open at one end only: none keeps a place that another one needs.

use std::net::TcpStream;

use super::super::tcp::{ACK, FIN, RST, SYN};
use super::budgets::Raw;
use super::*;

const FEW: usize = 50;

/// C5: a guest that closes its side, of servers that do not.
#[test]
fn half_closed_connections_give_way_to_new_ones() {
    let (listener, port) = listener();
    let to = SocketAddr::from((GATEWAY, port));
    let mut guest = Guest::loopback(port, true);
    guest.nat.limit(FEW);
    let mut accepted: Vec<TcpStream> = Vec::new();
    for round in 0..3 {
        for number in 0..FEW as u16 {
            let mut raw = guest.raw_connection(to, 1000 * (round + 1) + number);
            accepted.push(listener.accept().unwrap().0);
            guest.raw_segment(to, &raw, FIN | ACK, &[]);
            raw.next += 1;
        }
        assert_eq!(guest.nat.load().0, FEW);
        for _ in 0..FEW {
            guest.nat.poll();
        }
        thread::sleep(Duration::from_millis(2100));
    }
    // The server sees the end of those that gave way.
    let mut first = accepted.swap_remove(0);
    let error = first.write(b"x").and_then(|_| {
        thread::sleep(Duration::from_millis(100));
        first.write(b"x")
    });
    assert!(error.is_err(), "it is still open");
    // Those that are open both ways stay, and a new one is refused.
    let mut guest = Guest::loopback(port, true);
    guest.nat.limit(FEW);
    for number in 0..FEW as u16 {
        guest.raw_connection(to, 1000 + number);
    }
    guest.nat.pass(Duration::from_secs(3));
    let raw = Raw {
        port: 3000,
        next: 1,
        expected: 0,
    };
    guest.raw_segment(to, &raw, SYN, &[]);
    let mut refused = false;
    while let Some((port, flags, ..)) = guest.raw_answer() {
        refused |= port == 3000 && flags & RST != 0;
    }
    assert!(refused);
    assert_eq!(guest.nat.load().0, FEW);
}

/// A guest that has forgotten a connection says so when it is asked.
#[test]
fn a_silent_connection_is_asked_for() {
    let (listener, port) = listener();
    let to = SocketAddr::from((GATEWAY, port));
    let mut guest = Guest::loopback(port, true);
    let raw = guest.raw_connection(to, 1000);
    let (mut stream, _) = listener.accept().unwrap();
    while guest.raw_answer().is_some() {}
    guest.nat.pass(Duration::from_secs(59));
    assert!(guest.raw_answer().is_none());
    guest.nat.pass(Duration::from_secs(61));
    let (_, flags, sequence, acknowledged) = guest.raw_answer().unwrap();
    // Outside of the window: whoever knows the connection answers (RFC 9293, section 3.8.4).
    assert_eq!(flags, ACK);
    assert_eq!(
        (sequence, acknowledged),
        (raw.expected.wrapping_sub(1), raw.next)
    );
    assert!(guest.raw_answer().is_none(), "it is asked once");
    // The guest's kernel knows nothing of it (RFC 9293, section 3.10.7.1).
    guest.raw_segment(to, &raw, RST, &[]);
    assert_eq!(guest.nat.load().0, 0);
    assert!(stream.read(&mut [0]).is_err());
}
