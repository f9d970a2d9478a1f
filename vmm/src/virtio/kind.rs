//! The kinds of devices.

/// Kinds of devices (virtio 1.2, section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Network card.
    Net,
    /// Disk.
    Block,
    /// Consoles and ports.
    Console,
    /// Random numbers.
    Rng,
    /// Memory balloon.
    Balloon,
    /// File system.
    Fs,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 6] = [
        Kind::Net,
        Kind::Block,
        Kind::Console,
        Kind::Rng,
        Kind::Balloon,
        Kind::Fs,
    ];

    /// Device id (virtio 1.2, section 5).
    pub fn id(self) -> u16 {
        match self {
            Kind::Net => 1,
            Kind::Block => 2,
            Kind::Console => 3,
            Kind::Rng => 4,
            Kind::Balloon => 5,
            Kind::Fs => 26,
        }
    }

    /// PCI class (PCI Code and ID Assignment Specification; the last one is "unclassified").
    pub fn class(self) -> u32 {
        match self {
            Kind::Net => 0x02_00_00,
            Kind::Block | Kind::Fs => 0x01_80_00,
            Kind::Console => 0x07_80_00,
            Kind::Rng | Kind::Balloon => 0x00_ff_00,
        }
    }

    /// Name of the thread that serves it, at most 15 bytes.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Net => "virtio-net",
            Kind::Block => "virtio-blk",
            Kind::Console => "virtio-console",
            Kind::Rng => "virtio-rng",
            Kind::Balloon => "virtio-balloon",
            Kind::Fs => "virtio-fs",
        }
    }
}
