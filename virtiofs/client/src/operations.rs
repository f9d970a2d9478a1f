//! FUSE operations by name.

use boxbuild_virtiofs::fuse::abi::{self, Attr, EntryOut, SetattrIn, fattr, init, opcode};
use vm_memory::ByteValued;

use crate::client::{Client, Request};

/// The server's reply, or its errno.
pub type Answer<T> = Result<T, i32>;

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

/// Returns the arguments of a SETATTR of both times, in seconds.
pub fn set_times(atime: u64, mtime: u64) -> SetattrIn {
    SetattrIn {
        valid: fattr::ATIME | fattr::MTIME,
        atime,
        mtime,
        ..Default::default()
    }
}

pub(crate) fn terminated(name: impl AsRef<[u8]>) -> Vec<u8> {
    let mut bytes = name.as_ref().to_vec();
    bytes.push(0);
    bytes
}

/// Each operation returns the server's reply or errno, and panics if there is none or it violates
/// the protocol.
#[allow(missing_docs, clippy::missing_errors_doc, clippy::missing_panics_doc)]
impl Client {
    pub fn init(&mut self) -> Answer<abi::InitOut> {
        self.init_version(7, 38)
    }

    pub fn init_version(&mut self, major: u32, minor: u32) -> Answer<abi::InitOut> {
        let start = abi::InitIn {
            major,
            minor,
            max_readahead: 1 << 17,
            flags: OFFERED as u32,
        };
        let more = abi::InitExtIn::default();
        let body = [start.as_slice(), more.as_slice()];
        let out: abi::InitOut = self.typed(opcode::INIT, 0, &body)?;
        self.flags = u64::from(out.flags) | u64::from(out.flags2) << 32;
        Ok(out)
    }

    pub fn destroy(&mut self) -> Answer<()> {
        self.plain(opcode::DESTROY, 0, &[])
    }

    pub(crate) fn plain(&mut self, opcode: u32, node: u64, body: &[&[u8]]) -> Answer<()> {
        let len = self.exchange(&Request {
            opcode,
            node,
            body,
            data: 0,
            capacity: 0,
        })?;
        assert_eq!(len, 0, "a reply without data");
        Ok(())
    }

    pub fn lookup(&mut self, parent: u64, name: impl AsRef<[u8]>) -> Answer<EntryOut> {
        self.typed(opcode::LOOKUP, parent, &[&terminated(name)])
    }

    pub fn forget(&mut self, node: u64, count: u64) {
        let forget = abi::ForgetIn { nlookup: count };
        self.urgent(opcode::FORGET, node, &[forget.as_slice()]);
    }

    pub fn batch_forget(&mut self, nodes: &[(u64, u64)]) {
        let head = abi::BatchForgetIn {
            count: nodes.len() as u32,
            dummy: 0,
        };
        let mut body = head.as_slice().to_vec();
        for &(nodeid, nlookup) in nodes {
            body.extend_from_slice(abi::ForgetOne { nodeid, nlookup }.as_slice());
        }
        self.urgent(opcode::BATCH_FORGET, 0, &[&body]);
    }

    pub fn interrupt(&mut self, unique: u64) {
        self.urgent(opcode::INTERRUPT, 0, &[&unique.to_ne_bytes()]);
    }

    pub fn getattr(&mut self, node: u64) -> Answer<Attr> {
        let get = abi::GetattrIn::default();
        self.typed::<abi::AttrOut>(opcode::GETATTR, node, &[get.as_slice()])
            .map(|out| out.attr)
    }

    pub fn setattr(&mut self, node: u64, set: SetattrIn) -> Answer<Attr> {
        self.typed::<abi::AttrOut>(opcode::SETATTR, node, &[set.as_slice()])
            .map(|out| out.attr)
    }

    pub fn chmod(&mut self, node: u64, mode: u32) -> Answer<Attr> {
        let valid = fattr::MODE;
        self.setattr(
            node,
            SetattrIn {
                valid,
                mode,
                ..Default::default()
            },
        )
    }

    pub fn chown(&mut self, node: u64, uid: u32, gid: u32) -> Answer<Attr> {
        let valid = fattr::UID | fattr::GID;
        self.setattr(
            node,
            SetattrIn {
                valid,
                uid,
                gid,
                ..Default::default()
            },
        )
    }

    pub fn truncate(&mut self, node: u64, size: u64) -> Answer<Attr> {
        let valid = fattr::SIZE;
        self.setattr(
            node,
            SetattrIn {
                valid,
                size,
                ..Default::default()
            },
        )
    }

    pub fn readlink(&mut self, node: u64) -> Answer<Vec<u8>> {
        self.call(opcode::READLINK, node, &[])
    }

    pub fn symlink(
        &mut self,
        parent: u64,
        name: impl AsRef<[u8]>,
        target: impl AsRef<[u8]>,
    ) -> Answer<EntryOut> {
        let (name, target) = (terminated(name), terminated(target));
        self.typed(opcode::SYMLINK, parent, &[&name, &target])
    }

    pub fn mknod(
        &mut self,
        parent: u64,
        name: impl AsRef<[u8]>,
        mode: u32,
        rdev: u32,
    ) -> Answer<EntryOut> {
        let make = abi::MknodIn {
            mode,
            rdev,
            ..Default::default()
        };
        self.typed(opcode::MKNOD, parent, &[make.as_slice(), &terminated(name)])
    }

    pub fn mkdir(&mut self, parent: u64, name: impl AsRef<[u8]>, mode: u32) -> Answer<EntryOut> {
        let make = abi::MkdirIn { mode, umask: 0 };
        self.typed(opcode::MKDIR, parent, &[make.as_slice(), &terminated(name)])
    }

    pub fn unlink(&mut self, parent: u64, name: impl AsRef<[u8]>) -> Answer<()> {
        self.plain(opcode::UNLINK, parent, &[&terminated(name)])
    }

    pub fn rmdir(&mut self, parent: u64, name: impl AsRef<[u8]>) -> Answer<()> {
        self.plain(opcode::RMDIR, parent, &[&terminated(name)])
    }

    pub fn rename(
        &mut self,
        (parent, name): (u64, impl AsRef<[u8]>),
        (newdir, new_name): (u64, impl AsRef<[u8]>),
    ) -> Answer<()> {
        let head = abi::RenameIn { newdir };
        let (name, new_name) = (terminated(name), terminated(new_name));
        self.plain(opcode::RENAME, parent, &[head.as_slice(), &name, &new_name])
    }

    /// RENAME2: with flags.
    pub fn rename2(
        &mut self,
        (parent, name): (u64, impl AsRef<[u8]>),
        (newdir, new_name): (u64, impl AsRef<[u8]>),
        flags: u32,
    ) -> Answer<()> {
        let head = abi::Rename2In {
            newdir,
            flags,
            padding: 0,
        };
        let (name, new_name) = (terminated(name), terminated(new_name));
        self.plain(
            opcode::RENAME2,
            parent,
            &[head.as_slice(), &name, &new_name],
        )
    }

    pub fn link(&mut self, node: u64, parent: u64, name: impl AsRef<[u8]>) -> Answer<EntryOut> {
        let link = abi::LinkIn { oldnodeid: node };
        self.typed(opcode::LINK, parent, &[link.as_slice(), &terminated(name)])
    }

    pub fn statfs(&mut self, node: u64) -> Answer<abi::StatfsOut> {
        self.typed(opcode::STATFS, node, &[])
    }

    pub fn syncfs(&mut self, node: u64) -> Answer<()> {
        self.plain(opcode::SYNCFS, node, &[&0_u64.to_ne_bytes()])
    }

    pub fn setxattr(&mut self, node: u64, name: impl AsRef<[u8]>, value: &[u8]) -> Answer<()> {
        let set = abi::SetxattrIn {
            size: value.len() as u32,
            flags: 0,
        };
        let ext = abi::SetxattrExtIn::default();
        let ext = if self.flags & init::SETXATTR_EXT == 0 {
            &[]
        } else {
            ext.as_slice()
        };
        let body = [set.as_slice(), ext, &terminated(name), value];
        self.plain(opcode::SETXATTR, node, &body)
    }

    pub fn getxattr(&mut self, node: u64, name: impl AsRef<[u8]>) -> Answer<Vec<u8>> {
        let get = abi::GetxattrIn {
            size: 4096,
            padding: 0,
        };
        self.call(opcode::GETXATTR, node, &[get.as_slice(), &terminated(name)])
    }

    pub fn listxattr(&mut self, node: u64) -> Answer<Vec<u8>> {
        let get = abi::GetxattrIn {
            size: 4096,
            padding: 0,
        };
        self.call(opcode::LISTXATTR, node, &[get.as_slice()])
    }

    pub fn removexattr(&mut self, node: u64, name: impl AsRef<[u8]>) -> Answer<()> {
        self.plain(opcode::REMOVEXATTR, node, &[&terminated(name)])
    }

    pub fn access(&mut self, node: u64, mask: i32) -> Answer<()> {
        let access = abi::AccessIn {
            mask: mask.cast_unsigned(),
            padding: 0,
        };
        self.plain(opcode::ACCESS, node, &[access.as_slice()])
    }
}
