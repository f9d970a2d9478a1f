//! Virtual CPUs: their set-up and the threads that run them.
//!
//! The first CPU starts in the kernel; the others wait for INIT and SIPI, which the kernel's
//! interrupt controllers deliver without us.
//!
//! The thread of the first CPU is there before its CPU: it loads what shall run while another one
//! makes the machine, because KVM_CREATE_VM takes milliseconds. In the end it takes the machine apart,
//! so that no thread is there only to wait for that.

mod cpuid;
mod ending;
mod first;
mod registers;
mod run;

use std::io;
use std::sync::Arc;

use kvm_ioctls::VcpuFd;

use crate::bus::Bus;
use crate::kvm::{KvmError, Vm, failed};

pub use ending::{Ending, Stopped};
pub use first::{FirstThread, RunningVcpus};
pub use run::FirstExit;

/// The most CPUs: their APIC ids must fit the 8 bits of a MADT entry, and 255 means all.
pub const MAX_CPUS: u32 = 254;

/// CPUs cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum VcpuError {
    /// A number that makes no sense.
    #[error("{0} CPUs: must be 1 to {MAX_CPUS}")]
    Count(u32),
    /// See [`KvmError`].
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// The tables for the first instructions do not fit.
    #[error("cannot write the boot tables")]
    Tables(#[source] vm_memory::GuestMemoryError),
    /// The host has no room for threads.
    #[error("cannot start a thread for a CPU")]
    Thread(#[source] io::Error),
}

/// What the guest's CPUs talk to.
#[derive(Debug, Default)]
pub struct Buses {
    /// Ports.
    pub pio: Bus,
    /// Device memory.
    pub mmio: Bus,
}

/// CPUs that do not run yet.
pub struct Vcpus {
    vm: Arc<Vm>,
    fds: Vec<VcpuFd>,
}

impl std::fmt::Debug for Vcpus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} Vcpus", self.fds.len())
    }
}

/// Makes `count` CPUs.
///
/// # Errors
/// If the number is out of range, or KVM or the memory does not allow it.
pub fn create(vm: Arc<Vm>, count: u32) -> Result<Vcpus, VcpuError> {
    let count = u8::try_from(count)
        .ok()
        .filter(|&count| count > 0 && u32::from(count) <= MAX_CPUS)
        .ok_or(VcpuError::Count(count))?;
    let supported = cpuid::supported(vm.kvm())?;
    if !cpuid::has_kvm_clock(&supported) {
        return Err(KvmError::Missing("the paravirtual clock").into());
    }
    registers::write_tables(vm.ram()).map_err(VcpuError::Tables)?;
    let mut fds = Vec::with_capacity(usize::from(count));
    let mut tsc_khz = None;
    for id in 0..count {
        let vcpu = vm.create_vcpu(id)?;
        if id == 0 {
            tsc_khz = vcpu.get_tsc_khz().ok().filter(|&khz| khz > 0);
        }
        vcpu.set_cpuid2(&cpuid::for_cpu(&supported, id, count, tsc_khz))
            .map_err(failed("set the features of a CPU"))?;
        registers::set_msrs(&vcpu)?;
        fds.push(vcpu);
    }
    Ok(Vcpus { vm, fds })
}

impl Vcpus {
    /// Lets the first CPU start at `entry` (guest address), with boot_params in rsi.
    fn enter_at(&self, entry: u64) -> Result<(), VcpuError> {
        match self.fds.first() {
            Some(first) => Ok(registers::enter(first, entry)?),
            None => Err(VcpuError::Count(0)),
        }
    }
}
