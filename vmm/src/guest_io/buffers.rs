//! The buffers of a request.

use vm_memory::{VolatileMemoryError, VolatileSlice};

use super::cursor::Cursor;

/// Fewer bytes than a request needs.
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

    /// Bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A position at the start.
    pub fn cursor(&self) -> Cursor<'_, ()> {
        Cursor::new(&self.slices)
    }

    /// The pieces, in order.
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
