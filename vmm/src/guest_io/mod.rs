//! Guest memory as the buffers of requests: devices fill and drain [`Buffers`], disks move a
//! [`Cursor`] over them, so that data go between files and guest memory without a copy.

mod buffers;
mod cursor;

pub use buffers::{Buffers, BuffersError};
pub use cursor::Cursor;
pub(crate) use cursor::{retry, signed};
