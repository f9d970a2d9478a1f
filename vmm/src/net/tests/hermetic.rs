//! Networks that let the guest go to a few places only.

use super::super::dns::test_messages::{query, response};
use super::*;

/// A name server of the host, on its loopback, at a port of its own.
struct NameServer {
    socket: UdpSocket,
    answers: Vec<IpAddr>,
}

impl NameServer {
    fn new(answers: &[IpAddr]) -> NameServer {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        NameServer {
            socket,
            answers: answers.to_vec(),
        }
    }

    /// Answers the next question, which it returns.
    fn serve(&self) -> Option<Vec<u8>> {
        let mut question = vec![0; 1500];
        let (len, from) = self.socket.recv_from(&mut question).ok()?;
        question.truncate(len);
        let answer = response(&question, &self.answers);
        self.socket.send_to(&answer, from).unwrap();
        Some(question)
    }
}

fn guest(allowed: &[&str], server: &NameServer) -> Guest {
    let policy = Policy {
        allowed: Some(allowed.iter().map(|rule| rule.parse().unwrap()).collect()),
        ..Policy::default()
    };
    let host = HostNetwork {
        resolver: Resolver {
            servers: vec![server.socket.local_addr().unwrap()],
            ..Resolver::default()
        },
        ..HostNetwork::default()
    };
    let config = NetworkConfig {
        policy,
        host: host.into(),
        ..NetworkConfig::default()
    };
    Guest::new(config, false)
}

fn name_server() -> SocketAddr {
    SocketAddr::from((NAME_SERVER, 53))
}

/// The message in a frame for the guest.
fn message(frame: &[u8]) -> Vec<u8> {
    let packet = Packet::parse(frame);
    assert_eq!(packet.from, IpAddr::V4(NAME_SERVER));
    assert!(packet.is_whole(PROTOCOL_UDP));
    packet.payload[8..].to_vec()
}

#[test]
fn only_allowed_names_leave_the_host_and_only_their_addresses_are_reached() {
    let (listener, port) = listener();
    // An address of this host that is not its loopback, for a connection that succeeds.
    let Some(own) = own_address() else {
        let _ = writeln!(
            std::io::stderr(),
            "skipped: only_allowed_names_leave_the_host_and_only_their_addresses_are_reached: this \
             host has no address but its loopback's"
        );
        return;
    };
    drop(listener);
    let listener = TcpListener::bind((own, port)).unwrap();
    let metadata = IpAddr::from([169, 254, 169, 254]);
    let server = NameServer::new(&[own, metadata]);
    let rule = format!("mirror.example:{port}");
    let mut guest = guest(&[&rule], &server);

    let handle = guest.connect((own, port).into(), 40000);
    guest.until("the reset", |guest| {
        guest.socket(handle).state() == State::Closed
    });
    guest.sockets.remove(handle);

    let answer = guest
        .answer(&datagram(5000, name_server(), &query(7, "evil.example", 1)))
        .unwrap();
    assert_eq!(message(&answer)[3] & 0xf, 3, "no such name");
    assert!(server.serve().is_none(), "the question has left the host");

    guest.nat.take(&datagram(
        5000,
        name_server(),
        &query(8, "Mirror.Example", 1),
    ));
    let mut asked = None;
    guest.until("the question", |_| {
        asked = server.serve();
        asked.is_some()
    });
    assert_eq!(asked.unwrap()[2..], query(8, "mirror.example", 1)[2..]);
    let mut answer = None;
    guest.until("the answer", |guest| {
        answer = guest.wire.to_guest.pop_front();
        answer.is_some()
    });
    let answer = message(&answer.unwrap().bytes);
    // The one address, without the metadata service's.
    assert_eq!((answer[..2].to_vec(), answer[7]), (vec![0, 8], 1));
    let IpAddr::V4(v4) = own else { unreachable!() };
    assert_eq!(answer[answer.len() - 4..], v4.octets());

    let handle = guest.connect((own, port).into(), 40001);
    guest.until("the connection", |guest| guest.socket(handle).may_send());
    listener.accept().unwrap();
    // Another port of the same address is closed, and so is what the answer had besides.
    for to in [(own, port ^ 1), (metadata, port)] {
        let handle = guest.connect(to.into(), 40002);
        guest.until("the reset", |guest| {
            guest.socket(handle).state() == State::Closed
        });
        guest.sockets.remove(handle);
    }
}

#[test]
fn questions_over_tcp_and_to_other_servers_have_no_answer() {
    let server = NameServer::new(&[]);
    let mut guest = guest(&["mirror.example"], &server);
    for to in [name_server(), (Ipv4Addr::new(1, 1, 1, 1), 53).into()] {
        let handle = guest.connect(to, 40003);
        guest.until("the reset", |guest| {
            guest.socket(handle).state() == State::Closed
        });
        guest.sockets.remove(handle);
    }
    let elsewhere = SocketAddr::from(([1, 1, 1, 1], 53));
    let message = query(1, "mirror.example", 1);
    assert!(guest.answer(&datagram(5000, elsewhere, &message)).is_none());
    assert_eq!(guest.nat.load(), (0, 0, 0));
}

/// Nothing but the name goes further, and nothing but addresses comes back.
#[test]
fn a_name_carries_nothing_besides() {
    let server = NameServer::new(&[IpAddr::from([198, 51, 100, 7])]);
    let mut guest = guest(&["packages.example"], &server);
    // Other types carry text; no name of a host has a space.
    for (kind, name, code) in [
        (12, "packages.example", 0),
        (16, "packages.example", 0),
        (33, "packages.example", 0),
        (255, "packages.example", 0),
        (16, "other.example", 3),
        (1, "a b.packages.example", 3),
    ] {
        let question = datagram(5000, name_server(), &query(7, name, kind));
        let answer = message(&guest.answer(&question).unwrap());
        assert_eq!((answer[3] & 0xf, answer[7]), (code, 0), "{kind} {name}");
    }
    let mut question = query(7, "PackAges.Example", 1);
    question[11] = 1;
    question.extend(b"\0\0\x29\x10\0\0\0\0\0\0\x08smuggled");
    guest.nat.take(&datagram(5000, name_server(), &question));
    let mut asked = None;
    guest.until("the question", |_| {
        asked = server.serve();
        asked.is_some()
    });
    assert_eq!(asked.unwrap()[2..], query(7, "packages.example", 1)[2..]);
    assert!(server.serve().is_none());
}

/// The first address of this host that is neither loopback nor closed.
fn own_address() -> Option<IpAddr> {
    let addresses = nix::ifaddrs::getifaddrs().unwrap();
    addresses
        .filter_map(|address| Some(IpAddr::V4(address.address?.as_sockaddr_in()?.ip())))
        .find(|ip| !ip.is_loopback() && !ip.to_string().starts_with("169.254."))
}

#[test]
fn a_public_network_does_not_reach_this_host() {
    let Some(own) = own_address() else {
        let _ = writeln!(
            std::io::stderr(),
            "skipped: a_public_network_does_not_reach_this_host: it has no address"
        );
        return;
    };
    let listener = TcpListener::bind((own, 0)).unwrap();
    let to = listener.local_addr().unwrap();
    for (reach, reached) in [(Reach::Host, true), (Reach::Public, false)] {
        let policy = Policy {
            reach,
            ..Policy::default()
        };
        let config = NetworkConfig {
            policy,
            ..NetworkConfig::default()
        };
        let mut guest = Guest::new(config, false);
        let handle = guest.connect(to, 40004);
        guest.until("an answer", |guest| {
            let socket = guest.socket(handle);
            socket.may_send() || socket.state() == State::Closed
        });
        assert_eq!(guest.socket(handle).may_send(), reached, "{reach:?}");
    }
}
