//! A guest that sends frames to the NAT.
//!
//! The frames are the fuzzer's, but they stay on this host: addresses of the world become the
//! gateway's, behind which one port of ours listens, and no name is looked up. A caller of ours waits
//! for the guest's port 22.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use crate::net::{Forward, GUEST_MAC, Nat, NetworkConfig, Offloads, Policy};

/// Bytes of an Ethernet header, of an IPv4 and an IPv6 header without options.
const ETHERNET: usize = 14;
const IPV4: usize = 20;
const IPV6: usize = 40;
/// `ethertype`s (IEEE 802 Numbers): IPv4, ARP, IPv6.
const ETHERTYPES: [u16; 3] = [0x0800, 0x0806, 0x86dd];
/// Protocols (Assigned Internet Protocol Numbers): TCP, UDP.
const TCP: u8 = 6;
const UDP: u8 = 17;
/// Most frames of an input.
const FRAMES: usize = 64;
/// Most frames of the NAT's that are looked at after one of the guest's.
const REPLIES: usize = 64;

/// Bits of the first byte of a frame's description.
const RELATIVE: u8 = 0x04;
const REPAIR: u8 = 0x08;
const ANSWER: u8 = 0x10;
const CLOSE: u8 = 0x20;
/// To the caller: from port 22 to the first port that callers have.
const CALLER: u8 = 0x40;
/// What is repaired stays a fragment.
const FRAGMENT: u8 = 0x80;
const CALLER_PORTS: [[u8; 2]; 2] = [22_u16.to_be_bytes(), 49152_u16.to_be_bytes()];

/// Frames: a byte that says what is done to it (0 and 1: which ethertype, see the bits above),
/// two bytes of length, the bytes behind the Ethernet header.
pub fn net(mut data: &[u8]) {
    let Ok(listener) = TcpListener::bind("127.0.0.1:0") else {
        return;
    };
    let port = listener.local_addr().map_or(1, |address| address.port());
    let _ = listener.set_nonblocking(true);
    let Ok(inbound) = TcpListener::bind("127.0.0.1:0") else {
        return;
    };
    let caller = inbound.local_addr().and_then(TcpStream::connect);
    let Ok(mut nat) = Nat::new(NetworkConfig {
        policy: Policy {
            services: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port))],
            ..Policy::default()
        },
        forward: Some(Forward {
            listener: inbound,
            port: 22,
        }),
        ..NetworkConfig::default()
    }) else {
        return;
    };
    nat.set_offloads(Offloads {
        checksum: true,
        tcp4: true,
        tcp6: true,
    });
    let mut accepted: Vec<TcpStream> = Vec::new();
    if let Ok(caller) = caller {
        let _ = caller.set_nonblocking(true);
        accepted.push(caller);
    }
    // What the NAT's last segment carried, for acknowledgements that fit.
    let mut sequence = 0;
    for _ in 0..FRAMES {
        let Some(([what, low, high], rest)) = data.split_first_chunk() else {
            return;
        };
        let len = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (payload, rest) = rest.split_at(len);
        data = rest;
        let frame = tamed(*what, payload, port, sequence);
        nat.take(&frame);
        nat.poll();
        if let Ok((stream, _)) = listener.accept() {
            let _ = stream.set_nonblocking(true);
            accepted.push(stream);
        }
        for stream in &mut accepted {
            let _ = stream.read(&mut [0; 4096]);
            if what & ANSWER != 0 {
                let _ = stream.write(&[0x61; 3000]);
            }
        }
        if what & CLOSE != 0 {
            accepted.pop();
        }
        nat.poll();
        for _ in 0..REPLIES {
            let Some(frame) = nat.next_frame() else { break };
            assert!(
                frame.bytes.len() >= ETHERNET && frame.bytes.len() <= ETHERNET + 65535,
                "a frame of {} bytes",
                frame.bytes.len()
            );
            sequence = acknowledged(&frame.bytes).unwrap_or(sequence);
        }
    }
}

/// The sequence number behind a TCP segment over IPv4.
fn acknowledged(frame: &[u8]) -> Option<u32> {
    if frame.get(ETHERNET + 9) != Some(&TCP) {
        return None;
    }
    let segment = frame.get(ETHERNET + IPV4..)?;
    let start = u32::from_be_bytes(segment.get(4..8)?.try_into().ok()?);
    let headers = usize::from(segment.get(12)? >> 4) * 4;
    let flags = segment.get(13)? & 3;
    let len = segment.len().saturating_sub(headers) as u32 + u32::from(flags != 0);
    Some(start.wrapping_add(len))
}

/// The frame, with addresses that stay here.
fn tamed(what: u8, payload: &[u8], port: u16, sequence: u32) -> Vec<u8> {
    let kind = ETHERTYPES.get(usize::from(what & 3));
    let mut frame = vec![0x02, 0x62, 0x6f, 0x78, 0x00, 0x02];
    frame.extend(GUEST_MAC);
    match kind {
        Some(kind) => frame.extend(kind.to_be_bytes()),
        None => frame.extend(payload.iter().take(2)),
    }
    frame.extend(payload);
    let len = payload.len();
    // Whatever the fuzzer says, these bytes are where a parser finds them.
    let (transport, protocol) = if frame.get(12..14) == Some(&[0x08, 0x00]) {
        if let Some(header) = frame.get_mut(ETHERNET..ETHERNET + IPV4) {
            // DHCP asks everybody.
            let to = if header[16] == 255 {
                [255; 4]
            } else {
                [10, 0, 2, 2]
            };
            header[16..20].copy_from_slice(&to);
            if what & REPAIR != 0 {
                header[0] = 0x45;
                header[2..4].copy_from_slice(&(len as u16).to_be_bytes());
                if what & FRAGMENT == 0 {
                    header[6..8].fill(0);
                }
                header[12..16].copy_from_slice(&[10, 0, 2, 15]);
            }
        }
        let words = frame.get(ETHERNET).map_or(5, |byte| byte & 15);
        (
            ETHERNET + 4 * usize::from(words),
            frame.get(ETHERNET + 9).copied(),
        )
    } else if frame.get(12..14) == Some(&[0x86, 0xdd]) {
        if let Some(header) = frame.get_mut(ETHERNET..ETHERNET + IPV6) {
            let gateway = [
                0xfd, 0x6b, 0x1f, 0x0e, 0x93, 0xa2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2,
            ];
            // Groups stay groups: neighbours are asked for there.
            if header[24] != 0xff {
                header[24..40].copy_from_slice(&gateway);
            }
            if what & REPAIR != 0 {
                header[0] = 0x60;
                header[4..6].copy_from_slice(&((len.saturating_sub(IPV6)) as u16).to_be_bytes());
            }
        }
        (ETHERNET + IPV6, frame.get(ETHERNET + 6).copied())
    } else {
        return frame;
    };
    let bootp = protocol == Some(UDP) && frame.get(transport + 2..transport + 4) == Some(&[0, 67]);
    if let Some(to) = frame.get_mut(transport + 2..transport + 4)
        && matches!(protocol, Some(TCP | UDP))
        && !bootp
    {
        to.copy_from_slice(&port.to_be_bytes());
    }
    if let Some(ports) = frame.get_mut(transport..transport + 4)
        && what & CALLER != 0
        && protocol == Some(TCP)
    {
        ports.copy_from_slice(CALLER_PORTS.as_flattened());
    }
    if protocol == Some(TCP)
        && what & RELATIVE != 0
        && let Some(number) = frame.get_mut(transport + 8..transport + 12)
    {
        let offset = i32::from_be_bytes([number[0], number[1], number[2], number[3]]) >> 16;
        number.copy_from_slice(&sequence.wrapping_add_signed(offset).to_be_bytes());
    }
    frame
}
