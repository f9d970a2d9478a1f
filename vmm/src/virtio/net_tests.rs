use virtio_bindings::virtio_ring::VRING_DESC_F_WRITE;
use virtio_queue::desc::{RawDescriptor, split::Descriptor};
use virtio_queue::mock::MockSplitQueue;
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::memory::{GuestRam, allocate};
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
    for rings in [RECEIVE_RINGS, TRANSMIT_RINGS] {
        ram.write_slice(&[0; 0x4000], rings).unwrap();
    }
    let receive = MockSplitQueue::create(ram, RECEIVE_RINGS, 16);
    let transmit = MockSplitQueue::create(ram, TRANSMIT_RINGS, 16);
    ram.write_slice(sent, GuestAddress(SENT)).unwrap();
    let frame: RawDescriptor = Descriptor::new(SENT, sent.len() as u32, 0, 0).into();
    transmit.build_desc_chain(&[frame]).unwrap();
    let mut at = RECEIVED;
    let buffers: Vec<RawDescriptor> = room
        .iter()
        .map(|len| {
            let buffer = Descriptor::new(at, *len, VRING_DESC_F_WRITE as u16, 0).into();
            at += u64::from(*len);
            buffer
        })
        .collect();
    if !buffers.is_empty() {
        receive.add_desc_chains(&buffers, 0).unwrap();
    }
    let queues = vec![receive.create_queue().ok(), transmit.create_queue().ok()];
    let mut context = context(ram, queues, Arc::new(Recorder::default()));
    context.features |= features;
    net.activate(&mut context)?;
    net.notified(TRANSMIT, &mut context)?;
    assert_eq!(transmit.used().idx().load(), 1);
    let used = receive.used();
    Ok((0..usize::from(used.idx().load()))
        .map(|index| used.ring().ref_at(index).unwrap().load().len())
        .collect())
}

fn net() -> Net {
    Net::new(NetworkConfig::default()).unwrap()
}

fn sent() -> Vec<u8> {
    [vec![0; HEADER], request()].concat()
}

#[test]
fn an_answer_in_one_buffer() {
    let (mut net, ram) = (net(), allocate(64).unwrap());
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
    let (mut net, ram) = (net(), allocate(64).unwrap());
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
    let (mut net, ram) = (net(), allocate(64).unwrap());
    assert!(exchange(&mut net, &ram, 0, &sent(), &[20, 2000]).is_err());
}

#[test]
fn bad_chains_are_faults() {
    let (mut net, ram) = (net(), allocate(64).unwrap());
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
    let (mut net, ram) = (net(), allocate(64).unwrap());
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
