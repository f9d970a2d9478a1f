//! A TAP interface in the guest, for boxbuild's NAT: as a virtio network card, it accepts large
//! segments and incomplete checksums.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result};
use boxbuild_vmm::net::GUEST_MAC;
use boxbuild_vmm::virtio::net::HEADER;

use crate::namespaces::{Guest, ip};

/// Name of the interface.
const NAME: &[u8] = b"tap0";
/// Kernel interface (Linux, include/uapi/linux/if_tun.h).
const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
const TUNSETOFFLOAD: libc::c_ulong = 0x4004_54d0;
const TUNSETVNETHDRSZ: libc::c_ulong = 0x4004_54d8;
const IFF_TAP: u16 = 0x0002;
const IFF_NO_PI: u16 = 0x1000;
const IFF_VNET_HDR: u16 = 0x4000;
const TUN_F_CSUM: libc::c_ulong = 0x01;
const TUN_F_TSO4: libc::c_ulong = 0x02;
const TUN_F_TSO6: libc::c_ulong = 0x04;

/// `struct ifreq`: name, flags, and the rest of its union.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    flags: u16,
    rest: [u8; 22],
}

/// Creates the interface, with the addresses that the NAT assigns to its guest.
pub(crate) fn create(guest: &Guest) -> Result<OwnedFd> {
    guest.run(|| {
        let tap = File::options()
            .read(true)
            .write(true)
            .open("/dev/net/tun")?;
        let mut request = Request {
            name: [0; libc::IFNAMSIZ],
            flags: IFF_TAP | IFF_NO_PI | IFF_VNET_HDR,
            rest: [0; 22],
        };
        request.name[..NAME.len()].copy_from_slice(NAME);
        let fd = tap.as_raw_fd();
        // SAFETY: the kernel reads and writes a request, which has its size and layout.
        check(unsafe { libc::ioctl(fd, TUNSETIFF, &raw mut request) }).context("TUNSETIFF")?;
        let size: libc::c_int = HEADER as libc::c_int;
        // SAFETY: the kernel reads an int.
        check(unsafe { libc::ioctl(fd, TUNSETVNETHDRSZ, &raw const size) })
            .context("TUNSETVNETHDRSZ")?;
        let offloads = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;
        // SAFETY: the argument is a number.
        check(unsafe { libc::ioctl(fd, TUNSETOFFLOAD, offloads) }).context("TUNSETOFFLOAD")?;
        let mac = GUEST_MAC.map(|byte| format!("{byte:02x}")).join(":");
        ip(&format!("link set tap0 address {mac}"))?;
        ip("addr add 10.0.2.15/24 dev tap0")?;
        ip("link set tap0 up")?;
        ip("route add default via 10.0.2.2 dev tap0")?;
        Ok(tap.into())
    })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
