//! MSI-X: a table of messages in a BAR, each of which is an interrupt (PCI Local Bus
//! Specification 3.0, section 6.8.2).
//!
//! A message is sent by KVM_SIGNAL_MSI, one system call without any set-up: an irqfd would
//! need two descriptors' worth of set-up per vector and a new routing table for each change,
//! to save nothing when the sender is a thread of this process.

use std::sync::{Arc, Mutex, PoisonError};

use crate::kvm::MsiSink;

/// Number of the capability.
pub const CAPABILITY: u8 = 0x11;
/// Bytes of a table entry: address low, high, data, control.
pub const ENTRY: u64 = 16;
/// No vector (virtio 1.2, `VIRTIO_MSI_NO_VECTOR`).
pub const NO_VECTOR: u16 = 0xffff;

/// Message control: the function's MSI-X are on.
const ENABLE: u16 = 1 << 15;
/// Message control: all vectors are masked.
const MASK_ALL: u16 = 1 << 14;
/// Entry control: this vector is masked.
const MASK: u32 = 1;

/// What the capability says behind its number and link: control, table and pending bits.
///
/// `table` and `pending` are offsets in BAR `bar`, multiples of 8.
pub fn capability(vectors: u16, bar: u8, table: u32, pending: u32) -> [u8; 10] {
    let mut body = [0; 10];
    let control = (vectors - 1).to_le_bytes();
    let table = (table | u32::from(bar)).to_le_bytes();
    let pending = (pending | u32::from(bar)).to_le_bytes();
    let all = control.into_iter().chain(table).chain(pending);
    for (byte, value) in body.iter_mut().zip(all) {
        *byte = value;
    }
    body
}

/// The bits of the capability that the guest may write: on, and mask.
pub const WRITABLE: [u8; 2] = (ENABLE | MASK_ALL).to_le_bytes();

#[derive(Debug, Clone, Copy)]
struct Entry {
    words: [u32; 4],
    pending: bool,
}

impl Entry {
    fn is_masked(&self) -> bool {
        self.words[3] & MASK != 0
    }

    fn send(&self, sink: &dyn MsiSink) {
        let [low, high, data, _] = self.words;
        sink.send(u64::from(high) << 32 | u64::from(low), data);
    }
}

#[derive(Debug)]
struct State {
    control: u16,
    master: bool,
    entries: Vec<Entry>,
}

/// The vectors of a function. Shared between the function (the guest's side) and what
/// raises its interrupts.
#[derive(Debug)]
pub struct Msix {
    sink: Arc<dyn MsiSink>,
    state: Mutex<State>,
}

impl Msix {
    /// `vectors` (1 to 2048) vectors, off and masked, that send to `sink`.
    pub fn new(vectors: u16, sink: Arc<dyn MsiSink>) -> Msix {
        let entry = Entry {
            words: [0, 0, 0, MASK],
            pending: false,
        };
        Msix {
            sink,
            state: Mutex::new(State {
                control: 0,
                master: false,
                entries: vec![entry; usize::from(vectors)],
            }),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of vectors.
    pub fn vectors(&self) -> u16 {
        self.state().entries.len() as u16
    }

    /// The guest has written the capability's control, or made the function a bus master or
    /// not.
    pub fn set_control(&self, control: u16, master: bool) {
        let mut state = self.state();
        state.control = control;
        state.master = master;
        self.deliver(&mut state);
    }

    /// Raises vector `vector`; one that does not exist is no interrupt.
    pub fn raise(&self, vector: u16) {
        let mut state = self.state();
        let live = state.is_live();
        let enabled = state.control & ENABLE != 0;
        let Some(entry) = state.entries.get_mut(usize::from(vector)) else {
            return;
        };
        if live && !entry.is_masked() {
            entry.send(self.sink.as_ref());
        } else if enabled {
            entry.pending = true;
        }
    }

    /// Sends what waits and may go now.
    fn deliver(&self, state: &mut State) {
        if !state.is_live() {
            return;
        }
        for entry in &mut state.entries {
            if entry.pending && !entry.is_masked() {
                entry.pending = false;
                entry.send(self.sink.as_ref());
            }
        }
    }

    /// Reads the table at `offset`, in pieces of any size; where there is no entry are zeros.
    pub fn read_table(&self, offset: u64, data: &mut [u8]) {
        let state = self.state();
        for (at, byte) in data.iter_mut().enumerate() {
            let at = offset.saturating_add(at as u64);
            let word = state.word(at).unwrap_or_default();
            *byte = word.to_le_bytes()[(at % 4) as usize];
        }
    }

    /// Writes the table at `offset`, aligned to 4 bytes, in pieces of 4 or 8. Others do nothing: half
    /// an address would be one that nobody wants (PCI 3.0, section 6.8.2, "MSI-X Table").
    pub fn write_table(&self, offset: u64, data: &[u8]) {
        if !offset.is_multiple_of(4) || !matches!(data.len(), 4 | 8) {
            return;
        }
        let mut state = self.state();
        for (at, chunk) in data.chunks_exact(4).enumerate() {
            if let (Some(word), Ok(bytes)) =
                (state.word_mut(offset + 4 * at as u64), chunk.try_into())
            {
                *word = u32::from_le_bytes(bytes);
            }
        }
        self.deliver(&mut state);
    }

    /// Reads the pending bits at `offset`.
    pub fn read_pending(&self, offset: u64, data: &mut [u8]) {
        let state = self.state();
        for (at, byte) in data.iter_mut().enumerate() {
            let first = (offset as usize + at).saturating_mul(8);
            let entries = state.entries.iter().skip(first).take(8);
            *byte = entries.enumerate().fold(0, |bits, (bit, entry)| {
                bits | u8::from(entry.pending) << bit
            });
        }
    }
}

impl State {
    fn is_live(&self) -> bool {
        self.master && self.control & (ENABLE | MASK_ALL) == ENABLE
    }

    fn word(&self, offset: u64) -> Option<u32> {
        let entry = self.entries.get((offset / ENTRY) as usize)?;
        entry.words.get((offset % ENTRY / 4) as usize).copied()
    }

    fn word_mut(&mut self, offset: u64) -> Option<&mut u32> {
        let entry = self.entries.get_mut((offset / ENTRY) as usize)?;
        entry.words.get_mut((offset % ENTRY / 4) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::Recorder;

    fn with_one_vector() -> (Arc<Recorder>, Msix) {
        let sink = Arc::new(Recorder::default());
        let msix = Msix::new(2, sink.clone());
        msix.write_table(0, &0xfee0_0000_u64.to_le_bytes());
        msix.write_table(8, &0x41_u32.to_le_bytes());
        (sink, msix)
    }

    #[test]
    fn a_masked_interrupt_waits_and_is_not_lost() {
        let (sink, msix) = with_one_vector();
        msix.raise(0);
        msix.set_control(ENABLE, true);
        assert_eq!(sink.taken(), []);
        msix.raise(0);
        let mut bits = [0xff];
        msix.read_pending(0, &mut bits);
        assert_eq!(bits, [1]);
        msix.write_table(12, &0_u32.to_le_bytes());
        assert_eq!(sink.taken(), [(0xfee0_0000, 0x41)]);
        msix.raise(0);
        assert_eq!(sink.taken(), [(0xfee0_0000, 0x41)]);
        msix.set_control(ENABLE | MASK_ALL, true);
        msix.raise(0);
        msix.raise(0);
        assert_eq!(sink.taken(), []);
        msix.set_control(ENABLE, true);
        assert_eq!(sink.taken(), [(0xfee0_0000, 0x41)]);
    }

    /// PCI 3.0, section 6.8.2, asks for reads of 4 or 8 bytes; tools that dump a BAR take bytes, and
    /// took an empty table for a broken device.
    #[test]
    fn the_table_is_read_in_pieces_of_any_size() {
        let (sink, msix) = with_one_vector();
        let mut whole = [0; 16];
        for half in [0, 8] {
            msix.read_table(half, &mut whole[half as usize..][..8]);
        }
        let expected = [
            &0xfee0_0000_u64.to_le_bytes()[..],
            &[0x41, 0, 0, 0],
            &[1, 0, 0, 0],
        ];
        assert_eq!(whole[..], expected.concat());
        for size in [1, 2, 3, 4, 5, 7] {
            for start in 0..=16 - size {
                let mut piece = vec![0xee; size];
                msix.read_table(start as u64, &mut piece);
                assert_eq!(piece, whole[start..start + size], "{size} at {start}");
            }
        }
        // Across the end of the table.
        let mut end = [0xee; 8];
        msix.read_table(28, &mut end);
        assert_eq!(end, [1, 0, 0, 0, 0, 0, 0, 0]);
        // Pieces that are not words are not written.
        msix.write_table(12, &[0]);
        msix.write_table(8, &[0x42, 0]);
        msix.set_control(ENABLE, true);
        msix.raise(0);
        assert_eq!(sink.taken(), []);
        msix.write_table(12, &0_u32.to_le_bytes());
        assert_eq!(sink.taken(), [(0xfee0_0000, 0x41)]);
    }

    #[test]
    fn no_interrupts_from_a_function_that_is_no_master() {
        let (sink, msix) = with_one_vector();
        msix.write_table(12, &0_u32.to_le_bytes());
        msix.set_control(ENABLE, false);
        msix.raise(0);
        assert_eq!(sink.taken(), []);
        msix.set_control(ENABLE, true);
        assert_eq!(sink.taken(), [(0xfee0_0000, 0x41)]);
    }

    #[test]
    fn wild_accesses_do_nothing() {
        let (sink, msix) = with_one_vector();
        msix.set_control(ENABLE, true);
        msix.raise(NO_VECTOR);
        msix.write_table(2, &[0; 4]);
        msix.write_table(16 * 2048, &[0; 8]);
        msix.write_table(0, &[0; 3]);
        let mut data = [7; 8];
        msix.read_table(u64::MAX - 3, &mut data[..3]);
        msix.read_table(u64::MAX - 8, &mut data);
        msix.read_table(1 << 40, &mut data);
        msix.read_pending(1 << 40, &mut data);
        assert_eq!(data, [0; 8]);
        assert_eq!(sink.taken(), []);
    }
}
