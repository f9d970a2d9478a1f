//! The FUSE requests, one by one.

use std::ffi::CStr;
use std::io::Result;
use std::time::Duration;

use rustix::fs::{AtFlags, FallocateFlags, SeekFrom};

use super::fs::PassthroughFs;
use super::sync::sync;
use super::sys;
use crate::descriptor::{GuestSink, GuestSource};
use crate::fuse::abi::{Attr, SetattrIn, StatfsOut, init};
use crate::fuse::filesystem::{
    Context, DirBuffer, Entry, FileSystem, Handle, NewNode, NodeId, Opened, XattrReply, errno,
};
use crate::fuse::name::Name;

/// Bytes that one COPY_FILE_RANGE copies at most; the guest asks again for the rest.
const MAX_COPY: u64 = 64 << 20;

impl FileSystem for PassthroughFs {
    fn init(&self, offered: u64) -> Result<u64> {
        self.handles.reset();
        self.inodes.reset();
        let mut wanted = init::ATOMIC_O_TRUNC
            | init::AUTO_INVAL_DATA
            | init::ASYNC_DIO
            | init::DO_READDIRPLUS
            | init::READDIRPLUS_AUTO
            | init::CACHE_SYMLINKS
            | init::HANDLE_KILLPRIV_V2;
        // ACL inheritance needs modes that the umask was not applied to.
        if self.user_xattrs && offered & init::DONT_MASK != 0 {
            wanted |= init::POSIX_ACL | init::DONT_MASK;
        }
        if self.share.writeback {
            wanted |= init::WRITEBACK_CACHE;
        }
        Ok(wanted)
    }

    fn destroy(&self) {
        self.handles.reset();
        self.inodes.reset();
    }

    fn lookup(&self, _: Context, parent: NodeId, name: Name<'_>) -> Result<Entry> {
        self.lookup_child(&*self.directory(parent)?, name.as_c_str())
    }

    fn forget(&self, node: NodeId, count: u64) {
        self.inodes.forget(node, count);
    }

    fn getattr(&self, _: Context, node: NodeId, _: Option<Handle>) -> Result<(Attr, Duration)> {
        let now = self.stat(&*self.inodes.get(node)?)?;
        Ok((self.attr(&now), self.share.timeout))
    }

    fn setattr(&self, _: Context, node: NodeId, set: &SetattrIn) -> Result<(Attr, Duration)> {
        self.check_writable()?;
        let inode = self.inodes.get(node)?;
        self.set_attributes(&inode, set)?;
        Ok((self.attr(&self.stat(&inode)?), self.share.timeout))
    }

    fn readlink(&self, _: Context, node: NodeId) -> Result<Vec<u8>> {
        let inode = self.inodes.get(node)?;
        if inode.kind != libc::S_IFLNK {
            return Err(errno(libc::EINVAL));
        }
        sys::readlink(&inode.fd)
    }

    fn symlink(&self, ctx: Context, dir: NodeId, name: Name<'_>, target: &CStr) -> Result<Entry> {
        self.check_writable()?;
        self.create_symlink(ctx, &*self.directory(dir)?, name, target)
    }

    fn mknod(&self, ctx: Context, dir: NodeId, name: Name<'_>, new: NewNode) -> Result<Entry> {
        self.check_writable()?;
        self.create_node(ctx, &*self.directory(dir)?, name, &new)
    }

    fn mkdir(&self, ctx: Context, dir: NodeId, name: Name<'_>, new: NewNode) -> Result<Entry> {
        self.check_writable()?;
        self.create_directory(ctx, &*self.directory(dir)?, name, &new)
    }

    fn unlink(&self, _: Context, parent: NodeId, name: Name<'_>) -> Result<()> {
        self.check_writable()?;
        self.remove(&*self.directory(parent)?, name, AtFlags::empty())
    }

    fn rmdir(&self, _: Context, parent: NodeId, name: Name<'_>) -> Result<()> {
        self.check_writable()?;
        self.remove(&*self.directory(parent)?, name, AtFlags::REMOVEDIR)
    }

    fn rename(
        &self,
        ctx: Context,
        parent: NodeId,
        name: Name<'_>,
        new_parent: NodeId,
        new_name: Name<'_>,
        flags: u32,
    ) -> Result<()> {
        self.check_writable()?;
        let (from, to) = (self.directory(parent)?, self.directory(new_parent)?);
        self.rename_name(ctx, (&from, name), (&to, new_name), flags)
    }

    fn link(&self, _: Context, node: NodeId, dir: NodeId, new_name: Name<'_>) -> Result<Entry> {
        self.check_writable()?;
        self.link_name(&self.inodes.get(node)?, &*self.directory(dir)?, new_name)
    }

    fn open(&self, _: Context, node: NodeId, flags: u32, kill_priv: bool) -> Result<Opened> {
        self.open_file(&self.inodes.get(node)?, flags, kill_priv)
    }

    fn create(
        &self,
        ctx: Context,
        dir: NodeId,
        name: Name<'_>,
        new: NewNode,
        flags: u32,
        kill_priv: bool,
    ) -> Result<(Entry, Opened)> {
        self.check_writable()?;
        self.create_file(ctx, &*self.directory(dir)?, name, &new, flags, kill_priv)
    }

    fn tmpfile(
        &self,
        ctx: Context,
        dir: NodeId,
        new: NewNode,
        flags: u32,
    ) -> Result<(Entry, Opened)> {
        self.check_writable()?;
        self.create_tmpfile(ctx, &*self.directory(dir)?, &new, flags)
    }

    fn read(
        &self,
        _: Context,
        node: NodeId,
        handle: Handle,
        offset: u64,
        sink: &GuestSink<'_>,
    ) -> Result<usize> {
        let open = self.handles.get(handle, node)?;
        sink.read_from(&open.file, offset)
    }

    fn write(
        &self,
        _: Context,
        node: NodeId,
        handle: Handle,
        offset: u64,
        source: &GuestSource<'_>,
        kill_priv: bool,
    ) -> Result<usize> {
        self.check_writable()?;
        let open = self.handles.get(handle, node)?;
        self.drop_privileges(&open.inode, kill_priv)?;
        source.write_to(&open.file, offset)
    }

    fn statfs(&self, _: Context, node: NodeId) -> Result<StatfsOut> {
        let inode = self.inodes.get(node)?;
        let stat = rustix::fs::fstatvfs(&inode.fd)?;
        let small = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        Ok(StatfsOut {
            blocks: stat.f_blocks,
            bfree: stat.f_bfree,
            bavail: stat.f_bavail,
            files: stat.f_files,
            ffree: stat.f_ffree,
            bsize: small(stat.f_bsize),
            namelen: small(stat.f_namemax),
            frsize: small(stat.f_frsize),
            ..Default::default()
        })
    }

    fn release(&self, _: Context, node: NodeId, handle: Handle) -> Result<()> {
        self.handles.remove(handle, node)
    }

    fn fsync(&self, _: Context, node: NodeId, handle: Handle, data_only: bool) -> Result<()> {
        let open = self.handles.get(handle, node)?;
        sync(&open, data_only)
    }

    fn setxattr(
        &self,
        _: Context,
        node: NodeId,
        name: &CStr,
        value: &[u8],
        flags: u32,
        kill_sgid: bool,
    ) -> Result<()> {
        self.check_writable()?;
        self.set_attribute(&*self.inodes.get(node)?, name, value, flags, kill_sgid)
    }

    fn getxattr(&self, _: Context, node: NodeId, name: &CStr, size: u32) -> Result<XattrReply> {
        self.get_attribute(&*self.inodes.get(node)?, name, size)
    }

    fn listxattr(&self, _: Context, node: NodeId, size: u32) -> Result<XattrReply> {
        XattrReply::fit(self.attribute_names(&*self.inodes.get(node)?)?, size)
    }

    fn removexattr(&self, _: Context, node: NodeId, name: &CStr) -> Result<()> {
        self.check_writable()?;
        self.remove_attribute(&*self.inodes.get(node)?, name)
    }

    fn opendir(&self, _: Context, node: NodeId, _: u32) -> Result<Opened> {
        self.open_directory(self.directory(node)?)
    }

    fn readdir(
        &self,
        _: Context,
        node: NodeId,
        handle: Handle,
        offset: u64,
        buffer: &mut DirBuffer<'_>,
    ) -> Result<()> {
        self.read_directory(&*self.handles.get(handle, node)?, offset, buffer)
    }

    fn readdirplus(
        &self,
        _: Context,
        node: NodeId,
        handle: Handle,
        offset: u64,
        buffer: &mut DirBuffer<'_>,
    ) -> Result<()> {
        self.read_directory(&*self.handles.get(handle, node)?, offset, buffer)
    }

    fn releasedir(&self, _: Context, node: NodeId, handle: Handle) -> Result<()> {
        self.handles.remove(handle, node)
    }

    fn fsyncdir(&self, _: Context, node: NodeId, handle: Handle, data_only: bool) -> Result<()> {
        let open = self.handles.get(handle, node)?;
        sync(&open, data_only)
    }

    fn access(&self, ctx: Context, node: NodeId, mask: u32) -> Result<()> {
        let inode = self.inodes.get(node)?;
        self.check_access(ctx, &inode, mask)
    }

    fn fallocate(
        &self,
        _: Context,
        node: NodeId,
        handle: Handle,
        mode: u32,
        offset: u64,
        length: u64,
    ) -> Result<()> {
        self.check_writable()?;
        let open = self.handles.get(handle, node)?;
        let mode = FallocateFlags::from_bits_retain(mode);
        Ok(rustix::fs::fallocate(&open.file, mode, offset, length)?)
    }

    fn lseek(
        &self,
        _: Context,
        node: NodeId,
        handle: Handle,
        offset: u64,
        whence: u32,
    ) -> Result<u64> {
        let from = match whence.cast_signed() {
            libc::SEEK_DATA => SeekFrom::Data(offset),
            libc::SEEK_HOLE => SeekFrom::Hole(offset),
            _ => return Err(errno(libc::EINVAL)),
        };
        let open = self.handles.get(handle, node)?;
        if !open.inode.is_file() {
            return Err(errno(libc::EINVAL));
        }
        sys::seek_sparse(&open.file, from)
    }

    fn copy_file_range(
        &self,
        _: Context,
        (node_in, handle_in, mut off_in): (NodeId, Handle, u64),
        (node_out, handle_out, mut off_out): (NodeId, Handle, u64),
        len: u64,
        flags: u64,
    ) -> Result<usize> {
        self.check_writable()?;
        if flags != 0 {
            return Err(errno(libc::EINVAL));
        }
        let from = self.handles.get(handle_in, node_in)?;
        let to = self.handles.get(handle_out, node_out)?;
        self.drop_privileges(&to.inode, false)?;
        // The reply counts in 32 bits; less at a time also bounds how long a worker is busy.
        let len = len.min(MAX_COPY) as usize;
        Ok(rustix::fs::copy_file_range(
            &from.file,
            Some(&mut off_in),
            &to.file,
            Some(&mut off_out),
            len,
        )?)
    }

    fn syncfs(&self, _: Context, _: NodeId) -> Result<()> {
        self.sync_file_system()
    }
}
