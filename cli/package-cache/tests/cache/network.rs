//! What the machine's network does, and a client in its guest.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use boxbuild_jail::{Channel, Program};
use boxbuild_package_cache::{CacheConfig, Moved, PackageCache};

/// A test that takes longer hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A machine's network, with the cache's process.
pub struct Network {
    pub cache: PackageCache,
    channel: Channel,
    last: AtomicU64,
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Network {
    pub fn new(folder: &Path) -> Network {
        Network::with(folder, 1 << 30)
    }

    pub fn with(folder: &Path, limit: u64) -> Network {
        Network::behind(folder, limit, &[])
    }

    /// One with these proxies.
    pub fn behind(folder: &Path, limit: u64, proxies: &[SocketAddr]) -> Network {
        // `deb.example` is 127.0.0.1, whatever a server there says.
        Network::of(folder, limit, (false, proxies), |name, ip| {
            name == "deb.example" && ip.to_string() == "127.0.0.1"
        })
    }

    /// One where no server is reached.
    pub fn offline(folder: &Path) -> Network {
        Network::of(folder, 1 << 30, (true, &[]), |name, _| {
            name == "deb.example"
        })
    }

    fn of(
        folder: &Path,
        limit: u64,
        (offline, proxies): (bool, &[SocketAddr]),
        lookup: impl Fn(&str, IpAddr) -> bool + Send + 'static,
    ) -> Network {
        let config = CacheConfig {
            program: Program::this(),
            folder: folder.to_owned(),
            limit,
            lookup: Box::new(lookup),
            offline,
            proxies: proxies.iter().map(SocketAddr::to_string).collect(),
        };
        let (cache, channel) = PackageCache::start(config).unwrap();
        Network {
            cache,
            channel,
            last: AtomicU64::new(0),
        }
    }

    /// Connects, and hands the connection over.
    pub fn connect(&self, to: SocketAddr) -> UnixStream {
        let server = TcpStream::connect(to).unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let number = self.last.fetch_add(1, Ordering::SeqCst);
        let sent = self
            .channel
            .send(&number.to_le_bytes(), &[server.as_fd(), theirs.as_fd()]);
        // The process may be killed by the test: the connection is gone then.
        let _ = sent;
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        ours
    }

    /// Connects to `to` for a program that has connected to the test, and hands both over.
    pub fn lead(&self, program: &TcpStream, to: SocketAddr) {
        let server = TcpStream::connect(to).unwrap();
        let number = self.last.fetch_add(1, Ordering::SeqCst);
        self.channel
            .send(&number.to_le_bytes(), &[server.as_fd(), program.as_fd()])
            .unwrap();
    }

    /// Hands over a connection that has no server.
    pub fn connect_nowhere(&self) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let number = self.last.fetch_add(1, Ordering::SeqCst);
        self.channel
            .send(&number.to_le_bytes(), &[theirs.as_fd()])
            .unwrap();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        ours
    }

    /// Fetches something over a connection of its own.
    pub fn get(&self, to: SocketAddr, path: &str) -> Answer {
        self.ask(to, path, "deb.example", "")
    }

    pub fn ask(&self, to: SocketAddr, path: &str, host: &str, fields: &str) -> Answer {
        let mut stream = self.connect(to);
        let host = format!("{host}:{}", to.port());
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n"
        )
        .unwrap();
        answer(&mut stream).unwrap()
    }

    /// Whether the network is told of a reset.
    pub fn hears_of_a_reset(&self) -> bool {
        self.channel.receive(Some(PATIENCE)).unwrap().is_some()
    }

    /// The numbers of bytes once they are such, or after a while.
    pub fn moved(&self, wanted: impl Fn(Moved) -> bool) -> Moved {
        let start = Instant::now();
        loop {
            let moved = self.cache.moved();
            if wanted(moved) || start.elapsed() > Duration::from_secs(5) {
                return moved;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Reads one answer.
pub fn answer(stream: &mut impl Read) -> io::Result<Answer> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let field = |name: &str| {
        let mut fields = head.lines().filter_map(|line| line.split_once(": "));
        fields
            .find(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    };
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut body = Vec::new();
    if status == 304 {
    } else if field("transfer-encoding").is_some() {
        loop {
            let line = line(stream)?;
            let size = usize::from_str_radix(line.split(';').next().unwrap().trim(), 16).unwrap();
            let start = body.len();
            body.resize(start + size, 0);
            stream.read_exact(&mut body[start..])?;
            if size == 0 {
                while !self::line(stream)?.is_empty() {}
                break;
            }
            assert_eq!(self::line(stream)?, "");
        }
    } else if let Some(length) = field("content-length") {
        body.resize(length.parse().unwrap(), 0);
        stream.read_exact(&mut body)?;
    } else {
        stream.read_to_end(&mut body)?;
    }
    Ok(Answer { status, head, body })
}

fn line(stream: &mut impl Read) -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\r\n") {
        stream.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    line.truncate(line.len() - 2);
    Ok(String::from_utf8(line).unwrap())
}
