//! The qemu engine: QEMU TCG, for foreign architectures and hosts without usable KVM.
