//! A guest's driver whose rings and buffers are the fuzzer's bytes.
//!
//! The input: for each queue of the device 2 bytes (how far the driver says it has got) and
//! [`ENTRIES`] descriptors of 6 bytes, then the entries of the available ring, one byte each;
//! the rest is the memory that descriptors can point to, from [`BUFFERS`] on. A descriptor:
//! address (2 bytes, times 8), length (2 bytes), flags, next (1 byte each). Bit 7 of the flags
//! makes it wild: an address and a length that no guest memory has.

use std::sync::Arc;

use virtio_queue::{Queue, QueueT};
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
    static RAM: GuestRam = memory::allocate(memory::MIN_MIB).expect("memory for a small guest");
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
        .map(|number| Some(queue(ram, number as u64, &mut data, &mut wild)))
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

fn take<const N: usize>(data: &mut &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    let len = data.len().min(N);
    let (taken, rest) = data.split_at(len);
    bytes[..len].copy_from_slice(taken);
    *data = rest;
    bytes
}

fn queue(ram: &GuestRam, number: u64, data: &mut &[u8], wild: &mut bool) -> Queue {
    let (table, available, used) = (
        RINGS * number,
        RINGS * number + 0x400,
        RINGS * number + 0x800,
    );
    let index = u16::from_le_bytes(take(data)) % (2 * ENTRIES);
    for entry in 0..u64::from(ENTRIES) {
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
        let at = table + 16 * entry;
        write(ram, &address.to_le_bytes(), at);
        write(ram, &len.to_le_bytes(), at + 8);
        write(ram, &u16::from(flags & !WILD).to_le_bytes(), at + 12);
        write(ram, &u16::from(next).to_le_bytes(), at + 14);
    }
    write(ram, &index.to_le_bytes(), available + 2);
    for entry in 0..u64::from(ENTRIES) {
        let [head] = take(data);
        write(
            ram,
            &u16::from(head).to_le_bytes(),
            available + 4 + 2 * entry,
        );
    }
    // The size is a power of two, so this does not fail.
    let mut queue = Queue::new(ENTRIES).expect("a valid size");
    queue.set_desc_table_address(Some(table as u32), Some(0));
    queue.set_avail_ring_address(Some(available as u32), Some(0));
    queue.set_used_ring_address(Some(used as u32), Some(0));
    queue.set_ready(true);
    queue
}
