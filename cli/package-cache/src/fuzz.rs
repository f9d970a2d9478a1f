//! What a guest and its server say, as any bytes: a body for fuzzers, and a test that replays a committed
//! corpus and some hundred mutations of it (docs/fuzzing.md).
//!
//! Whatever the two say, their connection ends when they do, and another guest gets the file of another
//! server whole and unchanged. A panic or a hang is a bug.

#![allow(clippy::panic, reason = "how a fuzzer learns of a bug")]

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use boxbuild_jail::Channel;

use crate::flow::{Absences, Counters, Flow, Shared};
use crate::message::{Answer, FromCache};
use crate::names::Names;
use crate::store::Store;

/// Bytes that are kept at most.
const LIMIT: u64 = 1 << 20;
/// Longest wait for the other side to hear what one has said. It may never hear it.
const HEARD: Duration = Duration::from_millis(2);
/// A connection whose sides are both closed has ended by then, on a slow host too: it waits for another
/// one's download for 5 s at most.
const END: Duration = Duration::from_secs(60);

/// The guest's server, and that of the others, whose name is `mirror`.
const HOSTILE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 66));
const MIRROR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// A connection of a guest, and one of another guest to another server after it.
///
/// `data` are steps: what happens, the length of what is said, and that. The lowest two bits of the first
/// byte: 0 the guest says it; 1 the server says it, once it was asked something; 2 the guest says it, and
/// no more; 3 the server says it, and no more.
pub fn package_cache(data: &[u8]) {
    let Ok(folder) = tempfile::tempdir() else {
        return;
    };
    let Ok(opened) = std::fs::File::open(folder.path()) else {
        return;
    };
    let (Ok((network, _network)), Ok((parent, theirs))) = (Channel::pair(), Channel::pair()) else {
        return;
    };
    let shared = Arc::new(Shared {
        store: Arc::new(Store::new(opened.into(), String::from("boot"), LIMIT)),
        names: Names::default(),
        counters: Counters::default(),
        absences: Absences::default(),
        proxies: Vec::new(),
        parent,
        network,
    });
    thread::scope(|scope| {
        scope.spawn(|| resolve(&theirs, &shared.names));
        hostile(&shared, data);
        honest(&shared);
        let _ = shared.parent.send(b"end", &[]);
    });
    // Threads of both connections have ended, too.
    let deadline = Instant::now() + END;
    while Arc::strong_count(&shared) > 1 {
        assert!(Instant::now() < deadline, "a thread is left");
        thread::sleep(Duration::from_micros(50));
    }
}

/// The host's resolver, which knows one name.
fn resolve(channel: &Channel, names: &Names) {
    while let Ok(Some(bytes)) = channel.receive(None) {
        let Ok(FromCache::Lookup(question)) = serde_json::from_slice(&bytes) else {
            return;
        };
        let yes = question.name == "mirror" && question.ip == MIRROR;
        names.take(&Answer { question, yes });
    }
}

/// The two ends of a connection that is being served.
struct Sides {
    guest: UnixStream,
    server: UnixStream,
    served: thread::JoinHandle<()>,
}

impl Sides {
    fn begin(shared: &Arc<Shared>, server: IpAddr) -> Option<Sides> {
        let (guest, to_guest) = UnixStream::pair().ok()?;
        let (ours, to_server) = UnixStream::pair().ok()?;
        let peer = SocketAddr::new(server, 80);
        let flow = Flow::to(peer, to_guest, to_server.into(), Arc::clone(shared));
        Some(Sides {
            guest,
            server: ours,
            served: thread::spawn(move || flow.run()),
        })
    }

    /// Both say no more. Returns what the guest has heard.
    fn end(mut self) -> Vec<u8> {
        let _ = self.guest.shutdown(Shutdown::Write);
        let _ = self.server.shutdown(Shutdown::Write);
        let deadline = Instant::now() + END;
        let mut heard = Vec::new();
        while !self.served.is_finished() {
            read_some(&mut self.server, Duration::ZERO, &mut Vec::new());
            read_some(&mut self.guest, HEARD, &mut heard);
            assert!(Instant::now() < deadline, "the connection does not end");
        }
        assert!(self.served.join().is_ok(), "it ended with a panic");
        read_some(&mut self.guest, Duration::ZERO, &mut heard);
        heard
    }
}

/// Adds what is there to `to`, and waits for something so long. Returns whether there was something.
fn read_some(stream: &mut UnixStream, wait: Duration, to: &mut Vec<u8>) -> bool {
    let begin = Instant::now();
    let _ = stream.set_nonblocking(true);
    let before = to.len();
    loop {
        // Up to its end, or until there is nothing yet.
        let end = stream.read_to_end(to).err().map(|error| error.kind());
        if to.len() > before || end != Some(ErrorKind::WouldBlock) || begin.elapsed() >= wait {
            return to.len() > before;
        }
        thread::sleep(Duration::from_micros(50));
    }
}

/// The guest and the server that say what `data` has.
fn hostile(shared: &Arc<Shared>, data: &[u8]) {
    let Some(mut sides) = Sides::begin(shared, HOSTILE) else {
        return;
    };
    let (mut asked, mut heard, mut rest) = (Vec::new(), Vec::new(), data);
    while let Some((step, behind)) = rest.split_first_chunk::<2>() {
        let [kind, length] = *step;
        let (said, behind) = behind.split_at(behind.len().min(usize::from(length)));
        rest = behind;
        let is_server = kind & 1 == 1;
        if is_server {
            read_some(&mut sides.server, HEARD, &mut asked);
        }
        let stream = if is_server {
            &mut sides.server
        } else {
            &mut sides.guest
        };
        // The other side may be gone.
        let _ = stream.write_all(said);
        if kind & 2 == 2 {
            let _ = stream.shutdown(Shutdown::Write);
        }
        read_some(&mut sides.guest, Duration::ZERO, &mut heard);
    }
    sides.end();
}

/// A guest and a server that mean well.
fn honest(shared: &Arc<Shared>) {
    let Some(mut sides) = Sides::begin(shared, MIRROR) else {
        return;
    };
    let _ = sides
        .guest
        .write_all(b"GET /pool/a_1_all.deb HTTP/1.1\r\nHost: mirror\r\n\r\n");
    let mut asked = Vec::new();
    // It is not asked if another one's answer is served, and the assertion below fails then.
    let deadline = Instant::now() + END;
    while !asked.ends_with(b"\r\n\r\n") && Instant::now() < deadline {
        if read_some(&mut sides.guest, Duration::ZERO, &mut Vec::new()) {
            panic!("answered without its server");
        }
        read_some(&mut sides.server, HEARD, &mut asked);
    }
    let _ = sides
        .server
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\npackage");
    let heard = sides.end();
    assert!(
        heard.ends_with(b"\r\n\r\npackage"),
        "heard {:?}",
        String::from_utf8_lossy(&heard)
    );
}

#[cfg(test)]
mod tests {
    #[test]
    fn package_cache() {
        boxbuild_replay::replay("package_cache", super::package_cache, 300);
    }
}
