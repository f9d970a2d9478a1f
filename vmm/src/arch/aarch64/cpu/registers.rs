//! Registers by the numbers that KVM gives them (Linux, Documentation/virt/kvm/api.rst,
//! KVM_SET_ONE_REG).

use std::mem::offset_of;

use kvm_bindings::{
    KVM_REG_ARM_CORE, KVM_REG_ARM64, KVM_REG_ARM64_SYSREG, KVM_REG_SIZE_U64, kvm_regs, user_pt_regs,
};
use kvm_ioctls::VcpuFd;

use crate::kvm::{KvmError, failed};

/// A core register by its offset in `kvm_regs`.
const fn core(offset: usize) -> u64 {
    KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE as u64 | (offset / size_of::<u32>()) as u64
}

/// A system register by what its instruction encodes: op0, op1, CRn, CRm, op2.
const fn system(op0: u64, op1: u64, crn: u64, crm: u64, op2: u64) -> u64 {
    let number = op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2;
    KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM64_SYSREG as u64 | number
}

/// General register `number`.
pub(super) const fn x(number: usize) -> u64 {
    core(offset_of!(kvm_regs, regs) + offset_of!(user_pt_regs, regs) + 8 * number)
}

/// The stack pointer of EL1.
pub(super) const SP_EL1: u64 = core(offset_of!(kvm_regs, sp_el1));
/// Guest address of the next instruction.
pub(super) const PC: u64 = core(offset_of!(kvm_regs, regs) + offset_of!(user_pt_regs, pc));
/// Mode and masks.
pub(super) const PSTATE: u64 = core(offset_of!(kvm_regs, regs) + offset_of!(user_pt_regs, pstate));
/// Which CPU it is (Arm Architecture Reference Manual, D24.2.110).
pub(super) const MPIDR_EL1: u64 = system(3, 0, 0, 0, 5);
/// The system register that turns the MMU on.
pub(super) const SCTLR_EL1: u64 = system(3, 0, 1, 0, 0);
/// Why the last exception was taken to EL1, and the address that it is about.
pub(super) const ESR_EL1: u64 = system(3, 0, 5, 2, 0);
pub(super) const FAR_EL1: u64 = system(3, 0, 6, 0, 0);

pub(super) fn get(vcpu: &VcpuFd, register: u64) -> Result<u64, kvm_ioctls::Error> {
    let mut value = [0; 8];
    vcpu.get_one_reg(register, &mut value)?;
    Ok(u64::from_le_bytes(value))
}

pub(super) fn set(vcpu: &VcpuFd, register: u64, value: u64) -> Result<(), KvmError> {
    vcpu.set_one_reg(register, &value.to_le_bytes())
        .map_err(failed("set a CPU's registers"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_kvms_documentation() {
        // api.rst, table "ARM64 registers": 0x6030 0000 0010 0000 is X0, … 003e SP, 0040 PC, 0042
        // PSTATE, 0044 SP_EL1.
        assert_eq!(x(0), 0x6030_0000_0010_0000);
        assert_eq!(x(30), 0x6030_0000_0010_003c);
        assert_eq!(PC, 0x6030_0000_0010_0040);
        assert_eq!(PSTATE, 0x6030_0000_0010_0042);
        assert_eq!(SP_EL1, 0x6030_0000_0010_0044);
        // QEMU, target/arm/kvm.c: ARM64_SYS_REG(3, 0, 0, 0, 5).
        assert_eq!(MPIDR_EL1, 0x6030_0000_0013_c005);
    }
}
