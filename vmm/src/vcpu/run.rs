//! Threads that run CPUs.

use std::os::unix::thread::JoinHandleExt;
use std::sync::Arc;
use std::thread::JoinHandle;

use kvm_bindings::KVM_EXIT_INTERNAL_ERROR;
use kvm_ioctls::{VcpuExit, VcpuFd};

use super::create::Vcpus;
use super::error::VcpuError;
use super::kick::{Kickable, handle_kicks, kick};
use super::stop::{Ended, Stop};
use crate::arch::host::cpu;
use crate::bus::{Buses, Effect};
use crate::kvm::Vm;
use crate::threads::{Role, Threads};

/// Threads of all CPUs but the boot CPU. Dropping it stops them.
#[derive(Debug)]
pub(super) struct Others {
    pub(super) threads: Vec<JoinHandle<()>>,
    pub(super) stop: Stop,
}

impl Drop for Others {
    fn drop(&mut self) {
        self.stop.request(Ended::Killed);
        for thread in &self.threads {
            // SAFETY: the thread has not been joined, so its handle is valid even if it has ended.
            unsafe { kick(thread.as_pthread_t()) };
        }
        for thread in self.threads.drain(..) {
            // A panic there has been printed and has ended the guest (`StopOnPanic`).
            let _ = thread.join();
        }
    }
}

impl Vcpus {
    /// Starts all but the boot CPU, which the caller shall run.
    pub(super) fn start(
        self,
        buses: &Arc<Buses>,
        stop: &Stop,
        threads: &Threads,
    ) -> Result<(Runner, Others), VcpuError> {
        handle_kicks()?;
        let vm = &self.vm;
        let mut runners = self.fds.into_iter().enumerate().map(|(id, fd)| Runner {
            id,
            fd,
            buses: Arc::clone(buses),
            stop: stop.clone(),
            threads: threads.clone(),
            _vm: Arc::clone(vm),
        });
        let boot_cpu = runners.next().ok_or(VcpuError::Count(0))?;
        let mut others = Others {
            threads: Vec::new(),
            stop: stop.clone(),
        };
        for runner in runners {
            let thread = std::thread::Builder::new()
                .name(format!("vcpu{}", runner.id))
                .spawn(move || runner.main())
                .map_err(VcpuError::Thread)?;
            others.threads.push(thread);
        }
        Ok((boot_cpu, others))
    }
}

/// A CPU and what its thread needs.
pub(super) struct Runner {
    id: usize,
    fd: VcpuFd,
    buses: Arc<Buses>,
    stop: Stop,
    threads: Threads,
    /// Keeps the memory that the CPU uses.
    _vm: Arc<Vm>,
}

/// Ends the guest if a thread panics, so that the others do not wait for it for ever.
struct StopOnPanic<'a>(&'a Stop);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let text = String::from("a CPU's thread panicked");
            self.0.request(Ended::Failed(text));
        }
    }
}

/// Why KVM does not run the guest. A page of the guest that the host cannot provide is "Bad address",
/// or "Cannot allocate memory" (Linux, virt/kvm/kvm_main.c, `hva_to_pfn`).
fn refusal(errno: i32) -> String {
    match errno {
        libc::EFAULT | libc::ENOMEM => String::from(
            "the host has no memory left for the guest: free some, raise the limit of the control group \
             (memory.max), or give the guest less (--box-memory)",
        ),
        // Arm: Linux, arch/arm64/kvm/mmio.c, `io_mem_abort`.
        libc::ENOSYS => {
            String::from("the guest accesses a device by an instruction that KVM does not emulate")
        }
        _ => format!(
            "KVM cannot run the guest: {}",
            std::io::Error::from_raw_os_error(errno)
        ),
    }
}

impl Runner {
    fn main(mut self) {
        let stop = self.stop.clone();
        let _guard = StopOnPanic(&stop);
        if let Err(error) = self.lock() {
            return stop.request(Ended::Failed(error));
        }
        if let Some(reason) = self.run() {
            stop.request(reason);
        }
    }

    /// Locks the thread to the system calls of a CPU.
    pub(super) fn lock(&self) -> Result<(), String> {
        self.threads
            .enter(Role::Vcpu, &format!("vcpu{}", self.id))
            .map_err(|error| format!("a CPU's thread cannot be confined: {error}"))
    }

    /// Runs the CPU until the guest ends (the reason) or we are told to stop (nothing).
    pub(super) fn run(&mut self) -> Option<Ended> {
        let _kickable = Kickable::new(&mut self.fd);
        while !self.stop.is_requested() {
            let effect = match self.fd.run() {
                Ok(VcpuExit::IoOut(port, data)) => self.buses.pio.write(u64::from(port), data),
                Ok(VcpuExit::IoIn(port, data)) => {
                    self.buses.pio.read(u64::from(port), data);
                    Effect::None
                }
                Ok(VcpuExit::MmioWrite(address, data)) => self.buses.mmio.write(address, data),
                Ok(VcpuExit::MmioRead(address, data)) => {
                    self.buses.mmio.read(address, data);
                    Effect::None
                }
                Ok(VcpuExit::Shutdown) => return Some(Ended::TripleFault(self.state())),
                Ok(VcpuExit::Intr) => Effect::None,
                Ok(exit) => match cpu::reason(&exit) {
                    Effect::None => {
                        let exit = format!("{exit:?}");
                        return Some(Ended::Failed(self.explain(&exit)));
                    }
                    effect => effect,
                },
                Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => Effect::None,
                Err(error) => return Some(Ended::Failed(refusal(error.errno()))),
            };
            match effect {
                Effect::None => {}
                Effect::PowerOff => return Some(Ended::PoweredOff),
                Effect::Reset => return Some(Ended::Reset),
            }
        }
        None
    }

    /// Which CPU this is and what it was doing.
    fn state(&self) -> String {
        format!("CPU {}{}", self.id, cpu::describe(&self.fd))
    }

    /// Words for an exit that nothing can be done about.
    fn explain(&mut self, exit: &str) -> String {
        let at = match cpu::position(&self.fd) {
            Some(address) => format!(" at guest address {address:#x}"),
            None => String::new(),
        };
        let run = self.fd.get_kvm_run();
        if run.exit_reason == KVM_EXIT_INTERNAL_ERROR {
            // SAFETY: the exit reason says that this member of the union is the valid one.
            let internal = unsafe { run.__bindgen_anon_1.internal };
            let cause = match internal.suberror {
                1 => String::from("it cannot emulate an instruction"),
                2 => String::from("exceptions at the same time"),
                3 => String::from("an exit while an event was delivered"),
                other => format!("error {other}"),
            };
            return format!("KVM gave up on the guest: {cause}{at}");
        }
        format!("KVM stopped the guest: {exit}{at}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_memory_is_not_a_bad_address() {
        for errno in [libc::EFAULT, libc::ENOMEM] {
            let words = refusal(errno);
            assert!(words.contains("no memory left for the guest"), "{words}");
            assert!(
                words.contains("--box-memory") && !words.contains("Bad address"),
                "{words}"
            );
        }
        assert!(refusal(libc::EINVAL).contains("Invalid argument"));
    }
}
