//! The network of a container: the NAT behind a tap in its network namespace (tun(4); the kernel's
//! Documentation/networking/tuntap.rst).
//!
//! The tap was made there, with `IFF_NO_PI | IFF_VNET_HDR` and headers of [`HEADER`] bytes: each read is one
//! frame behind its header, and so is each write.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use boxbuild_jail::seccomp::Filter;
use boxbuild_virtiofs::Traffic;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::net::{CurrentNetwork, LARGEST_FRAME, Nat, NetworkConfig, NetworkError, Offloads};
use crate::threads::{run_network, stream_filter};
use crate::virtio::net::{HEADER, header};

/// Name of its thread.
const THREAD: &str = "net";
/// Major and minor number of `/dev/net/tun` (the kernel's Documentation/admin-guide/devices.txt).
const DEVICE: (u64, u64) = (10, 200);
/// Frames that are taken before others have their turn.
const BATCH: usize = 64;
/// Longest wait for the thread's end: a container that has the tap as well can hold it up.
const END: Duration = Duration::from_secs(1);

/// A network that serves one container, on a thread of its own, until it is dropped.
#[derive(Debug)]
pub struct TapNetwork {
    stop: UnixStream,
    host: CurrentNetwork,
    thread: Option<JoinHandle<()>>,
}

impl TapNetwork {
    /// Starts a network as `config` says behind `tap`.
    ///
    /// # Errors
    /// See [`Nat::new`]; if `tap` is something else, and if the host is out of descriptors or threads.
    pub fn start(tap: OwnedFd, config: NetworkConfig) -> Result<TapNetwork, NetworkError> {
        let host = NetworkError::new;
        let tap = File::from(tap);
        check(&tap).map_err(host("cannot use the container's network interface"))?;
        let current = config.host.clone();
        let mut nat = Nat::new(config)?;
        nat.set_offloads(Offloads {
            checksum: true,
            tcp4: true,
            tcp6: true,
        });
        let news = nat.pollable().map_err(host("cannot wait for sockets"))?;
        let (stop, stopped) = UnixStream::pair().map_err(host("cannot create a socket"))?;
        let link = Link {
            nat,
            news,
            tap,
            stopped,
            waiting: None,
            traffic: Traffic::default(),
        };
        let filter = stream_filter()
            .map_err(io::Error::other)
            .map_err(host("cannot confine its thread"))?;
        let thread = thread::Builder::new()
            .name(String::from(THREAD))
            .spawn(move || link.serve(filter.as_ref()))
            .map_err(host("cannot start its thread"))?;
        Ok(TapNetwork {
            stop,
            host: current,
            thread: Some(thread),
        })
    }

    /// Returns what it knows of the host's network, to be kept up to date.
    pub fn host(&self) -> CurrentNetwork {
        self.host.clone()
    }
}

impl Drop for TapNetwork {
    fn drop(&mut self) {
        // An error means that the thread is gone already.
        let _ = self.stop.shutdown(Shutdown::Both);
        let deadline = Instant::now() + END;
        while let Some(thread) = self.thread.take() {
            if thread.is_finished() {
                // It catches its own panics.
                let _ = thread.join();
            } else if Instant::now() < deadline {
                self.thread = Some(thread);
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// Checks that it is a tap: it comes from the container.
fn check(tap: &File) -> io::Result<()> {
    let metadata = tap.metadata()?;
    let numbers = (
        u64::from(libc::major(metadata.rdev())),
        u64::from(libc::minor(metadata.rdev())),
    );
    if !metadata.file_type().is_char_device() || numbers != DEVICE {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is no tap"));
    }
    fcntl(tap, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(())
}

/// What the thread works with.
struct Link {
    nat: Nat,
    /// Readable while the NAT has something to do.
    news: OwnedFd,
    tap: File,
    /// At its end when the network is to end.
    stopped: UnixStream,
    /// A frame that the tap has not taken yet.
    waiting: Option<Vec<u8>>,
    traffic: Traffic,
}

impl Link {
    /// Locks the calling thread with `filter`, and serves.
    fn serve(mut self, filter: Option<&Filter>) {
        // The kernel says so when the container and its interface are gone.
        if let Err(error) = run_network(THREAD, filter, || self.run()) {
            log::debug!("the container's network ends: {error}");
        }
    }

    fn run(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; HEADER + LARGEST_FRAME];
        loop {
            let Some((readable, news)) = self.wait()? else {
                return Ok(());
            };
            if readable {
                self.read(&mut buffer)?;
            }
            if news {
                self.nat.poll();
            }
            self.write()?;
        }
    }

    /// Waits for the tap or the NAT. Returns which of them has something; `None` if it is to end.
    fn wait(&self) -> io::Result<Option<(bool, bool)>> {
        let mut wanted = PollFlags::POLLIN;
        if self.waiting.is_some() {
            wanted |= PollFlags::POLLOUT;
        }
        let mut polled = [
            PollFd::new(self.tap.as_fd(), wanted),
            PollFd::new(self.news.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.stopped.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [tap, news, stopped] =
            polled.map(|polled| polled.revents().unwrap_or(PollFlags::empty()));
        if !stopped.is_empty() {
            return Ok(None);
        }
        // What is wrong with it is what reading it says.
        let readable = PollFlags::POLLIN | PollFlags::POLLERR | PollFlags::POLLHUP;
        Ok(Some((tap.intersects(readable), !news.is_empty())))
    }

    /// Hands over frames of the container.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        for _ in 0..BATCH {
            let count = match self.tap.read(buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            // Checksums and segments are as the kernel left them: the NAT needs neither.
            if let Some(frame) = buffer.get(HEADER..count) {
                self.traffic.add_from_guest(frame.len());
                self.nat.take(frame);
            }
        }
        Ok(())
    }

    /// Writes frames as far as the tap takes them.
    fn write(&mut self) -> io::Result<()> {
        loop {
            let bytes = match self.waiting.take() {
                Some(bytes) => bytes,
                None => {
                    let Some(frame) = self.nat.next_frame() else {
                        return Ok(());
                    };
                    self.traffic.add_to_guest(frame.bytes.len());
                    let mut bytes = header(&frame, 1).to_vec();
                    bytes.extend(frame.bytes);
                    bytes
                }
            };
            match self.tap.write(&bytes) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.waiting = Some(bytes);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {
                    self.waiting = Some(bytes);
                }
                // The interface is down for now, or the kernel has no memory: a lost frame.
                Err(error)
                    if matches!(
                        error.raw_os_error(),
                        Some(libc::EIO | libc::ENOMEM | libc::ENOBUFS)
                    ) => {}
                Err(error) => return Err(error),
            }
        }
    }
}
