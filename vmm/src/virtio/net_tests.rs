use boxbuild_vmm_driver::{Buffer, DriverQueue, QueueLayout};
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::memory::{GuestRam, flat};
use crate::net::{GATEWAY, GUEST};
use crate::test_support::{Recorder, context};

const RECEIVE_RINGS: GuestAddress = GuestAddress(0);
const TRANSMIT_RINGS: GuestAddress = GuestAddress(0x1_0000);
const SENT: u64 = 0x10_0000;
const RECEIVED: u64 = 0x20_0000;

/// An ARP request for the gateway, which is answered with 42 bytes.
fn request() -> Vec<u8> {
    let mac = GUEST_MAC;
    let mut frame = [255; 6].to_vec();
    frame.extend(mac);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(mac);
    frame.extend(GUEST.octets());
    frame.extend([0; 6]);
    frame.extend(GATEWAY.octets());
    frame
}

/// Sends `sent` and has `room` (lengths of buffers) for the answer; returns the used lengths.
fn exchange(
    net: &mut Net,
    ram: &GuestRam,
    features: u64,
    sent: &[u8],
    room: &[u32],
) -> Result<Vec<u32>, Fault> {
    let [mut receive, mut transmit] = [RECEIVE_RINGS, TRANSMIT_RINGS].map(|rings| {
        let mut driver = DriverQueue::new(QueueLayout::new(rings, 16).unwrap());
        driver.reset(ram).unwrap();
        driver
    });
    ram.write_slice(sent, GuestAddress(SENT)).unwrap();
    let frame = Buffer::readable(SENT, sent.len() as u32);
    transmit.add(ram, &[frame]).unwrap();
    let mut at = RECEIVED;
    for len in room {
        receive.add(ram, &[Buffer::writable(at, *len)]).unwrap();
        at += u64::from(*len);
    }
    let queues = vec![receive.device_queue().ok(), transmit.device_queue().ok()];
    let mut context = context(ram, queues, Arc::new(Recorder::default()));
    context.features |= features;
    net.activate(&mut context)?;
    net.notified(TRANSMIT, &mut context)?;
    assert!(transmit.next_used(ram).unwrap().is_some());
    assert!(!transmit.has_used(ram).unwrap());
    let used = std::iter::from_fn(|| receive.next_used(ram).unwrap());
    Ok(used.map(|used| used.len).collect())
}

fn net() -> Net {
    Net::new(NetworkConfig::default()).unwrap()
}

fn sent() -> Vec<u8> {
    [vec![0; HEADER], request()].concat()
}

#[test]
fn an_answer_in_one_buffer() {
    let (mut net, ram) = (net(), flat(64).unwrap());
    let used = exchange(&mut net, &ram, 0, &sent(), &[2000]).unwrap();
    assert_eq!(used, [54]);
    let mut bytes = [0; 54];
    ram.read_slice(&mut bytes, GuestAddress(RECEIVED)).unwrap();
    // No checksum is left to the driver; one buffer.
    assert_eq!(bytes[..HEADER], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    assert_eq!(bytes[HEADER..HEADER + 6], GUEST_MAC);
}

#[test]
fn an_answer_in_merged_buffers() {
    let merge = 1 << net::VIRTIO_NET_F_MRG_RXBUF;
    let (mut net, ram) = (net(), flat(64).unwrap());
    let used = exchange(&mut net, &ram, merge, &sent(), &[20, 20, 20, 20]).unwrap();
    assert_eq!(used, [20, 20, 14]);
    let count: u16 = ram.read_obj(GuestAddress(RECEIVED + 10)).unwrap();
    assert_eq!(count, 3);
    // Not enough: they stay with the driver's.
    let used = exchange(&mut net, &ram, merge, &sent(), &[20, 20]).unwrap();
    assert!(used.is_empty());
}

#[test]
fn without_merging_a_small_buffer_is_a_fault() {
    let (mut net, ram) = (net(), flat(64).unwrap());
    assert!(exchange(&mut net, &ram, 0, &sent(), &[20, 2000]).is_err());
}

#[test]
fn bad_chains_are_faults() {
    let (mut net, ram) = (net(), flat(64).unwrap());
    assert!(exchange(&mut net, &ram, 0, &[0; HEADER - 1], &[]).is_err());
    // Nothing behind the header is nothing.
    assert!(
        exchange(&mut net, &ram, 0, &[0; HEADER], &[2000])
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_panic_takes_the_link_down_and_nothing_else() {
    let (mut net, ram) = (net(), flat(64).unwrap());
    let context = context(&ram, Vec::new(), Arc::new(Recorder::default()));
    let mut status = [0; 2];
    net.config().read(STATUS, &mut status);
    assert_eq!(status, LINK_UP.to_le_bytes());
    let answer: Option<()> = net.with(&context, |_| panic!("the stack"));
    assert!(answer.is_none());
    net.config().read(STATUS, &mut status);
    assert_eq!(status, [0; 2]);
    let used = exchange(&mut net, &ram, 0, &sent(), &[2000]).unwrap();
    assert!(used.is_empty());
}
