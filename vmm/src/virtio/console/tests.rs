use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use boxbuild_vmm_driver::{Buffer, DriverQueue, QueueLayout};
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::memory::flat;
use crate::test_support::{Recorder, context};
use crate::virtio::worker::Worker;

/// Where queue `index` has its rings, and its buffers behind them.
fn rings(index: usize) -> GuestAddress {
    GuestAddress(0x10_0000 * (1 + index as u64))
}

struct Fixture {
    console: Console,
    ram: GuestRam,
    queues: Vec<DriverQueue>,
    /// Buffers added so far.
    added: u64,
    context: Context,
    output: Receiver<(Port, Vec<u8>)>,
}

impl Fixture {
    fn new() -> Fixture {
        let (sender, output) = channel();
        let console = Console::new(Box::new(move |port, bytes| {
            let _ = sender.send((port, bytes));
        }))
        .unwrap();
        let ram = flat(64).unwrap();
        let queues: Vec<_> = (0..QUEUES)
            .map(|index| DriverQueue::new(QueueLayout::new(rings(index), 16).unwrap()))
            .collect();
        let active = queues
            .iter()
            .map(|queue| queue.device_queue().ok())
            .collect();
        let context = context(&ram, active, Arc::new(Recorder::default()));
        Fixture {
            console,
            ram,
            queues,
            added: 0,
            context,
            output,
        }
    }

    /// Adds a chain of one buffer to queue `index`; returns where it is.
    fn add(&mut self, index: usize, data: &[u8], room: u32) -> GuestAddress {
        let address = rings(index).0 + 0x1_0000 + 0x1000 * self.added;
        self.added += 1;
        self.ram.write_slice(data, GuestAddress(address)).unwrap();
        let buffer = if room > 0 {
            Buffer::writable(address, room)
        } else {
            Buffer::readable(address, data.len() as u32)
        };
        self.queues[index].add(&self.ram, &[buffer]).unwrap();
        GuestAddress(address)
    }

    fn notify(&mut self, index: usize) {
        self.console.notified(index, &mut self.context).unwrap();
    }

    /// Collects what queue `index` has used: how many chains.
    fn used(&mut self, index: usize) -> usize {
        let queue = &mut self.queues[index];
        std::iter::from_fn(|| queue.next_used(&self.ram).unwrap()).count()
    }
}

#[test]
fn output_of_both_ports_arrives_in_order() {
    let mut fixture = Fixture::new();
    fixture.add(1, b"one", 0);
    fixture.add(1, b"two", 0);
    fixture.notify(1);
    fixture.add(5, b"control", 0);
    fixture.notify(5);
    let got: Vec<(Port, Vec<u8>)> = fixture.output.try_iter().collect();
    assert_eq!(
        got,
        [
            (Port::Console, b"one".to_vec()),
            (Port::Console, b"two".to_vec()),
            (Port::Control, b"control".to_vec()),
        ]
    );
    assert_eq!((fixture.used(1), fixture.used(5)), (2, 1));
}

#[test]
fn input_waits_for_room() {
    let mut fixture = Fixture::new();
    let input = fixture.console.input();
    assert_eq!(input.send(Port::Control, b"abcdef"), 6);
    fixture.console.woken(&mut fixture.context).unwrap();
    let first = fixture.add(4, b"", 4);
    fixture.notify(4);
    let second = fixture.add(4, b"", 4);
    fixture.notify(4);
    let mut bytes = [0; 4];
    fixture.ram.read_slice(&mut bytes, first).unwrap();
    assert_eq!(&bytes, b"abcd");
    fixture.ram.read_slice(&mut bytes, second).unwrap();
    assert_eq!(&bytes, b"ef\0\0");
    assert_eq!(fixture.used(4), 2);
    // A guest that never reads costs no more than this.
    assert_eq!(
        input.send(Port::Control, &vec![0; 2 * MOST_INPUT]),
        MOST_INPUT
    );
    assert_eq!(input.send(Port::Control, b"x"), 0);
}

#[test]
fn the_driver_learns_which_ports_there_are() {
    let mut fixture = Fixture::new();
    let buffers: Vec<GuestAddress> = (0..6)
        .map(|_| fixture.add(CONTROL_RECEIVE, b"", 64))
        .collect();
    for message in [
        // DEVICE_READY; PORT_READY of ports 0, 1 and one that is not there.
        [0, 0, 0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 3, 0, 1, 0],
        [1, 0, 0, 0, 3, 0, 1, 0],
        [9, 0, 0, 0, 3, 0, 1, 0],
    ] {
        fixture.add(CONTROL_TRANSMIT, &message, 0);
    }
    fixture.add(CONTROL_TRANSMIT, b"short", 0);
    fixture.notify(CONTROL_TRANSMIT);
    let read = |at: usize| fixture.ram.read_obj::<[u8; 8]>(buffers[at]).unwrap();
    assert_eq!(read(0), [0, 0, 0, 0, 1, 0, 1, 0]);
    assert_eq!(read(1), [1, 0, 0, 0, 1, 0, 1, 0]);
    assert_eq!(read(2), [0, 0, 0, 0, 4, 0, 1, 0]);
    assert_eq!(read(3), [0, 0, 0, 0, 6, 0, 1, 0]);
    assert_eq!(read(4), [1, 0, 0, 0, 7, 0, 1, 0]);
    let mut name = [0; CONTROL_PORT.len()];
    let at = GuestAddress(buffers[4].0 + 8);
    fixture.ram.read_slice(&mut name, at).unwrap();
    assert_eq!(name, CONTROL_PORT.as_bytes());
    assert_eq!(fixture.used(CONTROL_RECEIVE), 6);
}

#[test]
fn the_last_output_arrives_without_a_notification() {
    let mut fixture = Fixture::new();
    fixture.add(5, b"first", 0);
    let Fixture {
        console,
        ram,
        mut queues,
        context,
        output,
        ..
    } = fixture;
    let worker = Worker::start(Box::new(console), context).unwrap();
    // It has begun, and listens.
    while !queues[5].has_used(&ram).unwrap() {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(20));
    ram.write_slice(b"last", GuestAddress(0x5000)).unwrap();
    let last = Buffer::readable(0x5000, 4);
    queues[5].add(&ram, &[last]).unwrap();
    assert!(worker.stop().is_some());
    let said: Vec<_> = output.try_iter().collect();
    let words = [b"first".to_vec(), b"last".to_vec()];
    assert_eq!(said, words.map(|word| (Port::Control, word)));
}
