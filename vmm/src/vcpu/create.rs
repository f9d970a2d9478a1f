//! Makes CPUs.

use std::fmt;
use std::sync::Arc;

use kvm_ioctls::VcpuFd;

use super::error::VcpuError;
use crate::arch::host::boot::Entry;
use crate::arch::host::cpu::{self, CpuModel, MAX_CPUS};
use crate::kvm::{Vm, failed};

/// CPUs that do not run yet.
pub struct Vcpus {
    pub(super) vm: Arc<Vm>,
    pub(super) fds: Vec<VcpuFd>,
}

impl fmt::Debug for Vcpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} Vcpus", self.fds.len())
    }
}

/// Makes `count` CPUs. With `nested`, the guest can run virtual machines itself, as far as this
/// host's KVM allows that.
///
/// # Errors
/// If the number is out of range, or KVM or the memory does not allow it.
pub fn create(vm: Arc<Vm>, count: u32, nested: bool) -> Result<Vcpus, VcpuError> {
    let count = u8::try_from(count)
        .ok()
        .filter(|&count| count > 0 && u32::from(count) <= MAX_CPUS)
        .ok_or(VcpuError::Count(count))?;
    let mut model = CpuModel::new(&vm, count, nested)?;
    model.write_tables(vm.ram()).map_err(VcpuError::Tables)?;
    let mut fds = Vec::with_capacity(usize::from(count));
    for id in 0..count {
        // On x86 the number is that of its APIC, on Arm its place (MPIDR).
        let vcpu = vm.fd().create_vcpu(u64::from(id));
        let vcpu = vcpu.map_err(failed("create a CPU"))?;
        model.set_up(&vcpu, id)?;
        fds.push(vcpu);
    }
    cpu::finish(&vm)?;
    Ok(Vcpus { vm, fds })
}

impl Vcpus {
    /// Lets the boot CPU start at `entry`, in the state that the boot protocol asks for.
    pub(super) fn enter_at(&self, entry: &Entry) -> Result<(), VcpuError> {
        Ok(cpu::enter(&self.vm, &self.fds, entry)?)
    }
}
