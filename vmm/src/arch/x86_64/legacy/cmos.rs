//! The CMOS clock (Motorola MC146818): the host's time, read only.
//!
//! Linux takes the time from KVM's clock and is told by the FADT that there is no CMOS clock.
//! It is there all the same: a kernel that waits for an absent one waits a second.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::bus::{Effect, Registers};

/// Register numbers (data sheet, table 1; the century where the ACPI tables of PCs put it).
const SECONDS: u8 = 0x00;
const MINUTES: u8 = 0x02;
const HOURS: u8 = 0x04;
const WEEKDAY: u8 = 0x06;
const DAY: u8 = 0x07;
const MONTH: u8 = 0x08;
const YEAR: u8 = 0x09;
const STATUS_A: u8 = 0x0a;
const STATUS_B: u8 = 0x0b;
const STATUS_D: u8 = 0x0d;
const CENTURY: u8 = 0x32;

/// 32.768 kHz, 1024 Hz; never updating.
const STATUS_A_VALUE: u8 = 0x26;
/// 24 hours, binary numbers.
const STATUS_B_VALUE: u8 = 0x06;
/// The battery is good.
const STATUS_D_VALUE: u8 = 0x80;

/// The clock, with the index of the register that is read next.
#[derive(Debug, Default)]
pub struct Cmos {
    index: AtomicU8,
}

impl Registers for Cmos {
    fn read(&self, offset: u64, data: &mut [u8]) {
        if offset == 1 {
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs());
            data.fill(value(self.index.load(Ordering::Relaxed), now));
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Effect {
        if let (0, [index, ..]) = (offset, data) {
            // The top bit masks the NMI.
            self.index.store(index & 0x7f, Ordering::Relaxed);
        }
        Effect::None
    }
}

/// Register `index` at `now` seconds after 1970.
fn value(index: u8, now: u64) -> u8 {
    let (days, second) = (now / 86_400, now % 86_400);
    let (year, month, day) = date(days);
    let number = match index {
        SECONDS => second % 60,
        MINUTES => second / 60 % 60,
        HOURS => second / 3600,
        // 1 is Sunday; 1970 began on a Thursday.
        WEEKDAY => (days + 4) % 7 + 1,
        DAY => day,
        MONTH => month,
        YEAR => year % 100,
        CENTURY => year / 100,
        STATUS_A => return STATUS_A_VALUE,
        STATUS_B => return STATUS_B_VALUE,
        STATUS_D => return STATUS_D_VALUE,
        _ => 0,
    };
    // All are below 100.
    number as u8
}

/// Year, month and day of the Gregorian calendar, `days` after 1970-01-01.
fn date(days: u64) -> (u64, u64, u64) {
    let leap =
        |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    // Whole cycles of 400 years have 146097 days.
    let (mut year, mut days) = (1970 + days / 146_097 * 400, days % 146_097);
    loop {
        let length = 365 + u64::from(leap(year));
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(date(0), (1970, 1, 1));
        assert_eq!(date(11_016), (2000, 2, 29));
        assert_eq!(date(20_780), (2026, 11, 23));
        assert_eq!(date(47_540), (2100, 2, 28));
        assert_eq!(date(47_541), (2100, 3, 1));
    }

    #[test]
    fn registers() {
        // 2026-11-23 19:17:04, a Monday.
        let now = 20_780 * 86_400 + 19 * 3600 + 17 * 60 + 4;
        let read = |index| value(index, now);
        assert_eq!([read(HOURS), read(MINUTES), read(SECONDS)], [19, 17, 4]);
        assert_eq!(
            [read(CENTURY), read(YEAR), read(MONTH), read(DAY)],
            [20, 26, 11, 23]
        );
        assert_eq!(read(WEEKDAY), 2);
        assert_eq!(read(STATUS_A) & 0x80, 0);
    }

    #[test]
    fn the_index_selects() {
        let cmos = Cmos::default();
        assert_eq!(cmos.write(0, &[0x80 | STATUS_D]), Effect::None);
        let mut data = [0];
        cmos.read(1, &mut data);
        assert_eq!(data, [STATUS_D_VALUE]);
    }
}
