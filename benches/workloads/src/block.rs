//! The disk: a qcow2 image under an overlay, behind its virtio device.

use std::sync::Arc;

use anyhow::{Result, bail};
use boxbuild_vmm::disk::{Image, Overlay};
use boxbuild_vmm::virtio::block::Block;
use boxbuild_vmm_driver::Buffer;
use tempfile::TempDir;
use virtio_bindings::virtio_blk::{VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT};

use crate::driver::{BUFFERS, DeviceDriver, Random, folder};
use crate::{Rounds, Workload, qcow2};

/// Requests at a time.
const REQUESTS: usize = 16;
/// Clusters of 64 KiB of the image: 32 MiB.
const CLUSTERS: u64 = 512;
const BYTES: u64 = CLUSTERS << 16;
const PAGE: usize = 4 << 10;
const LARGE: usize = 256 << 10;
/// Where the headers and the data of a request lie.
const HEADERS: u64 = BUFFERS;
const DATA: u64 = BUFFERS + 0x1_0000;

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "block/read-4k",
        count: REQUESTS as u64,
        unit: "requests",
        bytes: Some((REQUESTS * PAGE) as u64),
        make: || make(VIRTIO_BLK_T_IN, PAGE),
    },
    Workload {
        name: "block/write-4k",
        count: REQUESTS as u64,
        unit: "requests",
        bytes: Some((REQUESTS * PAGE) as u64),
        make: || make(VIRTIO_BLK_T_OUT, PAGE),
    },
    Workload {
        name: "block/read-256k",
        count: REQUESTS as u64,
        unit: "requests",
        bytes: Some((REQUESTS * LARGE) as u64),
        make: || make(VIRTIO_BLK_T_IN, LARGE),
    },
];

/// Requests of one kind and size, at random places that are multiples of it.
struct Requests {
    driver: DeviceDriver,
    random: Random,
    kind: u32,
    size: usize,
    _folder: TempDir,
}

fn make(kind: u32, size: usize) -> Result<Box<dyn Rounds>> {
    let folder = folder()?;
    let path = folder.path().join("image");
    qcow2::write(&path, CLUSTERS)?;
    let overlay = Overlay::new(Image::open(&path)?, None, folder.path())?;
    let device = Block::new(Box::new(overlay), 1, Arc::new(|_| {}));
    let mut driver = DeviceDriver::new(Box::new(device), 1 << VIRTIO_BLK_F_FLUSH)?;
    driver.activate()?;
    let mut requests = Requests {
        driver,
        random: Random::default(),
        kind: VIRTIO_BLK_T_OUT,
        size: PAGE,
        _folder: folder,
    };
    // An eighth of the disk has been written by the guest already.
    for _ in 0..BYTES / 8 / (REQUESTS * PAGE) as u64 {
        requests.round()?;
    }
    (requests.kind, requests.size) = (kind, size);
    Ok(Box::new(requests))
}

impl Rounds for Requests {
    fn round(&mut self) -> Result<()> {
        for number in 0..REQUESTS as u64 {
            let header = HEADERS + 32 * number;
            let place = self.random.below(BYTES / self.size as u64) * self.size as u64;
            // Type, reserved, sector; a status that no device gives.
            let mut bytes = [0; 17];
            bytes[..4].copy_from_slice(&self.kind.to_le_bytes());
            bytes[8..16].copy_from_slice(&(place / 512).to_le_bytes());
            bytes[16] = 0xff;
            self.driver.write(&bytes, header)?;
            let data = DATA + (LARGE as u64) * number;
            let data = match self.kind {
                VIRTIO_BLK_T_IN => Buffer::writable(data, self.size as u32),
                _ => Buffer::readable(data, self.size as u32),
            };
            let parts = [
                Buffer::readable(header, 16),
                data,
                Buffer::writable(header + 16, 1),
            ];
            self.driver.put(0, &parts)?;
        }
        self.driver.notify(0)?;
        self.driver.expect(0, REQUESTS)?;
        for number in 0..REQUESTS as u64 {
            let mut status = [0];
            self.driver.read(&mut status, HEADERS + 32 * number + 16)?;
            if status != [0] {
                bail!("the disk answers with status {}", status[0]);
            }
        }
        Ok(())
    }
}
