//! Names, as this host would resolve them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::dns::test_messages::{asked, query, response};
use super::*;

const SOON: Duration = Duration::from_secs(1);

/// A name server on the loopback, which answers as `answer` says, if at all.
struct Server {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Server {
    fn new(answer: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static) -> Server {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        Server::on(socket, answer)
    }

    fn on(socket: UdpSocket, answer: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static) -> Server {
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        thread::spawn(move || {
            let mut message = [0; 2000];
            while let Ok((len, from)) = socket.recv_from(&mut message) {
                count.fetch_add(1, Ordering::Relaxed);
                if let Some(answer) = answer(&message[..len]) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Server { address, asked }
    }

    fn silent() -> Server {
        Server::new(|_| None)
    }

    /// Gives every name this address, except those for which there is none.
    fn with(ip: [u8; 4], known: impl Fn(&str) -> bool + Send + 'static) -> Server {
        Server::new(move |question| {
            if known(&asked(question)) {
                let ips = [IpAddr::V4(ip.into())];
                let wanted = question[question.len() - 3] == 1;
                return Some(response(question, if wanted { &ips } else { &[] }));
            }
            Some(failed(question, 3))
        })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

/// An answer that is only a code.
fn failed(question: &[u8], code: u8) -> Vec<u8> {
    let mut answer = question.to_vec();
    answer[2] |= 0x80;
    answer[3] = 0x80 | code;
    answer
}

fn guest(servers: &[SocketAddr], change: impl FnOnce(&mut HostNetwork)) -> Guest {
    let mut host = HostNetwork {
        resolver: Resolver {
            servers: servers.to_vec(),
            ..Resolver::default()
        },
        ..HostNetwork::default()
    };
    change(&mut host);
    let config = NetworkConfig {
        host: host.into(),
        ..NetworkConfig::default()
    };
    Guest::new(config, false)
}

fn name_server() -> SocketAddr {
    SocketAddr::from((NAME_SERVER, 53))
}

impl Guest {
    /// The next message of the name server's, and the guest's port that it is for.
    fn next_message(&mut self) -> Option<(u16, Vec<u8>)> {
        let frame = self.nat.next_frame()?;
        let packet = Packet::parse(&frame.bytes);
        assert_eq!(packet.from, IpAddr::V4(NAME_SERVER));
        assert!(packet.is_whole(PROTOCOL_UDP));
        let port = u16::from_be_bytes([packet.payload[2], packet.payload[3]]);
        Some((port, packet.payload[8..].to_vec()))
    }

    /// Asks, and waits for the answer. Returns it, and the time that it took.
    fn resolve(&mut self, message: &[u8]) -> (Vec<u8>, Duration) {
        let start = Instant::now();
        self.nat.take(&datagram(5000, name_server(), message));
        loop {
            self.nat.poll();
            if let Some((_, answer)) = self.next_message() {
                return (answer, start.elapsed());
            }
            assert!(start.elapsed() < PATIENCE, "no answer");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The code and the last address of an answer.
fn found(answer: &[u8]) -> (u8, Option<[u8; 4]>) {
    let count = answer[7];
    let last = answer.last_chunk().copied();
    (answer[3] & 0xf, last.filter(|_| count > 0))
}

/// C1: the first of the host's name servers is dead, the second is fine.
#[test]
fn the_second_server_answers_for_a_silent_one_which_is_remembered() {
    let (dead, good) = (Server::silent(), Server::with([192, 0, 2, 7], |_| true));
    let mut guest = guest(&[dead.address, good.address], |_| {});
    let (answer, time) = guest.resolve(&query(1, "a.example", 1));
    assert_eq!(found(&answer), (0, Some([192, 0, 2, 7])));
    assert!(time < Duration::from_secs(5), "{time:?}");
    let known = dead.asked();
    assert!(known > 0);
    for id in 2..20 {
        let (answer, time) = guest.resolve(&query(id, "b.example", 1));
        assert_eq!(answer[..2], id.to_be_bytes());
        assert!(time < SOON, "{time:?}");
    }
    assert_eq!(dead.asked(), known, "the dead one is asked again");
    assert_eq!(guest.nat.names_load(), (0, 0, 0));
}

/// Over IPv6, a datagram is 20 bytes larger than over IPv4.
#[test]
fn an_answer_that_fits_no_datagram_is_cut_and_not_a_broken_frame() {
    let Ok(socket) = UdpSocket::bind((std::net::Ipv6Addr::LOCALHOST, 0)) else {
        let name = "an_answer_that_fits_no_datagram_is_cut_and_not_a_broken_frame";
        let _ = writeln!(std::io::stderr(), "skipped: {name}: no IPv6");
        return;
    };
    let server = Server::on(socket, |question| {
        let mut answer = response(question, &[]);
        answer.resize(65527, 0);
        Some(answer)
    });
    let mut guest = guest(&[server.address], |_| {});
    let (answer, _) = guest.resolve(&query(1, "a.example", 1));
    assert_eq!(answer.len(), 65507);
    assert_eq!(found(&answer).0, 0);
}

#[test]
fn a_server_that_refuses_is_passed_over_at_once() {
    // Nothing listens; no socket can be connected (connect(2), EACCES); the server has no answer.
    let closed = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let nobody = closed.local_addr().unwrap();
    drop(closed);
    let nowhere = SocketAddr::from((Ipv4Addr::BROADCAST, 53));
    let broken = [2, 4, 5].map(|code| Server::new(move |question| Some(failed(question, code))));
    let good = Server::with([192, 0, 2, 7], |_| true);
    let broken = broken.iter().map(|server| server.address);
    for bad in [nobody, nowhere].into_iter().chain(broken) {
        let mut guest = guest(&[bad, good.address], |_| {});
        let (answer, time) = guest.resolve(&query(1, "a.example", 1));
        assert_eq!(found(&answer), (0, Some([192, 0, 2, 7])), "{bad}");
        assert!(time < SOON, "{time:?}");
    }
}

#[test]
fn without_a_server_that_answers_the_guest_is_told() {
    let nowhere = SocketAddr::from((Ipv4Addr::BROADCAST, 53));
    let mut alone = guest(&[nowhere], |_| {});
    let (answer, time) = alone.resolve(&query(1, "a.example", 1));
    assert_eq!(found(&answer), (2, None));
    assert!(time < Duration::from_secs(5), "{time:?}");
    // What the only server says is passed on as it is.
    let server = Server::new(|question| Some(failed(question, 5)));
    let mut guest = guest(&[server.address], |_| {});
    let question = query(9, "A.Example", 1);
    assert_eq!(guest.resolve(&question).0, failed(&question, 5));
}

#[test]
fn a_lost_question_is_asked_again_and_one_that_is_repeated_is_not() {
    let answers = AtomicUsize::new(0);
    let server = Server::new(move |question| {
        let late = answers.fetch_add(1, Ordering::Relaxed) > 0;
        late.then(|| response(question, &[IpAddr::from([192, 0, 2, 7])]))
    });
    let mut guest = guest(&[server.address], |_| {});
    let question = query(1, "a.example", 1);
    for _ in 0..10 {
        guest.nat.take(&datagram(5000, name_server(), &question));
    }
    let (answer, _) = guest.resolve(&question);
    assert_eq!(found(&answer), (0, Some([192, 0, 2, 7])));
    assert_eq!(server.asked(), 2);
}

/// C2: `docker run --add-host mirror:10.1.2.3`.
#[test]
fn names_of_the_hosts_file_need_no_server() {
    let server = Server::with([192, 0, 2, 7], |name| name == "me");
    let entry = |name: &str, ip: &str| HostName {
        name: name.to_owned(),
        ip: ip.parse().unwrap(),
    };
    let mut guest = guest(&[server.address], |host| {
        host.hosts = vec![
            entry("mirror", "10.1.2.3"),
            entry("mirror", "2001:db8::7"),
            entry("ads.example", "0.0.0.0"),
            entry("metadata", "169.254.169.254"),
            entry("v4.example", "10.1.2.4"),
        ];
    });
    for (name, kind, expected) in [
        ("Mirror", 1, (0, Some([10, 1, 2, 3]))),
        ("v4.example", 1, (0, Some([10, 1, 2, 4]))),
        // There is such a name, without an address of that kind.
        ("v4.example", 28, (0, None)),
        ("ads.example", 1, (3, None)),
    ] {
        let (answer, _) = guest.resolve(&query(7, name, kind));
        assert_eq!(found(&answer), expected, "{name} {kind}");
    }
    let (answer, _) = guest.resolve(&query(7, "mirror", 28));
    let v6: Ipv6Addr = "2001:db8::7".parse().unwrap();
    assert!(answer.ends_with(&v6.octets()));
    assert_eq!(server.asked(), 0);
    // What leads nowhere from the guest is left to the servers.
    assert_eq!(found(&guest.resolve(&query(7, "metadata", 1)).0), (3, None));
    assert_eq!(server.asked(), 1);
}

/// C2: `http://mirror/debian` on a host with a search list.
#[test]
fn names_are_looked_up_in_the_domains_of_the_search_list() {
    let known = ["mirror.b.example", "host.dc.b.example", "a.b.c"];
    let server = Server::with([192, 0, 2, 7], move |name| known.contains(&name));
    let search = |ndots| {
        move |host: &mut HostNetwork| {
            host.resolver.search = vec!["a.example".into(), "b.example".into()];
            host.resolver.ndots = ndots;
        }
    };
    for (name, ndots, code, questions) in [
        ("mirror", 1, 0, 2),
        ("host.dc", 1, 0, 3),
        ("host.dc", 2, 0, 2),
        ("a.b.c", 1, 0, 1),
        ("a.b.c", 3, 0, 3),
        ("none", 1, 3, 3),
    ] {
        let mut guest = guest(&[server.address], search(ndots));
        let before = server.asked();
        let (answer, _) = guest.resolve(&query(7, name, 1));
        let address = (code == 0).then_some([192, 0, 2, 7]);
        assert_eq!(found(&answer), (code, address), "{name} {ndots}");
        assert_eq!(server.asked() - before, questions, "{name} {ndots}");
        assert_eq!(asked(&query(7, name, 1)), name);
        // Other types are asked for as they are: apt's, for a service of the name.
        let before = server.asked();
        guest.resolve(&query(8, "_http._tcp.mirror", 33));
        assert_eq!(server.asked() - before, 1);
    }
    // A name that is there without an address of this kind is not looked for elsewhere.
    let mut guest = guest(&[server.address], search(1));
    assert_eq!(found(&guest.resolve(&query(7, "mirror", 28)).0), (0, None));
}

/// G9: what the server says arrives as it is, of any size, and with the bit that asks for TCP.
#[test]
fn answers_of_any_size_arrive_whole() {
    for size in [512, 1232, 4096, 9000, 60_000] {
        let server = Server::new(move |question| {
            let mut answer = response(question, &[IpAddr::from([192, 0, 2, 7])]);
            answer[2] |= 0x02;
            answer.resize(size, 0x61);
            Some(answer)
        });
        let mut guest = guest(&[server.address], |_| {});
        // As systemd-resolved asks: with extensions, and the case of letters as a guard.
        let mut question = query(0x1234, "mIrRor.eXample", 16);
        question[11] = 1;
        question.extend([0, 0, 41, 0xff, 0xff, 0, 0, 0, 0, 0, 0]);
        let (answer, _) = guest.resolve(&question);
        assert_eq!(answer.len(), size);
        assert_eq!(answer[..3], [0x12, 0x34, 0x83]);
        assert_eq!(answer[12..28], question[12..28]);
    }
}

/// Forged or of another question.
#[test]
fn answers_that_do_not_fit_are_not_believed() {
    let server = Server::new(|question| {
        let mut other = question.to_vec();
        other[13] ^= 1;
        Some(response(&other, &[IpAddr::from([6, 6, 6, 6])]))
    });
    let good = Server::with([192, 0, 2, 7], |_| true);
    let mut guest = guest(&[server.address, good.address], |_| {});
    let (answer, _) = guest.resolve(&query(1, "a.example", 1));
    assert_eq!(found(&answer), (0, Some([192, 0, 2, 7])));
}

/// G9: a thousand questions in a second, to a server that takes one for each. C5: three thousand.
#[test]
fn thousands_of_questions_to_a_slow_server_are_all_answered() {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    // Its own buffer is not what is looked at.
    let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(8 << 20);
    let address = socket.local_addr().unwrap();
    let server = thread::spawn(move || {
        socket
            .set_read_timeout(Some(Duration::from_millis(5)))
            .unwrap();
        let mut late: VecDeque<(Instant, Vec<u8>, SocketAddr)> = VecDeque::new();
        let mut message = [0; 512];
        let mut last = Instant::now();
        while last.elapsed() < Duration::from_secs(4) {
            if let Ok((len, from)) = socket.recv_from(&mut message) {
                last = Instant::now();
                let answer = response(&message[..len], &[IpAddr::from([192, 0, 2, 7])]);
                late.push_back((last + Duration::from_secs(1), answer, from));
            }
            while late.front().is_some_and(|(at, ..)| *at <= Instant::now()) {
                let (_, answer, from) = late.pop_front().unwrap();
                socket.send_to(&answer, from).unwrap();
            }
        }
    });
    let mut guest = guest(&[address], |_| {});
    let mut answered = std::collections::HashSet::new();
    let mut collect = |guest: &mut Guest| {
        guest.nat.poll();
        while let Some((port, answer)) = guest.next_message() {
            assert_eq!(found(&answer), (0, Some([192, 0, 2, 7])));
            answered.insert((port, answer[..2].to_vec()));
        }
        answered.len()
    };
    let start = Instant::now();
    for number in 0..3000_u16 {
        let question = query(number, &format!("n{number}.example"), 1);
        guest
            .nat
            .take(&datagram(1024 + number, name_server(), &question));
        if number % 32 == 0 {
            collect(&mut guest);
            thread::sleep(Duration::from_millis(32));
        }
    }
    while collect(&mut guest) < 3000 {
        assert!(start.elapsed() < Duration::from_secs(30), "some are lost");
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(guest.nat.names_load(), (0, 0, 0));
    server.join().unwrap();
}

/// What a guest can have this host remember and open.
#[test]
fn questions_and_their_sockets_are_bounded() {
    let server = Server::silent();
    let mut guest = guest(&[server.address], |_| {});
    for number in 0..6000_u16 {
        let question = query(number, "a.example", 1);
        guest
            .nat
            .take(&datagram(1024 + number, name_server(), &question));
    }
    let (_, questions, sockets) = guest.nat.names_load();
    assert_eq!(
        (questions, sockets),
        (limits::QUESTIONS, limits::SERVER_SOCKETS)
    );
    assert_eq!(guest.nat.load(), (0, 0, 0));
    guest.nat.pass(Duration::from_secs(13));
    assert_eq!(guest.nat.names_load(), (0, 0, 0));
    // The guest's port may be closed by then; it is told all the same.
    let (_, answer) = guest.next_message().unwrap();
    assert_eq!(found(&answer), (2, None));
}

/// `dig +tcp`: a server that does not answer there either.
#[test]
fn over_tcp_the_second_server_answers_for_the_first() {
    // A listener whose backlog is full answers no SYN.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())
        .unwrap();
    full.listen(0).unwrap();
    let silent = full.local_addr().unwrap().as_socket().unwrap();
    let _first = std::net::TcpStream::connect(silent).unwrap();
    let (closed, refusing) = listener();
    drop(closed);
    for bad in [silent, (Ipv4Addr::LOCALHOST, refusing).into()] {
        let (listener, port) = listener();
        let mut guest = guest(&[bad, (Ipv4Addr::LOCALHOST, port).into()], |_| {});
        let start = Instant::now();
        both_ways(&mut guest, name_server(), listener, 5000);
        assert!(start.elapsed() < Duration::from_secs(5), "{bad}");
    }
}
