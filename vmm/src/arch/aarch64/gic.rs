//! The interrupt controller in the kernel: GICv3 with an interrupt translation service (ITS), or
//! GICv2 (Linux, Documentation/virt/kvm/devices/arm-vgic-v3.rst, -its.rst, arm-vgic.rst).

use kvm_bindings::{
    KVM_DEV_ARM_VGIC_CTRL_INIT, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_DEV_ARM_VGIC_GRP_CTRL,
    KVM_DEV_ARM_VGIC_GRP_NR_IRQS, KVM_VGIC_ITS_ADDR_TYPE, KVM_VGIC_V2_ADDR_TYPE_CPU,
    KVM_VGIC_V2_ADDR_TYPE_DIST, KVM_VGIC_V3_ADDR_TYPE_DIST, KVM_VGIC_V3_ADDR_TYPE_REDIST,
    kvm_create_device, kvm_device_attr, kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_ITS,
    kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V2, kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3,
};
use kvm_ioctls::{DeviceFd, VmFd};

use super::layout;
use crate::kvm::{InterruptController, KvmError, failed};

/// Creates the interrupt controller of a machine whose CPUs are all there.
///
/// # Errors
/// If KVM refuses.
pub(super) fn create(vm: &VmFd, kind: InterruptController) -> Result<(), KvmError> {
    // KVM's devices live as long as the machine, whatever becomes of their descriptors.
    if kind == InterruptController::GicV2 {
        let gic = device(vm, kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V2)?;
        place(&gic, KVM_VGIC_V2_ADDR_TYPE_DIST, layout::GIC_DISTRIBUTOR)?;
        place(&gic, KVM_VGIC_V2_ADDR_TYPE_CPU, layout::GIC_CPU)?;
        return start(&gic);
    }
    let gic = device(vm, kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3)?;
    place(&gic, KVM_VGIC_V3_ADDR_TYPE_DIST, layout::GIC_DISTRIBUTOR)?;
    // One range for the redistributors of all CPUs.
    place(
        &gic,
        KVM_VGIC_V3_ADDR_TYPE_REDIST,
        layout::GIC_REDISTRIBUTORS,
    )?;
    start(&gic)?;
    let its = device(vm, kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_ITS)?;
    place(&its, KVM_VGIC_ITS_ADDR_TYPE, layout::GIC_ITS)?;
    initialize(&its)
}

fn device(vm: &VmFd, kind: u32) -> Result<DeviceFd, KvmError> {
    let mut device = kvm_create_device {
        type_: kind,
        fd: 0,
        flags: 0,
    };
    vm.create_device(&mut device)
        .map_err(failed("create an interrupt controller"))
}

/// Puts a part of a controller to an address.
fn place(device: &DeviceFd, part: u32, address: u64) -> Result<(), KvmError> {
    set(
        device,
        KVM_DEV_ARM_VGIC_GRP_ADDR,
        part,
        &raw const address as u64,
    )
    .map_err(failed("place an interrupt controller"))
}

fn start(gic: &DeviceFd) -> Result<(), KvmError> {
    let interrupts = layout::GIC_INTERRUPTS;
    set(
        gic,
        KVM_DEV_ARM_VGIC_GRP_NR_IRQS,
        0,
        &raw const interrupts as u64,
    )
    .map_err(failed("size an interrupt controller"))?;
    initialize(gic)
}

fn initialize(device: &DeviceFd) -> Result<(), KvmError> {
    set(
        device,
        KVM_DEV_ARM_VGIC_GRP_CTRL,
        KVM_DEV_ARM_VGIC_CTRL_INIT,
        0,
    )
    .map_err(failed("start an interrupt controller"))
}

/// Sets an attribute, whose value is at the address `value` of this process.
fn set(device: &DeviceFd, group: u32, attr: u32, value: u64) -> Result<(), kvm_ioctls::Error> {
    device.set_device_attr(&kvm_device_attr {
        flags: 0,
        group,
        attr: u64::from(attr),
        addr: value,
    })
}
