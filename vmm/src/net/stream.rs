//! The network of a machine that another program runs: the NAT behind a stream of frames.
//!
//! Each frame has its length before it, in four bytes, big-endian, as QEMU's `-netdev socket` has it
//! (net/socket.c).

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use boxbuild_jail::seccomp::Filter;
use boxbuild_virtiofs::Traffic;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::config::NetworkConfig;
use super::error::NetworkError;
use super::host_network::CurrentNetwork;
use super::nat::{LARGEST_FRAME, Nat};
use crate::threads::{run_network, stream_filter};

/// Name of its thread.
const THREAD: &str = "net";
/// Bytes of the length before a frame.
const LENGTH: usize = 4;
/// Bytes that are read at once.
const CHUNK: usize = 64 << 10;
/// Bytes for the guest that wait here; more wait where they come from.
const WAITING: usize = 64 << 10;

/// A network that serves one machine, on a thread of its own. It ends with the other end of the stream,
/// or when it is dropped.
#[derive(Debug)]
pub struct StreamNetwork {
    end: UnixStream,
    host: CurrentNetwork,
    traffic: Traffic,
    thread: Option<JoinHandle<()>>,
}

impl StreamNetwork {
    /// Starts a network as `config` says. Returns it, and the end of the stream for the machine.
    ///
    /// # Errors
    /// See [`Nat::new`]; and if the host is out of descriptors or threads.
    pub fn start(config: NetworkConfig) -> Result<(StreamNetwork, UnixStream), NetworkError> {
        let host = NetworkError::new;
        let current = config.host.clone();
        let nat = Nat::new(config)?;
        let news = nat.pollable().map_err(host("cannot wait for sockets"))?;
        let (ours, machine) = UnixStream::pair().map_err(host("cannot create a socket"))?;
        let stream = ours.try_clone().map_err(host("cannot create a socket"))?;
        stream
            .set_nonblocking(true)
            .map_err(host("cannot use a socket"))?;
        let traffic = Traffic::default();
        let link = Link {
            nat,
            news,
            stream,
            from_guest: Vec::new(),
            to_guest: Vec::new(),
            written: 0,
            traffic: traffic.clone(),
        };
        let filter = stream_filter()
            .map_err(io::Error::other)
            .map_err(host("cannot confine its thread"))?;
        let thread = thread::Builder::new()
            .name(String::from(THREAD))
            .spawn(move || link.serve(filter.as_ref()))
            .map_err(host("cannot start its thread"))?;
        let network = StreamNetwork {
            end: ours,
            host: current,
            traffic,
            thread: Some(thread),
        };
        Ok((network, machine))
    }

    /// Returns what it knows of the host's network, to be kept up to date.
    pub fn host(&self) -> CurrentNetwork {
        self.host.clone()
    }

    /// Returns the counters of the bytes of its frames.
    pub fn traffic(&self) -> Traffic {
        self.traffic.clone()
    }
}

impl Drop for StreamNetwork {
    fn drop(&mut self) {
        // An error means that the other end is gone already.
        let _ = self.end.shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            // It catches its own panics.
            let _ = thread.join();
        }
    }
}

/// What the thread works with.
struct Link {
    nat: Nat,
    /// Readable while the NAT has something to do.
    news: OwnedFd,
    stream: UnixStream,
    /// The beginning of a frame.
    from_guest: Vec<u8>,
    /// Frames for the guest, of which so many bytes are written.
    to_guest: Vec<u8>,
    written: usize,
    traffic: Traffic,
}

impl Link {
    /// Locks the calling thread with `filter`, and serves.
    fn serve(mut self, filter: Option<&Filter>) {
        if let Err(error) = run_network(THREAD, filter, || self.run()) {
            log::warn!("the network ends: {error}");
        }
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    fn run(&mut self) -> io::Result<()> {
        loop {
            let (stream, news) = self.wait()?;
            if stream && !self.read()? {
                return Ok(());
            }
            if news {
                self.nat.poll();
            }
            self.write()?;
        }
    }

    /// Waits for the stream or the NAT. Returns which of them has something.
    fn wait(&self) -> io::Result<(bool, bool)> {
        let mut wanted = PollFlags::POLLIN;
        if self.written < self.to_guest.len() {
            wanted |= PollFlags::POLLOUT;
        }
        let mut polled = [
            PollFd::new(self.stream.as_fd(), wanted),
            PollFd::new(self.news.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [stream, news] = polled.map(|polled| polled.revents().unwrap_or(PollFlags::empty()));
        let ended = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLIN;
        Ok((stream.intersects(ended), news.intersects(PollFlags::POLLIN)))
    }

    /// Reads once, and hands over the frames that are whole. False at the stream's end.
    fn read(&mut self) -> io::Result<bool> {
        let start = self.from_guest.len();
        self.from_guest.resize(start + CHUNK, 0);
        let count = match self.stream.read(&mut self.from_guest[start..]) {
            Ok(0) => return Ok(false),
            Ok(count) => count,
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                0
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(false),
            Err(error) => return Err(error),
        };
        self.from_guest.truncate(start + count);
        let mut rest = self.from_guest.as_slice();
        while let Some((length, behind)) = rest.split_first_chunk::<LENGTH>() {
            let length = u32::from_be_bytes(*length) as usize;
            if length > LARGEST_FRAME {
                return Err(io::Error::other(format!("a frame of {length} bytes")));
            }
            let Some(frame) = behind.get(..length) else {
                break;
            };
            self.traffic.add_from_guest(length);
            self.nat.take(frame);
            rest = &behind[length..];
        }
        let taken = self.from_guest.len() - rest.len();
        self.from_guest.drain(..taken);
        Ok(true)
    }

    /// Writes frames as far as the machine takes them.
    fn write(&mut self) -> io::Result<()> {
        loop {
            while self.to_guest.len() - self.written < WAITING
                && let Some(frame) = self.nat.next_frame()
            {
                self.traffic.add_to_guest(frame.bytes.len());
                let length = frame.bytes.len() as u32;
                self.to_guest.extend(length.to_be_bytes());
                self.to_guest.extend(frame.bytes);
            }
            if self.written == self.to_guest.len() {
                self.to_guest.clear();
                self.written = 0;
                return Ok(());
            }
            match self.stream.write(&self.to_guest[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The other end is gone: the next read sees it.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                    self.written = self.to_guest.len();
                }
                Err(error) => return Err(error),
            }
        }
        self.to_guest.drain(..self.written);
        self.written = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, UdpSocket};
    use std::time::Duration;

    use super::super::addresses::OUR_MAC;
    use super::super::packet;
    use super::super::policy::Policy;
    use super::super::{GATEWAY, GUEST, GUEST_MAC};
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A UDP frame of the guest.
    fn datagram(port: u16, data: &[u8]) -> Vec<u8> {
        let mut frame = packet::udp((GUEST, 5000).into(), (GATEWAY, port).into(), data).bytes;
        frame[..6].copy_from_slice(&OUR_MAC);
        frame[6..12].copy_from_slice(&GUEST_MAC);
        let mut bytes = (frame.len() as u32).to_be_bytes().to_vec();
        bytes.extend(frame);
        bytes
    }

    fn started(port: u16) -> (StreamNetwork, UnixStream) {
        let policy = Policy {
            services: vec![(IpAddr::V4(Ipv4Addr::LOCALHOST), port).into()],
            ..Policy::default()
        };
        let config = NetworkConfig {
            policy,
            ..NetworkConfig::default()
        };
        let (network, machine) = StreamNetwork::start(config).unwrap();
        machine.set_read_timeout(Some(PATIENCE)).unwrap();
        (network, machine)
    }

    #[test]
    fn frames_go_both_ways_however_they_are_cut() {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        let port = server.local_addr().unwrap().port();
        let (network, mut machine) = started(port);
        let mut bytes = datagram(port, b"one");
        bytes.extend(datagram(port, b"two"));
        for part in bytes.chunks(7) {
            machine.write_all(part).unwrap();
        }
        let mut data = [0; 16];
        for expected in [b"one", b"two"] {
            let (len, from) = server.recv_from(&mut data).unwrap();
            assert_eq!(&data[..len], expected);
            server.send_to(&data[..len], from).unwrap();
        }
        for expected in [b"one", b"two"] {
            let mut length = [0; LENGTH];
            machine.read_exact(&mut length).unwrap();
            let mut frame = vec![0; u32::from_be_bytes(length) as usize];
            machine.read_exact(&mut frame).unwrap();
            assert!(frame.ends_with(expected));
            assert_eq!(frame[..6], GUEST_MAC);
        }
        assert!(network.traffic().to_guest() > 0 && network.traffic().from_guest() > 0);
        drop(network);
        assert_eq!(machine.read(&mut [0]).unwrap(), 0, "the link is down");
    }

    /// How many filters a thread has by its status; the test itself may have some.
    fn filters(status: &str) -> u32 {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("Seccomp_filters:"));
        line.map_or(0, |line| line.trim().parse().unwrap())
    }

    #[test]
    fn its_thread_is_confined_and_no_other() {
        let own = || filters(&std::fs::read_to_string("/proc/thread-self/status").unwrap());
        let before = own();
        let (_network, _machine) = started(1);
        if !boxbuild_jail::seccomp::is_available() {
            let skipped = b"skipped: its_thread_is_confined_and_no_other: no seccomp\n";
            return std::io::stderr().write_all(skipped).unwrap();
        }
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let tasks = std::fs::read_dir("/proc/self/task").unwrap();
            let names = format!("Name:\t{THREAD}\n");
            // A thread of another test may end meanwhile.
            let confined: Vec<bool> = tasks
                .filter_map(|task| {
                    std::fs::read_to_string(task.unwrap().path().join("status")).ok()
                })
                .filter(|status| status.starts_with(&names))
                .map(|status| filters(&status) == before + 1)
                .collect();
            if !confined.is_empty() && confined.iter().all(|confined| *confined) {
                break;
            }
            assert!(std::time::Instant::now() < deadline, "it is not confined");
            thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(own(), before);
    }

    #[test]
    fn a_frame_of_any_length_ends_the_link_and_nothing_else() {
        let (network, mut machine) = started(1);
        machine.write_all(&u32::MAX.to_be_bytes()).unwrap();
        assert_eq!(machine.read(&mut [0]).unwrap(), 0);
        drop(network);
        let (network, machine) = started(1);
        drop(machine);
        drop(network);
    }

    /// A machine that takes no frame costs no more than what may wait.
    #[test]
    fn a_machine_that_does_not_read_holds_nothing_up() {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        let port = server.local_addr().unwrap().port();
        let (_network, mut machine) = started(port);
        let mut data = [0; 2000];
        for _ in 0..2000 {
            machine.write_all(&datagram(port, &[1; 1400])).unwrap();
            let (len, from) = server.recv_from(&mut data).unwrap();
            server.send_to(&data[..len], from).unwrap();
        }
    }
}
