//! Questions to the kernel's routing table (rtnetlink(7)): which addresses are this host's.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

/// A request, and the answer to it (linux/netlink.h, linux/rtnetlink.h).
const REQUEST: u16 = libc::NLM_F_REQUEST as u16;
/// Bytes of a `nlmsghdr`, and of the `rtmsg` behind it.
const HEADER: usize = 16;
const ROUTE: usize = 12;
/// Offset of `nlmsg_type`, and of `rtm_type` in a whole message.
const MESSAGE_TYPE: usize = 4;
const ROUTE_TYPE: usize = HEADER + 7;
/// `RTN_UNICAST`: the route leads to another host.
const UNICAST: u8 = 1;

/// A socket for them. It is asked at each new connection, so that addresses that come and go count.
#[derive(Debug)]
pub(super) struct Routes(OwnedFd);

impl Routes {
    pub(super) fn open() -> io::Result<Routes> {
        Ok(Routes(socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::NetlinkRoute,
        )?))
    }

    /// Whether the way to `ip` leaves this host, as far as the kernel can say.
    pub(super) fn leads_out(&self, ip: IpAddr) -> bool {
        match self.ask(ip) {
            Ok(kind) => kind == Some(UNICAST),
            Err(error) => {
                log::debug!("the way to {ip} is not known: {error}");
                false
            }
        }
    }

    /// Returns the type of the route to `ip`; `None` if there is no route.
    fn ask(&self, ip: IpAddr) -> io::Result<Option<u8>> {
        let socket = self.0.as_raw_fd();
        let mut answer = [0; 1024];
        // The kernel answers while it is asked. What is left of an earlier question is not an answer.
        while recv(socket, &mut answer, MsgFlags::MSG_DONTWAIT).is_ok() {}
        sendto(
            socket,
            &question(ip),
            &NetlinkAddr::new(0, 0),
            MsgFlags::empty(),
        )?;
        let len = recv(socket, &mut answer, MsgFlags::MSG_DONTWAIT)?;
        let answer = answer.get(..len).unwrap_or_default();
        let kind = answer
            .get(MESSAGE_TYPE..MESSAGE_TYPE + 2)
            .map(|bytes| u16::from_ne_bytes([bytes[0], bytes[1]]));
        Ok(answer
            .get(ROUTE_TYPE)
            .copied()
            .filter(|_| kind == Some(libc::RTM_NEWROUTE)))
    }
}

/// `RTM_GETROUTE` for one address.
fn question(ip: IpAddr) -> Vec<u8> {
    let (family, address) = match ip {
        IpAddr::V4(ip) => (libc::AF_INET, ip.octets().to_vec()),
        IpAddr::V6(ip) => (libc::AF_INET6, ip.octets().to_vec()),
    };
    let attribute = 4 + address.len();
    let mut message = Vec::with_capacity(HEADER + ROUTE + attribute);
    message.extend(((HEADER + ROUTE + attribute) as u32).to_ne_bytes());
    message.extend(libc::RTM_GETROUTE.to_ne_bytes());
    message.extend(REQUEST.to_ne_bytes());
    // Sequence number and port: there is one question at a time.
    message.extend([0; 8]);
    // Family, bits of the destination; no source, service, table, protocol, scope, type or flags.
    message.extend([family as u8, address.len() as u8 * 8]);
    message.extend([0; ROUTE - 2]);
    message.extend((attribute as u16).to_ne_bytes());
    message.extend(libc::RTA_DST.to_ne_bytes());
    message.extend(address);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Addresses of the host are found however they came to be its own: here all of 127/8.
    #[test]
    fn the_way_to_this_host_does_not_lead_out() {
        let routes = Routes::open().unwrap();
        for ip in [
            "127.0.0.1",
            "127.1.2.3",
            "::1",
            "255.255.255.255",
            "224.0.0.1",
        ] {
            assert!(!routes.leads_out(ip.parse().unwrap()), "{ip}");
        }
        for address in nix::ifaddrs::getifaddrs().unwrap() {
            let Some(storage) = address.address else {
                continue;
            };
            let v4 = storage.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            let v6 = storage.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip()));
            let Some(ip) = v4.or(v6) else { continue };
            assert!(!routes.leads_out(ip), "{ip}");
        }
    }

    #[test]
    fn the_way_to_the_world_leads_out_where_there_is_one() {
        let table = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
        let is_default = |line: &str| {
            let mut fields = line.split_ascii_whitespace().skip(1);
            fields.next() == Some("00000000")
        };
        if !table.lines().any(is_default) {
            let _ = std::io::Write::write_all(
                &mut std::io::stderr(),
                b"skipped: the_way_to_the_world_leads_out_where_there_is_one: no default route\n",
            );
            return;
        }
        assert!(
            Routes::open()
                .unwrap()
                .leads_out("1.1.1.1".parse().unwrap())
        );
    }
}
