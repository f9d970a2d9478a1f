//! What is known of a box's root file system without booting it.

use boxbuild_protocol::kernel_args;
use boxbuild_vmm::disk::Image;
use boxinit::partition;
use boxinit::root::Root;
use boxinit::superblock::{self, Content};

/// Partitions that are looked at where `root=` does not say which one.
const PARTITIONS: u32 = 16;

/// The kind of file system that `root=` among `items` of the kernel command line names on the
/// disk `image`, if that can be told.
pub(crate) fn root_kind(image: &Image, items: &[String]) -> Option<&'static str> {
    let root = Root::parse(kernel_args::value(items, "root")).ok()?;
    let table = start(image, 0, partition::PROBE_LENGTH)?;
    let content = |number| {
        let entry = partition::entry(&table, number)?;
        let bytes = start(image, entry.start, superblock::PROBE_LENGTH)?;
        Some((entry, superblock::probe(&bytes)))
    };
    let kind = |content| match content {
        Content::FileSystem { kind, .. } => Some(kind),
        _ => None,
    };
    if let Root::Device(name) = &root {
        let number = name.strip_prefix("vda")?.parse().ok()?;
        return content(number).and_then(|(_, content)| kind(content));
    }
    (1..=PARTITIONS)
        .filter_map(content)
        .find(|(entry, content)| match (&root, content) {
            (Root::PartUuid(wanted), _) => entry.uuid == *wanted,
            (Root::PartLabel(wanted), _) => entry.label == *wanted,
            (Root::Uuid(wanted), Content::FileSystem { uuid, .. }) => uuid == wanted,
            (Root::Label(wanted), Content::FileSystem { label, .. }) => label == wanted,
            _ => false,
        })
        .and_then(|(_, content)| kind(content))
}

/// `count` bytes at `offset`, or all up to the end.
fn start(image: &Image, offset: u64, count: usize) -> Option<Vec<u8>> {
    let left = image.len().checked_sub(offset)?;
    let mut bytes = vec![0; count.min(usize::try_from(left).ok()?)];
    image.read_bytes(offset, &mut bytes).ok()?;
    Some(bytes)
}
