//! Runs one CPU as far as its first exit: for guests that test the host.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use kvm_ioctls::VcpuExit;

use super::create::Vcpus;
use super::error::VcpuError;
use super::kick::{Kickable, handle_kicks};
use super::run::Others;
use super::stop::Stop;
use crate::arch::host::boot::Entry;

/// The first exit of a CPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirstExit {
    /// A write to this port.
    Out(u16),
    /// A write to an address where no RAM is: which, and what (little-endian, up to 8 bytes).
    Write(u64, u64),
    /// Something else, in words.
    Other(String),
    /// Nothing within the limit.
    None,
}

impl Vcpus {
    /// Runs the boot CPU from `entry` up to the first exit that concerns us, or for
    /// as long as `limit`.
    ///
    /// # Errors
    /// If the host refuses a thread.
    pub fn first_exit(mut self, entry: &Entry, limit: Duration) -> Result<FirstExit, VcpuError> {
        handle_kicks()?;
        self.enter_at(entry)?;
        let mut fd = self.fds.remove(0);
        let vm = Arc::clone(&self.vm);
        let stop = Stop::new();
        let stopped = stop.clone();
        let (sender, receiver) = channel();
        let thread = std::thread::Builder::new()
            .name(String::from("vcpu0"))
            .spawn(move || {
                let _vm = vm;
                let _kickable = Kickable::new(&mut fd);
                while !stopped.is_requested() {
                    let exit = match fd.run() {
                        Ok(VcpuExit::IoOut(port, _)) => FirstExit::Out(port),
                        Ok(VcpuExit::MmioWrite(address, data)) => FirstExit::Write(
                            address,
                            data.iter()
                                .rev()
                                .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
                        ),
                        Ok(VcpuExit::Shutdown) => FirstExit::Other(String::from("triple fault")),
                        Ok(exit) => FirstExit::Other(format!("{exit:?}")),
                        Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {
                            continue;
                        }
                        Err(error) => FirstExit::Other(error.to_string()),
                    };
                    let _ = sender.send(exit);
                    return;
                }
            })
            .map_err(VcpuError::Thread)?;
        let exit = receiver.recv_timeout(limit).unwrap_or(FirstExit::None);
        drop(Others {
            threads: vec![thread],
            stop,
        });
        Ok(exit)
    }
}
