//! What goes through.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener};
use std::process::Command;
use std::time::Duration;

use crate::mirror::{Mirror, body};
use crate::network::{Network, answer};

pub fn tunnel() {
    let dir = tempfile::tempdir().unwrap();
    let network = Network::new(dir.path());
    let mirror = Mirror::start();
    // The client speaks first, and closes its half.
    let mut stream = network.connect(mirror.address);
    let mut sent = b"ECHO \x00\x01\n".to_vec();
    sent.extend(vec![9; 3 << 20]);
    let mut writing = stream.try_clone().unwrap();
    let bytes = sent.clone();
    let writes = std::thread::spawn(move || {
        writing.write_all(&bytes).unwrap();
        writing.shutdown(Shutdown::Write).unwrap();
    });
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    writes.join().unwrap();
    assert!(back == sent, "{} of {}", back.len(), sent.len());
    // The server speaks first.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"220 hello\r\n").unwrap();
        let mut word = [0; 6];
        stream.read_exact(&mut word).unwrap();
        stream.write_all(&word).unwrap();
    });
    let mut stream = network.connect(address);
    let mut hello = [0; 11];
    stream.read_exact(&mut hello).unwrap();
    stream.write_all(b"GET  \n").unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert_eq!((&hello, &rest[..]), (b"220 hello\r\n", &b"GET  \n"[..]));
    server.join().unwrap();
}

/// The connection was ended with the half of the side that says nothing.
pub fn halves() {
    let dir = tempfile::tempdir().unwrap();
    let network = Network::new(dir.path());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        // Says something once the other one has said that it will not.
        let (mut stream, _) = listener.accept().unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        stream.write_all(&[b'x'; 100_000]).unwrap();
        drop(stream);
        // And the other way round.
        let (mut stream, _) = listener.accept().unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    });
    let mut stream = network.connect(address);
    stream.shutdown(Shutdown::Write).unwrap();
    let mut text = Vec::new();
    stream.read_to_end(&mut text).unwrap();
    assert_eq!(text.len(), 100_000);
    let mut stream = network.connect(address);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    stream.write_all(b"listen").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    drop(stream);
    assert_eq!(server.join().unwrap(), "listen");
}

pub fn post() {
    let dir = tempfile::tempdir().unwrap();
    let network = Network::new(dir.path());
    let mirror = Mirror::start();
    let mut stream = network.connect(mirror.address);
    let host = format!("deb.example:{}", mirror.address.port());
    let post = format!("POST /p HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\n\r\nhello");
    // Behind a request that the cache takes part in.
    write!(
        stream,
        "GET /a HTTP/1.1\r\nHost: {host}\r\n\r\n{post}{post}"
    )
    .unwrap();
    assert!(answer(&mut stream).unwrap().body == body("/a"));
    for _ in 0..2 {
        assert_eq!(answer(&mut stream).unwrap().body, b"hello");
    }
}

pub fn broken() {
    let dir = tempfile::tempdir().unwrap();
    let network = Network::new(dir.path());
    let mirror = Mirror::start();
    let path = "/broken/a.deb";
    let host = format!("deb.example:{}", mirror.address.port());
    for times in 1..3 {
        let mut stream = network.connect(mirror.address);
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
        assert!(answer(&mut stream).is_err());
        assert!(network.hears_of_a_reset());
        assert_eq!(mirror.sent(path), times);
    }
    let kept = std::fs::read_dir(dir.path()).unwrap().flatten();
    let names: Vec<_> = kept.map(|entry| entry.file_name()).collect();
    let names: Vec<_> = names
        .iter()
        .filter(|name| !name.to_string_lossy().starts_with(".tidy"))
        .collect();
    assert!(names.is_empty(), "{names:?}");
}

pub fn full_disk() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("small");
    std::fs::create_dir(&folder).unwrap();
    let mount = ["-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs"];
    let mounted = Command::new("mount").args(mount).arg(&folder).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        println!("skipped: a_full_disk_breaks_no_build: no tmpfs can be mounted");
        return;
    }
    let mirror = Mirror::start();
    mirror.set("/timed/a.deb", &vec![5; 3 << 20]);
    let got: Vec<_> = {
        let network = Network::new(&folder);
        (0..2)
            .map(|_| network.get(mirror.address, "/timed/a.deb").body)
            .collect()
    };
    // Its process may still be there.
    let _ = Command::new("umount").arg("-l").arg(&folder).status();
    assert!(got.iter().all(|body| *body == vec![5; 3 << 20]));
    assert_eq!(mirror.sent("/timed/a.deb"), 2);
}

pub fn idle() {
    let dir = tempfile::tempdir().unwrap();
    let network = Network::new(dir.path());
    let mirror = Mirror::start();
    let mut stream = network.connect(mirror.address);
    let host = format!("deb.example:{}", mirror.address.port());
    write!(stream, "GET /idle/a HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
    assert!(answer(&mut stream).unwrap().body == body("/idle/a"));
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}
