//! The state in which the boot CPU meets the kernel: EL1, MMU off, interrupts masked, the device
//! tree's address in x0 (Linux, Documentation/arch/arm64/booting.rst, "Call the kernel image").

use std::io;

use kvm_ioctls::VcpuFd;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryError, GuestMemoryRegion};

use super::registers::{self, MPIDR_EL1, PC, PSTATE, x};
use crate::arch::aarch64::boot::Entry;
use crate::arch::aarch64::device_tree::{self, Machine};
use crate::arch::aarch64::layout;
use crate::kvm::{KvmError, Vm, failed};

/// The bits of MPIDR_EL1 that say where a CPU is: Aff3, then Aff2 to Aff0.
const AFFINITY: u64 = 0xff_00ff_ffff;
/// D, A, I and F masked; EL1 with its own stack (ARM ARM, C5.2.19, SPSR_EL1).
const MASKED_EL1H: u64 = 0x3c5;
/// Bytes of random seed: what the kernel's generator takes.
const SEED: usize = 64;

/// Describes `vm`, whose CPUs are `vcpus`, to its kernel, and puts the first at `entry`.
pub(crate) fn enter(vm: &Vm, vcpus: &[VcpuFd], entry: &Entry) -> Result<(), KvmError> {
    let places = vcpus
        .iter()
        .map(|vcpu| Ok(registers::get(vcpu, MPIDR_EL1)? & AFFINITY))
        .collect::<Result<Vec<u64>, kvm_ioctls::Error>>()
        .map_err(failed("say which CPU is which"))?;
    write_tree(vm, &places, entry).map_err(KvmError::Describe)?;
    let Some(boot_cpu) = vcpus.first() else {
        return Ok(());
    };
    registers::set(boot_cpu, PSTATE, MASKED_EL1H)?;
    registers::set(boot_cpu, PC, entry.address)?;
    registers::set(boot_cpu, x(0), layout::DEVICE_TREE)
}

fn write_tree(vm: &Vm, cpus: &[u64], entry: &Entry) -> Result<(), GuestMemoryError> {
    let mut seed = [0; SEED];
    crate::random(&mut seed).map_err(GuestMemoryError::IOError)?;
    let ram: Vec<(u64, u64)> = (vm.ram().iter())
        .map(|ram| (ram.start_addr().0, ram.len()))
        .collect();
    let tree = device_tree::build(&Machine {
        ram: &ram,
        cpus,
        interrupts: vm.interrupts(),
        cmdline: &entry.cmdline,
        initrd: (entry.initrd.as_ref()).map(|initrd| (initrd.start, initrd.start + initrd.len)),
        seed: &seed,
    });
    let tree =
        tree.map_err(|error| GuestMemoryError::IOError(io::Error::other(error.to_string())))?;
    if tree.len() as u64 > layout::DEVICE_TREE_MAX {
        return Err(GuestMemoryError::IOError(
            io::ErrorKind::FileTooLarge.into(),
        ));
    }
    vm.ram()
        .write_slice(&tree, GuestAddress(layout::DEVICE_TREE))
}
