//! The decoder of LZO1X (Linux, Documentation/staging/lzo.rst). Of the crates there are, one panics on
//! damaged data, and another's licence is not ours.

/// Unpacks `packed`, which must be `length` bytes then; `None` if it is damaged.
pub(super) fn unpack(packed: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut decoder = Decoder {
        packed,
        out: Vec::new(),
        length,
    };
    decoder.run()?;
    (decoder.packed.is_empty() && decoder.out.len() == length).then_some(decoder.out)
}

struct Decoder<'a> {
    packed: &'a [u8],
    out: Vec<u8>,
    length: usize,
}

impl Decoder<'_> {
    /// Follows all instructions, up to the one that ends the data.
    fn run(&mut self) -> Option<()> {
        // Literals that the last instruction copied; 4 stands for more as well.
        let mut state = 0;
        if let Some(count) = self
            .packed
            .first()?
            .checked_sub(17)
            .filter(|count| *count > 0)
        {
            self.byte()?;
            self.literals(usize::from(count))?;
            state = count.min(4);
        }
        loop {
            let instruction = self.byte()?;
            let bits = usize::from(instruction);
            let (distance, count, literals) = match instruction {
                64.. => {
                    let high = usize::from(self.byte()?);
                    (
                        (high << 3) + (bits >> 2 & 7) + 1,
                        (bits >> 5) + 1,
                        instruction & 3,
                    )
                }
                32.. => {
                    let count = self.count(bits & 31, 31)? + 2;
                    let (distance, literals) = self.distance()?;
                    (distance + 1, count, literals)
                }
                16.. => {
                    let count = self.count(bits & 7, 7)? + 2;
                    let (distance, literals) = self.distance()?;
                    let distance = distance + ((bits & 8) << 11);
                    if distance == 0 {
                        return (count == 3).then_some(());
                    }
                    (distance + 16384, count, literals)
                }
                _ if state == 0 => {
                    let count = self.count(bits, 15)? + 3;
                    self.literals(count)?;
                    state = 4;
                    continue;
                }
                _ => {
                    let high = usize::from(self.byte()?);
                    let distance = (high << 2) + (bits >> 2) + 1;
                    match state {
                        4 => (distance + 2048, 3, instruction & 3),
                        _ => (distance, 2, instruction & 3),
                    }
                }
            };
            self.copy(distance, count)?;
            self.literals(usize::from(literals))?;
            state = literals;
        }
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.packed.split_first()?;
        self.packed = rest;
        Some(*first)
    }

    /// Returns a count whose lowest bits are in the instruction. If those are 0, it is more than `most`.
    fn count(&mut self, bits: usize, most: usize) -> Option<usize> {
        if bits > 0 {
            return Some(bits);
        }
        let mut count = most;
        loop {
            match self.byte()? {
                0 => count = count.checked_add(255)?,
                last => return count.checked_add(usize::from(last)),
            }
        }
    }

    /// Returns a distance of 14 bits, and the number of literals that follow.
    fn distance(&mut self) -> Option<(usize, u8)> {
        let [low, high] = [self.byte()?, self.byte()?];
        let distance = u16::from_le_bytes([low, high]) >> 2;
        Some((usize::from(distance), low & 3))
    }

    /// Fails unless the output has space for `count` bytes.
    fn fits(&self, count: usize) -> Option<()> {
        (count <= self.length - self.out.len()).then_some(())
    }

    fn literals(&mut self, count: usize) -> Option<()> {
        self.fits(count)?;
        let (literals, rest) = self.packed.split_at_checked(count)?;
        self.out.extend_from_slice(literals);
        self.packed = rest;
        Some(())
    }

    /// Copies what was written `distance` bytes before; it may overlap what it is copied to.
    fn copy(&mut self, distance: usize, count: usize) -> Option<()> {
        self.fits(count)?;
        let from = self.out.len().checked_sub(distance)?;
        for at in from..from + count {
            self.out.push(self.out[at]);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// About as compressible as code, with long runs and far repetitions.
    fn data(length: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let mut data: Vec<u8> = Vec::new();
        while data.len() < length {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (kind, number) = (state >> 30, (state >> 16) as usize & 0x3fff);
            match kind {
                0 => data.extend(std::iter::repeat_n(state as u8, number & 0x3ff)),
                1 | 2 if data.len() > number => {
                    let from = data.len() - number - 1;
                    let end = data.len().min(from + 3 + (number & 0x1f));
                    data.extend_from_within(from..end);
                }
                _ => data.extend(state.to_le_bytes()),
            }
        }
        data.truncate(length);
        data
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        for length in [1, 2, 3, 4, 20, 300, 5000, 100_000, 300_000] {
            let data = data(length);
            let packed = lzokay_native::compress(&data).unwrap();
            assert!(unpack(&packed, length).as_ref() == Some(&data), "{length}");
            assert!(unpack(&packed, length - 1).is_none());
            assert!(unpack(&packed, length + 1).is_none());
        }
    }

    #[test]
    fn damage_is_noticed_or_gives_as_many_bytes() {
        let data = data(2000);
        let packed = lzokay_native::compress(&data).unwrap();
        for at in 0..packed.len() {
            assert!(unpack(&packed[..at], data.len()).is_none());
            for byte in [0, 1, 15, 16, 17, 31, 32, 63, 64, 0xff] {
                let mut damaged = packed.clone();
                damaged[at] = byte;
                let unpacked = unpack(&damaged, data.len());
                assert!(unpacked.is_none_or(|unpacked| unpacked.len() == data.len()));
            }
        }
        // A copy of what is before the beginning.
        assert!(unpack(&[0x40, 0], 100).is_none());
    }
}
