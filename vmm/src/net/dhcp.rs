//! DHCP (RFC 2131): one client, one lease.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use smoltcp::wire::{DhcpMessageType, DhcpOption, DhcpPacket, DhcpRepr, EthernetAddress};

use super::addresses::{GATEWAY, GUEST, GUEST_MAC, NAME_SERVER, PREFIX};
use super::packet::{self, Frame};

pub(super) const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
/// "Domain server" (RFC 2132, section 3.8).
const DOMAIN_SERVERS: u8 = 6;
/// Seconds. A build takes less; a client that renews gets it again.
const LEASE: u32 = 7 * 24 * 3600;

/// The answer to a client's message.
pub(super) fn answer(message: &[u8]) -> Option<Frame> {
    let packet = DhcpPacket::new_checked(message).ok()?;
    let request = DhcpRepr::parse(&packet).ok()?;
    if request.client_hardware_address != EthernetAddress(GUEST_MAC)
        || request.server_identifier.is_some_and(|id| id != GATEWAY)
    {
        return None;
    }
    let wanted = request.requested_ip.or_else(|| known(request.client_ip));
    let kind = match request.message_type {
        DhcpMessageType::Discover => DhcpMessageType::Offer,
        DhcpMessageType::Request if wanted.is_none_or(|ip| ip == GUEST) => DhcpMessageType::Ack,
        DhcpMessageType::Request => DhcpMessageType::Nak,
        DhcpMessageType::Inform => DhcpMessageType::Ack,
        _ => return None,
    };
    let good = kind != DhcpMessageType::Nak;
    let leased = good && request.message_type != DhcpMessageType::Inform;
    let servers = NAME_SERVER.octets();
    let options = [DhcpOption {
        kind: DOMAIN_SERVERS,
        data: &servers,
    }];
    let reply = DhcpRepr {
        message_type: kind,
        transaction_id: request.transaction_id,
        secs: 0,
        client_hardware_address: request.client_hardware_address,
        client_ip: Ipv4Addr::UNSPECIFIED,
        your_ip: if leased { GUEST } else { Ipv4Addr::UNSPECIFIED },
        server_ip: GATEWAY,
        router: good.then_some(GATEWAY),
        subnet_mask: good.then(|| Ipv4Addr::from(u32::MAX << (32 - u32::from(PREFIX)))),
        relay_agent_ip: Ipv4Addr::UNSPECIFIED,
        broadcast: request.broadcast,
        requested_ip: None,
        client_identifier: None,
        server_identifier: Some(GATEWAY),
        parameter_request_list: None,
        dns_servers: None,
        max_size: None,
        lease_duration: leased.then_some(LEASE),
        renew_duration: None,
        rebind_duration: None,
        additional_options: if good { &options } else { &[] },
    };
    let mut bytes = vec![0; reply.buffer_len()];
    reply
        .emit(&mut DhcpPacket::new_unchecked(&mut bytes))
        .ok()?;
    // A client that has no address yet hears what is sent to all; one that renews has one.
    let to = known(request.client_ip).unwrap_or(Ipv4Addr::BROADCAST);
    Some(packet::udp(
        SocketAddr::new(IpAddr::V4(GATEWAY), SERVER_PORT),
        SocketAddr::new(IpAddr::V4(to), CLIENT_PORT),
        &bytes,
    ))
}

fn known(ip: Ipv4Addr) -> Option<Ipv4Addr> {
    (!ip.is_unspecified()).then_some(ip)
}
