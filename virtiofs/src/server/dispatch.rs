//! Dispatches requests to the methods of the [`FileSystem`].

use std::io;
use std::time::Duration;

use vm_memory::ByteValued;

use super::request::Args;
use super::{MAX_TRANSFER, Server};
use crate::fuse::abi::{self, Attr, AttrOut, EntryOut, InHeader, OpenOut, init, opcode};
use crate::fuse::filesystem::{
    Context, DirBuffer, Entry, FileSystem, NewNode, Opened, XattrReply, errno,
};

/// The largest extended attribute value in bytes (`XATTR_SIZE_MAX`, Linux `uapi/linux/limits.h`).
const XATTR_SIZE_MAX: u32 = 65536;

impl<F: FileSystem> Server<F> {
    /// Answers one request: appends at most `capacity` bytes to `reply`.
    #[allow(clippy::too_many_lines)]
    pub(super) fn dispatch(
        &self,
        ctx: Context,
        header: &InHeader,
        args: &mut Args<'_>,
        capacity: usize,
        reply: &mut Vec<u8>,
    ) -> io::Result<()> {
        let node = header.nodeid;
        let fs = &self.fs;
        match header.opcode {
            opcode::LOOKUP => put_entry(reply, fs.lookup(ctx, node, args.last_name()?)?),
            opcode::FORGET => {
                let forget: abi::ForgetIn = args.take()?;
                fs.forget(node, forget.nlookup);
            }
            opcode::BATCH_FORGET => {
                let batch: abi::BatchForgetIn = args.take()?;
                for _ in 0..batch.count {
                    // Fails at the end of the request, however large the count is.
                    let one: abi::ForgetOne = args.take()?;
                    fs.forget(one.nodeid, one.nlookup);
                }
            }
            opcode::INTERRUPT => {}
            opcode::INIT => self.init(args, reply)?,
            opcode::DESTROY => fs.destroy(),
            opcode::GETATTR => {
                let get: abi::GetattrIn = args.take()?;
                let handle = (get.flags & abi::GETATTR_FH != 0).then_some(get.fh);
                put_attr(reply, fs.getattr(ctx, node, handle)?);
            }
            opcode::SETATTR => put_attr(reply, fs.setattr(ctx, node, &args.take()?)?),
            opcode::READLINK => reply.extend_from_slice(&fs.readlink(ctx, node)?),
            opcode::SYMLINK => {
                let name = args.name()?;
                let target = args.string()?;
                args.end()?;
                put_entry(reply, fs.symlink(ctx, node, name, target)?);
            }
            opcode::MKNOD => {
                let make: abi::MknodIn = args.take()?;
                let new = NewNode {
                    mode: make.mode,
                    umask: make.umask,
                    rdev: make.rdev,
                };
                put_entry(reply, fs.mknod(ctx, node, args.last_name()?, new)?);
            }
            opcode::MKDIR => {
                let make: abi::MkdirIn = args.take()?;
                let mode = make.mode & 0o7777 | libc::S_IFDIR;
                let new = NewNode {
                    mode,
                    umask: make.umask,
                    rdev: 0,
                };
                put_entry(reply, fs.mkdir(ctx, node, args.last_name()?, new)?);
            }
            opcode::UNLINK => fs.unlink(ctx, node, args.last_name()?)?,
            opcode::RMDIR => fs.rmdir(ctx, node, args.last_name()?)?,
            opcode::RENAME => {
                let rename: abi::RenameIn = args.take()?;
                let from = args.name()?;
                fs.rename(ctx, node, from, rename.newdir, args.last_name()?, 0)?;
            }
            opcode::RENAME2 => {
                let rename: abi::Rename2In = args.take()?;
                let from = args.name()?;
                fs.rename(
                    ctx,
                    node,
                    from,
                    rename.newdir,
                    args.last_name()?,
                    rename.flags,
                )?;
            }
            opcode::LINK => {
                let link: abi::LinkIn = args.take()?;
                put_entry(
                    reply,
                    fs.link(ctx, link.oldnodeid, node, args.last_name()?)?,
                );
            }
            opcode::OPEN => {
                let open: abi::OpenIn = args.take()?;
                let kill = open.open_flags & abi::OPEN_KILL_SUIDGID != 0;
                put_open(reply, fs.open(ctx, node, open.flags, kill)?);
            }
            opcode::CREATE => {
                let create: abi::CreateIn = args.take()?;
                let kill = create.open_flags & abi::OPEN_KILL_SUIDGID != 0;
                let new = new_regular_file(&create);
                let name = args.last_name()?;
                let (entry, opened) = fs.create(ctx, node, name, new, create.flags, kill)?;
                put_entry(reply, entry);
                put_open(reply, opened);
            }
            opcode::TMPFILE => {
                // The name that follows is a placeholder, "/" from Linux.
                let create: abi::CreateIn = args.take()?;
                let (entry, opened) =
                    fs.tmpfile(ctx, node, new_regular_file(&create), create.flags)?;
                put_entry(reply, entry);
                put_open(reply, opened);
            }
            opcode::STATFS => reply.extend_from_slice(fs.statfs(ctx, node)?.as_slice()),
            opcode::RELEASE => {
                let release: abi::ReleaseIn = args.take()?;
                fs.release(ctx, node, release.fh)?;
            }
            opcode::RELEASEDIR => {
                let release: abi::ReleaseIn = args.take()?;
                fs.releasedir(ctx, node, release.fh)?;
            }
            opcode::FSYNC | opcode::FSYNCDIR => {
                let sync: abi::FsyncIn = args.take()?;
                let data_only = sync.fsync_flags & abi::FSYNC_FDATASYNC != 0;
                if header.opcode == opcode::FSYNC {
                    fs.fsync(ctx, node, sync.fh, data_only)?;
                } else {
                    fs.fsyncdir(ctx, node, sync.fh, data_only)?;
                }
            }
            opcode::FLUSH => {
                let flush: abi::FlushIn = args.take()?;
                fs.flush(ctx, node, flush.fh)?;
            }
            opcode::SETXATTR => self.setxattr(ctx, node, args)?,
            opcode::GETXATTR => {
                let get: abi::GetxattrIn = args.take()?;
                let name = args.string()?;
                args.end()?;
                put_xattr(reply, fs.getxattr(ctx, node, name, get.size)?);
            }
            opcode::LISTXATTR => {
                let get: abi::GetxattrIn = args.take()?;
                put_xattr(reply, fs.listxattr(ctx, node, get.size)?);
            }
            opcode::REMOVEXATTR => {
                let name = args.string()?;
                args.end()?;
                fs.removexattr(ctx, node, name)?;
            }
            opcode::OPENDIR => {
                let open: abi::OpenIn = args.take()?;
                put_open(reply, fs.opendir(ctx, node, open.flags)?);
            }
            opcode::READDIR | opcode::READDIRPLUS => {
                let read: abi::ReadIn = args.take()?;
                let plus = header.opcode == opcode::READDIRPLUS;
                let capacity = capacity.min(read.size.min(MAX_TRANSFER) as usize);
                let mut buffer = DirBuffer::new(reply, capacity, plus);
                if plus {
                    fs.readdirplus(ctx, node, read.fh, read.offset, &mut buffer)?;
                } else {
                    fs.readdir(ctx, node, read.fh, read.offset, &mut buffer)?;
                }
            }
            opcode::ACCESS => {
                let access: abi::AccessIn = args.take()?;
                fs.access(ctx, node, access.mask)?;
            }
            opcode::FALLOCATE => {
                let a: abi::FallocateIn = args.take()?;
                fs.fallocate(ctx, node, a.fh, a.mode, a.offset, a.length)?;
            }
            opcode::LSEEK => {
                let seek: abi::LseekIn = args.take()?;
                let offset = fs.lseek(ctx, node, seek.fh, seek.offset, seek.whence)?;
                reply.extend_from_slice(abi::LseekOut { offset }.as_slice());
            }
            opcode::COPY_FILE_RANGE => {
                let copy: abi::CopyFileRangeIn = args.take()?;
                let from = (node, copy.fh_in, copy.off_in);
                let to = (copy.nodeid_out, copy.fh_out, copy.off_out);
                let count = fs.copy_file_range(ctx, from, to, copy.len, copy.flags)?;
                let size = u32::try_from(count).map_err(|_| errno(libc::EIO))?;
                reply.extend_from_slice(abi::WriteOut { size, padding: 0 }.as_slice());
            }
            // ENOSYS would make overlayfs refuse the share as a layer (Linux before 6.6).
            opcode::IOCTL => return Err(errno(libc::ENOTTY)),
            opcode::SYNCFS => fs.syncfs(ctx, node)?,
            other => {
                log::debug!("FUSE opcode {other} is not supported");
                return Err(errno(libc::ENOSYS));
            }
        }
        Ok(())
    }

    fn setxattr(&self, ctx: Context, node: u64, args: &mut Args<'_>) -> io::Result<()> {
        let set: abi::SetxattrIn = args.take()?;
        let mut ext = abi::SetxattrExtIn::default();
        if self.negotiated(init::SETXATTR_EXT) {
            ext = args.take()?;
        }
        let name = args.string()?;
        if set.size > XATTR_SIZE_MAX {
            return Err(errno(libc::E2BIG));
        }
        let value = args.bytes(set.size as usize)?;
        args.end()?;
        let kill_sgid = ext.setxattr_flags & abi::SETXATTR_ACL_KILL_SGID != 0;
        self.fs
            .setxattr(ctx, node, name, value, set.flags, kill_sgid)
    }
}

fn new_regular_file(create: &abi::CreateIn) -> NewNode {
    NewNode {
        mode: create.mode & 0o7777 | libc::S_IFREG,
        umask: create.umask,
        rdev: 0,
    }
}

fn put_entry(reply: &mut Vec<u8>, entry: Entry) {
    reply.extend_from_slice(EntryOut::from(entry).as_slice());
}

fn put_attr(reply: &mut Vec<u8>, (attr, timeout): (Attr, Duration)) {
    let out = AttrOut {
        attr_valid: timeout.as_secs(),
        attr_valid_nsec: timeout.subsec_nanos(),
        dummy: 0,
        attr,
    };
    reply.extend_from_slice(out.as_slice());
}

fn put_open(reply: &mut Vec<u8>, opened: Opened) {
    let out = OpenOut {
        fh: opened.handle,
        open_flags: opened.flags,
        padding: 0,
    };
    reply.extend_from_slice(out.as_slice());
}

fn put_xattr(reply: &mut Vec<u8>, answer: XattrReply) {
    match answer {
        XattrReply::Value(value) => reply.extend_from_slice(&value),
        XattrReply::Size(size) => {
            reply.extend_from_slice(abi::GetxattrOut { size, padding: 0 }.as_slice());
        }
    }
}
