//! FSYNC, FSYNCDIR and SYNCFS.

use std::io::Result;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};

use super::fs::PassthroughFs;
use super::handles::OpenFile;

/// syncfs(2) writes what every user of the host's file system has written: a guest that repeats
/// it gets one in this time, after [`BURST`] at once.
const INTERVAL: Duration = Duration::from_secs(1);
/// How many a guest gets without waiting.
const BURST: u32 = 8;

/// Calls fsync(2) or fdatasync(2).
pub(super) fn sync(open: &OpenFile, data_only: bool) -> Result<()> {
    let result = if data_only {
        rustix::fs::fdatasync(&open.file)
    } else {
        rustix::fs::fsync(&open.file)
    };
    Ok(result?)
}

/// When the next syncfs(2) may be, were there no burst.
#[derive(Debug, Default)]
pub(super) struct SyncPace(Mutex<Option<Instant>>);

impl SyncPace {
    /// Takes a turn at the time `now`; returns how long it is to wait, at most [`INTERVAL`] for
    /// each turn that waits already.
    fn turn(&self, now: Instant) -> Duration {
        let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = next.map_or(now, |next| next.max(now));
        *next = Some(due + INTERVAL);
        (due - now).saturating_sub(INTERVAL * (BURST - 1))
    }
}

impl PassthroughFs {
    /// Writes the host's file system to its disk.
    pub(super) fn sync_file_system(&self) -> Result<()> {
        let root = self.inodes.root();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let open = self.proc.reopen(&root.fd, flags, Mode::empty())?;
        std::thread::sleep(self.sync_pace.turn(Instant::now()));
        Ok(rustix::fs::syncfs(&open)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_and_then_one_a_second() {
        let (pace, start) = (SyncPace::default(), Instant::now());
        for _ in 0..BURST {
            assert_eq!(pace.turn(start), Duration::ZERO);
        }
        assert_eq!(pace.turn(start), INTERVAL);
        let later = start + Duration::from_secs(3600);
        for _ in 0..BURST {
            assert_eq!(pace.turn(later), Duration::ZERO);
        }
        assert_eq!(pace.turn(later + INTERVAL), Duration::ZERO);
        assert_eq!(pace.turn(later + INTERVAL), INTERVAL);
    }
}
