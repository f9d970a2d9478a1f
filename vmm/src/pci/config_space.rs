//! Type 0 configuration space (PCI Local Bus Specification 3.0, section 6.1): 256 bytes, of
//! which the guest may write those bits that a mask allows.

/// Bytes of configuration space that exist; the rest of PCI Express' 4096 reads as zero, which
/// means "no extended capabilities".
pub(super) const SIZE: usize = 256;
/// BARs of a type 0 header.
const BARS: usize = 6;

/// Offsets of registers.
const VENDOR: usize = 0x00;
const DEVICE: usize = 0x02;
const COMMAND: usize = 0x04;
const STATUS: usize = 0x06;
const REVISION: usize = 0x08;
const CLASS: usize = 0x09;
const BAR_0: usize = 0x10;
const SUBSYSTEM_VENDOR: usize = 0x2c;
const SUBSYSTEM: usize = 0x2e;
const CAPABILITIES: usize = 0x34;
/// First byte that is not in the header.
const HEADER_END: usize = 0x40;

/// Command: the function answers to memory accesses.
const COMMAND_MEMORY: u16 = 1 << 1;
/// Command: it may write to memory itself, which MSI-X are.
const COMMAND_MASTER: u16 = 1 << 2;
/// Command: legacy interrupts are off.
const COMMAND_NO_INTX: u16 = 1 << 10;
/// Status: there are capabilities.
const STATUS_CAPABILITIES: u16 = 1 << 4;

/// What a function says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Vendor of the device.
    pub vendor: u16,
    /// Its number for the device.
    pub device: u16,
    /// Revision.
    pub revision: u8,
    /// Class, subclass and programming interface, as in 0x06_00_00 for a host bridge.
    pub class: u32,
    /// Vendor of the board.
    pub subsystem_vendor: u16,
    /// Its number for the board.
    pub subsystem: u16,
}

/// What a write to configuration space means for the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Change {
    /// Nothing.
    None,
    /// BARs may have moved, or are decoded from now on, or not any more.
    Decoding,
    /// From now on reading configuration space does something: it must reach the function.
    Window,
}

/// A memory BAR (32 bit, not prefetchable).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BarRegister {
    /// Number of the BAR, 0 to 5.
    pub index: usize,
    /// Bytes, a power of two from 16 on.
    pub size: u32,
    /// Guest address.
    pub address: u32,
}

/// Configuration space of a function.
#[derive(Debug, Clone)]
pub struct ConfigSpace {
    bytes: [u8; SIZE],
    writable: [u8; SIZE],
    sizes: [u32; BARS],
    /// Where the next capability goes, and the link that shall point to it.
    next: usize,
    link: usize,
}

impl ConfigSpace {
    /// Creates a configuration space without BARs and capabilities.
    pub fn new(identity: Identity) -> ConfigSpace {
        let mut space = ConfigSpace {
            bytes: [0; SIZE],
            writable: [0; SIZE],
            sizes: [0; BARS],
            next: HEADER_END,
            link: CAPABILITIES,
        };
        space.put(VENDOR, &identity.vendor.to_le_bytes());
        space.put(DEVICE, &identity.device.to_le_bytes());
        space.put(REVISION, &[identity.revision]);
        space.put(CLASS, &identity.class.to_le_bytes()[..3]);
        space.put(SUBSYSTEM_VENDOR, &identity.subsystem_vendor.to_le_bytes());
        space.put(SUBSYSTEM, &identity.subsystem.to_le_bytes());
        let command = COMMAND_MEMORY | COMMAND_MASTER | COMMAND_NO_INTX;
        space.allow(COMMAND, &command.to_le_bytes());
        space
    }

    fn put(&mut self, at: usize, values: &[u8]) {
        for (byte, value) in self.bytes.iter_mut().skip(at).zip(values) {
            *byte = *value;
        }
    }

    fn allow(&mut self, at: usize, mask: &[u8]) {
        for (byte, value) in self.writable.iter_mut().skip(at).zip(mask) {
            *byte = *value;
        }
    }

    fn word(&self, at: usize) -> u16 {
        self.bytes
            .get(at..at + 2)
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(0, u16::from_le_bytes)
    }

    fn double(&self, at: usize) -> u32 {
        self.bytes
            .get(at..at + 4)
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(0, u32::from_le_bytes)
    }

    /// Adds a memory BAR of `size` bytes (a power of two from 16 to 2 GiB); the guest finds it
    /// at the address that [`place`](Self::place) gives it.
    ///
    /// # Panics
    /// If there is no such BAR or size: these are constants of a device.
    pub fn add_bar(&mut self, index: usize, size: u32) {
        assert!(index < BARS && size.is_power_of_two() && size >= 16);
        if let Some(slot) = self.sizes.get_mut(index) {
            *slot = size;
        }
        // The guest learns the size from the bits that stay 0.
        self.allow(BAR_0 + 4 * index, &(!(size - 1)).to_le_bytes());
    }

    /// Adds a capability: its number, and what follows behind the link, with the mask of what
    /// the guest may write (shorter is "not"). Returns its offset.
    ///
    /// # Panics
    /// If there is no room: capabilities are constants of a device.
    pub fn add_capability(&mut self, id: u8, body: &[u8], writable: &[u8]) -> usize {
        let at = self.next;
        let end = at + 2 + body.len();
        assert!(end <= SIZE && writable.len() <= body.len());
        self.put(self.link, &[at as u8]);
        self.put(at, &[id, 0]);
        self.put(at + 2, body);
        self.allow(at + 2, writable);
        self.put(STATUS, &STATUS_CAPABILITIES.to_le_bytes());
        self.link = at + 1;
        self.next = end.next_multiple_of(4);
        at
    }

    /// Sets the address of a BAR. The function does not answer there before its driver says so:
    /// while it answers, Linux turns it off and on again around each BAR that it looks at.
    pub fn place(&mut self, index: usize, address: u32) {
        self.put(BAR_0 + 4 * index, &address.to_le_bytes());
    }

    /// Returns all BARs.
    pub fn bars(&self) -> impl Iterator<Item = BarRegister> + '_ {
        let sizes = self.sizes.iter().enumerate();
        sizes
            .filter(|(_, size)| **size > 0)
            .map(|(index, &size)| BarRegister {
                index,
                size,
                address: self.double(BAR_0 + 4 * index) & !(size - 1),
            })
    }

    /// Whether the function answers at its BARs.
    pub fn decodes_memory(&self) -> bool {
        self.word(COMMAND) & COMMAND_MEMORY != 0
    }

    /// Whether the function may send interrupts.
    pub fn is_master(&self) -> bool {
        self.word(COMMAND) & COMMAND_MASTER != 0
    }

    /// Reads bytes; beyond the end they are zero.
    pub fn read(&self, offset: usize, data: &mut [u8]) {
        data.fill(0);
        let from = self.bytes.get(offset..).unwrap_or_default();
        for (value, byte) in data.iter_mut().zip(from) {
            *value = *byte;
        }
    }

    /// Writes the bits that the guest may write.
    pub fn write(&mut self, offset: usize, data: &[u8]) -> Change {
        let mut change = Change::None;
        let bytes = self.bytes.iter_mut().zip(&self.writable).enumerate();
        for ((at, (byte, mask)), value) in bytes.skip(offset).zip(data) {
            let new = *byte & !mask | value & mask;
            let decoding = at == COMMAND || (BAR_0..BAR_0 + 4 * BARS).contains(&at);
            if new != *byte && decoding {
                change = Change::Decoding;
            }
            *byte = new;
        }
        change
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IDENTITY: Identity = Identity {
        vendor: 0x1af4,
        device: 0x1042,
        revision: 1,
        class: 0x01_80_00,
        subsystem_vendor: 0x1af4,
        subsystem: 0x40,
    };

    fn sample() -> ConfigSpace {
        let mut space = ConfigSpace::new(IDENTITY);
        space.add_bar(0, 0x4000);
        space.add_capability(0x11, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], &[0, 0xc0]);
        space.add_capability(0x09, &[16, 1, 0, 0], &[]);
        space
    }

    fn double(space: &ConfigSpace, offset: usize) -> u32 {
        let mut data = [0; 4];
        space.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    #[test]
    fn what_a_driver_reads_first() {
        let space = sample();
        assert_eq!(double(&space, 0), 0x1042_1af4);
        assert_eq!(double(&space, 8), 0x0180_0001);
        assert_eq!(double(&space, 4) >> 16 & 0x10, 0x10);
        // The list of capabilities.
        assert_eq!(double(&space, 0x34) & 0xff, 0x40);
        assert_eq!(double(&space, 0x40), 0x0201_4c11);
        assert_eq!(double(&space, 0x4c), 0x0110_0009);
    }

    #[test]
    fn a_bar_tells_its_size_and_moves() {
        let mut space = sample();
        space.place(0, 0xc000_0000);
        assert!(!space.decodes_memory());
        assert_eq!(space.write(4, &[2]), Change::Decoding);
        assert!(space.decodes_memory());
        assert_eq!(space.write(0x10, &[0xff; 4]), Change::Decoding);
        assert_eq!(double(&space, 0x10), 0xffff_c000);
        assert_eq!(
            space.write(0x10, &0xd000_1234_u32.to_le_bytes()),
            Change::Decoding
        );
        let bars: Vec<BarRegister> = space.bars().collect();
        assert_eq!(
            bars,
            [BarRegister {
                index: 0,
                size: 0x4000,
                address: 0xd000_0000
            }]
        );
        assert_eq!(space.write(4, &[0]), Change::Decoding);
        assert!(!space.decodes_memory());
        assert_eq!(space.write(0x3c, &[5]), Change::None);
    }

    proptest! {
        /// Whatever a guest writes: only writable bits change, and nothing panics.
        #[test]
        fn only_writable_bits_change(
            writes in proptest::collection::vec((0_usize..5000, proptest::collection::vec(any::<u8>(), 1..9)), 0..50)
        ) {
            let before = sample();
            let mut space = sample();
            for (offset, data) in &writes {
                let decoding = space.write(*offset, data);
                let touches = offset + data.len() > COMMAND && *offset < BAR_0 + 24;
                prop_assert!(decoding == Change::None || touches);
            }
            for at in 0..SIZE {
                let changed = before.bytes[at] ^ space.bytes[at];
                prop_assert_eq!(changed & !before.writable[at], 0);
            }
            for bar in space.bars() {
                prop_assert_eq!(bar.address % bar.size, 0);
            }
            let mut data = [0xff; 8];
            space.read(4096, &mut data);
            prop_assert_eq!(data, [0; 8]);
        }
    }
}
