use std::io::{Read, Seek, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use boxbuild_vmm_driver::{Access, Buffer, DriverQueue, QueueLayout};
use vm_memory::{Bytes, GuestAddress};

use Access::{Readable, Writable};

use super::*;
use crate::disk::RawDisk;
use crate::memory::{GuestRam, flat};
use crate::test_support::{Recorder, context};

const RINGS: GuestAddress = GuestAddress(0);
const HEADER_AT: u64 = 0x10_0000;
const DATA: u64 = 0x20_0000;
const STATUS: u64 = 0x30_0000;
const SIZE: u64 = 1 << 20;

fn no_notices() -> Notices {
    Arc::new(|trouble| panic!("{trouble:?}"))
}

fn driver(base: GuestAddress) -> DriverQueue {
    DriverQueue::new(QueueLayout::new(base, 16).unwrap())
}

struct Fixture {
    block: Block,
    ram: GuestRam,
    driver: DriverQueue,
    file: std::fs::File,
}

impl Fixture {
    fn new(read_only: bool) -> Fixture {
        let mut file = tempfile::tempfile().unwrap();
        // A rest that is no sector is not on the disk.
        file.set_len(SIZE + 100).unwrap();
        file.write_all(b"first sector").unwrap();
        let disk = RawDisk::new(file.try_clone().unwrap(), read_only).unwrap();
        Fixture {
            block: Block::new(Box::new(disk), 1, no_notices()),
            ram: flat(64).unwrap(),
            driver: driver(RINGS),
            file,
        }
    }

    /// One request with `data` (lengths; the guest's address is DATA and following). Returns
    /// the status byte and the length in the used ring, or the fault.
    fn request(
        &mut self,
        kind: u32,
        sector: u64,
        data: &[(u32, Access)],
    ) -> Result<(u8, u32), Fault> {
        let ram = self.ram.clone();
        self.driver.reset(&ram).unwrap();
        ram.write_obj(kind, GuestAddress(HEADER_AT)).unwrap();
        ram.write_obj(sector, GuestAddress(HEADER_AT + 8)).unwrap();
        ram.write_obj(0xaa_u8, GuestAddress(STATUS)).unwrap();
        let mut chain = vec![Buffer::readable(HEADER_AT, HEADER as u32)];
        let mut at = DATA;
        for (len, access) in data {
            let (address, len, access) = (at, *len, *access);
            chain.push(Buffer {
                address,
                len,
                access,
            });
            at += u64::from(len);
        }
        chain.push(Buffer::writable(STATUS, 1));
        self.driver.add(&ram, &chain).unwrap();
        let active = vec![self.driver.device_queue().ok()];
        let mut context = context(&ram, active, Arc::new(Recorder::default()));
        self.block.notified(0, &mut context)?;
        let used = self.driver.next_used(&ram).unwrap().unwrap();
        Ok((ram.read_obj(GuestAddress(STATUS)).unwrap(), used.len))
    }
}

const OK: u8 = blk::VIRTIO_BLK_S_OK as u8;
const IOERR: u8 = blk::VIRTIO_BLK_S_IOERR as u8;
const UNSUPPORTED: u8 = blk::VIRTIO_BLK_S_UNSUPP as u8;

#[test]
fn reads_and_writes_scattered_buffers() {
    let mut fixture = Fixture::new(false);
    let scattered = [(100, Writable), (0, Writable), (412, Writable)];
    let read = fixture
        .request(blk::VIRTIO_BLK_T_IN, 0, &scattered)
        .unwrap();
    assert_eq!(read, (OK, 513));
    let mut bytes = [0; 12];
    fixture
        .ram
        .read_slice(&mut bytes, GuestAddress(DATA))
        .unwrap();
    assert_eq!(&bytes, b"first sector");

    fixture
        .ram
        .write_slice(&[7; 1024], GuestAddress(DATA))
        .unwrap();
    let scattered = [(1000, Readable), (24, Readable)];
    let written = fixture
        .request(blk::VIRTIO_BLK_T_OUT, 2046, &scattered)
        .unwrap();
    assert_eq!(written, (OK, 1));
    let mut end = Vec::new();
    fixture.file.seek(io::SeekFrom::Start(SIZE - 1025)).unwrap();
    fixture.file.read_to_end(&mut end).unwrap();
    assert_eq!(end[0], 0);
    assert_eq!(end[1..1025], [7; 1024]);
    assert_eq!(
        fixture.request(blk::VIRTIO_BLK_T_FLUSH, 0, &[]).unwrap().0,
        OK
    );
}

#[test]
fn nothing_beyond_the_end_is_reached() {
    let mut fixture = Fixture::new(false);
    let capacity = SIZE / SECTOR;
    for (sector, len) in [
        (capacity, 512),
        (capacity - 1, 1024),
        (u64::MAX, 512),
        (u64::MAX / 512, 512),
        // Not whole sectors.
        (0, 100),
    ] {
        for (kind, access) in [
            (blk::VIRTIO_BLK_T_IN, Writable),
            (blk::VIRTIO_BLK_T_OUT, Readable),
        ] {
            let answer = fixture.request(kind, sector, &[(len, access)]).unwrap();
            assert_eq!(answer, (IOERR, 1), "{sector} {len}");
        }
    }
    assert_eq!(fixture.file.metadata().unwrap().len(), SIZE + 100);
}

#[test]
fn discarded_sectors_read_as_zeros() {
    let mut fixture = Fixture::new(false);
    let range = |sector: u64, count: u32, flags: u32| {
        let mut bytes = sector.to_le_bytes().to_vec();
        bytes.extend(count.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes
    };
    let mut zero = |kind, bytes: &[u8]| {
        fixture.ram.write_slice(bytes, GuestAddress(DATA)).unwrap();
        let answer = fixture
            .request(kind, 0, &[(bytes.len() as u32, Readable)])
            .unwrap();
        answer.0
    };
    let (discard, zeroes) = (blk::VIRTIO_BLK_T_DISCARD, blk::VIRTIO_BLK_T_WRITE_ZEROES);
    assert_eq!(zero(zeroes, &range(0, 8, 1)), OK);
    assert_eq!(zero(discard, &range(0, 8, 0)), OK);
    assert_eq!(zero(discard, &range(0, 8, 1)), UNSUPPORTED);
    assert_eq!(zero(zeroes, &range(SIZE / SECTOR, 1, 0)), IOERR);
    assert_eq!(zero(zeroes, &range(0, u32::MAX, 0)), IOERR);
    assert_eq!(zero(zeroes, &[0; 10]), IOERR);
    assert_eq!(zero(zeroes, &[0; RANGE * (MOST_RANGES + 1)]), IOERR);
    let mut bytes = [1; 12];
    fixture.file.rewind().unwrap();
    fixture.file.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes, [0; 12]);
}

#[test]
fn a_read_only_disk_is_not_written() {
    let mut fixture = Fixture::new(true);
    assert_ne!(fixture.block.features() & 1 << blk::VIRTIO_BLK_F_RO, 0);
    let answer = fixture
        .request(blk::VIRTIO_BLK_T_OUT, 0, &[(512, Readable)])
        .unwrap();
    assert_eq!(answer, (IOERR, 1));
    fixture
        .ram
        .write_slice(&[0; 16], GuestAddress(DATA))
        .unwrap();
    let answer = fixture
        .request(blk::VIRTIO_BLK_T_DISCARD, 0, &[(16, Readable)])
        .unwrap();
    assert_eq!(answer.0, IOERR);
}

#[test]
fn odd_requests() {
    let mut fixture = Fixture::new(false);
    assert_eq!(fixture.request(99, 0, &[]).unwrap(), (UNSUPPORTED, 1));
    let id = fixture
        .request(blk::VIRTIO_BLK_T_GET_ID, 0, &[(20, Writable)])
        .unwrap();
    assert_eq!(id, (OK, 21));
    // A readable buffer behind a writable one.
    let chain = [(512, Writable), (512, Readable)];
    assert!(fixture.request(blk::VIRTIO_BLK_T_IN, 0, &chain).is_err());
    // More than memory: the chain, not the disk, is at fault.
    assert!(
        fixture
            .request(blk::VIRTIO_BLK_T_IN, 0, &[(u32::MAX, Writable)])
            .is_err()
    );
}

/// Offsets and lengths.
type Told = Vec<(u64, u64)>;

/// A disk on which everything fails in the same way, or nothing; it counts flushes.
#[derive(Debug, Default)]
struct Mock {
    fails: Option<io::ErrorKind>,
    flushes: Arc<AtomicU32>,
    /// What it was told of requests that wait, if it wants to know.
    ahead: Option<Arc<Mutex<Told>>>,
}

impl Mock {
    fn result(&self) -> io::Result<()> {
        self.fails.map_or(Ok(()), |kind| Err(kind.into()))
    }
}

impl Disk for Mock {
    fn size(&self) -> u64 {
        SIZE
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn read(&self, _: u64, _: &Buffers<'_>) -> io::Result<()> {
        self.result()
    }

    fn write(&self, _: u64, _: &Buffers<'_>) -> io::Result<()> {
        self.result()
    }

    fn flush(&self) -> io::Result<()> {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        self.result()
    }

    fn zero(&self, _: u64, _: u64, _: bool) -> io::Result<()> {
        self.result()
    }

    fn serial(&self) -> String {
        String::from("mock")
    }

    fn reads_ahead(&self) -> bool {
        self.ahead.is_some()
    }

    fn will_read(&self, offset: u64, len: u64) -> bool {
        let told = self.ahead.as_ref().map(|told| told.lock().unwrap());
        told.is_some_and(|mut told| {
            told.push((offset, len));
            true
        })
    }
}

/// A disk that reads ahead is told of the reads behind the one that is served, whatever the driver writes
/// there; each is answered as if it had not been told.
#[test]
fn a_disk_is_told_of_reads_that_wait() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let disk = Mock {
        ahead: Some(Arc::clone(&told)),
        ..Mock::default()
    };
    let mut block = Block::new(Box::new(disk), 1, no_notices());
    let ram = flat(64).unwrap();
    let mut driver = driver(RINGS);
    let requests = [
        (blk::VIRTIO_BLK_T_IN, 0),
        (blk::VIRTIO_BLK_T_IN, 8),
        (blk::VIRTIO_BLK_T_FLUSH, 16),
        (blk::VIRTIO_BLK_T_IN, u64::MAX),
        (blk::VIRTIO_BLK_T_IN, 24),
    ];
    for (index, (kind, sector)) in (0..).zip(requests) {
        let header = HEADER_AT + 0x100 * index;
        ram.write_obj(kind, GuestAddress(header)).unwrap();
        ram.write_obj(sector, GuestAddress(header + 8)).unwrap();
        let chain = [
            Buffer::readable(header, HEADER as u32),
            Buffer::writable(DATA, 4096),
            Buffer::writable(STATUS + index, 1),
        ];
        driver.add(&ram, &chain).unwrap();
    }
    let active = vec![driver.device_queue().ok()];
    let mut context = context(&ram, active, Arc::new(Recorder::default()));
    block.notified(0, &mut context).unwrap();
    let status: [u8; 5] = ram.read_obj(GuestAddress(STATUS)).unwrap();
    assert_eq!(status, [0, 0, 0, IOERR, 0]);
    let told = told.lock().unwrap().clone();
    assert_eq!(told, [(4096, 4096), (u64::MAX, 4096), (12288, 4096)]);
}

#[test]
fn the_user_hears_of_a_full_host_but_not_for_ever() {
    let troubles = |kind| {
        let told = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&told);
        let mut fixture = Fixture::new(false);
        let disk = Mock {
            fails: Some(kind),
            ..Mock::default()
        };
        let notices = Arc::new(move |trouble| sink.lock().unwrap().push(trouble));
        fixture.block = Block::new(Box::new(disk), 1, notices);
        for _ in 0..20 {
            let answer = fixture.request(blk::VIRTIO_BLK_T_OUT, 0, &[(512, Readable)]);
            assert_eq!(answer.unwrap(), (IOERR, 1));
            // What the guest does wrong is not for the user.
            fixture
                .request(blk::VIRTIO_BLK_T_OUT, u64::MAX, &[(512, Readable)])
                .unwrap();
        }
        let told = told.lock().unwrap();
        told.clone()
    };
    let told = troubles(io::ErrorKind::ConnectionReset);
    assert_eq!(told.len(), MOST_NOTICES as usize);
    for trouble in &told {
        let DiskError::Other(text) = trouble else {
            panic!("{trouble:?}");
        };
        assert!(text.contains("cannot write to its disk"), "{text}");
    }
    for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
        let told = troubles(kind);
        assert!(matches!(&told[..], [DiskError::StorageFull(_)]), "{told:?}");
    }
}

#[test]
fn a_driver_without_flush_writes_through() {
    let flushes = Arc::new(AtomicU32::new(0));
    let disk = Mock {
        flushes: Arc::clone(&flushes),
        ..Mock::default()
    };
    let mut fixture = Fixture::new(false);
    fixture.block = Block::new(Box::new(disk), 1, no_notices());
    let written = fixture.request(blk::VIRTIO_BLK_T_OUT, 0, &[(512, Readable)]);
    assert_eq!(written.unwrap(), (OK, 1));
    assert_eq!(flushes.load(Ordering::Relaxed), 1);
    let read = fixture.request(blk::VIRTIO_BLK_T_IN, 0, &[(512, Writable)]);
    assert_eq!(read.unwrap(), (OK, 513));
    assert_eq!(flushes.load(Ordering::Relaxed), 1);
    assert!(write_back(1 << blk::VIRTIO_BLK_F_FLUSH) && !write_back(0));
}

#[test]
fn the_configuration_says_what_the_disk_is() {
    for (cpus, queues) in [(1, 1), (2, 2), (64, MOST_QUEUES)] {
        let block = Block::new(Box::new(Mock::default()), cpus, no_notices());
        assert_eq!(block.queue_sizes().len(), usize::from(queues));
        let mut bytes = [0; 64];
        block.config().read(0, &mut bytes);
        assert_eq!(bytes[..8], (SIZE / SECTOR).to_le_bytes());
        // Blocks of 512 bytes, eight of them in a physical one.
        assert_eq!(bytes[20..24], 512_u32.to_le_bytes());
        assert_eq!(bytes[24..28], [3, 0, 8, 0]);
        assert_eq!(bytes[34..36], queues.to_le_bytes());
    }
}

/// Each queue but the first has a thread, which ends with the activation.
#[test]
fn further_queues_serve_themselves() {
    let mut block = Block::new(Box::new(Mock::default()), 2, no_notices());
    let ram = flat(64).unwrap();
    ram.write_obj(blk::VIRTIO_BLK_T_IN, GuestAddress(HEADER_AT))
        .unwrap();
    let mut driver = driver(GuestAddress(0x1_0000));
    let chain = [
        Buffer::readable(HEADER_AT, HEADER as u32),
        Buffer::writable(DATA, 512),
        Buffer::writable(STATUS, 1),
    ];
    driver.add(&ram, &chain).unwrap();
    let queues = vec![None, driver.device_queue().ok()];
    let mut context = context(&ram, queues, Arc::new(Recorder::default()));
    block.activate(&mut context).unwrap();
    assert!(context.queues[1].is_none());
    let start = Instant::now();
    while !driver.has_used(&ram).unwrap() && start.elapsed() < Duration::from_secs(60) {
        std::thread::yield_now();
    }
    block.deactivate();
    assert!(block.threads.is_empty());
    assert!(driver.next_used(&ram).unwrap().is_some());
    assert_eq!(ram.read_obj::<u8>(GuestAddress(STATUS)).unwrap(), OK);
}
