//! What the handle of a machine and the thread that follows its process share.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use boxbuild_jail::Jailed;
use boxbuild_vmm::virtio::console::Port;

use super::wire::{self, Figures, Wish};
use crate::usage;

/// The process of a machine, and what is known of it.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) process: Jailed,
    /// The last that it told.
    figures: Mutex<Figures>,
    /// Highest resident memory in bytes when the guest ended; 0 before that.
    peak_memory: AtomicU64,
    /// Whether the guest has ended. The process waits for what is wanted of its disk then.
    ended: AtomicBool,
    /// When it is killed; set once it has been told to end.
    deadline: Mutex<Option<Instant>>,
}

impl Shared {
    pub(super) fn new(process: Jailed) -> Shared {
        Shared {
            process,
            figures: Mutex::default(),
            peak_memory: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            deadline: Mutex::default(),
        }
    }

    /// Sends a wish if there is room for it. Returns whether there was.
    pub(super) fn tell(&self, wish: &Wish) -> bool {
        wire::message(wish)
            .and_then(|message| self.process.channel().try_send(&message, &[]))
            .unwrap_or(false)
    }

    /// Sends input for a port. It is dropped if the channel is full.
    pub(super) fn input(&self, port: Port, bytes: &[u8]) {
        /// No terminal sends as much at once.
        const PIECE: usize = 16 << 10;
        for piece in bytes.chunks(PIECE) {
            let _ = self
                .process
                .channel()
                .try_send(&wire::port(port, piece), &[]);
        }
    }

    /// Tells the machine to end; after `grace` its process is killed.
    pub(super) fn end(&self, grace: Duration) {
        let told = !grace.is_zero() && self.tell(&Wish::Stop);
        *self.deadline() = Some(Instant::now() + grace);
        if !told {
            self.process.kill();
        }
    }

    /// Whether the machine has been told to end.
    pub(super) fn is_killed(&self) -> bool {
        self.deadline().is_some()
    }

    /// Kills the process if its time is over and the guest has not ended.
    pub(super) fn enforce_grace(&self) {
        let over = self.deadline().is_some_and(|at| Instant::now() >= at);
        if over && !self.ended.load(Ordering::Relaxed) {
            self.process.kill();
        }
    }

    pub(super) fn set_figures(&self, figures: Figures) {
        *self.figures.lock().unwrap_or_else(PoisonError::into_inner) = figures;
    }

    pub(super) fn figures(&self) -> Figures {
        *self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The guest has ended.
    pub(super) fn guest_ended(&self) {
        if let Some(peak) = self.high_water() {
            self.peak_memory.store(peak, Ordering::Relaxed);
        }
        self.ended.store(true, Ordering::Relaxed);
    }

    /// Returns the highest resident memory so far.
    pub(super) fn peak_memory(&self) -> Option<u64> {
        match self.peak_memory.load(Ordering::Relaxed) {
            0 => self.high_water(),
            peak => Some(peak),
        }
    }

    fn high_water(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.pid())).ok()?;
        usage::kib(&status, "VmHWM:")
    }

    fn deadline(&self) -> MutexGuard<'_, Option<Instant>> {
        self.deadline.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
