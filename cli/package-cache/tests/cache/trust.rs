//! What one guest does must not reach another one.

use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::mirror::{Mirror, body};
use crate::network::{Network, answer};

/// A guest connects to a server of its own and calls it by the name of a mirror.
pub fn false_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = "/timed/bash.deb";
    // The port is a part of the name: both servers have the same.
    let (mirror, evil) = loop {
        let mirror = Mirror::start();
        let evil =
            std::net::TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), mirror.address.port()));
        if let Ok(evil) = evil {
            break (mirror, evil);
        }
    };
    let address = evil.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in evil.incoming().flatten() {
            let head =
                "HTTP/1.1 200 OK\r\nCache-Control: max-age=9999\r\nContent-Length: 4\r\n\r\nevil";
            let _ = stream.write_all(head.as_bytes());
            std::thread::sleep(Duration::from_millis(200));
        }
    });
    let hostile = Network::new(dir.path());
    for _ in 0..2 {
        assert_eq!(hostile.get(address, path).body, b"evil");
    }
    let network = Network::new(dir.path());
    assert!(network.get(mirror.address, path).body == body(path));
    assert_eq!(hostile.get(address, path).body, b"evil");
    // Nor the other way round: under the mirror's address, a name that is not its.
    let got = network.ask(mirror.address, path, "other.example", "");
    assert!(got.body == body(path));
    assert_eq!(mirror.sent(path), 2);
}

pub fn secrets() {
    let dir = tempfile::tempdir().unwrap();
    let mirror = Mirror::start();
    let network = Network::new(dir.path());
    for (number, (path, fields)) in [
        ("/timed", "Authorization: Basic c2VjcmV0\r\n"),
        ("/timed", "Cookie: secret=1\r\n"),
        ("/cookie", ""),
        ("/private", ""),
        ("/timed", "Cache-Control: no-store\r\n"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("{path}/{number}.deb");
        for _ in 0..2 {
            let got = network.ask(mirror.address, &path, "deb.example", fields);
            assert!(got.body == body(&path), "{}", got.head);
        }
        assert_eq!(mirror.sent(&path), 2, "{path}");
    }
    for file in std::fs::read_dir(dir.path()).unwrap().flatten() {
        let bytes = std::fs::read(file.path()).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(
            !text.contains("c2VjcmV0") && !text.contains("secret="),
            "{file:?}"
        );
    }
}

pub fn unknown_fields() {
    let dir = tempfile::tempdir().unwrap();
    let mirror = Mirror::start();
    let network = Network::new(dir.path());
    let path = "/timed/a.deb";
    let fields = "X-Forwarded-Host: evil.example\r\n";
    let got = network.ask(mirror.address, path, "deb.example", fields);
    assert_eq!(got.body, b"for evil.example");
    assert!(network.get(mirror.address, path).body == body(path));
}

pub fn second_name() {
    let dir = tempfile::tempdir().unwrap();
    let mirror = Mirror::start();
    let network = Network::new(dir.path());
    let port = mirror.address.port();
    for _ in 0..2 {
        let mut stream = network.connect(mirror.address);
        for host in ["deb.example", "other.example"] {
            let path = format!("/timed/{host}.deb");
            write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n").unwrap();
            assert!(answer(&mut stream).unwrap().body == body(&path));
        }
    }
    assert_eq!(mirror.sent("/timed/deb.example.deb"), 1);
    assert_eq!(mirror.sent("/timed/other.example.deb"), 2);
}

pub fn wrong_hash() {
    let dir = tempfile::tempdir().unwrap();
    let mirror = Mirror::start();
    let network = Network::new(dir.path());
    let path = format!("/dists/by-hash/SHA256/{}", "0".repeat(64));
    for _ in 0..2 {
        assert!(network.get(mirror.address, &path).body == body(&path));
    }
    assert_eq!(mirror.sent(&path), 2);
    let hash = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    let path = format!("/dists/by-hash/SHA256/{hash}");
    mirror.set(&path, b"hello");
    for _ in 0..2 {
        assert_eq!(network.get(mirror.address, &path).body, b"hello");
    }
    assert_eq!((mirror.sent(&path), mirror.confirmed()), (1, 0));
}

pub fn folder() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("new/packages");
    let network = Network::new(&folder);
    let mirror = Mirror::start();
    network.get(mirror.address, "/timed/a.deb");
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for file in std::fs::read_dir(&folder).unwrap().flatten() {
        assert_eq!(mode(&file.path()), 0o600, "{file:?}");
    }
}
