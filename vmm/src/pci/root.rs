//! The bus: which device is in which slot, and how the guest reaches it.
//!
//! Configuration space is reached by ports 0xcf8 and 0xcfc, or memory-mapped (ECAM); BARs lie
//! in one window. The windows are devices of the machine's buses.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use super::config_shadow::ConfigShadow;
use super::config_space::{BarRegister, Change};
use super::function::{Function, SLOTS};
use crate::bus::{Effect, Registers};

/// Why a function cannot be added to the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PciError {
    /// All slots are taken.
    #[error("more than {} devices on the PCI bus", SLOTS)]
    Slots,
    /// The memory window is too small.
    #[error("no room for {0:#x} bytes in the memory window of the PCI bus")]
    Window(u32),
}

type Slot = Mutex<Box<dyn Function>>;

/// A BAR that answers.
#[derive(Debug, Clone)]
struct Decoded {
    range: Range<u64>,
    slot: usize,
    bar: usize,
}

/// A bus with [`SLOTS`] slots and one memory window.
#[derive(Debug)]
pub struct PciRoot {
    slots: Vec<Slot>,
    /// Where the next BAR goes, and the end of the window.
    free: Range<u64>,
    decoded: RwLock<Vec<Decoded>>,
    /// What the guest reads of configuration space without us.
    shadow: OnceLock<ConfigShadow>,
}

impl PciRoot {
    /// An empty bus with a window for BARs in `window` (guest addresses below 4 GiB).
    pub fn new(window: Range<u64>) -> PciRoot {
        PciRoot {
            slots: Vec::new(),
            free: window,
            decoded: RwLock::default(),
            shadow: OnceLock::new(),
        }
    }

    /// Returns the number of the next slot, that of a function which is added now.
    pub fn next_slot(&self) -> usize {
        self.slots.len()
    }

    /// Puts `function` into the next slot and gives its BARs addresses.
    ///
    /// # Errors
    /// If there is no slot or no room left.
    pub fn add(&mut self, mut function: Box<dyn Function>) -> Result<(), PciError> {
        if self.slots.len() >= SLOTS {
            return Err(PciError::Slots);
        }
        let bars: Vec<BarRegister> = function.config().bars().collect();
        for bar in bars {
            let size = u64::from(bar.size);
            let start = self.free.start.next_multiple_of(size);
            if start + size > self.free.end {
                return Err(PciError::Window(bar.size));
            }
            function.config_mut().place(bar.index, start as u32);
            self.free.start = start + size;
        }
        function.moved();
        self.slots.push(Mutex::new(function));
        self.decode_again();
        Ok(())
    }

    /// Keeps `shadow` in step with the registers from now on. Only the first call has an effect.
    pub fn set_shadow(&self, shadow: ConfigShadow) {
        let shadow = self.shadow.get_or_init(|| shadow);
        for number in 0..self.slots.len() {
            if let Some(function) = self.slot(number) {
                shadow.show_all(number, function.config());
            }
        }
    }

    /// Stops all functions.
    pub fn stop(&self) {
        for number in 0..self.slots.len() {
            if let Some(mut function) = self.slot(number) {
                function.stop();
            }
        }
    }

    fn slot(&self, number: usize) -> Option<MutexGuard<'_, Box<dyn Function>>> {
        let slot = self.slots.get(number)?;
        Some(slot.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the BARs that decode out of all configuration spaces.
    fn decode_again(&self) {
        // The lock is taken first: the list of the last change is the one that stays.
        let mut decoded = self.decoded.write().unwrap_or_else(PoisonError::into_inner);
        decoded.clear();
        for number in 0..self.slots.len() {
            let Some(function) = self.slot(number) else {
                continue;
            };
            if !function.config().decodes_memory() {
                continue;
            }
            decoded.extend(function.config().bars().map(|bar| {
                let start = u64::from(bar.address);
                Decoded {
                    range: start..start + u64::from(bar.size),
                    slot: number,
                    bar: bar.index,
                }
            }));
        }
    }

    /// The BAR that an access of `len` bytes at `address` lies in as a whole.
    fn find(&self, address: u64, len: usize) -> Option<Decoded> {
        let decoded = self.decoded.read().unwrap_or_else(PoisonError::into_inner);
        let end = address.checked_add(len as u64)?;
        decoded
            .iter()
            .find(|bar| bar.range.start <= address && end <= bar.range.end)
            .cloned()
    }

    fn read_memory(&self, address: u64, data: &mut [u8]) {
        data.fill(0xff);
        if let Some(found) = self.find(address, data.len())
            && let Some(mut function) = self.slot(found.slot)
        {
            function.read_bar(found.bar, address - found.range.start, data);
        }
    }

    fn write_memory(&self, address: u64, data: &[u8]) -> Effect {
        match self.find(address, data.len()) {
            Some(found) => self.slot(found.slot).map_or(Effect::None, |mut function| {
                function.write_bar(found.bar, address - found.range.start, data)
            }),
            None => Effect::None,
        }
    }

    fn read_config(&self, at: ConfigAddress, data: &mut [u8]) {
        data.fill(0xff);
        if let Some(mut function) = at.function(self) {
            function.read_config(at.register, data);
        }
    }

    fn write_config(&self, at: ConfigAddress, data: &[u8]) {
        let Some(mut function) = at.function(self) else {
            return;
        };
        let change = function.write_config(at.register, data);
        if let Some(shadow) = self.shadow.get() {
            shadow.show(at.device, function.config());
        }
        match change {
            Change::None => {}
            Change::Decoding => {
                function.moved();
                drop(function);
                self.decode_again();
            }
            Change::Window => {
                if let Some(shadow) = self.shadow.get() {
                    shadow.withdraw();
                }
            }
        }
    }
}

/// A register of a function.
#[derive(Debug, Clone, Copy)]
struct ConfigAddress {
    device: usize,
    function: usize,
    register: usize,
}

impl ConfigAddress {
    fn function<'a>(&self, root: &'a PciRoot) -> Option<MutexGuard<'a, Box<dyn Function>>> {
        if self.function != 0 {
            return None;
        }
        root.slot(self.device)
    }
}

/// An access that is 1, 2 or 4 bytes in one register, as configuration space wants it.
fn in_one_register(register: usize, len: usize) -> bool {
    matches!(len, 1 | 2 | 4) && register % 4 + len <= 4
}

/// Ports 0xcf8 (address) to 0xcff (data) of bus 0.
#[derive(Debug)]
pub struct ConfigPorts {
    root: Arc<PciRoot>,
    address: AtomicU32,
}

/// Bit of the address register: accesses to the data register are configuration.
const ENABLE: u32 = 1 << 31;

impl ConfigPorts {
    /// The ports of `root`.
    pub fn new(root: Arc<PciRoot>) -> ConfigPorts {
        ConfigPorts {
            root,
            address: AtomicU32::new(0),
        }
    }

    /// What an access at `offset` (from 0xcf8) of `len` bytes means.
    fn target(&self, offset: u64, len: usize) -> Option<ConfigAddress> {
        let address = self.address.load(Ordering::Relaxed);
        let register = (address & 0xfc) as usize + offset.checked_sub(4)? as usize;
        let bus = address >> 16 & 0xff;
        (address & ENABLE != 0 && bus == 0 && in_one_register(register, len)).then_some(
            ConfigAddress {
                device: (address >> 11 & 0x1f) as usize,
                function: (address >> 8 & 7) as usize,
                register,
            },
        )
    }
}

impl Registers for ConfigPorts {
    fn read(&self, offset: u64, data: &mut [u8]) {
        if offset == 0 && data.len() == 4 {
            data.copy_from_slice(&self.address.load(Ordering::Relaxed).to_le_bytes());
        } else if let Some(target) = self.target(offset, data.len()) {
            self.root.read_config(target, data);
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Effect {
        if let (0, Ok(bytes)) = (offset, data.try_into()) {
            self.address
                .store(u32::from_le_bytes(bytes), Ordering::Relaxed);
        } else if let Some(target) = self.target(offset, data.len()) {
            self.root.write_config(target, data);
        }
        Effect::None
    }
}

/// Memory-mapped configuration space of bus 0 (PCI Express Base Specification, section 7.2.2).
#[derive(Debug)]
pub struct ConfigWindow(pub Arc<PciRoot>);

impl ConfigWindow {
    fn target(offset: u64, len: usize) -> Option<ConfigAddress> {
        let register = (offset & 0xfff) as usize;
        in_one_register(register, len).then_some(ConfigAddress {
            device: (offset >> 15 & 0x1f) as usize,
            function: (offset >> 12 & 7) as usize,
            register,
        })
    }
}

impl Registers for ConfigWindow {
    fn read(&self, offset: u64, data: &mut [u8]) {
        if let Some(target) = Self::target(offset, data.len()) {
            self.0.read_config(target, data);
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Effect {
        if let Some(target) = Self::target(offset, data.len()) {
            self.0.write_config(target, data);
        }
        Effect::None
    }
}

/// The window in which BARs lie.
#[derive(Debug)]
pub struct MemoryWindow {
    root: Arc<PciRoot>,
    start: u64,
}

impl MemoryWindow {
    /// The window of `root` that starts at `start`.
    pub fn new(root: Arc<PciRoot>, start: u64) -> MemoryWindow {
        MemoryWindow { root, start }
    }
}

impl Registers for MemoryWindow {
    fn read(&self, offset: u64, data: &mut [u8]) {
        self.root.read_memory(self.start + offset, data);
    }

    fn write(&self, offset: u64, data: &[u8]) -> Effect {
        self.root.write_memory(self.start + offset, data)
    }
}

#[cfg(test)]
mod tests;
