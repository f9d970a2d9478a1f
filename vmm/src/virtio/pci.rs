//! The PCI transport (virtio 1.2, section 4.1): a function with one BAR, in which lie the
//! common configuration, the ISR status, the device's configuration, the notification
//! addresses and the MSI-X table.

use std::sync::Arc;

use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_queue::QueueT;
use vmm_sys_util::eventfd::EventFd;

use super::common::{self, Common, Request};
use super::config::DeviceConfig;
use super::device::{Context, Device};
use super::failure_sink::FailureSink;
use super::fault::Fault;
use super::interrupt::Interrupt;
use super::kind::Kind;
use super::queue::ActiveQueue;
use super::stop_flag::StopFlag;
use super::worker::{self, Worker};
use crate::bus::Effect;
use crate::kvm::{IoEvents, MsiSink};
use crate::memory::GuestRam;
use crate::pci::msix::{self, Msix};
use crate::pci::{Change, ConfigSpace, Function, Identity};
use crate::threads::Threads;

/// Vendor of virtio devices (virtio 1.2, section 4.1.2).
const VENDOR: u16 = 0x1af4;
/// Device numbers of modern devices are this and the kind's.
const MODERN: u16 = 0x1040;
/// Non-transitional devices have at least these revision and subsystem numbers.
const REVISION: u8 = 1;
const SUBSYSTEM: u16 = 0x40;

/// The BAR and its parts.
const BAR: u8 = 0;
const BAR_SIZE: u32 = 0x4000;
const COMMON: u64 = 0x0000;
const ISR: u64 = 0x0100;
const ISR_LEN: u64 = 4;
const DEVICE: u64 = 0x0400;
const DEVICE_LEN: u64 = 0x0c00;
const NOTIFY: u64 = 0x1000;
const NOTIFY_LEN: u64 = 0x1000;
const TABLE: u64 = 0x2000;
const TABLE_LEN: u64 = 0x1000;
const PENDING: u64 = 0x3000;
const PENDING_LEN: u64 = 0x1000;
/// Bytes between the notification addresses of two queues.
const NOTIFY_MULTIPLIER: u32 = 4;
/// One vector for each queue and one for the configuration, as far as the table goes.
const MAX_VECTORS: usize = (TABLE_LEN / msix::ENTRY) as usize;

/// Vendor-specific capability, with which the parts are described.
const CAPABILITY: u8 = 9;
/// `cfg_type` (section 4.1.4).
const CFG_COMMON: u8 = 1;
const CFG_NOTIFY: u8 = 2;
const CFG_ISR: u8 = 3;
const CFG_DEVICE: u8 = 4;
const CFG_PCI: u8 = 5;
/// Offsets in that capability.
const CAP_BAR: usize = 4;
const CAP_OFFSET: usize = 8;
const CAP_LENGTH: usize = 12;
const CAP_DATA: usize = 16;

/// What the transport needs of the machine.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// Takes interrupts.
    pub msi: Arc<dyn MsiSink>,
    /// Turns notifications into events.
    pub io_events: Arc<dyn IoEvents>,
    /// The guest's memory.
    pub ram: GuestRam,
    /// Learns of a device whose thread panicked.
    pub failures: FailureSink,
    /// Starts and confines its threads.
    pub threads: Threads,
}

/// Notification of one queue.
#[derive(Debug)]
struct Doorbell {
    event: EventFd,
    index: usize,
    /// Guest address at which KVM signals the event by itself.
    attached: Option<u64>,
}

#[derive(Debug)]
enum State {
    Idle(Box<dyn Device>),
    Working(Worker),
    /// The device panicked, or could not be started for want of threads.
    Lost,
}

/// A virtio device as a PCI function.
#[derive(Debug)]
pub struct VirtioPci {
    kind: Kind,
    config: ConfigSpace,
    msix: Arc<Msix>,
    msix_capability: usize,
    pci_capability: usize,
    common: Common,
    interrupt: Interrupt,
    device_config: Arc<DeviceConfig>,
    attachment: Attachment,
    doorbells: Vec<Doorbell>,
    state: State,
}

impl VirtioPci {
    /// Creates the function of `device`.
    pub fn new(device: Box<dyn Device>, attachment: Attachment) -> VirtioPci {
        let kind = device.kind();
        let sizes = device.queue_sizes();
        let vectors = (sizes.len() + 1).min(MAX_VECTORS) as u16;
        let msix = Arc::new(Msix::new(vectors, Arc::clone(&attachment.msi)));
        let interrupt = Interrupt::new(Arc::clone(&msix), sizes.len());
        let features = device.features()
            | 1 << VIRTIO_F_VERSION_1
            | 1 << VIRTIO_RING_F_INDIRECT_DESC
            | 1 << VIRTIO_RING_F_EVENT_IDX;
        let mut config = ConfigSpace::new(Identity {
            vendor: VENDOR,
            device: MODERN + kind.id(),
            revision: REVISION,
            class: kind.class(),
            subsystem_vendor: VENDOR,
            subsystem: SUBSYSTEM,
        });
        config.add_bar(usize::from(BAR), BAR_SIZE);
        let msix_capability = config.add_capability(
            msix::CAPABILITY,
            &msix::capability(vectors, BAR, TABLE as u32, PENDING as u32),
            &msix::WRITABLE,
        );
        let pci_capability = add_capabilities(&mut config);
        VirtioPci {
            kind,
            config,
            msix,
            msix_capability,
            pci_capability,
            common: Common::new(features, &sizes, interrupt.clone()),
            interrupt,
            device_config: device.config(),
            attachment,
            doorbells: Vec::new(),
            state: State::Idle(device),
        }
    }

    fn bar_address(&self) -> Option<u64> {
        let bar = self.config.bars().next()?;
        self.config.decodes_memory().then(|| u64::from(bar.address))
    }

    /// The driver is ready.
    fn activate(&mut self) {
        if let Err(fault) = self.try_activate() {
            let name = self.kind.name();
            log::warn!("{name} cannot start: {fault}");
            self.interrupt.needs_reset();
            self.attachment.failures.report_if_hosts(name, &fault);
        }
    }

    fn try_activate(&mut self) -> Result<(), Fault> {
        let features = self.common.features();
        let host = |error: std::io::Error| Fault::Host(error.to_string());
        let ram = &self.attachment.ram;
        let stop = StopFlag::new();
        let mut queues = Vec::new();
        let mut doorbells = Vec::new();
        let event_idx = features & 1 << VIRTIO_RING_F_EVENT_IDX != 0;
        for (index, queue) in self.common.queues(event_idx)?.into_iter().enumerate() {
            let Some(queue) = queue else {
                queues.push(None);
                continue;
            };
            if !queue.is_valid(ram) {
                return Err(Fault::Request(format!("queue {index} is not in memory")));
            }
            let event = worker::event().map_err(host)?;
            doorbells.push(Doorbell {
                event: event.try_clone().map_err(host)?,
                index,
                attached: None,
            });
            queues.push(Some(ActiveQueue::new(queue, index, event, stop.clone())));
        }
        let context = Context {
            ram: ram.clone(),
            features,
            queues,
            interrupt: self.interrupt.clone(),
            failures: self.attachment.failures.clone(),
            stop,
            threads: self.attachment.threads.clone(),
        };
        match std::mem::replace(&mut self.state, State::Lost) {
            State::Idle(device) => {
                let start = move || Worker::start(device, context);
                let worker = self.attachment.threads.start(start);
                let worker = worker.and_then(|worker| worker).map_err(host)?;
                self.state = State::Working(worker);
                self.doorbells = doorbells;
                self.attach();
                Ok(())
            }
            other => {
                self.state = other;
                Err(Fault::Request(String::from("it was lost or is at work")))
            }
        }
    }

    /// Lets KVM signal the notifications where the guest sees the BAR now.
    fn attach(&mut self) {
        let base = self.bar_address();
        for doorbell in &mut self.doorbells {
            let offset = doorbell.index as u64 * u64::from(NOTIFY_MULTIPLIER);
            let address = base.map(|base| base + NOTIFY + offset);
            if doorbell.attached == address {
                continue;
            }
            if let Some(old) = doorbell.attached.take() {
                self.attachment.io_events.detach(&doorbell.event, old);
            }
            if let Some(address) = address {
                match self.attachment.io_events.attach(&doorbell.event, address) {
                    Ok(()) => doorbell.attached = Some(address),
                    // The write then comes to us (`notify`).
                    Err(error) => log::debug!("no event for a notification: {error}"),
                }
            }
        }
    }

    /// Stops and resets the device.
    fn reset(&mut self) {
        for doorbell in self.doorbells.drain(..) {
            if let Some(address) = doorbell.attached {
                self.attachment.io_events.detach(&doorbell.event, address);
            }
        }
        self.state = match std::mem::replace(&mut self.state, State::Lost) {
            State::Working(worker) => worker.stop().map_or(State::Lost, State::Idle),
            other => other,
        };
        self.common.reset();
    }

    /// Handles a notification that KVM did not take.
    fn notify(&self, offset: u64) {
        let index = (offset / u64::from(NOTIFY_MULTIPLIER)) as usize;
        let doorbell = self
            .doorbells
            .iter()
            .find(|doorbell| doorbell.index == index);
        if let Some(doorbell) = doorbell
            && let Err(error) = doorbell.event.write(1)
        {
            log::debug!("a notification is lost: {error}");
        }
    }

    fn update_msix(&self) {
        let mut control = [0; 2];
        self.config.read(self.msix_capability + 2, &mut control);
        let control = u16::from_le_bytes(control);
        self.msix.set_control(control, self.config.is_master());
    }

    /// The access that the PCI configuration capability describes (section 4.1.4.9): offset
    /// in the BAR and length.
    fn window(&self) -> Option<(u64, usize)> {
        let field = |at| {
            let mut bytes = [0; 4];
            self.config.read(self.pci_capability + at, &mut bytes);
            u32::from_le_bytes(bytes)
        };
        let (offset, len) = (field(CAP_OFFSET), field(CAP_LENGTH));
        let end = u64::from(offset) + u64::from(len);
        let good = field(CAP_BAR) & 0xff == u32::from(BAR)
            && matches!(len, 1 | 2 | 4)
            && offset.is_multiple_of(len)
            && end <= u64::from(BAR_SIZE);
        good.then_some((u64::from(offset), len as usize))
    }

    fn is_window(&self, offset: usize) -> bool {
        offset == self.pci_capability + CAP_DATA
    }
}

/// Describes the parts of the BAR. Returns the offset of the last one, the window.
fn add_capabilities(config: &mut ConfigSpace) -> usize {
    let body = |kind: u8, offset: u64, len: u64, more: &[u8]| {
        let mut body = vec![(CAP_DATA + more.len()) as u8, kind, BAR, 0, 0, 0];
        body.extend((offset as u32).to_le_bytes());
        body.extend((len as u32).to_le_bytes());
        body.extend(more);
        body
    };
    for (kind, offset, len) in [
        (CFG_COMMON, COMMON, common::LEN),
        (CFG_ISR, ISR, ISR_LEN),
        (CFG_DEVICE, DEVICE, DEVICE_LEN),
    ] {
        config.add_capability(CAPABILITY, &body(kind, offset, len, &[]), &[]);
    }
    let multiplier = NOTIFY_MULTIPLIER.to_le_bytes();
    config.add_capability(
        CAPABILITY,
        &body(CFG_NOTIFY, NOTIFY, NOTIFY_LEN, &multiplier),
        &[],
    );
    // The driver chooses BAR, offset and length.
    let mut writable = [0xff; CAP_DATA + 4 - 2];
    for at in [0, 1, 3, 4, 5] {
        writable[at] = 0;
    }
    config.add_capability(CAPABILITY, &body(CFG_PCI, 0, 0, &[0; 4]), &writable)
}

impl Function for VirtioPci {
    fn config(&self) -> &ConfigSpace {
        &self.config
    }

    fn config_mut(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }

    fn read_config(&mut self, offset: usize, data: &mut [u8]) {
        if self.is_window(offset)
            && let Some((at, len)) = self.window()
            && len == data.len()
        {
            self.read_bar(usize::from(BAR), at, data);
        } else {
            self.config.read(offset, data);
        }
    }

    fn write_config(&mut self, offset: usize, data: &[u8]) -> Change {
        if self.is_window(offset)
            && let Some((at, len)) = self.window()
            && len == data.len()
        {
            // No register of a virtio device ends the machine.
            let _ = self.write_bar(usize::from(BAR), at, data);
            return Change::None;
        }
        let change = self.config.write(offset, data);
        self.update_msix();
        if change == Change::None && self.window().is_some() {
            return Change::Window;
        }
        change
    }

    fn moved(&mut self) {
        self.attach();
    }

    fn stop(&mut self) {
        self.reset();
    }

    fn read_bar(&mut self, _bar: usize, offset: u64, data: &mut [u8]) {
        data.fill(0);
        match offset {
            ISR => {
                if let Some(byte) = data.first_mut() {
                    *byte = self.interrupt.take_isr();
                }
            }
            DEVICE..NOTIFY => self.device_config.read((offset - DEVICE) as usize, data),
            TABLE..PENDING => self.msix.read_table(offset - TABLE, data),
            PENDING.. => self.msix.read_pending(offset - PENDING, data),
            _ => self.common.read(offset - COMMON, data),
        }
    }

    fn write_bar(&mut self, _bar: usize, offset: u64, data: &[u8]) -> Effect {
        match offset {
            DEVICE..NOTIFY => {
                let offset = (offset - DEVICE) as usize;
                self.device_config.write_from_driver(offset, data);
            }
            NOTIFY..TABLE => self.notify(offset - NOTIFY),
            TABLE..PENDING => self.msix.write_table(offset - TABLE, data),
            PENDING.. => {}
            _ => match self.common.write(offset - COMMON, data) {
                Request::None => {}
                Request::Activate => self.activate(),
                Request::Reset => self.reset(),
            },
        }
        Effect::None
    }
}

const _: () = assert!(PENDING + PENDING_LEN == BAR_SIZE as u64);
const _: () = assert!(DEVICE + DEVICE_LEN == NOTIFY && NOTIFY + NOTIFY_LEN == TABLE);

#[cfg(test)]
mod tests;
