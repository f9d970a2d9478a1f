//! Device configuration space, shared between the device and the transport.

use std::ops::Range;
use std::sync::{PoisonError, RwLock};

/// Bytes that the driver sees, some of which it may write.
#[derive(Debug)]
pub struct DeviceConfig {
    bytes: RwLock<Vec<u8>>,
    writable: Range<usize>,
}

impl DeviceConfig {
    /// Creates a space of `bytes`, of which the driver may write `writable`.
    pub fn new(bytes: Vec<u8>, writable: Range<usize>) -> DeviceConfig {
        DeviceConfig {
            bytes: RwLock::new(bytes),
            writable,
        }
    }

    /// Reads from `offset` on; beyond the end are zeros.
    pub fn read(&self, offset: usize, data: &mut [u8]) {
        let bytes = self.bytes.read().unwrap_or_else(PoisonError::into_inner);
        let from = bytes.get(offset..).unwrap_or_default();
        for (at, value) in data.iter_mut().enumerate() {
            *value = from.get(at).copied().unwrap_or(0);
        }
    }

    /// Writes what the driver may write, and ignores the rest.
    pub fn write_from_driver(&self, offset: usize, data: &[u8]) {
        let mut bytes = self.bytes.write().unwrap_or_else(PoisonError::into_inner);
        for (at, value) in data.iter().enumerate() {
            let at = offset.saturating_add(at);
            if let (true, Some(byte)) = (self.writable.contains(&at), bytes.get_mut(at)) {
                *byte = *value;
            }
        }
    }

    /// Writes for the device, which then has to notify the driver
    /// ([`Interrupt::config`](super::Interrupt::config)).
    pub fn set(&self, offset: usize, data: &[u8]) {
        let mut bytes = self.bytes.write().unwrap_or_else(PoisonError::into_inner);
        for (byte, value) in bytes.iter_mut().skip(offset).zip(data) {
            *byte = *value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_writes_only_what_it_may() {
        let config = DeviceConfig::new(vec![1, 2, 3, 4], 2..3);
        config.write_from_driver(0, &[9; 8]);
        config.write_from_driver(usize::MAX, &[9; 8]);
        let mut data = [7; 6];
        config.read(0, &mut data);
        assert_eq!(data, [1, 2, 9, 4, 0, 0]);
        config.read(usize::MAX, &mut data);
        assert_eq!(data, [0; 6]);
        config.set(3, &[5, 6]);
        config.read(3, &mut data[..2]);
        assert_eq!(data[..2], [5, 0]);
    }
}
