//! What a device is to the bus.

use super::config_space::{Change, ConfigSpace};
use crate::bus::Effect;

/// Slots of the bus.
pub const SLOTS: usize = 32;

/// A function of the bus, as its slot sees it.
///
/// The slot's lock is held during calls.
pub trait Function: Send + std::fmt::Debug {
    /// Its configuration space, for the bus to place its BARs and to read.
    fn config(&self) -> &ConfigSpace;
    /// The same, for the bus to place its BARs.
    fn config_mut(&mut self) -> &mut ConfigSpace;

    /// Reads configuration space; `data` lies inside of one aligned 4-byte register.
    fn read_config(&mut self, offset: usize, data: &mut [u8]) {
        self.config().read(offset, data);
    }

    /// Writes configuration space; `data` lies inside of one aligned 4-byte register.
    fn write_config(&mut self, offset: usize, data: &[u8]) -> Change {
        self.config_mut().write(offset, data)
    }

    /// The addresses that the guest gave to the BARs, or their decoding, have changed.
    fn moved(&mut self) {}

    /// The machine ends: nothing of the function may go on.
    fn stop(&mut self) {}

    /// Reads at `offset` of BAR `bar`; `data` (1 to 8 bytes) lies inside of it.
    fn read_bar(&mut self, bar: usize, offset: u64, data: &mut [u8]);

    /// Writes at `offset` of BAR `bar`; `data` (1 to 8 bytes) lies inside of it.
    fn write_bar(&mut self, bar: usize, offset: u64, data: &[u8]) -> Effect;
}
