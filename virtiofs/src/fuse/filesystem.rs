//! The trait of a file system: one method for each FUSE request.

use std::ffi::CStr;
use std::io;
use std::time::Duration;

use super::abi::{Attr, Dirent, EntryOut, SetattrIn, StatfsOut};
use super::name::Name;
use crate::descriptor::{GuestSink, GuestSource};

/// Identifies an inode between guest and server; [`ROOT_ID`](super::abi::ROOT_ID) is the root.
pub type NodeId = u64;
/// Identifies an open file or directory between guest and server.
pub type Handle = u64;

/// The process in the guest that made a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Context {
    /// Its file system user id, in the guest.
    pub uid: u32,
    /// Its file system group id, in the guest.
    pub gid: u32,
}

/// An inode for the guest. Each one sent is one more reference, which FORGET gives back.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The inode.
    pub node: NodeId,
    /// Its attributes.
    pub attr: Attr,
    /// How long the guest may cache the attributes.
    pub timeout: Duration,
    /// How long it may cache the name.
    pub name_timeout: Duration,
}

impl From<Entry> for EntryOut {
    fn from(entry: Entry) -> Self {
        Self {
            nodeid: entry.node,
            generation: 0,
            entry_valid: entry.name_timeout.as_secs(),
            attr_valid: entry.timeout.as_secs(),
            entry_valid_nsec: entry.name_timeout.subsec_nanos(),
            attr_valid_nsec: entry.timeout.subsec_nanos(),
            attr: entry.attr,
        }
    }
}

/// Type and mode of a new inode.
#[derive(Debug, Clone, Copy)]
pub struct NewNode {
    /// Mode with the file type's bits as in `st_mode`; the umask is not applied yet when
    /// `DONT_MASK` was negotiated.
    pub mode: u32,
    /// The umask of the process.
    pub umask: u32,
    /// Device number in the kernel's 32 bit encoding (`new_encode_dev`); 0 unless a device.
    pub rdev: u32,
}

/// An opened file or directory.
#[derive(Debug, Clone, Copy)]
pub struct Opened {
    /// For the requests that use it.
    pub handle: Handle,
    /// `FOPEN_*` flags ([`fopen`](super::abi::fopen)).
    pub flags: u32,
}

/// Reply to GETXATTR and LISTXATTR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum XattrReply {
    /// The bytes asked for.
    Value(Vec<u8>),
    /// The number of bytes, if the guest asked only for that.
    Size(u32),
}

impl XattrReply {
    /// Builds the reply for a guest that accepts `size` bytes (0: asks only for the size).
    ///
    /// # Errors
    /// `ERANGE` if the value is larger than that, `E2BIG` if it is larger than 4 GiB.
    pub fn fit(value: Vec<u8>, size: u32) -> io::Result<Self> {
        let len = u32::try_from(value.len()).map_err(|_| errno(libc::E2BIG))?;
        match size {
            0 => Ok(Self::Size(len)),
            size if size < len => Err(errno(libc::ERANGE)),
            _ => Ok(Self::Value(value)),
        }
    }
}

/// One directory entry.
#[derive(Debug, Clone, Copy)]
pub struct DirEntry<'a> {
    /// Inode number, as in [`Attr`].
    pub ino: u64,
    /// Offset to continue at after this entry.
    pub next: u64,
    /// `DT_*` file type.
    pub kind: u32,
    /// Name without NUL.
    pub name: &'a [u8],
}

/// The entries of one READDIR or READDIRPLUS reply.
#[derive(Debug)]
pub struct DirBuffer<'a> {
    out: &'a mut Vec<u8>,
    limit: usize,
    plus: bool,
}

impl<'a> DirBuffer<'a> {
    /// Creates a buffer that appends at most `capacity` bytes to `out`.
    pub fn new(out: &'a mut Vec<u8>, capacity: usize, plus: bool) -> Self {
        let limit = out.len().saturating_add(capacity);
        Self { out, limit, plus }
    }

    /// Whether the entries are looked up as well (READDIRPLUS).
    pub fn is_plus(&self) -> bool {
        self.plus
    }

    /// Whether an entry with a name of this many bytes still fits.
    pub fn fits(&self, name_len: usize) -> bool {
        let head = size_of::<Dirent>() + if self.plus { size_of::<EntryOut>() } else { 0 };
        // Records are padded to 8 bytes (FUSE_REC_ALIGN).
        let record = (head + name_len).next_multiple_of(8);
        self.limit.saturating_sub(self.out.len()) >= record
    }

    /// Appends an entry that [fits](Self::fits). `child` is sent only for READDIRPLUS, where
    /// `None` makes the guest look the name up itself.
    pub fn push(&mut self, entry: &DirEntry<'_>, child: Option<Entry>) {
        use vm_memory::ByteValued;
        if self.plus {
            let child = child.map_or_else(EntryOut::default, EntryOut::from);
            self.out.extend_from_slice(child.as_slice());
        }
        let head = Dirent {
            ino: entry.ino,
            off: entry.next,
            // A name has at most 255 bytes.
            namelen: entry.name.len() as u32,
            kind: entry.kind,
        };
        self.out.extend_from_slice(head.as_slice());
        self.out.extend_from_slice(entry.name);
        let padding = entry.name.len().next_multiple_of(8) - entry.name.len();
        self.out
            .extend_from_slice([0; 8].get(..padding).unwrap_or_default());
    }
}

/// Returns the error with this errno number.
pub(crate) fn errno(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

fn unsupported<T>() -> io::Result<T> {
    Err(errno(libc::ENOSYS))
}

/// A file system that a [`Server`](crate::server::Server) makes available to a guest.
///
/// Methods are called from several threads at once. Errors are sent as their errno number
/// (`EIO` if they have none). A method that is not implemented answers `ENOSYS`, after which a
/// Linux guest does not ask again.
#[allow(unused_variables)]
#[allow(clippy::too_many_arguments)]
pub trait FileSystem: Send + Sync {
    /// Starts a session: drops every inode and handle of an earlier one. `offered` are the
    /// guest's INIT flags ([`init`](super::abi::init)); returns those that the file system wants.
    fn init(&self, offered: u64) -> io::Result<u64> {
        Ok(0)
    }
    /// Ends the session.
    fn destroy(&self) {}
    /// Looks up `name` in the directory `parent`.
    fn lookup(&self, ctx: Context, parent: NodeId, name: Name<'_>) -> io::Result<Entry> {
        unsupported()
    }
    /// Drops `count` references to an inode.
    fn forget(&self, node: NodeId, count: u64) {}
    /// Returns the attributes, and how long the guest may cache them.
    fn getattr(
        &self,
        ctx: Context,
        node: NodeId,
        handle: Option<Handle>,
    ) -> io::Result<(Attr, Duration)> {
        unsupported()
    }
    /// Changes the attributes that `set.valid` names ([`fattr`](super::abi::fattr)).
    fn setattr(&self, ctx: Context, node: NodeId, set: &SetattrIn) -> io::Result<(Attr, Duration)> {
        unsupported()
    }
    /// Returns the target of a symbolic link.
    fn readlink(&self, ctx: Context, node: NodeId) -> io::Result<Vec<u8>> {
        unsupported()
    }
    /// Creates a symbolic link to `target`, which may be any string.
    fn symlink(
        &self,
        ctx: Context,
        parent: NodeId,
        name: Name<'_>,
        target: &CStr,
    ) -> io::Result<Entry> {
        unsupported()
    }
    /// Creates a file, device, FIFO or socket.
    fn mknod(
        &self,
        ctx: Context,
        parent: NodeId,
        name: Name<'_>,
        new: NewNode,
    ) -> io::Result<Entry> {
        unsupported()
    }
    /// Creates a directory.
    fn mkdir(
        &self,
        ctx: Context,
        parent: NodeId,
        name: Name<'_>,
        new: NewNode,
    ) -> io::Result<Entry> {
        unsupported()
    }
    /// Removes a name of anything but a directory.
    fn unlink(&self, ctx: Context, parent: NodeId, name: Name<'_>) -> io::Result<()> {
        unsupported()
    }
    /// Removes an empty directory.
    fn rmdir(&self, ctx: Context, parent: NodeId, name: Name<'_>) -> io::Result<()> {
        unsupported()
    }
    /// Renames with the flags of renameat2(2).
    fn rename(
        &self,
        ctx: Context,
        parent: NodeId,
        name: Name<'_>,
        new_parent: NodeId,
        new_name: Name<'_>,
        flags: u32,
    ) -> io::Result<()> {
        unsupported()
    }
    /// Adds the name `new_name` in `new_parent` for `node`.
    fn link(
        &self,
        ctx: Context,
        node: NodeId,
        new_parent: NodeId,
        new_name: Name<'_>,
    ) -> io::Result<Entry> {
        unsupported()
    }
    /// Opens a regular file. `kill_priv`: an `O_TRUNC` clears set-id bits.
    fn open(&self, ctx: Context, node: NodeId, flags: u32, kill_priv: bool) -> io::Result<Opened> {
        unsupported()
    }
    /// Creates and opens a regular file.
    fn create(
        &self,
        ctx: Context,
        parent: NodeId,
        name: Name<'_>,
        new: NewNode,
        flags: u32,
        kill_priv: bool,
    ) -> io::Result<(Entry, Opened)> {
        unsupported()
    }
    /// Creates and opens a regular file that has no name yet.
    fn tmpfile(
        &self,
        ctx: Context,
        parent: NodeId,
        new: NewNode,
        flags: u32,
    ) -> io::Result<(Entry, Opened)> {
        unsupported()
    }
    /// Reads at `offset` (bytes); returns the number of bytes.
    fn read(
        &self,
        ctx: Context,
        node: NodeId,
        handle: Handle,
        offset: u64,
        sink: &GuestSink<'_>,
    ) -> io::Result<usize> {
        unsupported()
    }
    /// Writes at `offset` (bytes); returns the number of bytes. `kill_priv`: clears set-id bits.
    fn write(
        &self,
        ctx: Context,
        node: NodeId,
        handle: Handle,
        offset: u64,
        source: &GuestSource<'_>,
        kill_priv: bool,
    ) -> io::Result<usize> {
        unsupported()
    }
    /// Returns size, free space and limits of the file system.
    fn statfs(&self, ctx: Context, node: NodeId) -> io::Result<StatfsOut> {
        unsupported()
    }
    /// Closes an open file.
    fn release(&self, ctx: Context, node: NodeId, handle: Handle) -> io::Result<()> {
        unsupported()
    }
    /// Writes a file's data (and, unless `data_only`, its attributes) to the disk.
    fn fsync(&self, ctx: Context, node: NodeId, handle: Handle, data_only: bool) -> io::Result<()> {
        unsupported()
    }
    /// One of the guest's descriptors of an open file was closed.
    fn flush(&self, ctx: Context, node: NodeId, handle: Handle) -> io::Result<()> {
        unsupported()
    }
    /// Sets an extended attribute with the flags of setxattr(2). `kill_sgid`: an ACL that also
    /// clears the set-group-id bit.
    fn setxattr(
        &self,
        ctx: Context,
        node: NodeId,
        name: &CStr,
        value: &[u8],
        flags: u32,
        kill_sgid: bool,
    ) -> io::Result<()> {
        unsupported()
    }
    /// Returns an extended attribute of at most `size` bytes (0: only its size).
    fn getxattr(
        &self,
        ctx: Context,
        node: NodeId,
        name: &CStr,
        size: u32,
    ) -> io::Result<XattrReply> {
        unsupported()
    }
    /// Returns the names of all extended attributes, each with a NUL, in at most `size` bytes
    /// (0: only the size).
    fn listxattr(&self, ctx: Context, node: NodeId, size: u32) -> io::Result<XattrReply> {
        unsupported()
    }
    /// Removes an extended attribute.
    fn removexattr(&self, ctx: Context, node: NodeId, name: &CStr) -> io::Result<()> {
        unsupported()
    }
    /// Opens a directory.
    fn opendir(&self, ctx: Context, node: NodeId, flags: u32) -> io::Result<Opened> {
        unsupported()
    }
    /// Reads a directory from `offset` on (0, or an earlier entry's `next`) into `buffer`.
    fn readdir(
        &self,
        ctx: Context,
        node: NodeId,
        handle: Handle,
        offset: u64,
        buffer: &mut DirBuffer<'_>,
    ) -> io::Result<()> {
        unsupported()
    }
    /// As [`readdir`](Self::readdir), and looks up every entry.
    fn readdirplus(
        &self,
        ctx: Context,
        node: NodeId,
        handle: Handle,
        offset: u64,
        buffer: &mut DirBuffer<'_>,
    ) -> io::Result<()> {
        unsupported()
    }
    /// Closes an open directory.
    fn releasedir(&self, ctx: Context, node: NodeId, handle: Handle) -> io::Result<()> {
        unsupported()
    }
    /// Writes a directory to the disk.
    fn fsyncdir(
        &self,
        ctx: Context,
        node: NodeId,
        handle: Handle,
        data_only: bool,
    ) -> io::Result<()> {
        unsupported()
    }
    /// Checks the process's access to the inode, as access(2).
    fn access(&self, ctx: Context, node: NodeId, mask: u32) -> io::Result<()> {
        unsupported()
    }
    /// Allocates or frees a range of a file with the modes of fallocate(2); `offset` and
    /// `length` in bytes.
    fn fallocate(
        &self,
        ctx: Context,
        node: NodeId,
        handle: Handle,
        mode: u32,
        offset: u64,
        length: u64,
    ) -> io::Result<()> {
        unsupported()
    }
    /// Finds data or holes: `SEEK_DATA` and `SEEK_HOLE` of lseek(2). Returns the offset in
    /// bytes.
    fn lseek(
        &self,
        ctx: Context,
        node: NodeId,
        handle: Handle,
        offset: u64,
        whence: u32,
    ) -> io::Result<u64> {
        unsupported()
    }
    /// Copies `len` bytes from one open file at an offset to another, within the host; returns
    /// the number of bytes.
    fn copy_file_range(
        &self,
        ctx: Context,
        from: (NodeId, Handle, u64),
        to: (NodeId, Handle, u64),
        len: u64,
        flags: u64,
    ) -> io::Result<usize> {
        unsupported()
    }
    /// Writes the whole file system to the disk.
    fn syncfs(&self, ctx: Context, node: NodeId) -> io::Result<()> {
        unsupported()
    }
}
