//! Port 0x80: a guest that writes a byte there marks a moment of its boot.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::arch::mark::Mark;
use crate::bus::{Effect, Registers};

/// Marks that are kept at most: Linux used to write here for delays.
const MOST: usize = 64;

/// Collects marks.
#[derive(Debug)]
pub struct DebugPort {
    start: Instant,
    marks: Mutex<Vec<Mark>>,
}

impl DebugPort {
    /// Times count from `start`.
    pub fn new(start: Instant) -> DebugPort {
        DebugPort {
            start,
            marks: Mutex::default(),
        }
    }

    /// The first marks.
    pub fn marks(&self) -> Vec<Mark> {
        self.marks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Registers for DebugPort {
    fn read(&self, _offset: u64, _data: &mut [u8]) {}

    fn write(&self, _offset: u64, data: &[u8]) -> Effect {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        if let (&[code], true) = (data, marks.len() < MOST) {
            let after = self.start.elapsed();
            marks.push(Mark { code, after });
        }
        Effect::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut() {
        let port = DebugPort::new(Instant::now());
        for code in 0..200 {
            assert_eq!(port.write(0, &[code]), Effect::None);
        }
        let marks = port.marks();
        assert_eq!(marks.len(), MOST);
        assert_eq!(marks[3].code, 3);
        assert!(marks.is_sorted_by_key(|mark| mark.after));
    }
}
