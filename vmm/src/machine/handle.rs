//! A machine that runs.

use crate::arch::host::platform::Platform;
use crate::arch::mark::Mark;
use crate::vcpu::{Ended, RunningVcpus};
use crate::virtio::console::Input;
use crate::virtio::{Kind, Traffic};

/// A running machine. Dropping it kills it and waits until nothing of it is left.
#[derive(Debug)]
pub struct Handle {
    pub(super) vcpus: RunningVcpus,
    pub(super) platform: Platform,
    pub(super) input: Input,
    pub(super) traffic: Vec<(Kind, Traffic)>,
}

impl Handle {
    /// Ends the machine soon: [`Event::Ended`] tells when nothing of it is left.
    pub fn stop(&self) {
        self.vcpus.stop().request(Ended::Killed);
    }

    /// Ends the machine now and waits until nothing of it is left.
    pub fn kill(&mut self) {
        self.stop();
        self.wait();
    }

    /// Waits until the guest ends itself.
    pub fn wait(&mut self) {
        self.vcpus.wait();
    }

    /// Where the host writes what it says to the guest.
    pub fn input(&self) -> Input {
        self.input.clone()
    }

    /// Moments that the guest marked, as far as its architecture has a way to.
    pub fn marks(&self) -> Vec<Mark> {
        self.platform.marks()
    }

    /// What the guest has moved through its devices, one entry for each of them.
    pub fn traffic(&self) -> &[(Kind, Traffic)] {
        &self.traffic
    }
}
