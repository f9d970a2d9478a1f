//! The buffers of one chain, checked and split into what is read and what is written.

use vm_memory::{GuestMemory, Permissions, VolatileSlice};

use super::{Chain, Fault};
use crate::memory::GuestRam;

/// A scattered range of guest memory.
#[derive(Debug, Default)]
pub struct Buffers<'m> {
    slices: Vec<VolatileSlice<'m>>,
    len: usize,
}

impl<'m> Buffers<'m> {
    /// The readable and the writable part of `chain`.
    ///
    /// # Errors
    /// If a buffer is not in `ram`, or a readable one follows a writable one.
    pub fn split(ram: &'m GuestRam, chain: Chain<'_>) -> Result<(Self, Self), Fault> {
        let (mut readable, mut writable) = (Buffers::default(), Buffers::default());
        for descriptor in chain {
            let (part, access) = if descriptor.is_write_only() {
                (&mut writable, Permissions::Write)
            } else if writable.slices.is_empty() {
                (&mut readable, Permissions::Read)
            } else {
                return Err(Fault::Request(String::from(
                    "a readable buffer follows a writable one",
                )));
            };
            let len = descriptor.len() as usize;
            for slice in GuestMemory::get_slices(ram, descriptor.addr(), len, access)? {
                part.push(slice?);
            }
        }
        Ok((readable, writable))
    }

    fn push(&mut self, slice: VolatileSlice<'m>) {
        self.len += slice.len();
        self.slices.push(slice);
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pieces, in order.
    pub fn slices(&self) -> &[VolatileSlice<'m>] {
        &self.slices
    }

    /// Takes the first `len` bytes off.
    ///
    /// # Errors
    /// If there are fewer.
    pub fn take_front(&mut self, len: usize) -> Result<Buffers<'m>, Fault> {
        if len > self.len {
            return Err(short(len, self.len));
        }
        let mut front = Buffers::default();
        let mut rest = Buffers::default();
        for slice in self.slices.drain(..) {
            let here = slice.len().min(len - front.len);
            if here > 0 {
                front.push(slice.subslice(0, here).map_err(volatile)?);
            }
            if here < slice.len() {
                rest.push(slice.offset(here).map_err(volatile)?);
            }
        }
        *self = rest;
        Ok(front)
    }

    /// Takes the last `len` bytes off.
    ///
    /// # Errors
    /// If there are fewer.
    pub fn take_back(&mut self, len: usize) -> Result<Buffers<'m>, Fault> {
        let front = self
            .len
            .checked_sub(len)
            .ok_or_else(|| short(len, self.len))?;
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

fn short(need: usize, have: usize) -> Fault {
    Fault::Request(format!("{have} bytes where {need} are needed"))
}

fn volatile(error: vm_memory::volatile_memory::Error) -> Fault {
    Fault::Memory(error.into())
}
