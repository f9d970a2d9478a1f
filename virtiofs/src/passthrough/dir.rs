//! OPENDIR, READDIR and READDIRPLUS.

use std::io::Result;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use super::dir_stream::{DirStream, HostDirent};
use super::fs::PassthroughFs;
use super::handles::OpenFile;
use super::inodes::Inode;
use crate::fuse::abi::fopen;
use crate::fuse::filesystem::{DirBuffer, DirEntry, Opened, errno};

impl PassthroughFs {
    pub(super) fn open_directory(&self, inode: Arc<Inode>) -> Result<Opened> {
        let permit = self.handles.reserve()?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let file = self.with_access(&[&inode], || {
            self.proc.reopen(&inode.fd, flags, Mode::empty())
        })?;
        let mut flags = 0;
        if self.share.keep_cache && !self.share.timeout.is_zero() {
            flags |= fopen::CACHE_DIR | fopen::KEEP_CACHE;
        }
        Ok(Opened {
            handle: self.handles.add(file, inode, permit),
            flags,
        })
    }

    /// Fills `out` with entries from `offset` on. Fails with `EINVAL` if it is too small for the
    /// first one.
    pub(super) fn read_directory(
        &self,
        open: &OpenFile,
        offset: u64,
        out: &mut DirBuffer<'_>,
    ) -> Result<()> {
        if !open.inode.is_dir() {
            return Err(errno(libc::ENOTDIR));
        }
        let mut stream = open.dir_stream();
        stream.seek(offset);
        let result = self.send_entries(open, &mut stream, out);
        stream.settle(&self.handles.buffers);
        result
    }

    fn send_entries(
        &self,
        open: &OpenFile,
        stream: &mut DirStream,
        out: &mut DirBuffer<'_>,
    ) -> Result<()> {
        let mut sent = false;
        while let Some(host) = stream.peek(&open.file)? {
            if self.hides(&open.inode, host.name) {
                let end = host.end();
                stream.advance(end);
                continue;
            }
            if !out.fits(host.name.count_bytes()) {
                return if sent {
                    Ok(())
                } else {
                    Err(errno(libc::EINVAL))
                };
            }
            self.put_entry(open, &host, out);
            sent = true;
            let end = host.end();
            stream.advance(end);
        }
        Ok(())
    }

    /// Appends one entry, as the guest is to see it.
    fn put_entry(&self, open: &OpenFile, host: &HostDirent<'_>, out: &mut DirBuffer<'_>) {
        let dots = host.is_dot_or_dot_dot();
        // The guest must not learn the inode number of the root's parent.
        let ino = if dots && open.inode.id == self.inodes.root().id {
            self.inodes.root().ino()
        } else {
            host.ino
        };
        let mut entry = DirEntry {
            ino: self.guest_ino(open.inode.dev(), ino),
            next: host.next,
            kind: host.kind.into(),
            name: host.name.to_bytes(),
        };
        // Looking up takes descriptors that the guest may not need.
        if out.is_plus() && !dots && !self.budget.is_scarce() {
            // Removed meanwhile, not accessible, or no descriptor left: the guest is told the name
            // and looks it up itself.
            if let Ok(child) = self.lookup_child(&open.inode, host.name) {
                entry.ino = child.attr.ino;
                entry.kind = child.attr.mode >> 12 & 0xf;
                out.push(&entry, Some(child));
                return;
            }
        }
        if host.kind == libc::DT_REG {
            entry.kind = match self.special_type_in(&open.file, host.name) {
                Some(None) => entry.kind,
                Some(Some(special)) => special.type_and_rdev().0 >> 12,
                None => libc::DT_UNKNOWN.into(),
            };
        }
        out.push(&entry, None);
    }
}
