//! Whether KVM is usable, and what would help if not.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use boxbuild_vmm::kvm::KvmError;
use boxbuild_vmm::smoke;

use crate::unusable::Unusable;

/// The device node of KVM.
const DEVICE: &str = "/dev/kvm";

/// The group whose members may use it, where udev is set up as usual.
const GROUP: &str = "kvm";

/// Gives the device to that group.
const SET_RIGHT: &str = "sudo chgrp kvm /dev/kvm && sudo chmod g+rw /dev/kvm";

/// What would help where there is no device. Arm's KVM is a part of the kernel, and works where the
/// firmware starts that at EL2.
#[cfg(not(target_arch = "aarch64"))]
const MISSING: &str = "switch virtualization on in the firmware of this host (Intel VT-x, AMD-V) or, \
                       if it is a virtual machine itself, nested virtualization on its host, and load \
                       the module: sudo modprobe kvm_intel (or kvm_amd)";
#[cfg(target_arch = "aarch64")]
const MISSING: &str = "this host's kernel lacks KVM or was not started at EL2 ('sudo dmesg' says \
                       \"HYP mode not available\"): many virtual machines do not offer that, and \
                       whole machines (metal instances) do";
/// What else would help where the device cannot be opened.
#[cfg(not(target_arch = "aarch64"))]
const AGAIN: &str = "load the module again (sudo modprobe kvm_intel or kvm_amd), and ";
#[cfg(target_arch = "aarch64")]
const AGAIN: &str = "";

/// Why there is no KVM, and what would help.
pub(super) fn unusable(error: &smoke::Unusable) -> Unusable {
    Unusable(match error {
        smoke::Unusable::Kvm(KvmError::Open(source)) => match source.kind() {
            io::ErrorKind::NotFound => format!(
                "there is no /dev/kvm: {MISSING}. In a container, pass the device on: --device /dev/kvm"
            ),
            io::ErrorKind::PermissionDenied => denied(device_group().as_ref()),
            _ => format!(
                "{}: {AGAIN}look at what 'sudo dmesg' says of kvm",
                chain(error)
            ),
        },
        smoke::Unusable::Kvm(error @ KvmError::Architecture(_)) => error.to_string(),
        smoke::Unusable::Fails { .. } | smoke::Unusable::Wrong(_) => format!(
            "{}: if this host is a virtual machine itself, ask for another kind of it, with nested \
             virtualization by its processor",
            chain(error)
        ),
        _ => format!(
            "{}: update the kernel of this host, or free memory if it has none left",
            chain(error)
        ),
    })
}

/// The group of /dev/kvm.
#[derive(Debug, Clone, PartialEq, Eq)]
struct DeviceGroup {
    gid: u32,
    /// Its name on this host, or in this container.
    name: Option<String>,
    /// Its members may read and write.
    may_use: bool,
}

/// Why there is no permission, and what would help. Only a group named kvm is for this purpose: in a
/// container, the number of the host's group may be that of any other.
fn denied(group: Option<&DeviceGroup>) -> String {
    let problem = "no permission to use /dev/kvm";
    match group {
        Some(DeviceGroup {
            name: Some(name),
            may_use: true,
            ..
        }) if name == GROUP => format!(
            "{problem}, which belongs to the group {GROUP}: sudo usermod -aG {GROUP} \"$USER\", then \
             log in again (a session has the groups of its beginning)"
        ),
        Some(group) if group.may_use && group.gid != 0 => format!(
            "{problem}, which belongs to the group {}, not to {GROUP}: a container has to be started \
             with that group (podman run --group-add keep-groups, docker run --group-add {}); on a \
             host, set it right with: {SET_RIGHT}",
            match &group.name {
                Some(name) => format!("{name} ({})", group.gid),
                None => group.gid.to_string(),
            },
            group.gid
        ),
        Some(_) => format!(
            "{problem}, which no group may use: sudo usermod -aG {GROUP} \"$USER\" && {SET_RIGHT}, then \
             log in again"
        ),
        None => format!("{problem}: ask for read and write access to it"),
    }
}

/// The group that /dev/kvm belongs to.
fn device_group() -> Option<DeviceGroup> {
    const GROUP_READ_WRITE: u32 = 0o060;
    let metadata = fs::metadata(DEVICE).ok()?;
    if !metadata.file_type().is_char_device() {
        return None;
    }
    let gid = metadata.gid();
    let known = nix::unistd::Group::from_gid(nix::unistd::Gid::from_raw(gid));
    Some(DeviceGroup {
        gid,
        name: known.ok().flatten().map(|group| group.name),
        may_use: metadata.mode() & GROUP_READ_WRITE == GROUP_READ_WRITE,
    })
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
        assert!(text.contains("modprobe") || text.contains("EL2"), "{text}");
    }

    /// Case E6: in a container, where the number of the host's group kvm was that of ssl-cert, the
    /// advice was to join ssl-cert.
    #[test]
    fn only_the_group_kvm_is_advised() {
        let group = |name: Option<&str>, may_use| DeviceGroup {
            gid: 108,
            name: name.map(str::to_owned),
            may_use,
        };
        let text = denied(Some(&group(Some("kvm"), true)));
        assert!(text.contains("usermod -aG kvm"), "{text}");
        for other in [group(Some("ssl-cert"), true), group(None, true)] {
            let text = denied(Some(&other));
            assert!(!text.contains("usermod"), "{text}");
            assert!(text.contains("--group-add 108"), "{text}");
        }
        let root = DeviceGroup {
            gid: 0,
            ..group(Some("root"), true)
        };
        for other in [group(Some("kvm"), false), root] {
            let text = denied(Some(&other));
            assert!(text.contains("usermod -aG kvm"), "{text}");
            assert!(text.contains("chgrp kvm"), "{text}");
            assert!(!text.contains("--group-add"), "{text}");
        }
        assert!(denied(None).contains("ask for"));
    }

    #[test]
    fn every_failure_has_advice() {
        let wrong = smoke::Unusable::Wrong(vec![1]);
        let Unusable(text) = unusable(&wrong);
        assert!(text.contains("nested virtualization"), "{text}");
        let busy = smoke::Unusable::Kvm(KvmError::Open(io::Error::from_raw_os_error(libc::EBUSY)));
        let Unusable(text) = unusable(&busy);
        assert!(text.contains("dmesg"), "{text}");
    }
}
