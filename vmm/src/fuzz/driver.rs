//! A guest's driver whose rings and buffers are the fuzzer's bytes.
//!
//! The input: for each queue of the device 2 bytes (how far the driver says it has got) and
//! [`ENTRIES`] descriptors of 6 bytes, then the entries of the available ring, one byte each;
//! the rest is the memory that descriptors can point to, from [`BUFFERS`] on. A descriptor:
//! address (2 bytes, times 8), length (2 bytes), flags, next (1 byte each). Bit 7 of the flags
//! makes it wild: an address and a length that no guest memory has.

use std::sync::Arc;

use boxbuild_vmm_driver::{Descriptor, DriverQueue, QueueLayout};
use vm_memory::{Bytes, GuestAddress};

use crate::memory::{self, GuestRam};
use crate::test_support::{Recorder, context};
use crate::virtio::Device;

/// Entries of a queue.
const ENTRIES: u16 = 16;
/// Bytes from the rings of one queue to those of the next.
const RINGS: u64 = 0x1000;
/// Where buffers can be: descriptors reach 512 KiB.
const BUFFERS: u64 = 0x8000;
/// Behind all that a descriptor that is not wild can reach.
const CANARY: u64 = 0x20_0000;
/// Flag: an address beyond all memory.
const WILD: u8 = 0x80;
/// How often a queue is looked at again because it said that there is more.
const ROUNDS: usize = 4;

thread_local! {
    static RAM: GuestRam = memory::flat(memory::MIN_MIB).expect("memory for a small guest");
}

/// Lets `device` answer.
pub(super) fn drive(device: &mut dyn Device, data: &[u8]) {
    RAM.with(|ram| drive_in(ram, device, data));
}

fn drive_in(ram: &GuestRam, device: &mut dyn Device, mut data: &[u8]) {
    let clean = vec![0; (BUFFERS + 0x10_0000) as usize];
    write(ram, &clean, 0);
    write(ram, &[0x5a; 4096], CANARY);
    let mut wild = false;
    let queues = device.queue_sizes().len();
    let made: Vec<_> = (0..queues)
        .map(|number| queue(ram, number as u64, &mut data, &mut wild))
        .map(|queue| queue.device_queue().ok())
        .collect();
    let len = data.len().min(0x8_0000);
    write(ram, &data[..len], BUFFERS);
    let mut context = context(ram, made, Arc::new(Recorder::default()));
    for number in 0..queues {
        for _ in 0..ROUNDS {
            if device.notified(number, &mut context).is_err() {
                break;
            }
        }
    }
    // A fault is the guest's, and needs a reset.
    let _ = device.woken(&mut context);
    device.deactivate();
    let mut canary = [0; 4096];
    ram.read_slice(&mut canary, GuestAddress(CANARY))
        .expect("it is guest memory");
    assert!(
        wild || canary == [0x5a; 4096],
        "the device wrote beside the buffers"
    );
}

fn write(ram: &GuestRam, bytes: &[u8], at: u64) {
    ram.write_slice(bytes, GuestAddress(at))
        .expect("it is guest memory");
}

pub(super) fn take<const N: usize>(data: &mut &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    let len = data.len().min(N);
    let (taken, rest) = data.split_at(len);
    bytes[..len].copy_from_slice(taken);
    *data = rest;
    bytes
}

/// Queue `number` with the descriptors and the available ring of `data`. Sets `wild` if they lead
/// to memory that is not a buffer.
fn queue(ram: &GuestRam, number: u64, data: &mut &[u8], wild: &mut bool) -> DriverQueue {
    let at = |offset| GuestAddress(RINGS * number + offset);
    let layout = QueueLayout::placed(ENTRIES, at(0), at(0x400), at(0x800));
    let queue = DriverQueue::new(layout);
    let index = u16::from_le_bytes(take(data)) % (2 * ENTRIES);
    for entry in 0..ENTRIES {
        let [a, b, c, d, flags, next] = take(data);
        let mut address = u64::from(u16::from_le_bytes([a, b])) * 8;
        let mut len = u32::from(u16::from_le_bytes([c, d]));
        if flags & WILD != 0 {
            *wild = true;
            address <<= 40;
            len <<= 16;
        }
        // An indirect table leads to anything, too.
        *wild |= flags & 4 != 0;
        let descriptor = Descriptor::new(address, len, u16::from(flags & !WILD), u16::from(next));
        queue
            .write_descriptor(ram, entry, descriptor)
            .expect("it is guest memory");
    }
    write(ram, &index.to_le_bytes(), layout.available_index().0);
    for entry in 0..ENTRIES {
        let [head] = take(data);
        let head = u16::from(head).to_le_bytes();
        write(ram, &head, layout.available_entry(entry).0);
    }
    queue
}
