//! Where an image has its data.

/// Where the data of a range are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::disk) enum Mapping {
    /// At this offset of the file.
    File(u64),
    /// At this offset of what was written over the image.
    Changes {
        /// Which of the layers over the image, from the bottom.
        layer: usize,
        /// The offset.
        at: u64,
    },
    /// Nowhere: they are zeros.
    Zero,
    /// In a compressed cluster, at this offset of what it unpacks to; the number is the
    /// cluster's entry in the table.
    Compressed {
        /// The entry.
        entry: u64,
        /// Offset in the cluster.
        within: u64,
    },
}
