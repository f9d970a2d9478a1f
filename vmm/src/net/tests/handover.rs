//! Connections that another process continues: a thread of the test is that process.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use boxbuild_jail::Channel;

use super::*;

/// A guest whose connections to `port` are handed over, and the other process's end.
fn handing_over(port: u16) -> (Guest, Channel) {
    let (ours, theirs) = Channel::pair().unwrap();
    let config = NetworkConfig {
        policy: Policy {
            services: vec![(Ipv4Addr::LOCALHOST, port).into()],
            ..Policy::default()
        },
        handover: Some(Handover {
            channel: ours,
            ports: vec![port],
        }),
        ..NetworkConfig::default()
    };
    (Guest::new(config, false), theirs)
}

/// Takes what was handed over.
fn taken(channel: &Channel) -> (u64, TcpStream, UnixStream) {
    let message = channel
        .receive_descriptors(Some(PATIENCE))
        .unwrap()
        .unwrap();
    let number = u64::from_le_bytes(message.bytes.try_into().unwrap());
    let mut descriptors = message.descriptors.into_iter();
    let server = TcpStream::from(descriptors.next().unwrap());
    let guest = UnixStream::from(descriptors.next().unwrap());
    server.set_nonblocking(false).unwrap();
    guest.set_nonblocking(false).unwrap();
    (number, server, guest)
}

#[test]
fn another_process_continues_a_connection_and_its_bytes_go_both_ways() {
    let (listener, port) = listener();
    let (mut guest, channel) = handing_over(port);
    let relay = thread::spawn(move || {
        let (_, server, stream) = taken(&channel);
        assert_eq!(server.peer_addr().unwrap().port(), port);
        let mut up = (stream.try_clone().unwrap(), server.try_clone().unwrap());
        let upwards = thread::spawn(move || {
            std::io::copy(&mut up.0, &mut up.1).unwrap();
            up.1.shutdown(Shutdown::Write).unwrap();
        });
        std::io::copy(&mut &server, &mut &stream).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        upwards.join().unwrap();
    });
    both_ways(&mut guest, (GATEWAY, port).into(), listener, 3 << 20);
    relay.join().unwrap();
}

#[test]
fn the_end_that_the_other_process_tells_of_is_a_reset_or_an_end() {
    let (listener, port) = listener();
    let (mut guest, channel) = handing_over(port);
    for (guest_port, reset) in [(40000, true), (40001, false)] {
        let handle = guest.connect((GATEWAY, port).into(), guest_port);
        guest.until("the connection", |guest| guest.socket(handle).may_send());
        let (number, server, mut stream) = taken(&channel);
        stream.write_all(b"half of it").unwrap();
        if reset {
            channel.send(&number.to_le_bytes(), &[]).unwrap();
        }
        drop((server, stream));
        let mut closed = false;
        guest.until("the end", |guest| {
            let socket = guest.socket(handle);
            let _ = socket.recv(|bytes| (bytes.len(), ()));
            closed |= socket.state() == State::CloseWait;
            closed || socket.state() == State::Closed
        });
        assert_eq!(closed, !reset);
        guest.socket(handle).abort();
        guest.until("its end", |guest| guest.nat.load().0 == 0);
        drop(listener.accept().unwrap());
    }
}

/// The guest's reset ends the stream, and the number of another one does no harm.
#[test]
fn a_guest_that_is_gone_ends_the_stream() {
    let (_listener, port) = listener();
    let (mut guest, channel) = handing_over(port);
    channel.send(&77_u64.to_le_bytes(), &[]).unwrap();
    let handle = guest.connect((GATEWAY, port).into(), 40000);
    guest.until("the connection", |guest| guest.socket(handle).may_send());
    let (_, _server, mut stream) = taken(&channel);
    guest.socket(handle).abort();
    guest.until("the guest's reset", |guest| guest.nat.load().0 == 0);
    match stream.read(&mut [0]) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_the_other_process_connections_go_on_as_ever() {
    let (listener, port) = listener();
    let (mut guest, channel) = handing_over(port);
    drop(channel);
    both_ways(&mut guest, (GATEWAY, port).into(), listener, 1 << 20);
}

/// A connection that is handed over without a socket: what the other process says is all there is.
#[test]
fn offline_another_process_is_every_server_and_nothing_else_is_reached() {
    let (ours, channel) = Channel::pair().unwrap();
    let config = NetworkConfig {
        policy: Policy {
            offline: true,
            ..Policy::default()
        },
        handover: Some(Handover {
            channel: ours,
            ports: vec![80],
        }),
        ..NetworkConfig::default()
    };
    let mut guest = Guest::new(config, false);
    let server: SocketAddr = "203.0.113.9:80".parse().unwrap();
    let handle = guest.connect(server, 40000);
    guest.until("the connection", |guest| guest.socket(handle).may_send());
    let message = channel
        .receive_descriptors(Some(PATIENCE))
        .unwrap()
        .unwrap();
    let [stream]: [_; 1] = message.descriptors.try_into().unwrap();
    let mut stream = UnixStream::from(stream);
    stream.set_nonblocking(false).unwrap();
    guest.socket(handle).send_slice(b"GET").unwrap();
    let mut got = [0; 3];
    guest.turn();
    stream.read_exact(&mut got).unwrap();
    stream.write_all(b"404").unwrap();
    let mut answer = Vec::new();
    guest.until("the answer", |guest| {
        let _ = guest.socket(handle).recv(|bytes| {
            answer.extend_from_slice(bytes);
            (bytes.len(), ())
        });
        answer.len() == 3
    });
    assert_eq!((&got, &answer[..]), (b"GET", &b"404"[..]));
    // Other ports are closed at once.
    let handle = guest.connect("203.0.113.9:443".parse().unwrap(), 40001);
    guest.until("the reset", |guest| {
        guest.socket(handle).state() == State::Closed
    });
    drop((stream, channel));
    let handle = guest.connect(server, 40002);
    guest.until("the reset", |guest| {
        guest.socket(handle).state() == State::Closed
    });
}

/// What does not read its channel gets no more than what fits there.
#[test]
fn a_process_that_takes_nothing_holds_nothing_up() {
    let (listener, port) = listener();
    let (mut guest, _channel) = handing_over(port);
    let (mut direct, mut streams) = (0, Vec::new());
    for number in 0..limits::HANDED_OVER as u16 + 20 {
        let handle = guest.connect((GATEWAY, port).into(), 30000 + number);
        guest.until("the connection", |guest| guest.socket(handle).may_send());
        let (mut stream, _) = listener.accept().unwrap();
        stream
            .set_read_timeout(Some(Duration::from_millis(1)))
            .unwrap();
        guest.socket(handle).send_slice(b"x").unwrap();
        for _ in 0..3 {
            guest.turn();
        }
        direct += usize::from(stream.read(&mut [0]).is_ok_and(|count| count == 1));
        streams.push(stream);
    }
    assert!(direct >= 20, "{direct}");
}
