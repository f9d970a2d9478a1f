//! FUSE operations on open files and directories.

use boxbuild_virtiofs::fuse::abi::{self, EntryOut, OpenOut, opcode};
use vm_memory::ByteValued;

use crate::client::{Client, Request};
use crate::operations::{Answer, terminated};

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedEntry {
    /// Its name.
    pub name: Vec<u8>,
    /// `DT_*` type.
    pub kind: u32,
    /// Inode number.
    pub ino: u64,
    /// Node id if READDIRPLUS looked the inode up, otherwise 0.
    pub node: u64,
}

/// Each operation returns the server's reply or errno, and panics if there is none or it violates
/// the protocol.
#[allow(missing_docs, clippy::missing_errors_doc, clippy::missing_panics_doc)]
impl Client {
    pub fn open(&mut self, node: u64, flags: i32) -> Answer<u64> {
        let open = abi::OpenIn {
            flags: flags.cast_unsigned(),
            open_flags: 0,
        };
        self.typed::<OpenOut>(opcode::OPEN, node, &[open.as_slice()])
            .map(|out| out.fh)
    }

    /// Creates a file that does not exist yet; returns its entry and the handle of the open file.
    pub fn create(
        &mut self,
        parent: u64,
        name: impl AsRef<[u8]>,
        mode: u32,
    ) -> Answer<(EntryOut, u64)> {
        self.create_with(
            parent,
            name,
            mode,
            libc::O_RDWR | libc::O_CREAT | libc::O_EXCL,
        )
    }

    pub fn create_with(
        &mut self,
        parent: u64,
        name: impl AsRef<[u8]>,
        mode: u32,
        flags: i32,
    ) -> Answer<(EntryOut, u64)> {
        let flags = flags.cast_unsigned();
        let create = abi::CreateIn {
            flags,
            mode,
            ..Default::default()
        };
        let body = [create.as_slice(), &terminated(name)];
        self.opened(opcode::CREATE, parent, &body)
    }

    pub fn tmpfile(&mut self, parent: u64, mode: u32) -> Answer<(EntryOut, u64)> {
        let flags = libc::O_RDWR.cast_unsigned();
        let create = abi::CreateIn {
            flags,
            mode,
            ..Default::default()
        };
        self.opened(opcode::TMPFILE, parent, &[create.as_slice(), b"/\0"])
    }

    fn opened(&mut self, opcode: u32, node: u64, body: &[&[u8]]) -> Answer<(EntryOut, u64)> {
        let mut bytes = [0; size_of::<EntryOut>() + size_of::<OpenOut>()];
        let capacity = bytes.len() as u32;
        let len = self.exchange(&Request {
            opcode,
            node,
            body,
            data: 0,
            capacity,
        })?;
        assert_eq!(len, capacity, "the reply's size");
        self.copy_incoming(&mut bytes);
        let (entry, open) = bytes.split_at(size_of::<EntryOut>());
        Ok((structure::<EntryOut>(entry), structure::<OpenOut>(open).fh))
    }

    pub fn write(&mut self, node: u64, fh: u64, offset: u64, data: &[u8]) -> Answer<u32> {
        self.copy_outgoing(data);
        self.write_in_place(node, fh, offset, data.len() as u32)
    }

    /// Writes the data that is in the outgoing pages already.
    pub fn write_in_place(&mut self, node: u64, fh: u64, offset: u64, size: u32) -> Answer<u32> {
        let write = abi::WriteIn {
            fh,
            offset,
            size,
            ..Default::default()
        };
        let capacity = size_of::<abi::WriteOut>() as u32;
        let body = [write.as_slice()];
        self.exchange(&Request {
            opcode: opcode::WRITE,
            node,
            body: &body,
            data: size,
            capacity,
        })?;
        let mut out = abi::WriteOut::default();
        self.copy_incoming(out.as_mut_slice());
        Ok(out.size)
    }

    pub fn read(&mut self, node: u64, fh: u64, offset: u64, size: u32) -> Answer<Vec<u8>> {
        let len = self.read_in_place(node, fh, offset, size)?;
        let mut bytes = vec![0; len as usize];
        self.copy_incoming(&mut bytes);
        Ok(bytes)
    }

    /// Reads without copying the data from the incoming pages; returns the number of bytes.
    pub fn read_in_place(&mut self, node: u64, fh: u64, offset: u64, size: u32) -> Answer<u32> {
        let read = abi::ReadIn {
            fh,
            offset,
            size,
            ..Default::default()
        };
        let body = [read.as_slice()];
        let opcode = opcode::READ;
        self.exchange(&Request {
            opcode,
            node,
            body: &body,
            data: 0,
            capacity: size,
        })
    }

    pub fn release(&mut self, node: u64, fh: u64) -> Answer<()> {
        let release = abi::ReleaseIn {
            fh,
            ..Default::default()
        };
        self.plain(opcode::RELEASE, node, &[release.as_slice()])
    }

    pub fn flush(&mut self, node: u64, fh: u64) -> Answer<()> {
        let flush = abi::FlushIn {
            fh,
            ..Default::default()
        };
        self.plain(opcode::FLUSH, node, &[flush.as_slice()])
    }

    pub fn fsync(&mut self, node: u64, fh: u64, data_only: bool) -> Answer<()> {
        let sync = sync(fh, data_only);
        self.plain(opcode::FSYNC, node, &[sync.as_slice()])
    }

    pub fn fsyncdir(&mut self, node: u64, fh: u64) -> Answer<()> {
        let sync = sync(fh, false);
        self.plain(opcode::FSYNCDIR, node, &[sync.as_slice()])
    }

    pub fn opendir(&mut self, node: u64) -> Answer<u64> {
        let open = abi::OpenIn::default();
        self.typed::<OpenOut>(opcode::OPENDIR, node, &[open.as_slice()])
            .map(|out| out.fh)
    }

    pub fn releasedir(&mut self, node: u64, fh: u64) -> Answer<()> {
        let release = abi::ReleaseIn {
            fh,
            ..Default::default()
        };
        self.plain(opcode::RELEASEDIR, node, &[release.as_slice()])
    }

    /// Makes one READDIR or READDIRPLUS; returns the entries and the offset to continue at.
    pub fn readdir(
        &mut self,
        (node, fh): (u64, u64),
        offset: u64,
        size: u32,
        plus: bool,
    ) -> Answer<(Vec<ListedEntry>, u64)> {
        let len = self.readdir_in_place((node, fh), offset, size, plus)?;
        let mut bytes = vec![0; len as usize];
        self.copy_incoming(&mut bytes);
        let (mut found, mut next, mut rest) = (Vec::new(), offset, bytes.as_slice());
        while !rest.is_empty() {
            let mut entry = EntryOut::default();
            if plus {
                let (head, tail) = rest.split_at(size_of::<EntryOut>());
                (entry, rest) = (structure(head), tail);
            }
            let (head, tail) = rest.split_at(size_of::<abi::Dirent>());
            let head: abi::Dirent = structure(head);
            let len = head.namelen as usize;
            found.push(ListedEntry {
                name: tail[..len].to_vec(),
                kind: head.kind,
                ino: head.ino,
                node: entry.nodeid,
            });
            next = head.off;
            rest = &tail[len.next_multiple_of(8)..];
        }
        Ok((found, next))
    }

    /// Makes one READDIR or READDIRPLUS without copying the entries from the incoming pages;
    /// returns the number of bytes.
    pub fn readdir_in_place(
        &mut self,
        (node, fh): (u64, u64),
        offset: u64,
        size: u32,
        plus: bool,
    ) -> Answer<u32> {
        let read = abi::ReadIn {
            fh,
            offset,
            size,
            ..Default::default()
        };
        let opcode = if plus {
            opcode::READDIRPLUS
        } else {
            opcode::READDIR
        };
        let body = [read.as_slice()];
        self.exchange(&Request {
            opcode,
            node,
            body: &body,
            data: 0,
            capacity: size,
        })
    }

    /// Reads all of a directory with buffers of `size` bytes. Keeps the references that READDIRPLUS
    /// takes.
    pub fn list(&mut self, node: u64, plus: bool, size: u32) -> Answer<Vec<ListedEntry>> {
        let fh = self.opendir(node)?;
        let (mut all, mut offset) = (Vec::new(), 0);
        loop {
            let (mut found, next) = self.readdir((node, fh), offset, size, plus)?;
            if found.is_empty() {
                break;
            }
            all.append(&mut found);
            offset = next;
        }
        self.releasedir(node, fh)?;
        Ok(all)
    }

    pub fn fallocate(
        &mut self,
        (node, fh): (u64, u64),
        mode: i32,
        offset: u64,
        length: u64,
    ) -> Answer<()> {
        let mode = mode.cast_unsigned();
        let allocate = abi::FallocateIn {
            fh,
            offset,
            length,
            mode,
            padding: 0,
        };
        self.plain(opcode::FALLOCATE, node, &[allocate.as_slice()])
    }

    pub fn lseek(&mut self, (node, fh): (u64, u64), offset: u64, whence: i32) -> Answer<u64> {
        let whence = whence.cast_unsigned();
        let seek = abi::LseekIn {
            fh,
            offset,
            whence,
            padding: 0,
        };
        self.typed::<abi::LseekOut>(opcode::LSEEK, node, &[seek.as_slice()])
            .map(|out| out.offset)
    }

    /// Copies `len` bytes between two files, each given by node, handle and offset.
    pub fn copy_file_range(
        &mut self,
        (node, fh_in, off_in): (u64, u64, u64),
        (nodeid_out, fh_out, off_out): (u64, u64, u64),
        len: u64,
    ) -> Answer<u32> {
        let copy = abi::CopyFileRangeIn {
            fh_in,
            off_in,
            nodeid_out,
            fh_out,
            off_out,
            len,
            flags: 0,
        };
        self.typed::<abi::WriteOut>(opcode::COPY_FILE_RANGE, node, &[copy.as_slice()])
            .map(|out| out.size)
    }
}

fn sync(fh: u64, data_only: bool) -> abi::FsyncIn {
    let fsync_flags = if data_only { abi::FSYNC_FDATASYNC } else { 0 };
    abi::FsyncIn {
        fh,
        fsync_flags,
        padding: 0,
    }
}

fn structure<T: ByteValued + Default>(bytes: &[u8]) -> T {
    let mut value = T::default();
    value.as_mut_slice().copy_from_slice(bytes);
    value
}
