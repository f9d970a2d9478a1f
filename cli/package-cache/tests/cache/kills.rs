//! The processes of several builds are killed while the cache fills.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::apt;
use crate::mirror::{Mirror, body};
use crate::network::{Network, answer};

/// Kills, unless `BOXBUILD_TEST_KILLS` says how many.
const KILLS: usize = 40;
const PACKAGES: usize = 24;

/// A number that is not the same each time.
fn random(below: u64) -> u64 {
    let mut bytes = [0; 8];
    let mut source = std::fs::File::open("/dev/urandom").unwrap();
    std::io::Read::read_exact(&mut source, &mut bytes).unwrap();
    u64::from_le_bytes(bytes) % below
}

fn path(number: u64) -> String {
    match number % 4 {
        0 => format!("/pool/k{number}.deb"),
        1 => format!("/timed/k{number}.rpm"),
        2 => format!("/chunked/k{number}.deb"),
        _ => format!("/dists/k{number}"),
    }
}

/// Fetches packages until its process is killed. Returns how many came whole. A byte that is wrong fails the
/// test, also of an answer that is not whole.
fn build(network: &Network, mirror: &Mirror, host: &str) -> usize {
    let mut whole = 0;
    loop {
        let path = path(random(PACKAGES as u64));
        let mut stream = network.connect(mirror.address);
        let sent = write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let Ok(got) = sent.and_then(|()| answer(&mut stream)) else {
            return whole;
        };
        assert_eq!(got.status, 200);
        assert!(got.body == body(&path), "{path}: wrong bytes, {}", got.head);
        whole += 1;
    }
}

pub fn random_kills() {
    let kills = std::env::var("BOXBUILD_TEST_KILLS");
    let kills = kills.map_or(KILLS, |kills| kills.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let mirror = Mirror::slow(Duration::from_micros(300));
    // What the real apt connects to in the end, so that it asks for the same.
    let front = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let host = front.local_addr().unwrap().to_string();
    let (mut whole, mut round) = (0, 0);
    let start = Instant::now();
    while round < kills {
        // The cache is emptied now and then, so that it fills again.
        if round % 10 == 0 {
            for file in std::fs::read_dir(dir.path()).unwrap().flatten() {
                if random(2) == 0 {
                    let _ = std::fs::remove_file(file.path());
                }
            }
        }
        // Two builds at once: one of them goes on with what the other one has begun.
        let networks: Vec<Arc<Network>> =
            (0..2).map(|_| Arc::new(Network::new(dir.path()))).collect();
        let builds: Vec<_> = networks
            .iter()
            .map(|network| {
                let (network, mirror, host) = (Arc::clone(network), mirror.clone(), host.clone());
                std::thread::spawn(move || build(&network, &mirror, &host))
            })
            .collect();
        for network in &networks {
            std::thread::sleep(Duration::from_micros(random(100_000)));
            let pid = nix::unistd::Pid::from_raw(network.cache.pid() as i32);
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
            round += 1;
        }
        for build in builds {
            whole += build.join().unwrap();
        }
    }
    // It opens, and everything in it is right.
    let network = Network::new(dir.path());
    let mut kept = 0;
    for number in 0..PACKAGES as u64 {
        let path = path(number);
        let before = mirror.sent(&path);
        let mut stream = network.connect(mirror.address);
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
        let got = answer(&mut stream).unwrap();
        assert!(got.body == body(&path), "{path}: wrong bytes");
        kept += usize::from(mirror.sent(&path) == before);
    }
    println!(
        "{round} kills, {whole} packages whole, {kept} of {PACKAGES} kept, {:?}",
        start.elapsed()
    );
    assert!(whole > 0);
    // Lists are those of its own.
    let packages = (0..PACKAGES as u64).map(path);
    let packages: Vec<String> = packages
        .filter(|path| !path.starts_with("/dists"))
        .collect();
    apt::judge(network, &mirror, front, &packages);
}
