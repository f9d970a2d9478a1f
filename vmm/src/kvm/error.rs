//! Errors of KVM.

use std::io;

use vm_memory::GuestMemoryError;

/// Why KVM cannot be used, or what it refused.
#[derive(Debug, thiserror::Error)]
pub enum KvmError {
    /// There is no [`arch`](crate::arch) for this host.
    #[error("the kvm engine does not support {0} hosts yet")]
    Architecture(&'static str),
    /// `/dev/kvm` cannot be opened.
    #[error("cannot open /dev/kvm")]
    Open(#[source] io::Error),
    /// Its API has another version. 12 is stable since Linux 2.6.22.
    #[error("/dev/kvm speaks API version {0} instead of 12")]
    Api(i32),
    /// It lacks something that Linux 4.14 and newer have.
    #[error("this host's KVM lacks {0}")]
    Missing(&'static str),
    /// The guest's memory would end where the host's processor has no addresses.
    #[error(
        "{mib} MiB of memory are more than the {bits} bits of address that this host's processor \
         has for a guest: at most {most_mib} MiB"
    )]
    Width {
        /// What a guest can address.
        bits: u32,
        /// The memory that it should get.
        mib: u64,
        /// What it can get.
        most_mib: u64,
    },
    /// What describes the machine to its kernel does not fit.
    #[error("cannot write the device tree into the guest's memory")]
    Describe(#[source] GuestMemoryError),
    /// A call failed.
    #[error("KVM cannot {action}")]
    Call {
        /// What was tried.
        action: &'static str,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

/// Makes the error for a failed call.
pub(crate) fn failed(action: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> KvmError {
    move |error| KvmError::Call {
        action,
        source: error.into(),
    }
}
