//! The arguments of one request, copied out of the guest.

use std::ffi::CStr;
use std::io;

use vm_memory::ByteValued;

use crate::fuse::filesystem::errno;
use crate::fuse::name::Name;

/// The bytes after a request's header, parsed from front to back.
#[derive(Debug)]
pub(super) struct Args<'a> {
    rest: &'a [u8],
    #[cfg(any(test, feature = "unchecked-names"))]
    unchecked: bool,
}

impl<'a> Args<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        Self {
            rest: body,
            #[cfg(any(test, feature = "unchecked-names"))]
            unchecked: false,
        }
    }

    #[cfg(any(test, feature = "unchecked-names"))]
    pub(super) fn unchecked(body: &'a [u8]) -> Self {
        Self {
            rest: body,
            unchecked: true,
        }
    }

    /// Takes the next structure; `EINVAL` if the request is too short for it.
    pub(super) fn take<T: ByteValued + Default>(&mut self) -> io::Result<T> {
        let mut value = T::default();
        value
            .as_mut_slice()
            .copy_from_slice(self.bytes(size_of::<T>())?);
        Ok(value)
    }

    /// Takes the next `len` bytes; `EINVAL` if there are fewer.
    pub(super) fn bytes(&mut self, len: usize) -> io::Result<&'a [u8]> {
        let (head, tail) = self
            .rest
            .split_at_checked(len)
            .ok_or_else(|| errno(libc::EINVAL))?;
        self.rest = tail;
        Ok(head)
    }

    /// Takes the next string; `EINVAL` if it has no NUL.
    pub(super) fn string(&mut self) -> io::Result<&'a CStr> {
        let string = CStr::from_bytes_until_nul(self.rest).map_err(|_| errno(libc::EINVAL))?;
        self.rest = self
            .rest
            .get(string.to_bytes_with_nul().len()..)
            .unwrap_or_default();
        Ok(string)
    }

    /// Takes the next string as a checked name.
    pub(super) fn name(&mut self) -> io::Result<Name<'a>> {
        let string = self.string()?;
        #[cfg(any(test, feature = "unchecked-names"))]
        if self.unchecked {
            return Ok(Name::unchecked(string));
        }
        Name::new(string).map_err(errno)
    }

    /// Takes the last string of the request as a checked name; `EINVAL` if bytes follow its NUL,
    /// as after a name with a NUL in it.
    pub(super) fn last_name(&mut self) -> io::Result<Name<'a>> {
        let name = self.name()?;
        self.end()?;
        Ok(name)
    }

    /// Fails with `EINVAL` if anything follows.
    pub(super) fn end(&self) -> io::Result<()> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(errno(libc::EINVAL))
        }
    }
}
