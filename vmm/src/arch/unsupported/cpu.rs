//! No CPU.

use std::convert::Infallible;

use kvm_ioctls::{VcpuExit, VcpuFd};
use vm_memory::GuestMemoryError;

use super::boot::Entry;
use super::vm;
use crate::bus::Effect;
use crate::kvm::{KvmError, Vm};
use crate::memory::GuestRam;

pub const MAX_CPUS: u32 = 254;

#[derive(Debug)]
pub struct CpuModel(Infallible);

impl CpuModel {
    pub fn new(_vm: &Vm, _count: u8, _nested: bool) -> Result<CpuModel, KvmError> {
        vm::supported()?;
        Err(KvmError::Missing("CPUs"))
    }

    pub fn write_tables(&self, _ram: &GuestRam) -> Result<(), GuestMemoryError> {
        match self.0 {}
    }

    pub fn set_up(&mut self, _vcpu: &VcpuFd, _id: u8) -> Result<(), KvmError> {
        match self.0 {}
    }
}

pub fn finish(_vm: &Vm) -> Result<(), KvmError> {
    vm::supported()
}

pub fn enter(_vm: &Vm, _vcpus: &[VcpuFd], _entry: &Entry) -> Result<(), KvmError> {
    vm::supported()
}

pub fn reason(_exit: &VcpuExit<'_>) -> Effect {
    Effect::None
}

pub fn position(_vcpu: &VcpuFd) -> Option<u64> {
    None
}

pub fn describe(_vcpu: &VcpuFd) -> String {
    String::new()
}
