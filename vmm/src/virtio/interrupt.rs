//! Interrupts and status of a device.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, Ordering};

use super::status;
use crate::pci::msix::{Msix, NO_VECTOR};

/// ISR status: a queue has used buffers.
const ISR_QUEUE: u8 = 1;
/// ISR status: the configuration has changed.
const ISR_CONFIG: u8 = 2;

#[derive(Debug)]
struct Shared {
    msix: Arc<Msix>,
    isr: AtomicU8,
    status: AtomicU8,
    generation: AtomicU8,
    config_vector: AtomicU16,
    queue_vectors: Vec<AtomicU16>,
}

/// The device's status and its interrupts. Clones share them.
#[derive(Debug, Clone)]
pub struct Interrupt(Arc<Shared>);

impl Interrupt {
    /// Interrupts for `queues` queues by `msix`.
    pub fn new(msix: Arc<Msix>, queues: usize) -> Interrupt {
        Interrupt(Arc::new(Shared {
            msix,
            isr: AtomicU8::new(0),
            status: AtomicU8::new(0),
            generation: AtomicU8::new(0),
            config_vector: AtomicU16::new(NO_VECTOR),
            queue_vectors: (0..queues).map(|_| AtomicU16::new(NO_VECTOR)).collect(),
        }))
    }

    /// Interrupts the driver because of used buffers in queue `index`.
    pub fn queue(&self, index: usize) {
        self.0.isr.fetch_or(ISR_QUEUE, Ordering::SeqCst);
        if let Some(vector) = self.0.queue_vectors.get(index) {
            self.0.msix.raise(vector.load(Ordering::SeqCst));
        }
    }

    /// Interrupts the driver because the configuration space has changed.
    pub fn config(&self) {
        self.0.generation.fetch_add(1, Ordering::SeqCst);
        self.0.isr.fetch_or(ISR_CONFIG, Ordering::SeqCst);
        self.0
            .msix
            .raise(self.0.config_vector.load(Ordering::SeqCst));
    }

    /// Sets NEEDS_RESET and interrupts the driver (virtio 1.2, section 2.1.2).
    pub fn needs_reset(&self) {
        let before = self
            .0
            .status
            .fetch_or(status::NEEDS_RESET, Ordering::SeqCst);
        if before & status::DRIVER_OK != 0 {
            self.config();
        }
    }

    pub(super) fn status(&self) -> u8 {
        self.0.status.load(Ordering::SeqCst)
    }

    pub(super) fn add_status(&self, bits: u8) {
        self.0.status.fetch_or(bits, Ordering::SeqCst);
    }

    pub(super) fn generation(&self) -> u8 {
        self.0.generation.load(Ordering::SeqCst)
    }

    /// The driver reads the ISR status, which clears it.
    pub(super) fn take_isr(&self) -> u8 {
        self.0.isr.swap(0, Ordering::SeqCst)
    }

    pub(super) fn config_vector(&self) -> u16 {
        self.0.config_vector.load(Ordering::SeqCst)
    }

    pub(super) fn queue_vector(&self, index: usize) -> u16 {
        let vector = self.0.queue_vectors.get(index);
        vector.map_or(NO_VECTOR, |vector| vector.load(Ordering::SeqCst))
    }

    /// A vector that does not exist reads back as none (virtio 1.2, section 4.1.5.1.2).
    fn existing(&self, vector: u16) -> u16 {
        if vector < self.0.msix.vectors() {
            vector
        } else {
            NO_VECTOR
        }
    }

    pub(super) fn set_config_vector(&self, vector: u16) {
        self.0
            .config_vector
            .store(self.existing(vector), Ordering::SeqCst);
    }

    pub(super) fn set_queue_vector(&self, index: usize, vector: u16) {
        if let Some(slot) = self.0.queue_vectors.get(index) {
            slot.store(self.existing(vector), Ordering::SeqCst);
        }
    }

    pub(super) fn reset(&self) {
        self.0.isr.store(0, Ordering::SeqCst);
        self.0.status.store(0, Ordering::SeqCst);
        self.0.config_vector.store(NO_VECTOR, Ordering::SeqCst);
        for vector in &self.0.queue_vectors {
            vector.store(NO_VECTOR, Ordering::SeqCst);
        }
    }
}
