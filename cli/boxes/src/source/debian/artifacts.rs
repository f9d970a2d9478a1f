//! The files of a box, from its root tree.

use std::ffi::OsString;
use std::path::Path;

use crate::source::command::Workshop;
use crate::source::error::SourceError;
use crate::source::root_disk;
use crate::store::Inventory;

/// Makes the container image `image` from `root.tar`: the same tree without the files that only a
/// machine needs. mmdebstrap's archive has the right owners, and GNU tar copies its members without
/// unpacking them.
pub(super) fn make_container(workshop: &Workshop<'_>, image: &Path) -> Result<(), SourceError> {
    // podman mounts its own files over /dev and /etc/resolv.conf.
    let script = "set -e; cd \"$1\"; cp root.tar container.tar; \
         tar --delete --wildcards -f container.tar './boot/*' './usr/lib/modules/*' './dev/*' \
         ./etc/resolv.conf; gzip -1 -n <container.tar >\"$2\"; rm container.tar";
    let args: [OsString; 5] = [
        "-c".into(),
        script.into(),
        "sh".into(),
        workshop.dir.clone().into(),
        image.into(),
    ];
    Ok(workshop.run("sh", args, &[])?)
}

/// Makes `disk.raw`, `kernel` and `initrd` in the workshop from `root.tar`. Returns what the tree has of
/// what builds may need.
pub(super) fn make_disk(
    workshop: &Workshop<'_>,
    size: u64,
    suite: &str,
) -> Result<Inventory, SourceError> {
    let kernel = "for kernel in tree/usr/lib/modules/*/vmlinuz tree/boot/vmlinuz-* tree/boot/vmlinux-*; do \
         [ ! -e \"$kernel\" ] || cp \"$kernel\" kernel; done; \
         for initrd in tree/boot/initrd.img-*; do [ ! -e \"$initrd\" ] || cp \"$initrd\" initrd; \
         done; chmod 0644 kernel initrd || :;";
    let inventory = root_disk::make_disk(workshop, size, kernel)?;
    for what in ["kernel", "initrd"] {
        if !workshop.dir.join(what).is_file() {
            return Err(SourceError::Unusable(format!(
                "the root tree of {suite} has no {what}"
            )));
        }
    }
    Ok(inventory)
}

/// Converts `disk.raw` in the workshop to the qcow2 image `image`.
pub(super) fn convert_disk(workshop: &Workshop<'_>, image: &Path) -> Result<(), SourceError> {
    let options = "convert -f raw -O qcow2 -o lazy_refcounts=on -W".split(' ');
    let files: [OsString; 2] = [workshop.dir.join(root_disk::DISK).into(), image.into()];
    Ok(workshop.run("qemu-img", options.map(Into::into).chain(files), &[])?)
}
