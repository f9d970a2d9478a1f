//! Connections without a server.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::mirror::{Mirror, body};
use crate::network::{Answer, Network, answer};

const PATHS: [&str; 4] = [
    "/debian/dists/stable/InRelease",
    "/pool/a.deb",
    "/timed/b.rpm",
    "/chunked/c.deb",
];

fn ask(network: &Network, server: SocketAddr, request: &str) -> Answer {
    let mut stream = network.connect_nowhere();
    let host = format!("deb.example:{}", server.port());
    write!(stream, "{request} HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
    answer(&mut stream).unwrap()
}

pub fn kept() {
    let dir = tempfile::tempdir().unwrap();
    let mirror = Mirror::start();
    let filling = Network::new(dir.path());
    for path in PATHS {
        assert!(filling.get(mirror.address, path).body == body(path));
    }
    drop(filling);
    let sent: Vec<usize> = PATHS.iter().map(|path| mirror.sent(path)).collect();
    let network = Network::offline(dir.path());
    // In a row over one connection, and parts.
    let mut stream = network.connect_nowhere();
    let host = format!("deb.example:{}", mirror.address.port());
    for path in PATHS {
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
    }
    for path in PATHS {
        assert!(answer(&mut stream).unwrap().body == body(path), "{path}");
    }
    write!(
        stream,
        "GET {} HTTP/1.1\r\nHost: {host}\r\nRange: bytes=7-9\r\nConnection: close\r\n\r\n",
        PATHS[1]
    )
    .unwrap();
    let part = answer(&mut stream).unwrap();
    assert_eq!((part.status, &part.body[..]), (206, &body(PATHS[1])[7..10]));
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    let after: Vec<usize> = PATHS.iter().map(|path| mirror.sent(path)).collect();
    assert_eq!(after, sent);
    assert_eq!(mirror.confirmed(), 0);
    assert_eq!(network.cache.absent(), [] as [String; 0]);
    let bytes: usize = PATHS.iter().map(|path| body(path).len()).sum();
    let moved = network.moved(|moved| moved.from_cache >= bytes as u64 + 3);
    assert_eq!(
        (moved.from_cache, moved.from_network),
        (bytes as u64 + 3, 0)
    );
}

pub fn absent() {
    let dir = tempfile::tempdir().unwrap();
    let mirror = Mirror::start();
    let network = Network::offline(dir.path());
    let begin = Instant::now();
    for _ in 0..2 {
        let got = ask(&network, mirror.address, "GET /pool/a.deb");
        assert_eq!((got.status, got.body.len()), (404, 0));
        assert!(
            got.head
                .contains("Not in the cache of packages (--offline)")
        );
    }
    assert!(begin.elapsed() < Duration::from_secs(5));
    // Something else than requests is closed, and nothing else ends with it.
    let mut stream = network.connect_nowhere();
    stream.write_all(b"\x16\x03\x01hello").unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
    for number in 0..300 {
        ask(&network, mirror.address, &format!("GET /{number}"));
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    while network.cache.absent().len() < 256 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    let absent = network.cache.absent();
    let port = mirror.address.port();
    assert_eq!(absent[0], format!("http://deb.example:{port}/pool/a.deb"));
    assert_eq!(absent[1], format!("http://deb.example:{port}/0"), "once");
    assert_eq!(absent.len(), 256);
    assert_eq!(mirror.sent("/pool/a.deb"), 0);
}

/// What another build has fetched from a server is not for one that may not ask for its name.
pub fn names() {
    let dir = tempfile::tempdir().unwrap();
    let mirror = Mirror::at([127, 0, 0, 1].into(), Duration::ZERO);
    let filling = Network::new(dir.path());
    assert_eq!(
        filling
            .ask(mirror.address, "/pool/a.deb", "127.0.0.1", "")
            .status,
        200
    );
    assert_eq!(filling.get(mirror.address, "/pool/a.deb").status, 200);
    let network = Network::offline(dir.path());
    let mut stream = network.connect_nowhere();
    let port = mirror.address.port();
    write!(
        stream,
        "GET /pool/a.deb HTTP/1.1\r\nHost: evil.example:{port}\r\n\r\n"
    )
    .unwrap();
    assert_eq!(answer(&mut stream).unwrap().status, 404);
    write!(
        stream,
        "GET /pool/a.deb HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"
    )
    .unwrap();
    assert_eq!(answer(&mut stream).unwrap().status, 200);
    // A process that is not offline has no use for such a connection.
    let mut stream = filling.connect_nowhere();
    write!(
        stream,
        "GET /pool/a.deb HTTP/1.1\r\nHost: deb.example:{port}\r\n\r\n"
    )
    .unwrap_or_default();
    assert!(answer(&mut stream).is_err());
}

/// The mirror is asked as a proxy: only what one of the user's own has said is of a server's name.
pub fn proxied() {
    let dir = tempfile::tempdir().unwrap();
    let (proxy, other) = (Mirror::start(), Mirror::start());
    let fill = |mirror: &Mirror, path: &str| {
        let network = Network::behind(dir.path(), 1 << 30, &[proxy.address]);
        let mut stream = network.connect(mirror.address);
        let request = format!("GET http://deb.example{path} HTTP/1.1\r\nHost: deb.example\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        assert!(answer(&mut stream).unwrap().body == body(path));
    };
    fill(&proxy, "/pool/a.deb");
    fill(&other, "/pool/b.deb");
    let network = Network::offline(dir.path());
    for (path, status) in [("/pool/a.deb", 200), ("/pool/b.deb", 404)] {
        let mut stream = network.connect_nowhere();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: deb.example\r\n\r\n").unwrap();
        assert_eq!(answer(&mut stream).unwrap().status, status, "{path}");
    }
}
