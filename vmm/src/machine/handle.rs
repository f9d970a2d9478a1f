//! The handle of a running machine.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use crate::disk::Overlay;
use crate::vcpu::{Ended, RunningVcpus};
use crate::virtio::console::Input;
use crate::virtio::{Kind, Traffic};

/// A running machine. Dropping it kills it and waits until nothing of it is left.
#[derive(Debug)]
pub struct Handle {
    pub(super) vcpus: RunningVcpus,
    /// For each disk, what takes its writes.
    pub(super) overlays: Vec<Option<Arc<Overlay>>>,
    pub(super) input: Input,
    pub(super) traffic: Vec<(Kind, Traffic)>,
}

impl Handle {
    /// Stops the machine without waiting: [`Event::Ended`](super::Event::Ended) tells when
    /// nothing of it is left.
    pub fn stop(&self) {
        self.vcpus.stop().request(Ended::Killed);
    }

    /// Returns when the guest was given its first CPU.
    pub fn first_instruction(&self) -> Instant {
        self.vcpus.first_instruction()
    }

    /// Stops the machine and waits until nothing of it is left.
    pub fn kill(&mut self) {
        self.stop();
        self.wait();
    }

    /// Waits until the guest ends itself.
    pub fn wait(&mut self) {
        self.vcpus.wait();
    }

    /// Returns where the host writes what it says to the guest.
    pub fn input(&self) -> Input {
        self.input.clone()
    }

    /// Keeps what the guest wrote to disk `index`, in files in `folder`, which must be on the file
    /// system of its changes. Returns the bytes that they take on the host; `None` if there is no
    /// such disk, or its writes go into the image.
    ///
    /// # Errors
    /// If the host does not allow it. There may be some of the files in the folder then.
    pub fn keep_disk(&self, index: usize, folder: &Path) -> io::Result<Option<u64>> {
        let overlay = self.overlays.get(index).and_then(Option::as_ref);
        overlay.map(|overlay| overlay.keep(folder)).transpose()
    }

    /// Writes down in `map` which blocks the guest wrote to disk `index`, for
    /// [`keep_changes`](crate::disk::keep_changes) of the process that has its file. Returns whether
    /// there is such a disk whose writes do not go into the image.
    ///
    /// # Errors
    /// If the host does not allow it.
    pub fn write_map(&self, index: usize, map: File) -> io::Result<bool> {
        let overlay = self.overlays.get(index).and_then(Option::as_ref);
        let written = overlay.map(|overlay| overlay.write_map(map)).transpose()?;
        Ok(written.is_some())
    }

    /// Takes a checkpoint of disk `index`: what the guest has written stays as it is, in the file of its
    /// changes, and `map` says which blocks these are; what it writes from now on goes to the empty
    /// `file`. Returns whether there is such a disk whose writes do not go into the image.
    ///
    /// # Errors
    /// If the host does not allow it.
    pub fn checkpoint(&self, index: usize, file: File, map: File) -> io::Result<bool> {
        let overlay = self.overlays.get(index).and_then(Option::as_ref);
        let taken = overlay
            .map(|overlay| overlay.checkpoint(file, map))
            .transpose()?;
        Ok(taken.is_some())
    }

    /// Returns what the guest has moved through its devices, one entry for each of them.
    pub fn traffic(&self) -> &[(Kind, Traffic)] {
        &self.traffic
    }
}
