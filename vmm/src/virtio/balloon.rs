//! Balloon (virtio 1.2, section 5.5): gives memory that the guest does not use back to the
//! host. The guest reports free pages by itself; nothing ever asks it for more.

use std::sync::Arc;

use super::chain::split_chain;
use super::config::DeviceConfig;
use super::device::{Context, Device};
use super::fault::Fault;
use super::kind::Kind;
use super::stop_flag::StopFlag;
use crate::memory::{self, GuestRam};

/// Free page reporting (`VIRTIO_BALLOON_F_REPORTING`).
const F_REPORTING: u64 = 1 << 5;
/// Queues: inflate, deflate, and with the two features that would put queues between them not
/// offered, reporting.
const INFLATE: usize = 0;
const REPORTING: usize = 2;
const QUEUES: usize = 3;
/// Entries of a queue.
const QUEUE: u16 = 128;
/// Size of a page in the balloon's own unit.
const PAGE: u64 = 4096;
/// Bytes that are given back at once, between two looks whether the device shall stop: some
/// milliseconds of the host's.
const PIECE: u64 = 64 << 20;
/// Page numbers of one inflate request (Linux: `VIRTIO_BALLOON_ARRAY_PFNS_MAX` is 256).
const MOST_PAGES: usize = 1024;

/// A memory balloon.
#[derive(Debug)]
pub struct Balloon {
    config: Arc<DeviceConfig>,
}

impl Balloon {
    /// Creates an empty balloon.
    pub fn new() -> Balloon {
        // num_pages (ours: 0), actual (the driver's).
        Balloon {
            config: Arc::new(DeviceConfig::new(vec![0; 8], 4..8)),
        }
    }
}

impl Default for Balloon {
    fn default() -> Self {
        Balloon::new()
    }
}

/// Gives memory back, in pieces. What the host refuses stays with the guest, and so does the rest
/// once the device shall stop.
fn release(ram: &GuestRam, start: u64, len: u64, stop: &StopFlag) {
    let mut done = 0;
    while done < len && !stop.is_raised() {
        let piece = (len - done).min(PIECE);
        let at = start.saturating_add(done);
        if let Err(error) = memory::release(ram, at, piece as usize) {
            return log::debug!("cannot give {piece} bytes at {at:#x} back: {error}");
        }
        done += piece;
    }
}

impl Device for Balloon {
    fn kind(&self) -> Kind {
        Kind::Balloon
    }

    fn features(&self) -> u64 {
        F_REPORTING
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE; QUEUES]
    }

    fn config(&self) -> Arc<DeviceConfig> {
        Arc::clone(&self.config)
    }

    fn notified(&mut self, index: usize, context: &mut Context) -> Result<(), Fault> {
        let Some(Some(queue)) = context.queues.get_mut(index) else {
            return Ok(());
        };
        let (ram, stop) = (&context.ram, &context.stop);
        queue.drain(ram, &context.interrupt, |chain| {
            match index {
                // The buffers themselves are the free pages.
                REPORTING => {
                    for descriptor in chain.take(usize::from(QUEUE)) {
                        if descriptor.is_write_only() {
                            release(ram, descriptor.addr().0, descriptor.len().into(), stop);
                        }
                    }
                }
                INFLATE => {
                    let (readable, _) = split_chain(ram, chain, QUEUE)?;
                    let mut bytes = vec![0; readable.len().min(4 * MOST_PAGES)];
                    readable.copy_to(&mut bytes);
                    for number in bytes.chunks_exact(4) {
                        let number = u32::from_le_bytes(number.try_into().unwrap_or_default());
                        release(ram, u64::from(number) * PAGE, PAGE, stop);
                    }
                }
                // A page that is taken out of the balloon is there when it is touched.
                _ => {}
            }
            Ok(0)
        })
    }
}
