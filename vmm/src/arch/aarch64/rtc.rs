//! The real-time clock (Arm PrimeCell PL031): the host's time. Linux sets its clock by it at the
//! start, since Arm has no clock that KVM shows to a guest.

use std::sync::{Mutex, PoisonError};

use vm_superio::Rtc;
use vm_superio::rtc_pl031::NoEvents;

use crate::bus::{Effect, Registers};

/// The clock. A guest that sets it sets its own alone.
#[derive(Debug, Default)]
pub(super) struct Clock(Mutex<Rtc<NoEvents>>);

/// Bytes of the device.
pub(super) const LEN: u64 = 0x1000;

/// Its registers have 32 bits; other accesses do nothing (PL031 reference manual, section 3.2).
impl Registers for Clock {
    fn read(&self, offset: u64, data: &mut [u8]) {
        if let Ok(word) = data.try_into() {
            let mut clock = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            clock.read(offset as u16, word);
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Effect {
        if let Ok(word) = data.try_into() {
            let mut clock = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            clock.write(offset as u16, word);
        }
        Effect::None
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn it_says_the_hosts_time_and_what_linux_identifies_it_by() {
        let clock = Clock::default();
        let read = |offset| {
            let mut word = [0; 4];
            clock.read(offset, &mut word);
            u32::from_le_bytes(word)
        };
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        assert!(u64::from(read(0)).abs_diff(now) <= 2);
        // Peripheral and PrimeCell identity, a byte a word (drivers/amba/bus.c).
        let id = |from: u64| (0..4).fold(0, |id, at| id | read(from + 4 * at) << (8 * at));
        assert_eq!(id(0xff0), 0xb105_f00d);
        assert_eq!(id(0xfe0) & 0xf_ffff, 0x4_1031);
    }

    #[test]
    fn accesses_of_other_sizes_do_nothing() {
        let clock = Clock::default();
        for len in [1, 2, 8] {
            let mut data = vec![0xff; len];
            clock.read(0, &mut data);
            assert_eq!(data, vec![0xff; len]);
            assert_eq!(clock.write(8, &data), Effect::None);
        }
    }
}
