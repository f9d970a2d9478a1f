//! A register in which a guest marks moments of its boot: x86's port 0x80, for diagnostic codes.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::arch::mark::Mark;
use crate::bus::{Effect, Registers};

/// Marks that are reported at most: Linux used to write here for delays.
const MOST: usize = 64;

/// Reports the first marks.
pub struct DebugPort {
    start: Instant,
    report: Box<dyn Fn(Mark) + Send + Sync>,
    count: AtomicUsize,
}

impl fmt::Debug for DebugPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DebugPort")
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

impl DebugPort {
    /// Reports marks to `report`. Times count from `start`.
    pub fn new(start: Instant, report: Box<dyn Fn(Mark) + Send + Sync>) -> DebugPort {
        DebugPort {
            start,
            report,
            count: AtomicUsize::new(0),
        }
    }
}

impl Registers for DebugPort {
    fn read(&self, _offset: u64, _data: &mut [u8]) {}

    fn write(&self, _offset: u64, data: &[u8]) -> Effect {
        if let &[code] = data
            && self.count.load(Ordering::Relaxed) < MOST
            && self.count.fetch_add(1, Ordering::Relaxed) < MOST
        {
            let after = self.start.elapsed();
            (self.report)(Mark { code, after });
        }
        Effect::None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_flood_is_cut() {
        let (sender, marks) = channel();
        let report = move |mark| sender.send(mark).unwrap();
        let port = DebugPort::new(Instant::now(), Box::new(report));
        for code in 0..200 {
            assert_eq!(port.write(0, &[code]), Effect::None);
        }
        let marks: Vec<Mark> = marks.try_iter().collect();
        assert_eq!(marks.len(), MOST);
        assert_eq!(marks[3].code, 3);
        assert!(marks.is_sorted_by_key(|mark| mark.after));
    }
}
