//! The buffers of a request.

use vm_memory::{VolatileMemoryError, VolatileSlice};

use super::cursor::Cursor;

/// Why a part of the buffers cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum BuffersError {
    /// The buffers are too short.
    #[error("{have} bytes where {need} are needed")]
    Short {
        /// Bytes that are needed.
        need: usize,
        /// Bytes that there are.
        have: usize,
    },
    /// A part of a buffer is not memory.
    #[error(transparent)]
    Memory(#[from] VolatileMemoryError),
}

/// A scattered range of guest memory.
#[derive(Debug, Default)]
pub struct Buffers<'m> {
    slices: Vec<VolatileSlice<'m>>,
    len: usize,
}

impl<'m> Buffers<'m> {
    /// Adds memory at the end.
    pub fn push(&mut self, slice: VolatileSlice<'m>) {
        self.len += slice.len();
        self.slices.push(slice);
    }

    /// Returns the number of bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns a position at the start.
    pub fn cursor(&self) -> Cursor<'_, ()> {
        Cursor::new(&self.slices)
    }

    /// Returns the pieces, in order.
    pub fn slices(&self) -> &[VolatileSlice<'m>] {
        &self.slices
    }

    /// Takes the first `len` bytes off.
    ///
    /// # Errors
    /// If there are fewer.
    pub fn take_front(&mut self, len: usize) -> Result<Buffers<'m>, BuffersError> {
        if len > self.len {
            return Err(BuffersError::Short {
                need: len,
                have: self.len,
            });
        }
        let mut front = Buffers::default();
        let mut rest = Buffers::default();
        for slice in self.slices.drain(..) {
            let here = slice.len().min(len - front.len);
            if here > 0 {
                front.push(slice.subslice(0, here)?);
            }
            if here < slice.len() {
                rest.push(slice.offset(here)?);
            }
        }
        *self = rest;
        Ok(front)
    }

    /// Takes the last `len` bytes off.
    ///
    /// # Errors
    /// If there are fewer.
    pub fn take_back(&mut self, len: usize) -> Result<Buffers<'m>, BuffersError> {
        let front = self.len.checked_sub(len).ok_or(BuffersError::Short {
            need: len,
            have: self.len,
        })?;
        let front = self.take_front(front)?;
        Ok(std::mem::replace(self, front))
    }

    /// Copies from the start into `target`; returns how many bytes there were.
    pub fn copy_to(&self, target: &mut [u8]) -> usize {
        let mut done = 0;
        for slice in &self.slices {
            let Some(rest) = target.get_mut(done..).filter(|rest| !rest.is_empty()) else {
                break;
            };
            done += slice.copy_to(rest);
        }
        done
    }

    /// Copies `source` to the start; returns how many bytes fitted.
    pub fn copy_from(&self, source: &[u8]) -> usize {
        let mut done = 0;
        for slice in &self.slices {
            let rest = source.get(done..).unwrap_or_default();
            let here = rest.len().min(slice.len());
            slice.copy_from(rest.get(..here).unwrap_or_default());
            done += here;
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(buffers: &Buffers<'_>) -> Vec<u8> {
        let mut bytes = vec![0; buffers.len()];
        assert_eq!(buffers.copy_to(&mut bytes), bytes.len());
        bytes
    }

    #[test]
    fn parts_are_taken_across_slices() {
        let (mut first, mut second) = (*b"abc", *b"defgh");
        let mut buffers = Buffers::default();
        buffers.push(VolatileSlice::from(&mut first[..]));
        buffers.push(VolatileSlice::from(&mut second[..]));
        let front = buffers.take_front(4).unwrap();
        let back = buffers.take_back(1).unwrap();
        assert_eq!(contents(&front), b"abcd");
        assert_eq!(contents(&buffers), b"efg");
        assert_eq!(contents(&back), b"h");
        let short = buffers.take_front(4).map(|_| ());
        assert!(matches!(
            short,
            Err(BuffersError::Short { need: 4, have: 3 })
        ));
        assert!(buffers.take_back(4).is_err());
        assert_eq!(contents(&buffers), b"efg");
    }

    #[test]
    fn a_cursor_moves_over_all_slices() {
        let (mut first, mut second) = ([0; 3], [0; 5]);
        let mut buffers = Buffers::default();
        buffers.push(VolatileSlice::from(&mut first[..]));
        buffers.push(VolatileSlice::from(&mut second[..]));
        assert_eq!(buffers.copy_from(b"12345678"), 8);
        let mut cursor = buffers.cursor();
        let mut bytes = [0; 4];
        cursor.take(&mut bytes).unwrap();
        assert_eq!((&bytes, cursor.remaining()), (b"1234", 4));
        cursor.zero(2).unwrap();
        cursor.fill(b"ab").unwrap();
        assert!(cursor.fill(b"c").is_err());
        assert_eq!(contents(&buffers), b"1234\0\0ab");
    }
}
