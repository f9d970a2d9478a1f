//! The common configuration structure (virtio 1.2, section 4.1.4.3): what driver and device
//! negotiate.

use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_queue::{Queue, QueueT};

use super::interrupt::Interrupt;
use super::status;

/// Bytes of the structure.
pub(super) const LEN: u64 = 0x38;

/// What a write means for the transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Request {
    None,
    /// The driver is ready: the device shall work.
    Activate,
    /// The driver resets the device.
    Reset,
}

#[derive(Debug, Clone, Copy)]
struct QueueSetup {
    max: u16,
    size: u16,
    enabled: bool,
    descriptors: u64,
    driver: u64,
    device: u64,
}

/// State of the negotiation.
#[derive(Debug)]
pub(super) struct Common {
    offered: u64,
    accepted: u64,
    device_feature_select: u32,
    driver_feature_select: u32,
    queue_select: u16,
    queues: Vec<QueueSetup>,
    interrupt: Interrupt,
}

/// A register: where it starts, how wide it is.
type Register = (u64, usize);

/// The register that holds `offset`.
fn register(offset: u64) -> Option<Register> {
    const REGISTERS: [Register; 16] = [
        (0x00, 4),
        (0x04, 4),
        (0x08, 4),
        (0x0c, 4),
        (0x10, 2),
        (0x12, 2),
        (0x14, 1),
        (0x15, 1),
        (0x16, 2),
        (0x18, 2),
        (0x1a, 2),
        (0x1c, 2),
        (0x1e, 2),
        (0x20, 8),
        (0x28, 8),
        (0x30, 8),
    ];
    let at = REGISTERS.partition_point(|(start, _)| *start <= offset);
    let (start, width) = *REGISTERS.get(at.checked_sub(1)?)?;
    (offset < start + width as u64).then_some((start, width))
}

impl Common {
    /// Offers `features`, with queues of at most `sizes` entries.
    pub(super) fn new(features: u64, sizes: &[u16], interrupt: Interrupt) -> Common {
        let queue = |&max: &u16| QueueSetup {
            max,
            size: max,
            enabled: false,
            descriptors: 0,
            driver: 0,
            device: 0,
        };
        Common {
            offered: features,
            accepted: 0,
            device_feature_select: 0,
            driver_feature_select: 0,
            queue_select: 0,
            queues: sizes.iter().map(queue).collect(),
            interrupt,
        }
    }

    /// Returns the features that both sides have agreed on.
    pub(super) fn features(&self) -> u64 {
        self.accepted
    }

    /// Back to the beginning.
    pub(super) fn reset(&mut self) {
        let sizes: Vec<u16> = self.queues.iter().map(|queue| queue.max).collect();
        self.interrupt.reset();
        *self = Common::new(self.offered, &sizes, self.interrupt.clone());
    }

    /// The queues that the driver has enabled, as it has set them up; an error for one that
    /// it has set up wrongly.
    pub(super) fn queues(
        &self,
        event_idx: bool,
    ) -> Result<Vec<Option<Queue>>, virtio_queue::Error> {
        let build = |setup: &QueueSetup| {
            if !setup.enabled {
                return Ok(None);
            }
            let mut queue = Queue::new(setup.max)?;
            queue.try_set_size(setup.size)?;
            queue.try_set_desc_table_address(vm_memory::GuestAddress(setup.descriptors))?;
            queue.try_set_avail_ring_address(vm_memory::GuestAddress(setup.driver))?;
            queue.try_set_used_ring_address(vm_memory::GuestAddress(setup.device))?;
            queue.set_event_idx(event_idx);
            queue.set_ready(true);
            Ok(Some(queue))
        };
        self.queues.iter().map(build).collect()
    }

    fn queue(&self) -> Option<&QueueSetup> {
        self.queues.get(usize::from(self.queue_select))
    }

    /// Reads at `offset`; where there is no register are zeros.
    pub(super) fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let Some((start, width)) = register(offset) {
            let value = self.get(start).to_le_bytes();
            let skip = (offset - start) as usize;
            for (to, from) in data.iter_mut().zip(value.iter().take(width).skip(skip)) {
                *to = *from;
            }
        }
    }

    fn get(&self, start: u64) -> u64 {
        let half = |value: u64, select: u32| match select {
            0 => value & 0xffff_ffff,
            1 => value >> 32,
            _ => 0,
        };
        let selected = usize::from(self.queue_select);
        let queue = self.queue();
        match start {
            0x00 => u64::from(self.device_feature_select),
            0x04 => half(self.offered, self.device_feature_select),
            0x08 => u64::from(self.driver_feature_select),
            0x0c => half(self.accepted, self.driver_feature_select),
            0x10 => u64::from(self.interrupt.config_vector()),
            0x12 => self.queues.len() as u64,
            0x14 => u64::from(self.interrupt.status()),
            0x15 => u64::from(self.interrupt.generation()),
            0x16 => u64::from(self.queue_select),
            // Size 0: there is no such queue.
            0x18 => queue.map_or(0, |queue| u64::from(queue.size)),
            0x1a => u64::from(self.interrupt.queue_vector(selected)),
            0x1c => queue.map_or(0, |queue| u64::from(queue.enabled)),
            // Each queue is notified at its own address.
            0x1e => queue.map_or(0, |_| u64::from(self.queue_select)),
            0x20 => queue.map_or(0, |queue| queue.descriptors),
            0x28 => queue.map_or(0, |queue| queue.driver),
            0x30 => queue.map_or(0, |queue| queue.device),
            _ => 0,
        }
    }

    /// Takes what the driver writes at `offset`: a register, or half of a 64-bit one; anything
    /// else is no access that the specification knows.
    pub(super) fn write(&mut self, offset: u64, data: &[u8]) -> Request {
        let Some((start, width)) = register(offset) else {
            return Request::None;
        };
        let half = width == 8 && data.len() == 4 && offset.is_multiple_of(4);
        if !half && (offset != start || data.len() != width) {
            return Request::None;
        }
        let mut bytes = [0; 8];
        for (byte, value) in bytes.iter_mut().zip(data) {
            *byte = *value;
        }
        let mut value = u64::from_le_bytes(bytes);
        if half {
            let shift = 8 * (offset - start);
            let old = self.get(start);
            value = old & !(0xffff_ffff << shift) | value << shift;
        }
        self.set(start, value)
    }

    fn set(&mut self, start: u64, value: u64) -> Request {
        let status = self.interrupt.status();
        let selected = usize::from(self.queue_select);
        match start {
            0x00 => self.device_feature_select = value as u32,
            0x08 => self.driver_feature_select = value as u32,
            0x0c if status & status::FEATURES_OK == 0 => match self.driver_feature_select {
                0 => self.accepted = self.accepted >> 32 << 32 | value,
                1 => self.accepted = self.accepted & 0xffff_ffff | value << 32,
                _ => {}
            },
            0x10 => self.interrupt.set_config_vector(value as u16),
            0x14 => return self.set_status(value as u8),
            0x16 => self.queue_select = value as u16,
            0x1a => self.interrupt.set_queue_vector(selected, value as u16),
            _ => self.set_queue(start, value),
        }
        Request::None
    }

    fn set_queue(&mut self, start: u64, value: u64) {
        // Once a queue is enabled it is not changed (virtio 1.2, section 4.1.4.3.2).
        let selected = usize::from(self.queue_select);
        let Some(queue) = self.queues.get_mut(selected).filter(|queue| !queue.enabled) else {
            return;
        };
        match start {
            0x18 => {
                let size = value as u16;
                if size.is_power_of_two() && size <= queue.max {
                    queue.size = size;
                }
            }
            0x1c => queue.enabled = value == 1,
            0x20 => queue.descriptors = value,
            0x28 => queue.driver = value,
            0x30 => queue.device = value,
            _ => {}
        }
    }

    /// A driver only adds bits, or resets by writing 0.
    fn set_status(&mut self, value: u8) -> Request {
        if value == 0 {
            return Request::Reset;
        }
        let before = self.interrupt.status();
        let mut new = value & !before & !status::NEEDS_RESET;
        if new & status::FEATURES_OK != 0 {
            let unknown = self.accepted & !self.offered;
            if unknown != 0 || self.accepted & 1 << VIRTIO_F_VERSION_1 == 0 {
                new &= !(status::FEATURES_OK | status::DRIVER_OK);
            }
        }
        self.interrupt.add_status(new);
        let ready = status::FEATURES_OK | status::DRIVER_OK;
        if new & status::DRIVER_OK != 0 && (before | new) & ready == ready {
            Request::Activate
        } else {
            Request::None
        }
    }
}
