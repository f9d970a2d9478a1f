//! The network of a container (`boxbuild_protocol::container_network`): a tap in its network namespace, which the
//! host serves, and ports of its loopback that lead to those of the host's.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use boxbuild_protocol::container_network::{HEADER, HELLO, MAC, READY};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect as connect_to,
    recv, sendmsg, socket,
};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{ForkResult, fork};

use super::network::{GATEWAY, Network, request};

/// The interface.
const NAME: &str = "eth0";
/// Where interfaces are made, and its device number (the kernel's Documentation/admin-guide/devices.txt).
const DEVICE: &str = "/dev/net/tun";
const NUMBER: (u64, u64) = (10, 200);
/// Connections of all ports at one time.
const CONNECTIONS: usize = 256;

/// Gives this container its network. The process that leads the ports stays; its parent returns.
pub(crate) fn connect(socket: &OsStr, ports: &[OsString]) -> ExitCode {
    let ports: Vec<u16> = ports
        .iter()
        .filter_map(|port| port.to_str()?.parse().ok())
        .collect();
    match bring_up(Path::new(socket)).and_then(|()| lead(&ports)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("boxbuild: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What failed, in words that complete "cannot …".
fn cannot(action: &str) -> impl FnOnce(io::Error) -> io::Error + use<'_> {
    move |error| io::Error::other(format!("cannot {action}: {error}"))
}

fn bring_up(path: &Path) -> io::Result<()> {
    let network = Network::open().map_err(cannot("make a socket"))?;
    network.up("lo").map_err(cannot("bring up the loopback"))?;
    let tap = tap().map_err(cannot("make the network interface with /dev/net/tun"))?;
    let configured = network
        .set_hardware_address(NAME, MAC)
        .and_then(|()| network.configure(NAME));
    configured.map_err(cannot("configure the network interface"))?;
    hand_over(&tap, path).map_err(cannot("connect the network interface to the host"))
}

/// Makes the tap: it is gone with its last descriptor.
fn tap() -> io::Result<File> {
    let open = |path: &str| File::options().read(true).write(true).open(path);
    let tap = open(DEVICE).or_else(|error| {
        // The container of a root user may make the node.
        let own = "/tun";
        mknod(
            own,
            SFlag::S_IFCHR,
            Mode::from_bits_truncate(0o600),
            makedev(NUMBER.0, NUMBER.1),
        )
        .map_err(|_| error)?;
        let tap = open(own);
        let _ = std::fs::remove_file(own);
        tap
    })?;
    let mut request = request(NAME)?;
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    request.ifr_ifru.ifru_flags = flags as i16;
    // SAFETY: the structure that the request reads and writes (tun(4)).
    checked(unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETIFF as _, &mut request) })?;
    let header = HEADER as libc::c_int;
    // SAFETY: it reads one number.
    checked(unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETVNETHDRSZ as _, &header) })?;
    let offloads = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
    // SAFETY: its argument is a number.
    checked(unsafe {
        libc::ioctl(
            tap.as_raw_fd(),
            libc::TUNSETOFFLOAD as _,
            libc::c_ulong::from(offloads),
        )
    })?;
    Ok(tap)
}

fn checked(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Gives the tap to the host, and waits until it serves it.
fn hand_over(tap: &File, path: &Path) -> io::Result<()> {
    let socket = socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    connect_to(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    let descriptors = [tap.as_raw_fd()];
    sendmsg::<()>(
        socket.as_raw_fd(),
        &[IoSlice::new(HELLO)],
        &[ControlMessage::ScmRights(&descriptors)],
        MsgFlags::empty(),
        None,
    )?;
    let mut answer = [0; 16];
    let count = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    if answer.get(..count) == Some(READY) {
        Ok(())
    } else {
        Err(io::Error::other("the host does not serve it"))
    }
}

/// Listens on ports of the loopback, and leads what connects there to the host's.
fn lead(ports: &[u16]) -> io::Result<()> {
    if ports.is_empty() {
        return Ok(());
    }
    let mut listeners = Vec::new();
    for port in ports {
        let addresses: [SocketAddr; 2] = [
            (Ipv4Addr::LOCALHOST, *port).into(),
            (Ipv6Addr::LOCALHOST, *port).into(),
        ];
        // One of the versions of IP may not be there.
        let open = addresses.iter().flat_map(TcpListener::bind);
        listeners.extend(open.map(|listener| (listener, *port)));
    }
    // SAFETY: this process has one thread.
    match unsafe { fork() } {
        Ok(ForkResult::Parent { .. }) => Ok(()),
        Ok(ForkResult::Child) => {
            serve(listeners);
            std::process::exit(0);
        }
        Err(error) => Err(error.into()),
    }
}

fn serve(listeners: Vec<(TcpListener, u16)>) {
    let open = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = listeners
        .into_iter()
        .map(|(listener, port)| {
            let open = Arc::clone(&open);
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let done = Arc::clone(&open);
                    if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS {
                        open.fetch_sub(1, Ordering::Relaxed);
                        continue;
                    }
                    thread::spawn(move || {
                        pass(&stream, port);
                        done.fetch_sub(1, Ordering::Relaxed);
                    });
                }
            })
        })
        .collect();
    for thread in threads {
        let _ = thread.join();
    }
}

/// Passes on what both sides say.
fn pass(stream: &TcpStream, port: u16) {
    let Ok(host) = TcpStream::connect((GATEWAY, port)) else {
        return reset(stream);
    };
    thread::scope(|scope| {
        scope.spawn(|| copy(stream, &host));
        copy(&host, stream);
    });
}

/// Copies to the end, and passes on how it ended.
fn copy(mut from: &TcpStream, mut to: &TcpStream) {
    if io::copy(&mut from, &mut to).is_ok() {
        let _ = to.shutdown(Shutdown::Write);
    } else {
        reset(to);
        reset(from);
    }
}

/// Lets the peer see a reset.
fn reset(stream: &TcpStream) {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    let length = size_of::<libc::linger>() as libc::socklen_t;
    // SAFETY: the option reads such a structure of this length (socket(7)).
    unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            length,
        );
    }
    let _ = stream.shutdown(Shutdown::Both);
}
