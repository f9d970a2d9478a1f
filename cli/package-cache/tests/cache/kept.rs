//! What comes from the cache.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::mirror::{Mirror, body};
use crate::network::{Network, answer};

pub fn second_time() {
    let dir = tempfile::tempdir().unwrap();
    let mirror = Mirror::start();
    let path = "/pool/a_1.deb";
    // The lists, once: packages are good until they change.
    for _ in 0..2 {
        let network = Network::new(&dir.path().join("cache"));
        assert_eq!(network.get(mirror.address, "/dists/Release").status, 200);
        let got = network.get(mirror.address, path);
        assert!(got.body == body(path), "{}", got.head);
    }
    assert_eq!((mirror.sent(path), mirror.sent("/dists/Release")), (1, 1));
    let network = Network::new(&dir.path().join("cache"));
    let length = body(path).len() as u64;
    network.get(mirror.address, path);
    let moved = network.moved(|moved| moved.from_cache > 0);
    assert_eq!((moved.from_cache, moved.from_network), (length, 0));
    network.get(mirror.address, "/pool/b.deb");
    let moved = network.moved(|moved| moved.from_network > 0);
    assert_eq!(moved.from_network, body("/pool/b.deb").len() as u64);
}

pub fn eight_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mirror = Mirror::slow(Duration::from_millis(2));
    let networks: Vec<Arc<Network>> = (0..8).map(|_| Arc::new(Network::new(dir.path()))).collect();
    let paths: Vec<String> = (0..40)
        .map(|number| format!("/pool/p{number}.deb"))
        .collect();
    let builds: Vec<_> = networks
        .iter()
        .map(|network| {
            let (network, mirror, paths) = (Arc::clone(network), mirror.clone(), paths.clone());
            std::thread::spawn(move || {
                // In a row, as apt does it.
                let mut stream = network.connect(mirror.address);
                let host = format!("deb.example:{}", mirror.address.port());
                let mut asking = stream.try_clone().unwrap();
                let asked = paths.clone();
                let asks = std::thread::spawn(move || {
                    for path in &asked {
                        write!(asking, "GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
                    }
                });
                for path in &paths {
                    let got = answer(&mut stream).unwrap();
                    assert!(got.body == body(path), "{path}: {}", got.head);
                }
                asks.join().unwrap();
            })
        })
        .collect();
    for build in builds {
        build.join().unwrap();
    }
    let sent: Vec<usize> = paths.iter().map(|path| mirror.sent(path)).collect();
    assert_eq!(sent, vec![1; paths.len()]);
}

pub fn lists() {
    let dir = tempfile::tempdir().unwrap();
    let mirror = Mirror::start();
    let network = Network::new(dir.path());
    mirror.set("/dists/InRelease", b"one");
    // Even if its server says that it is good for a while.
    mirror.set("/timed/InRelease", b"one");
    for path in ["/dists/InRelease", "/timed/InRelease"] {
        for _ in 0..3 {
            assert_eq!(network.get(mirror.address, path).body, b"one");
        }
        assert_eq!(mirror.sent(path), 1);
        mirror.set(path, b"two");
        assert_eq!(network.get(mirror.address, path).body, b"two");
    }
    assert_eq!(mirror.confirmed(), 4);
    // A guest that has a copy asks about its own.
    let tag = "If-None-Match: \"3-346\"\r\n";
    let got = network.ask(mirror.address, "/dists/InRelease", "deb.example", tag);
    assert_eq!(got.status, 304, "{}", got.head);
}

pub fn built_again() {
    let dir = tempfile::tempdir().unwrap();
    let mirror = Mirror::start();
    let build = |list: &str, package: &str| {
        mirror.set("/Packages", list.as_bytes());
        mirror.set("/pool/a.deb", package.as_bytes());
        let network = Network::new(dir.path());
        assert_eq!(
            network.get(mirror.address, "/Packages").body,
            list.as_bytes()
        );
        network.get(mirror.address, "/pool/a.deb").body
    };
    assert_eq!(build("1", "one"), b"one");
    assert_eq!(build("1", "one"), b"one");
    assert_eq!((mirror.sent("/pool/a.deb"), mirror.confirmed()), (1, 1));
    // The name and the time of the file are the same.
    assert_eq!(build("2", "two"), b"two");
    assert_eq!(build("3", "two"), b"two");
    assert_eq!(build("3", "two"), b"two");
    assert_eq!(mirror.sent("/pool/a.deb"), 2);
}

pub fn parts() {
    let dir = tempfile::tempdir().unwrap();
    let mirror = Mirror::start();
    let network = Network::new(dir.path());
    let path = "/timed/a.rpm";
    let whole = network.get(mirror.address, path).body;
    let part = |fields: &str| network.ask(mirror.address, path, "deb.example", fields);
    let got = part("Range: bytes=100-199\r\n");
    assert_eq!((got.status, &got.body[..]), (206, &whole[100..200]));
    assert!(
        got.head
            .contains(&format!("Content-Range: bytes 100-199/{}\r\n", whole.len()))
    );
    assert_eq!(part("Range: bytes=-7\r\n").body, whole[whole.len() - 7..]);
    assert_eq!(part("Range: bytes=0-1,5-6\r\n").body, whole);
    let got = part("Range: bytes=99999999-\r\n");
    assert_eq!((got.status, got.body.len()), (416, 0));
    assert_eq!(mirror.sent(path), 1);
}

pub fn kinds_of_servers() {
    let dir = tempfile::tempdir().unwrap();
    let mirror = Mirror::start();
    let network = Network::new(dir.path());
    for (path, times) in [
        ("/chunked/a.deb", 1),
        ("/old/a.deb", 1),
        ("/timed/a.deb", 1),
        ("/varies/a.deb", 1),
        // Whether it was whole is not known.
        ("/rest/a.deb", 3),
        ("/private/a.deb", 3),
    ] {
        network.get(mirror.address, "/list");
        for _ in 0..3 {
            let got = network.get(mirror.address, path);
            assert!(
                got.body == body(path),
                "{path}: {} of {}",
                got.body.len(),
                body(path).len()
            );
        }
        assert_eq!(mirror.sent(path), times, "{path}");
    }
    let zip = "Accept-Encoding: gzip\r\n";
    network.ask(mirror.address, "/varies/a.deb", "deb.example", zip);
    assert_eq!(mirror.sent("/varies/a.deb"), 2);
    // Through a proxy: what it says is its own.
    for _ in 0..2 {
        let path = format!("http://{}/timed/p.deb", "other.example");
        let got = network.ask(mirror.address, &path, "other.example", "");
        assert!(got.body == body("/timed/p.deb"), "{}", got.head);
    }
    assert_eq!(mirror.sent("/timed/p.deb"), 1);
}

pub fn pipeline() {
    let dir = tempfile::tempdir().unwrap();
    let mirror = Mirror::start();
    let network = Network::new(dir.path());
    network.get(mirror.address, "/timed/b.deb");
    let host = format!("deb.example:{}", mirror.address.port());
    let paths = [
        "/pool/a.deb",
        "/timed/b.deb",
        "/chunked/c.deb",
        "/cookie/d",
        "/timed/b.deb",
        "/e",
    ];
    // Often: an answer "not modified" ended the reading of those behind it, now and then.
    for _ in 0..20 {
        let mut stream = network.connect(mirror.address);
        for path in paths {
            write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
        }
        write!(
            stream,
            "GET /f HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        for path in paths.into_iter().chain(["/f"]) {
            let got = answer(&mut stream).unwrap_or_else(|error| panic!("{path}: {error}"));
            assert!(got.body == body(path), "{path}: {}", got.head);
        }
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }
    assert_eq!(mirror.sent("/timed/b.deb"), 1);
}

pub fn full() {
    let dir = tempfile::tempdir().unwrap();
    let mirror = Mirror::start();
    for number in 0..12 {
        let path = format!("/timed/{number}.deb");
        mirror.set(&path, &vec![number; 100_000]);
        let network = Network::with(dir.path(), 450_000);
        assert_eq!(network.get(mirror.address, &path).body.len(), 100_000);
        network.get(mirror.address, "/timed/0.deb");
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(Network::with(dir.path(), 450_000));
    let network = Network::with(dir.path(), 450_000);
    let bytes = || {
        let files = std::fs::read_dir(dir.path()).unwrap();
        let bodies = files
            .flatten()
            .filter(|file| file.file_name().to_string_lossy().ends_with(".body"));
        bodies
            .map(|file| file.metadata().unwrap().len())
            .sum::<u64>()
    };
    let start = Instant::now();
    while bytes() > 450_000 && start.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(bytes() <= 450_000 && bytes() > 0, "{}", bytes());
    network.get(mirror.address, "/timed/0.deb");
    assert_eq!(mirror.sent("/timed/0.deb"), 1, "it was used all the time");
    // What is longer than half of it goes through.
    mirror.set("/timed/long.deb", &vec![1; 300_000]);
    for _ in 0..2 {
        assert_eq!(
            network.get(mirror.address, "/timed/long.deb").body.len(),
            300_000
        );
    }
    assert_eq!(mirror.sent("/timed/long.deb"), 2);
}

pub fn slow_guest() {
    let dir = tempfile::tempdir().unwrap();
    let mirror = Mirror::start();
    let path = "/timed/large.deb";
    mirror.set(path, &vec![7; 8 << 20]);
    let hostile = Network::new(dir.path());
    let mut stuck = hostile.connect(mirror.address);
    let host = format!("deb.example:{}", mirror.address.port());
    write!(stuck, "GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
    stuck.read_exact(&mut [0; 100]).unwrap();
    let start = Instant::now();
    let network = Network::new(dir.path());
    assert_eq!(network.get(mirror.address, path).body, vec![7; 8 << 20]);
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(mirror.sent(path), 1);
}
