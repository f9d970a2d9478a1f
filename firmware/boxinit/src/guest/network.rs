//! Configures the network interface with the fixed addresses of the engines' user-mode network: no
//! DHCP, no wait.

use std::ffi::c_char;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::error::{GuestError, failed};
use super::system;

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const MASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);
pub(super) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const RESOLVER: &str = "nameserver 10.0.2.3\n";

/// The interface's name in the published boxes.
const NAME: &str = "lan0";

/// How long the interface may take to appear.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Brings up the loopback and the interface.
pub(super) fn configure() -> Result<(), GuestError> {
    let network = Network::open().map_err(failed("make a socket"))?;
    network.up("lo").map_err(failed("bring up the loopback"))?;
    let name = wait_for_interface()?;
    let steps = || -> io::Result<()> {
        let name = if name != NAME && network.rename(&name).is_ok() {
            NAME
        } else {
            &name
        };
        network.configure(name)
    };
    steps().map_err(failed(format_args!(
        "configure the network interface {name}"
    )))?;
    // Often a link to a file of systemd-resolved, which does not run.
    let _ = fs::remove_file("/etc/resolv.conf");
    system::write("/etc/resolv.conf", RESOLVER)
}

/// Waits for an interface that belongs to a device and returns its name, the first in order.
fn wait_for_interface() -> Result<String, GuestError> {
    let start = Instant::now();
    loop {
        let mut names: Vec<String> = fs::read_dir("/sys/class/net")
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.path().join("device").exists())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        if let Some(name) = names.into_iter().next() {
            return Ok(name);
        }
        if start.elapsed() > TIMEOUT {
            return Err(GuestError::Unfit(String::from(
                "no network interface appeared: the box has no driver for virtio-net",
            )));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Configures interfaces through the ioctls of netdevice(7).
pub(super) struct Network {
    socket: OwnedFd,
}

impl Network {
    pub(super) fn open() -> io::Result<Network> {
        let kind = (AddressFamily::Inet, SockType::Datagram);
        let socket = socket(kind.0, kind.1, SockFlag::SOCK_CLOEXEC, None)?;
        Ok(Network { socket })
    }

    /// Gives an interface the addresses of the guest, and brings it up.
    pub(super) fn configure(&self, name: &str) -> io::Result<()> {
        self.set_address(name, libc::SIOCSIFADDR, ADDRESS)?;
        self.set_address(name, libc::SIOCSIFNETMASK, MASK)?;
        self.up(name)?;
        self.add_default_route(GATEWAY)
    }

    /// Sets the hardware address of an interface that is not up.
    pub(super) fn set_hardware_address(&self, name: &str, value: [u8; 6]) -> io::Result<()> {
        let mut request = request(name)?;
        // SAFETY: all fields are numbers, for which zeros are valid.
        let mut address: libc::sockaddr = unsafe { std::mem::zeroed() };
        address.sa_family = libc::ARPHRD_ETHER;
        for (to, from) in address.sa_data.iter_mut().zip(value) {
            *to = from as c_char;
        }
        request.ifr_ifru.ifru_hwaddr = address;
        self.call(libc::SIOCSIFHWADDR as _, &mut request)
    }

    fn call<T>(&self, request: libc::Ioctl, argument: &mut T) -> io::Result<()> {
        // SAFETY: each caller passes the structure that the request reads and writes
        // (netdevice(7), rtnetlink's `struct rtentry`).
        let result = unsafe { libc::ioctl(self.socket.as_raw_fd(), request, argument) };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    pub(super) fn up(&self, name: &str) -> io::Result<()> {
        let mut request = request(name)?;
        self.call(libc::SIOCGIFFLAGS as _, &mut request)?;
        // SAFETY: the request before has filled in the flags.
        let flags = unsafe { request.ifr_ifru.ifru_flags };
        request.ifr_ifru.ifru_flags = flags | (libc::IFF_UP | libc::IFF_RUNNING) as i16;
        self.call(libc::SIOCSIFFLAGS as _, &mut request)
    }

    fn rename(&self, name: &str) -> io::Result<()> {
        let mut request = request(name)?;
        request.ifr_ifru.ifru_newname = name_field(NAME)?;
        self.call(libc::SIOCSIFNAME as _, &mut request)
    }

    /// Sets the address that `ioctl` (`SIOCSIFADDR`, `SIOCSIFNETMASK`) stands for.
    fn set_address(&self, name: &str, ioctl: libc::c_ulong, value: Ipv4Addr) -> io::Result<()> {
        let mut request = request(name)?;
        request.ifr_ifru.ifru_addr = address(value);
        self.call(ioctl as _, &mut request)
    }

    fn add_default_route(&self, gateway: Ipv4Addr) -> io::Result<()> {
        // SAFETY: all fields are numbers and pointers, for which zeros are valid.
        let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
        route.rt_dst = address(Ipv4Addr::UNSPECIFIED);
        route.rt_genmask = address(Ipv4Addr::UNSPECIFIED);
        route.rt_gateway = address(gateway);
        route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
        self.call(libc::SIOCADDRT as _, &mut route)
    }
}

pub(super) fn request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: all fields are numbers and pointers, for which zeros are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name = name_field(name)?;
    Ok(request)
}

fn name_field(name: &str) -> io::Result<[c_char; libc::IFNAMSIZ]> {
    let mut field = [0; libc::IFNAMSIZ];
    if name.len() >= field.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in field.iter_mut().zip(name.bytes()) {
        *to = from as c_char;
    }
    Ok(field)
}

fn address(address: Ipv4Addr) -> libc::sockaddr {
    // SAFETY: all fields are numbers, for which zeros are valid.
    let mut out: libc::sockaddr = unsafe { std::mem::zeroed() };
    out.sa_family = libc::AF_INET as libc::sa_family_t;
    // `struct sockaddr_in` (ip(7)): two bytes of port, then the address.
    for (to, from) in out.sa_data[2..6].iter_mut().zip(address.octets()) {
        *to = from as c_char;
    }
    out
}
