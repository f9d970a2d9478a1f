//! Whether KVM is usable, and what would help if not.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use boxbuild_vmm::kvm::KvmError;
use boxbuild_vmm::smoke;

use crate::unusable::Unusable;

/// The device node of KVM.
const DEVICE: &str = "/dev/kvm";

/// Why there is no KVM, and what would help.
pub(super) fn unusable(error: &smoke::Unusable) -> Unusable {
    let smoke::Unusable::Kvm(KvmError::Open(source)) = error else {
        return Unusable(chain(error));
    };
    Unusable(match source.kind() {
        io::ErrorKind::NotFound => String::from(
            "there is no /dev/kvm: switch virtualization on in the firmware of this host (Intel \
             VT-x, AMD-V) or, if it is a virtual machine itself, nested virtualization \
             on its host, and load the module: sudo modprobe kvm_intel (or kvm_amd)",
        ),
        io::ErrorKind::PermissionDenied => match device_group() {
            Some(group) => format!(
                "no permission to use /dev/kvm, which belongs to the group {group}: \
                 sudo usermod -aG {group} \"$USER\", then log in again"
            ),
            None => {
                String::from("no permission to use /dev/kvm: ask for read and write access to it")
            }
        },
        _ => chain(error),
    })
}

/// The group that /dev/kvm belongs to, if membership would help.
fn device_group() -> Option<String> {
    const GROUP_READ_WRITE: u32 = 0o060;
    let metadata = fs::metadata(DEVICE).ok()?;
    if !metadata.file_type().is_char_device()
        || metadata.mode() & GROUP_READ_WRITE != GROUP_READ_WRITE
        || metadata.gid() == 0
    {
        return None;
    }
    let group = nix::unistd::Group::from_gid(nix::unistd::Gid::from_raw(metadata.gid()));
    Some(group.ok()??.name)
}

/// An error with its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_permission_names_the_group_or_the_device() {
        let denied =
            smoke::Unusable::Kvm(KvmError::Open(io::Error::from_raw_os_error(libc::EACCES)));
        let Unusable(text) = unusable(&denied);
        assert!(text.contains("/dev/kvm"), "{text}");
        let missing =
            smoke::Unusable::Kvm(KvmError::Open(io::Error::from_raw_os_error(libc::ENOENT)));
        let Unusable(text) = unusable(&missing);
        assert!(text.contains("modprobe"), "{text}");
    }
}
