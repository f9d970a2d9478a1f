//! Values that options and commands can have on this host. What cannot be read has none.

use boxbuild_boxes::catalog::Catalog;
use boxbuild_boxes::source::create;
use boxbuild_boxes::store::Store;
use boxbuild_core::failed_builds::FailedBuilds;
use boxbuild_host::arch::Arch;
use clap_complete::engine::CompletionCandidate;

/// The image types of KIWI (schema 8.3).
const IMAGE_TYPES: &[&str] = &[
    "appx", "btrfs", "cpio", "docker", "enclave", "erofs", "ext2", "ext3", "ext4", "iso", "kis",
    "oci", "oem", "pxe", "squashfs", "tbz", "wsl", "xfs",
];

/// Returns the boxes of this host.
pub(super) fn installed_boxes() -> Vec<CompletionCandidate> {
    let names = Store::of_user().and_then(|store| store.names());
    let names = names.unwrap_or_default().into_iter();
    names
        .map(|name| CompletionCandidate::new(name).help(Some("on this host".into())))
        .collect()
}

/// Returns the boxes that a build can name: those of this host, and published ones.
pub(super) fn boxes() -> Vec<CompletionCandidate> {
    let mut boxes = installed_boxes();
    let published = Catalog::of_user(None).map(|catalog| catalog.names());
    for name in published.unwrap_or_default() {
        if !boxes.iter().any(|known| known.get_value() == name.as_str()) {
            boxes.push(CompletionCandidate::new(name).help(Some("published".into())));
        }
    }
    boxes
}

/// Returns the names of kept builds.
pub(super) fn builds() -> Vec<CompletionCandidate> {
    let ids = FailedBuilds::of_user()
        .ok()
        .and_then(|builds| builds.ids().ok());
    ids.unwrap_or_default()
        .into_iter()
        .map(CompletionCandidate::new)
        .collect()
}

/// Returns what boxes can be made from.
pub(super) fn releases() -> Vec<CompletionCandidate> {
    let releases = create::releases().into_iter();
    releases.map(CompletionCandidate::new).collect()
}

/// Returns the image types.
pub(super) fn image_types() -> Vec<CompletionCandidate> {
    IMAGE_TYPES.iter().map(CompletionCandidate::new).collect()
}

/// Returns the architectures.
pub(super) fn arches() -> Vec<CompletionCandidate> {
    let arches = Arch::ALL.iter();
    arches
        .map(|arch| CompletionCandidate::new(arch.name()))
        .collect()
}
