//! An image that four queues write in place at once: writes, trims, zeroes and flushes side by side in
//! the same clusters, each sector with one queue. `BOXBUILD_STRESS_SECONDS` makes it longer.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use boxbuild_vmm_driver::{Access, Buffer, DriverQueue, QueueLayout};
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::disk::open_in_place;
use crate::memory::{GuestRam, flat};
use crate::test_support::{Recorder, context};

/// Queues, and threads that drive them.
const DRIVERS: u64 = 4;
/// Bytes of the image that is converted, and of the disk that it becomes.
const CONVERTED: u64 = 8 << 20;
const RESIZED: u64 = 24 << 20;
/// Sectors in a row that are one queue's: never as many as a cluster has.
const STRIPE: u64 = 37;
/// Most sectors of a request.
const MOST: u64 = 600;
/// Guest memory of one driver.
const AREA: u64 = 1 << 20;
const SECONDS: u64 = 4;
/// Requests of each driver, however slow the host is.
const LEAST: u64 = 60;

/// Options of `qemu-img`, whether the base is compressed, and whether it is resized.
const KINDS: [(&str, bool, bool); 4] = [
    ("", true, true),
    ("cluster_size=512", true, true),
    ("cluster_size=4096,compression_type=zstd", true, true),
    ("cluster_size=4096,compat=0.10", false, true),
];

/// xorshift64 (Marsaglia, Xorshift RNGs, 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// The driver's side of one queue, and what its sectors have.
struct Side {
    number: u64,
    ram: GuestRam,
    queue: DriverQueue,
    event: vmm_sys_util::eventfd::EventFd,
    random: Random,
    /// Of all sectors; only those of this side's stripes are looked at.
    model: Vec<u8>,
    requests: u64,
}

impl Side {
    fn at(&self, offset: u64) -> u64 {
        self.number * AREA + offset
    }

    /// Sends one request and waits for its status.
    fn request(&mut self, kind: u32, sector: u64, data: Option<(u64, Access)>) {
        let (header, status) = (self.at(0x1_0000), self.at(0x1_1000));
        let ram = &self.ram;
        ram.write_obj(kind, GuestAddress(header)).unwrap();
        ram.write_obj(sector, GuestAddress(header + 8)).unwrap();
        ram.write_obj(0xaa_u8, GuestAddress(status)).unwrap();
        let mut chain = vec![Buffer::readable(header, HEADER as u32)];
        chain.extend(data.map(|(len, access)| Buffer {
            address: self.at(0x2_0000),
            len: len as u32,
            access,
        }));
        chain.push(Buffer::writable(status, 1));
        self.queue.add(ram, &chain).unwrap();
        self.event.write(1).unwrap();
        let end = Instant::now() + Duration::from_secs(60);
        while self.queue.next_used(ram).unwrap().is_none() {
            assert!(Instant::now() < end, "no answer to a request");
            std::thread::yield_now();
        }
        let status: u8 = ram.read_obj(GuestAddress(status)).unwrap();
        assert_eq!(u32::from(status), blk::VIRTIO_BLK_S_OK, "{kind} {sector}");
        self.requests += 1;
    }

    fn read(&mut self, sector: u64, count: u64) -> Vec<u8> {
        let data = Some((count * SECTOR, Access::Writable));
        self.request(blk::VIRTIO_BLK_T_IN, sector, data);
        let mut bytes = vec![0; (count * SECTOR) as usize];
        let address = GuestAddress(self.at(0x2_0000));
        self.ram.read_slice(&mut bytes, address).unwrap();
        bytes
    }

    fn verify(&mut self, sector: u64, count: u64) {
        let found = self.read(sector, count);
        let from = (sector * SECTOR) as usize;
        let expected = &self.model[from..from + found.len()];
        assert!(found == expected, "sectors {sector} to {}", sector + count);
    }

    /// One request to sectors of this side, and what else belongs to it.
    fn step(&mut self) {
        let stripes = RESIZED / SECTOR / (STRIPE * DRIVERS);
        let stripe = self.random.below(stripes) * DRIVERS + self.number;
        let within = self.random.below(STRIPE);
        let (sector, most) = (stripe * STRIPE + within, STRIPE - within);
        let count = 1 + self.random.below(most.min(MOST));
        let range = (sector * SECTOR) as usize..((sector + count) * SECTOR) as usize;
        match self.random.below(16) {
            0..=6 => {
                let byte = self.random.below(256) as u8;
                self.model[range].fill(byte);
                let address = GuestAddress(self.at(0x2_0000));
                let bytes = vec![byte; (count * SECTOR) as usize];
                self.ram.write_slice(&bytes, address).unwrap();
                let data = Some((count * SECTOR, Access::Readable));
                self.request(blk::VIRTIO_BLK_T_OUT, sector, data);
                if self.random.below(2) == 0 {
                    self.verify(sector, count);
                }
            }
            // Zeroes with and without the right to unmap, also where nothing is allocated; discards.
            what @ 7..=10 => {
                let (kind, unmap) = match what {
                    7 => (blk::VIRTIO_BLK_T_WRITE_ZEROES, 0_u32),
                    8 | 9 => (blk::VIRTIO_BLK_T_WRITE_ZEROES, 1),
                    _ => (blk::VIRTIO_BLK_T_DISCARD, 0),
                };
                let mut bytes = sector.to_le_bytes().to_vec();
                bytes.extend((count as u32).to_le_bytes());
                bytes.extend(unmap.to_le_bytes());
                let address = GuestAddress(self.at(0x2_0000));
                self.ram.write_slice(&bytes, address).unwrap();
                self.request(kind, 0, Some((16, Access::Readable)));
                if kind == blk::VIRTIO_BLK_T_DISCARD {
                    // Any contents are right now, but they stay what they are.
                    let found = self.read(sector, count);
                    self.model[range].copy_from_slice(&found);
                } else {
                    self.model[range].fill(0);
                }
            }
            11 => self.request(blk::VIRTIO_BLK_T_FLUSH, 0, None),
            _ => self.verify(sector, count),
        }
    }
}

fn qemu_img(args: &[&str], paths: &[&Path]) -> Option<bool> {
    let output = Command::new("qemu-img").args(args).args(paths).output();
    let output = output.ok()?;
    if !output.status.success() {
        let text = [output.stdout, output.stderr].concat();
        println!("{args:?}: {}", String::from_utf8_lossy(&text));
    }
    Some(output.status.success())
}

/// The base as a pipeline of a distribution makes one; nothing without `qemu-img`.
fn base(dir: &Path, (options, compress, resize): (&str, bool, bool)) -> Option<(PathBuf, Vec<u8>)> {
    let (raw, path) = (dir.join("raw"), dir.join("qcow2"));
    let mut content: Vec<u8> = (0..CONVERTED as u32)
        .map(|i| (i / 512 * 7 + i % 5) as u8)
        .collect();
    for hole in content.chunks_mut(150_000).step_by(2) {
        hole.fill(0);
    }
    std::fs::write(&raw, &content).unwrap();
    let mut args = vec!["convert", "-f", "raw", "-O", "qcow2"];
    if !options.is_empty() {
        args.extend(["-o", options]);
    }
    if compress {
        args.push("-c");
    }
    assert!(qemu_img(&args, &[&raw, &path])?);
    if resize {
        let len = RESIZED.to_string();
        let args = ["resize", "-q", "-f", "qcow2"];
        assert!(qemu_img(&args, &[&path, Path::new(&len)])?);
    }
    content.resize(RESIZED as usize, 0);
    Some((path, content))
}

/// Lets four drivers work on the image until `end`. Returns the contents of the disk.
fn drive(path: &Path, model: &[u8], seed: u64, end: Instant) -> (Vec<u8>, u64) {
    let ram = flat(64).unwrap();
    let disk = open_in_place(path, None).unwrap();
    let notices = Arc::new(|error| panic!("{error:?}"));
    let mut block = Block::new(disk, DRIVERS as u32, notices);
    let mut sides: Vec<Side> = (0..DRIVERS)
        .map(|number| Side {
            number,
            ram: ram.clone(),
            queue: DriverQueue::new(QueueLayout::new(GuestAddress(number * AREA), 16).unwrap()),
            event: vmm_sys_util::eventfd::EventFd::new(0).unwrap(),
            random: Random(seed ^ (number + 1) << 32),
            model: model.to_vec(),
            requests: 0,
        })
        .collect();
    // Queue 0 would be the device's own thread's; here each has one.
    let mut queues = vec![None];
    queues.extend(sides.iter().map(|side| side.queue.device_queue().ok()));
    let mut context = context(&ram, queues, Arc::new(Recorder::default()));
    for (side, queue) in sides.iter_mut().zip(&context.queues[1..]) {
        side.event = queue.as_ref().unwrap().event().try_clone().unwrap();
    }
    block.activate(&mut context).unwrap();
    std::thread::scope(|scope| {
        for side in &mut sides {
            scope.spawn(move || {
                while Instant::now() < end || side.requests < LEAST {
                    side.step();
                }
            });
        }
    });
    block.deactivate();
    let mut disk = model.to_vec();
    let stripes = disk.chunks_mut((STRIPE * SECTOR) as usize);
    for (number, stripe) in stripes.enumerate() {
        let from = number * (STRIPE * SECTOR) as usize;
        let side = &sides[number % DRIVERS as usize];
        stripe.copy_from_slice(&side.model[from..from + stripe.len()]);
    }
    (disk, sides.iter().map(|side| side.requests).sum())
}

#[test]
fn four_queues_write_one_image_and_it_stays_clean() {
    let seconds = std::env::var("BOXBUILD_STRESS_SECONDS").ok();
    let seconds = seconds.map_or(SECONDS, |text| text.parse().unwrap());
    // Twice, as a box is booted again.
    let part = Duration::from_secs(seconds) / (2 * KINDS.len() as u32);
    for (number, kind) in (0..).zip(KINDS) {
        let dir = tempfile::tempdir().unwrap();
        let Some((path, mut model)) = base(dir.path(), kind) else {
            println!("skipped: qemu-img is not installed");
            return;
        };
        for boot in 0..2 {
            let seed = 0x9e37_79b9 + 16 * number + boot;
            let (disk, requests) = drive(&path, &model, seed, Instant::now() + part);
            println!("{kind:?}: {requests} requests");
            model = disk;
            let checked = qemu_img(&["check", "-q", "-f", "qcow2"], &[&path]);
            assert_eq!(checked, Some(true), "{kind:?}");
            let raw = dir.path().join("converted");
            let args = ["convert", "-f", "qcow2", "-O", "raw"];
            assert_eq!(qemu_img(&args, &[&path, &raw]), Some(true));
            let found = std::fs::read(&raw).unwrap();
            assert_eq!(found.len(), model.len());
            let sectors = found.chunks(512).zip(model.chunks(512));
            let wrong = sectors
                .enumerate()
                .find(|(_, (found, model))| found != model);
            assert_eq!(wrong.map(|(sector, _)| sector), None, "{kind:?}");
        }
    }
}
