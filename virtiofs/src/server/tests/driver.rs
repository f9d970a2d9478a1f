//! The guest's side: writes requests to guest memory and reads replies from it.

use std::cell::RefCell;
use std::ffi::CStr;

use boxbuild_vmm_driver::{Buffer, Descriptor, DriverQueue, QueueLayout};
use tempfile::TempDir;
use virtio_queue::{Queue, QueueT};
use vm_memory::{ByteValued, Bytes, GuestAddress, GuestMemoryMmap};

use crate::fuse::abi::{self, Attr, EntryOut, InHeader, OpenOut, OutHeader, init, opcode};
use crate::passthrough::PassthroughFs;
use crate::server::{Server, ServerError};
use crate::share::{MountTag, Share};

const REQUEST: u64 = 0x10_0000;
const REPLY: u64 = 0x30_0000;
const MEMORY: usize = 0x60_0000;

/// The INIT flags of a recent Linux guest, as far as the server knows them.
const OFFERED: u64 = init::ASYNC_READ
    | init::ATOMIC_O_TRUNC
    | init::BIG_WRITES
    | init::DONT_MASK
    | init::AUTO_INVAL_DATA
    | init::DO_READDIRPLUS
    | init::READDIRPLUS_AUTO
    | init::PARALLEL_DIROPS
    | init::HANDLE_KILLPRIV
    | init::POSIX_ACL
    | init::MAX_PAGES
    | init::CACHE_SYMLINKS
    | init::HANDLE_KILLPRIV_V2
    | init::SETXATTR_EXT
    | init::INIT_EXT;

pub(super) struct Driver {
    memory: GuestMemoryMmap,
    queue: RefCell<(DriverQueue, Queue)>,
    server: Server<PassthroughFs>,
    pub(super) dir: TempDir,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Driver {
    /// A guest with a new share, after INIT.
    pub(super) fn new() -> Self {
        Self::with(|_| {}, Server::new)
    }

    pub(super) fn read_only() -> Self {
        Self::with(|share| share.read_only = true, Server::new)
    }

    pub(super) fn with(
        change: impl FnOnce(&mut Share),
        serve: impl FnOnce(PassthroughFs) -> Server<PassthroughFs>,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("share");
        std::fs::create_dir(&root).unwrap();
        let mut share = Share::new(MountTag::new("share").unwrap(), root);
        change(&mut share);
        let server = serve(PassthroughFs::new(share).unwrap());
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap();
        let layout = QueueLayout::new(GuestAddress(0), 64).unwrap();
        let driver = DriverQueue::new(layout);
        let device = driver.device_queue().unwrap();
        let driver = Self {
            memory,
            queue: RefCell::new((driver, device)),
            server,
            dir,
            uid: 0,
            gid: 0,
        };
        let out: abi::InitOut = driver.init(7, 38).unwrap();
        assert_eq!((out.major, out.minor), (7, 38));
        driver
    }

    pub(super) fn init(&self, major: u32, minor: u32) -> Result<abi::InitOut, i32> {
        let start = abi::InitIn {
            major,
            minor,
            max_readahead: 1 << 17,
            flags: OFFERED as u32,
        };
        let more = abi::InitExtIn::default();
        self.typed(opcode::INIT, 0, &[start.as_slice(), more.as_slice()])
    }

    /// Returns the host's path of a file in the share.
    pub(super) fn host(&self, path: &str) -> std::path::PathBuf {
        self.dir.path().join("share").join(path)
    }

    pub(super) fn file_system(&self) -> &PassthroughFs {
        self.server.file_system()
    }

    pub(super) fn keeps_owners(&self) -> bool {
        self.server.file_system().has_user_xattrs()
    }

    /// Makes a request of these readable parts, with writable buffers of these sizes.
    pub(super) fn raw(&self, readable: &[&[u8]], writable: &[u32]) -> Result<u32, ServerError> {
        let mut buffers = Vec::new();
        let mut address = REQUEST;
        for part in readable {
            self.memory
                .write_slice(part, GuestAddress(address))
                .unwrap();
            buffers.push(Buffer::readable(address, part.len() as u32));
            address += part.len() as u64;
        }
        let mut address = REPLY;
        for len in writable {
            buffers.push(Buffer::writable(address, *len));
            address += u64::from(*len);
        }
        self.chain(&buffers)
    }

    /// Makes a request of these buffers, which may lie anywhere.
    pub(super) fn chain(&self, buffers: &[Buffer]) -> Result<u32, ServerError> {
        let (driver, device) = &mut *self.queue.borrow_mut();
        let head = driver.add(&self.memory, buffers).unwrap();
        let chain = device.pop_descriptor_chain(&self.memory).unwrap();
        let result = self.server.handle(&self.memory, chain);
        let written = *result.as_ref().unwrap_or(&0);
        device.add_used(&self.memory, head, written).unwrap();
        let used = driver.next_used(&self.memory).unwrap().unwrap();
        assert_eq!((used.head, used.len), (head.into(), written));
        result
    }

    /// Makes a request of one indirect table with this many empty buffers.
    pub(super) fn table(&self, buffers: u16) -> Result<u32, ServerError> {
        // VIRTQ_DESC_F_NEXT and VIRTQ_DESC_F_INDIRECT (virtio 1.2, section 2.7.5).
        let (next, indirect) = (1, 4);
        let (driver, device) = &mut *self.queue.borrow_mut();
        for index in 0..buffers {
            let flags = if index + 1 < buffers { next } else { 0 };
            let entry = Descriptor::new(REQUEST, 0, flags, index + 1);
            let at = GuestAddress(REPLY + 16 * u64::from(index));
            self.memory.write_obj(entry, at).unwrap();
        }
        let one = Buffer::readable(REPLY, 16 * u32::from(buffers));
        let head = driver.add(&self.memory, &[one]).unwrap();
        let table = Descriptor::new(one.address, one.len, indirect, 0);
        driver.write_descriptor(&self.memory, head, table).unwrap();
        let chain = device.pop_descriptor_chain(&self.memory).unwrap();
        let result = self.server.handle(&self.memory, chain);
        device.add_used(&self.memory, head, 0).unwrap();
        driver.next_used(&self.memory).unwrap();
        result
    }

    pub(super) fn header(&self, opcode: u32, node: u64, body: usize) -> InHeader {
        InHeader {
            len: (size_of::<InHeader>() + body) as u32,
            opcode,
            unique: 42,
            nodeid: node,
            uid: self.uid,
            gid: self.gid,
            ..Default::default()
        }
    }

    /// Returns the first `len` bytes of the last reply.
    pub(super) fn replied(&self, len: u32) -> Vec<u8> {
        let mut reply = vec![0; len as usize];
        self.memory
            .read_slice(&mut reply, GuestAddress(REPLY))
            .unwrap();
        reply
    }

    /// Makes a request; returns the bytes after the reply's header, or the errno.
    pub(super) fn call(&self, opcode: u32, node: u64, body: &[&[u8]]) -> Result<Vec<u8>, i32> {
        let body = body.concat();
        let header = self.header(opcode, node, body.len());
        // Buffers that divide the structures at odd places.
        let (first, second) = body.split_at(body.len() / 3);
        let room = [16, 100, 3, 1 << 20];
        let len = self
            .raw(&[header.as_slice(), first, second], &room)
            .unwrap();
        let reply = self.replied(len);
        let (head, rest) = reply.split_at(size_of::<OutHeader>());
        let mut out = OutHeader::default();
        out.as_mut_slice().copy_from_slice(head);
        assert_eq!((out.len, out.unique), (len, 42));
        if out.error == 0 {
            Ok(rest.to_vec())
        } else {
            Err(-out.error)
        }
    }

    pub(super) fn typed<T: ByteValued + Default>(
        &self,
        opcode: u32,
        node: u64,
        body: &[&[u8]],
    ) -> Result<T, i32> {
        let reply = self.call(opcode, node, body)?;
        assert!(
            reply.len() >= size_of::<T>(),
            "reply of {} bytes",
            reply.len()
        );
        let mut value = T::default();
        value
            .as_mut_slice()
            .copy_from_slice(&reply[..size_of::<T>()]);
        Ok(value)
    }

    pub(super) fn lookup(&self, parent: u64, name: &CStr) -> Result<EntryOut, i32> {
        self.typed(opcode::LOOKUP, parent, &[name.to_bytes_with_nul()])
    }

    pub(super) fn getattr(&self, node: u64) -> Result<Attr, i32> {
        let get = abi::GetattrIn::default();
        self.typed::<abi::AttrOut>(opcode::GETATTR, node, &[get.as_slice()])
            .map(|out| out.attr)
    }

    pub(super) fn setattr(&self, node: u64, set: abi::SetattrIn) -> Result<Attr, i32> {
        self.typed::<abi::AttrOut>(opcode::SETATTR, node, &[set.as_slice()])
            .map(|out| out.attr)
    }

    pub(super) fn chown(&self, node: u64, uid: u32, gid: u32) -> Result<Attr, i32> {
        let valid = abi::fattr::UID | abi::fattr::GID;
        self.setattr(
            node,
            abi::SetattrIn {
                valid,
                uid,
                gid,
                ..Default::default()
            },
        )
    }

    pub(super) fn chmod(&self, node: u64, mode: u32) -> Result<Attr, i32> {
        let valid = abi::fattr::MODE;
        self.setattr(
            node,
            abi::SetattrIn {
                valid,
                mode,
                ..Default::default()
            },
        )
    }

    pub(super) fn mkdir(&self, parent: u64, name: &CStr, mode: u32) -> Result<EntryOut, i32> {
        let make = abi::MkdirIn { mode, umask: 0 };
        self.typed(
            opcode::MKDIR,
            parent,
            &[make.as_slice(), name.to_bytes_with_nul()],
        )
    }

    pub(super) fn mknod(
        &self,
        parent: u64,
        name: &CStr,
        mode: u32,
        rdev: u32,
    ) -> Result<EntryOut, i32> {
        let make = abi::MknodIn {
            mode,
            rdev,
            umask: 0,
            padding: 0,
        };
        self.typed(
            opcode::MKNOD,
            parent,
            &[make.as_slice(), name.to_bytes_with_nul()],
        )
    }

    pub(super) fn symlink(&self, parent: u64, name: &CStr, target: &CStr) -> Result<EntryOut, i32> {
        let names = [name.to_bytes_with_nul(), target.to_bytes_with_nul()];
        self.typed(opcode::SYMLINK, parent, &names)
    }

    /// Creates a file; returns its entry and the handle of the open file.
    pub(super) fn create(
        &self,
        parent: u64,
        name: &CStr,
        mode: u32,
        umask: u32,
    ) -> Result<(EntryOut, u64), i32> {
        let flags = (libc::O_RDWR | libc::O_CREAT | libc::O_EXCL) as u32;
        let create = abi::CreateIn {
            flags,
            mode,
            umask,
            open_flags: 0,
        };
        let body = [create.as_slice(), name.to_bytes_with_nul()];
        let reply = self.call(opcode::CREATE, parent, &body)?;
        let (mut entry, mut open) = (EntryOut::default(), OpenOut::default());
        entry
            .as_mut_slice()
            .copy_from_slice(&reply[..size_of::<EntryOut>()]);
        open.as_mut_slice()
            .copy_from_slice(&reply[size_of::<EntryOut>()..]);
        Ok((entry, open.fh))
    }

    pub(super) fn open(&self, node: u64, flags: i32) -> Result<u64, i32> {
        let open = abi::OpenIn {
            flags: flags as u32,
            open_flags: 0,
        };
        self.typed::<OpenOut>(opcode::OPEN, node, &[open.as_slice()])
            .map(|out| out.fh)
    }

    pub(super) fn write(
        &self,
        node: u64,
        fh: u64,
        offset: u64,
        data: &[u8],
        write_flags: u32,
    ) -> Result<u32, i32> {
        let size = data.len() as u32;
        let write = abi::WriteIn {
            fh,
            offset,
            size,
            write_flags,
            ..Default::default()
        };
        self.typed::<abi::WriteOut>(opcode::WRITE, node, &[write.as_slice(), data])
            .map(|out| out.size)
    }

    pub(super) fn read(&self, node: u64, fh: u64, offset: u64, size: u32) -> Result<Vec<u8>, i32> {
        let read = abi::ReadIn {
            fh,
            offset,
            size,
            ..Default::default()
        };
        self.call(opcode::READ, node, &[read.as_slice()])
    }

    pub(super) fn unlink(&self, parent: u64, name: &CStr) -> Result<(), i32> {
        self.call(opcode::UNLINK, parent, &[name.to_bytes_with_nul()])
            .map(|_| ())
    }

    pub(super) fn rename(
        &self,
        from: (u64, &CStr),
        to: (u64, &CStr),
        flags: u32,
    ) -> Result<(), i32> {
        let rename = abi::Rename2In {
            newdir: to.0,
            flags,
            padding: 0,
        };
        let names = [from.1.to_bytes_with_nul(), to.1.to_bytes_with_nul()];
        self.call(
            opcode::RENAME2,
            from.0,
            &[rename.as_slice(), names[0], names[1]],
        )
        .map(|_| ())
    }

    pub(super) fn setxattr(&self, node: u64, name: &CStr, value: &[u8]) -> Result<(), i32> {
        let set = abi::SetxattrIn {
            size: value.len() as u32,
            flags: 0,
        };
        let ext = abi::SetxattrExtIn::default();
        let body = [
            set.as_slice(),
            ext.as_slice(),
            name.to_bytes_with_nul(),
            value,
        ];
        self.call(opcode::SETXATTR, node, &body).map(|_| ())
    }

    pub(super) fn getxattr(&self, node: u64, name: &CStr) -> Result<Vec<u8>, i32> {
        let get = abi::GetxattrIn {
            size: 4096,
            padding: 0,
        };
        self.call(
            opcode::GETXATTR,
            node,
            &[get.as_slice(), name.to_bytes_with_nul()],
        )
    }

    pub(super) fn listxattr(&self, node: u64) -> Result<Vec<u8>, i32> {
        let get = abi::GetxattrIn {
            size: 4096,
            padding: 0,
        };
        self.call(opcode::LISTXATTR, node, &[get.as_slice()])
    }

    /// Returns name, node and type of all entries, read with buffers of `size` bytes.
    pub(super) fn list(&self, node: u64, plus: bool, size: u32) -> Vec<(String, u64, u32)> {
        let open = abi::OpenIn::default();
        let fh = self
            .typed::<OpenOut>(opcode::OPENDIR, node, &[open.as_slice()])
            .unwrap()
            .fh;
        let code = if plus {
            opcode::READDIRPLUS
        } else {
            opcode::READDIR
        };
        let (mut found, mut offset) = (Vec::new(), 0);
        loop {
            let read = abi::ReadIn {
                fh,
                offset,
                size,
                ..Default::default()
            };
            let reply = self.call(code, node, &[read.as_slice()]).unwrap();
            let mut rest = reply.as_slice();
            if rest.is_empty() {
                break;
            }
            while !rest.is_empty() {
                let (mut entry, mut head) = (EntryOut::default(), abi::Dirent::default());
                if plus {
                    let (bytes, tail) = rest.split_at(size_of::<EntryOut>());
                    entry.as_mut_slice().copy_from_slice(bytes);
                    rest = tail;
                }
                let (bytes, tail) = rest.split_at(size_of::<abi::Dirent>());
                head.as_mut_slice().copy_from_slice(bytes);
                let name = String::from_utf8(tail[..head.namelen as usize].to_vec()).unwrap();
                rest = &tail[(head.namelen as usize).next_multiple_of(8)..];
                offset = head.off;
                found.push((name, entry.nodeid, head.kind));
            }
        }
        let release = abi::ReleaseIn {
            fh,
            ..Default::default()
        };
        self.call(opcode::RELEASEDIR, node, &[release.as_slice()])
            .unwrap();
        found
    }
}

/// Prints that the current test cannot run here. The test harness would swallow `println!`.
pub(super) fn skip(reason: &str) {
    use std::io::Write;
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("a test");
    let _ = writeln!(std::io::stderr(), "skipped: {name}: {reason}");
}
