//! The arguments of one request, copied out of the guest.

use std::ffi::CStr;
use std::io;

use vm_memory::ByteValued;

use crate::fuse::filesystem::errno;
use crate::fuse::name::Name;

/// What follows the request's header, taken from front to back.
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

    /// The next structure; `EINVAL` if the request is too short for it.
    pub(super) fn take<T: ByteValued + Default>(&mut self) -> io::Result<T> {
        let mut value = T::default();
        value
            .as_mut_slice()
            .copy_from_slice(self.bytes(size_of::<T>())?);
        Ok(value)
    }

    /// The next `len` bytes; `EINVAL` if there are fewer.
    pub(super) fn bytes(&mut self, len: usize) -> io::Result<&'a [u8]> {
        let (head, tail) = self
            .rest
            .split_at_checked(len)
            .ok_or_else(|| errno(libc::EINVAL))?;
        self.rest = tail;
        Ok(head)
    }

    /// The next text up to its NUL; `EINVAL` if there is no NUL.
    pub(super) fn text(&mut self) -> io::Result<&'a CStr> {
        let text = CStr::from_bytes_until_nul(self.rest).map_err(|_| errno(libc::EINVAL))?;
        self.rest = self
            .rest
            .get(text.to_bytes_with_nul().len()..)
            .unwrap_or_default();
        Ok(text)
    }

    /// The next text as a checked name.
    pub(super) fn name(&mut self) -> io::Result<Name<'a>> {
        let text = self.text()?;
        #[cfg(any(test, feature = "unchecked-names"))]
        if self.unchecked {
            return Ok(Name::unchecked(text));
        }
        Name::new(text).map_err(errno)
    }

    /// The last text of the request as a checked name. Bytes after its NUL would be a name with
    /// a NUL in it: `EINVAL`.
    pub(super) fn last_name(&mut self) -> io::Result<Name<'a>> {
        let name = self.name()?;
        self.end()?;
        Ok(name)
    }

    /// Checks that nothing follows.
    pub(super) fn end(&self) -> io::Result<()> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(errno(libc::EINVAL))
        }
    }
}
