//! The network of a container, as that of a machine is: the container has a network namespace with a tap, and
//! behind that is the NAT of this process. What connects to HTTP ports goes to the cache of packages.
//!
//! The tap is made in the container, by the program that comes with it, and handed over through a socket in
//! the private folder (`boxbuild_protocol::container_network`): no privilege of this process's, and no program
//! of the host, whatever podman's own networks are made of. The first that connects there is that program: the
//! socket has no name after that.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use boxbuild_firmware::guest::ContainerBuild;
use boxbuild_jail::Channel;
use boxbuild_protocol::container_network::{HELLO, READY};
use boxbuild_vmm::net::{Handover, HostNetwork, Policy};
use boxbuild_vmm::tap::TapNetwork;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept4, bind, listen, socket,
};

use crate::channel::EventSender;
use crate::network::{NetworkWatch, network};
use crate::unusable::Unusable;

/// Where a container's network interface is made.
const DEVICE: &str = "/dev/net/tun";
/// How often the host's network is looked at.
const TICK: u16 = 500;

/// What a container has for a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerNetwork {
    /// Nothing but its own loopback.
    None,
    /// That of the host; a NAT of podman's for an image's own entry point.
    Podman,
    /// That of a machine: it reaches what the policy says. Only for boxbuild's own process 1.
    Private(Policy),
}

impl ContainerNetwork {
    /// Ports of the container's loopback that lead to the host's, if its network is its own.
    pub(super) fn loopback(&self) -> Option<Vec<u16>> {
        match self {
            ContainerNetwork::Private(policy) => {
                Some(policy.services.iter().map(SocketAddr::port).collect())
            }
            ContainerNetwork::None | ContainerNetwork::Podman => None,
        }
    }
}

/// Checks that a container can have a network of its own here.
///
/// # Errors
/// Fails if it cannot; the error says why, and what to do.
pub fn check_private_network() -> Result<(), Unusable> {
    if !ContainerBuild::can_be_connected() {
        return Err(Unusable(String::from(
            "this boxbuild was built without the program that connects containers",
        )));
    }
    let opened = File::options().read(true).write(true).open(DEVICE);
    opened.map(|_| ()).map_err(|error| {
        Unusable(format!(
            "{DEVICE}: {error}; load the kernel's module (sudo modprobe tun), or start the container that \
             this runs in with --device {DEVICE}"
        ))
    })
}

/// Serves the network of one container, on a thread of its own, until it is dropped.
#[derive(Debug)]
pub(super) struct PrivateNetwork {
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl PrivateNetwork {
    /// Listens in the container's private folder.
    pub(super) fn listen(
        folder: &Path,
        policy: Policy,
        handover: Option<Handover>,
        events: EventSender,
    ) -> io::Result<PrivateNetwork> {
        let inside = File::open(folder.join("guest"))?;
        let listener = listener(&inside)?;
        let (stop, stopped) = UnixStream::pair()?;
        let server = Server {
            inside,
            listener,
            stopped,
            events,
        };
        let thread = thread::Builder::new()
            .name(String::from("container-net"))
            .spawn(move || server.serve(policy, handover))?;
        Ok(PrivateNetwork {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for PrivateNetwork {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed.
            let _ = thread.join();
        }
    }
}

/// Listens on a socket in a folder, however long the folder's path is.
fn listener(folder: &File) -> io::Result<OwnedFd> {
    let listener = socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    bind(listener.as_raw_fd(), &UnixAddr::new(&*place(folder))?)?;
    listen(&listener, Backlog::new(1)?)?;
    Ok(listener)
}

/// The path of the socket, by the descriptor of its folder.
fn place(folder: &File) -> std::path::PathBuf {
    let folder = format!("/proc/self/fd/{}", folder.as_raw_fd());
    Path::new(&folder).join(ContainerBuild::SOCKET)
}

struct Server {
    inside: File,
    listener: OwnedFd,
    /// At its end when the network is to end.
    stopped: UnixStream,
    events: EventSender,
}

impl Server {
    fn serve(&self, policy: Policy, handover: Option<Handover>) {
        if !self.wait(&self.listener) {
            return;
        }
        let network = match self.connect(policy, handover) {
            Ok(Some(network)) => network,
            Ok(None) => return,
            // The container's own program says that there is no network, and ends.
            Err(error) => {
                return self
                    .events
                    .note(format!("the container's network: {error}"));
            }
        };
        let mut watch = NetworkWatch::new(HostNetwork::read());
        let host = network.host();
        while !self.stops(TICK.into()) {
            watch.look(|now| {
                host.set(now.clone());
                true
            });
        }
    }

    /// Waits until there is something to read. False if the network is to end.
    fn wait(&self, fd: &impl AsFd) -> bool {
        loop {
            let mut polled = [
                PollFd::new(self.stopped.as_fd(), PollFlags::POLLIN),
                PollFd::new(fd.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut polled, PollTimeout::NONE) {
                Ok(_) => {}
                Err(nix::errno::Errno::EINTR) => continue,
                Err(_) => return false,
            }
            return !polled[0].any().unwrap_or(true);
        }
    }

    /// Whether the network is to end, after a while.
    fn stops(&self, time: PollTimeout) -> bool {
        let mut polled = [PollFd::new(self.stopped.as_fd(), PollFlags::POLLIN)];
        poll(&mut polled, time).is_ok_and(|ready| ready > 0)
    }

    /// Takes the tap from the container, and serves it. `None` if the network is to end.
    fn connect(
        &self,
        policy: Policy,
        handover: Option<Handover>,
    ) -> io::Result<Option<TapNetwork>> {
        let accepted = accept4(self.listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC)?;
        // SAFETY: the kernel has just given this descriptor to us alone.
        let accepted = unsafe { OwnedFd::from_raw_fd(accepted) };
        // No other one finds it.
        fs::remove_file(place(&self.inside))?;
        if !self.wait(&accepted) {
            return Ok(None);
        }
        let channel = Channel::from(accepted);
        let message = channel.receive_descriptors(Some(Duration::ZERO))?;
        let message = message.filter(|message| message.bytes == HELLO);
        let tap = message.and_then(|message| message.descriptors.into_iter().next());
        let tap = tap.ok_or_else(|| io::Error::other("the container sent no interface"))?;
        let network = TapNetwork::start(tap, network(policy, None, handover)).map_err(|error| {
            let cause = std::error::Error::source(&error)
                .map_or_else(String::new, |cause| format!(": {cause}"));
            io::Error::other(format!("{error}{cause}"))
        })?;
        channel.send(READY, &[])?;
        Ok(Some(network))
    }
}

#[cfg(test)]
mod tests {
    use boxbuild_protocol::container_network::{HEADER, MAC};
    use boxbuild_vmm::net::GUEST_MAC;

    #[test]
    fn the_container_and_the_host_mean_the_same_interface() {
        assert_eq!(MAC, GUEST_MAC);
        assert_eq!(HEADER as usize, boxbuild_vmm::virtio::net::HEADER);
    }
}
