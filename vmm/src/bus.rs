//! Dispatches the guest's accesses to ports and device memory.

use std::sync::Arc;

/// What a write to a register does to the machine as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Effect {
    /// Nothing beyond the device.
    None,
    /// The guest powers off.
    PowerOff,
    /// The guest resets.
    Reset,
}

/// The registers of a device, in one range of a bus.
///
/// Called from all vCPU threads at once. `offset` counts from the start of the range and is
/// inside of it; `data` has 1 to 8 bytes (more for string instructions on ports) and, where
/// the guest wishes so, reaches beyond the range.
pub trait Registers: Send + Sync + std::fmt::Debug {
    /// Reads the registers at `offset` into `data`.
    fn read(&self, offset: u64, data: &mut [u8]);
    /// Writes `data` to the registers at `offset`.
    fn write(&self, offset: u64, data: &[u8]) -> Effect;
}

/// Two devices claim one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the range of {len:#x} bytes at {start:#x} is empty, too long, or taken already")]
pub struct RangeError {
    start: u64,
    len: u64,
}

#[derive(Debug)]
struct Range {
    start: u64,
    len: u64,
    device: Arc<dyn Registers>,
}

/// An address space of devices. It does not change any more once the machine runs.
#[derive(Debug, Default)]
pub struct Bus {
    ranges: Vec<Range>,
}

impl Bus {
    /// Gives `len` addresses from `start` on to `device`.
    ///
    /// # Errors
    /// If one of them is taken.
    pub fn add(
        &mut self,
        start: u64,
        len: u64,
        device: Arc<dyn Registers>,
    ) -> Result<(), RangeError> {
        let error = RangeError { start, len };
        let end = start.checked_add(len).filter(|_| len > 0).ok_or(error)?;
        let at = self.ranges.partition_point(|range| range.start < start);
        let next = self.ranges.get(at);
        let previous = at.checked_sub(1).and_then(|at| self.ranges.get(at));
        if next.is_some_and(|next| next.start < end)
            || previous.is_some_and(|previous| previous.start + previous.len > start)
        {
            return Err(error);
        }
        self.ranges.insert(at, Range { start, len, device });
        Ok(())
    }

    /// Whether no device is at `address`.
    pub fn is_free(&self, address: u64) -> bool {
        self.find(address).is_none()
    }

    fn find(&self, address: u64) -> Option<(u64, &dyn Registers)> {
        let at = self.ranges.partition_point(|range| range.start <= address);
        let range = self.ranges.get(at.checked_sub(1)?)?;
        let offset = address - range.start;
        (offset < range.len).then_some((offset, range.device.as_ref()))
    }

    /// Reads. Without a device all bits are set, as on a real bus.
    pub fn read(&self, address: u64, data: &mut [u8]) {
        data.fill(0xff);
        if let Some((offset, device)) = self.find(address) {
            device.read(offset, data);
        }
    }

    /// Writes. Without a device nothing happens.
    pub fn write(&self, address: u64, data: &[u8]) -> Effect {
        match self.find(address) {
            Some((offset, device)) => device.write(offset, data),
            None => Effect::None,
        }
    }
}

/// The address spaces of a machine's devices.
#[derive(Debug, Default)]
pub struct Buses {
    /// Ports (x86).
    pub pio: Bus,
    /// Device memory.
    pub mmio: Bus,
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Debug, Default)]
    struct Recorder(Mutex<Vec<u64>>);

    impl Registers for Recorder {
        fn read(&self, offset: u64, data: &mut [u8]) {
            data.fill(offset as u8);
        }
        fn write(&self, offset: u64, _data: &[u8]) -> Effect {
            self.0.lock().unwrap().push(offset);
            Effect::Reset
        }
    }

    #[test]
    fn ranges_do_not_overlap() {
        let mut bus = Bus::default();
        let device = Arc::new(Recorder::default());
        bus.add(16, 4, device.clone()).unwrap();
        bus.add(20, 1, device.clone()).unwrap();
        bus.add(8, 8, device.clone()).unwrap();
        for (start, len) in [
            (0, 9),
            (15, 1),
            (19, 1),
            (20, 5),
            (0, 100),
            (30, 0),
            (u64::MAX, 2),
        ] {
            assert!(
                bus.add(start, len, device.clone()).is_err(),
                "{start} {len}"
            );
        }
    }

    #[test]
    fn every_address_has_at_most_one_device() {
        let mut bus = Bus::default();
        let device = Arc::new(Recorder::default());
        bus.add(16, 4, device.clone()).unwrap();
        let mut data = [0];
        bus.read(15, &mut data);
        assert_eq!(data, [0xff]);
        assert!(bus.is_free(15) && bus.is_free(20));
        assert!(!bus.is_free(16) && !bus.is_free(19));
        bus.read(19, &mut data);
        assert_eq!(data, [3]);
        bus.read(u64::MAX, &mut data);
        assert_eq!(data, [0xff]);
        assert_eq!(bus.write(20, &[0]), Effect::None);
        assert_eq!(bus.write(17, &[0]), Effect::Reset);
        assert_eq!(*device.0.lock().unwrap(), [1]);
    }
}
