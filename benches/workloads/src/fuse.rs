//! A share: FUSE requests behind the virtio-fs device, as Linux' driver sends them.

use std::ffi::CString;
use std::fs;

use anyhow::{Context, Result, bail};
use boxbuild_virtiofs::MountTag;
use boxbuild_virtiofs::fuse::abi::{self, InHeader, OutHeader, ROOT_ID, init, opcode};
use boxbuild_vmm::virtio::fs::Fs;
use boxbuild_vmm_driver::Buffer;
use tempfile::TempDir;
use vm_memory::ByteValued;

use crate::driver::{BUFFERS, DeviceDriver, folder};
use crate::{Rounds, Workload};

/// The queue of ordinary requests.
const QUEUE: usize = 1;
/// Files in the share.
const FILES: usize = 64;
const PAGE: u32 = 4 << 10;
const LARGE: u32 = 256 << 10;
/// Where request and reply lie.
const REQUEST: u64 = BUFFERS;
const REPLY: u64 = BUFFERS + 0x20_0000;
/// Room for a reply without data.
const SMALL: usize = 256;

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "fuse/lookup-forget",
        count: FILES as u64,
        unit: "names",
        bytes: None,
        make: || Ok(Box::new(Lookup(Share::new()?))),
    },
    Workload {
        name: "fuse/getattr",
        count: FILES as u64,
        unit: "files",
        bytes: None,
        make: || {
            let mut share = Share::new()?;
            let nodes = share.lookup_all()?;
            Ok(Box::new(Getattr { share, nodes }))
        },
    },
    Workload {
        name: "fuse/readdirplus",
        count: FILES as u64,
        unit: "entries",
        bytes: None,
        make: || Ok(Box::new(List(Share::new()?))),
    },
    Workload {
        name: "fuse/create-unlink",
        count: 1,
        unit: "file",
        bytes: None,
        make: || Ok(Box::new(Create(Share::new()?))),
    },
    Workload {
        name: "fuse/read-4k",
        count: 1,
        unit: "request",
        bytes: Some(PAGE as u64),
        make: || Ok(Box::new(Transfer::new(PAGE, false)?)),
    },
    Workload {
        name: "fuse/write-4k",
        count: 1,
        unit: "request",
        bytes: Some(PAGE as u64),
        make: || Ok(Box::new(Transfer::new(PAGE, true)?)),
    },
    Workload {
        name: "fuse/read-256k",
        count: 1,
        unit: "request",
        bytes: Some(LARGE as u64),
        make: || Ok(Box::new(Transfer::new(LARGE, false)?)),
    },
];

/// A share with [`FILES`] small files and a large one, and its client.
struct Share {
    driver: DeviceDriver,
    names: Vec<CString>,
    folder: TempDir,
}

impl Share {
    fn new() -> Result<Share> {
        let folder = folder()?;
        let root = folder.path().join("root");
        fs::create_dir(&root)?;
        let names: Vec<String> = (0..FILES).map(|number| format!("file-{number}")).collect();
        for name in &names {
            fs::write(root.join(name), name)?;
        }
        fs::write(root.join("large"), vec![0x61; 1 << 20])?;
        let names = names.into_iter().map(CString::new);
        let tag = MountTag::new("share")?;
        let share = boxbuild_virtiofs::Share::new(tag, root);
        let device = Fs::new(boxbuild_virtiofs::PassthroughFs::new(share)?, 1);
        let mut share = Share {
            driver: DeviceDriver::new(Box::new(device), 0)?,
            names: names.collect::<Result<_, _>>()?,
            folder,
        };
        let flags = init::ASYNC_READ
            | init::BIG_WRITES
            | init::DO_READDIRPLUS
            | init::READDIRPLUS_AUTO
            | init::PARALLEL_DIROPS
            | init::MAX_PAGES;
        let init = abi::InitIn {
            major: abi::KERNEL_VERSION,
            minor: abi::KERNEL_MINOR_VERSION,
            flags: flags as u32,
            ..Default::default()
        };
        share.call(opcode::INIT, 0, &[init.as_slice()], SMALL)?;
        Ok(share)
    }

    /// Puts a request into the queue: header and arguments in a buffer each, as Linux does.
    fn put(&mut self, opcode: u32, node: u64, body: &[&[u8]], room: usize) -> Result<()> {
        let header = InHeader {
            len: (size_of::<InHeader>() + body.iter().map(|part| part.len()).sum::<usize>()) as u32,
            opcode,
            unique: 42,
            nodeid: node,
            ..Default::default()
        };
        let mut parts = Vec::with_capacity(6);
        let mut address = REQUEST;
        for part in [header.as_slice()].iter().chain(body) {
            self.driver.write(part, address)?;
            parts.push(Buffer::readable(address, part.len() as u32));
            address = (address + part.len() as u64).next_multiple_of(64);
        }
        if room > 0 {
            parts.push(Buffer::writable(REPLY, size_of::<OutHeader>() as u32));
            parts.push(Buffer::writable(
                REPLY + size_of::<OutHeader>() as u64,
                room as u32,
            ));
        }
        self.driver.put(QUEUE, &parts)
    }

    /// A request and its reply's length without the header.
    fn call(&mut self, opcode: u32, node: u64, body: &[&[u8]], room: usize) -> Result<usize> {
        self.put(opcode, node, body, room)?;
        self.driver.notify(QUEUE)?;
        let len = self.driver.used(QUEUE)?.context("no answer")? as usize;
        if room == 0 {
            return Ok(0);
        }
        let mut out = OutHeader::default();
        self.driver.read(out.as_mut_slice(), REPLY)?;
        if out.error != 0 {
            bail!("opcode {opcode}: error {}", out.error);
        }
        len.checked_sub(size_of::<OutHeader>())
            .context("a short reply")
    }

    fn reply<T: ByteValued + Default>(&self, offset: usize) -> Result<T> {
        let mut value = T::default();
        let address = REPLY + (size_of::<OutHeader>() + offset) as u64;
        self.driver.read(value.as_mut_slice(), address)?;
        Ok(value)
    }

    fn lookup(&mut self, name: &[u8]) -> Result<u64> {
        self.call(opcode::LOOKUP, ROOT_ID, &[name], SMALL)?;
        Ok(self.reply::<abi::EntryOut>(0)?.nodeid)
    }

    fn lookup_all(&mut self) -> Result<Vec<u64>> {
        let names = std::mem::take(&mut self.names);
        let nodes = names
            .iter()
            .map(|name| self.lookup(name.as_bytes_with_nul()));
        let nodes = nodes.collect();
        self.names = names;
        nodes
    }

    fn forget(&mut self, node: u64, nlookup: u64) -> Result<()> {
        let forget = abi::ForgetIn { nlookup };
        self.call(opcode::FORGET, node, &[forget.as_slice()], 0)
            .map(|_| ())
    }
}

struct Lookup(Share);

impl Rounds for Lookup {
    fn round(&mut self) -> Result<()> {
        for node in self.0.lookup_all()? {
            self.0.forget(node, 1)?;
        }
        Ok(())
    }
}

struct Getattr {
    share: Share,
    nodes: Vec<u64>,
}

impl Rounds for Getattr {
    fn round(&mut self) -> Result<()> {
        let get = abi::GetattrIn::default();
        for node in &self.nodes {
            self.share
                .call(opcode::GETATTR, *node, &[get.as_slice()], SMALL)?;
        }
        Ok(())
    }
}

struct List(Share);

impl Rounds for List {
    fn round(&mut self) -> Result<()> {
        let share = &mut self.0;
        let open = abi::OpenIn::default();
        share.call(opcode::OPENDIR, ROOT_ID, &[open.as_slice()], SMALL)?;
        let fh = share.reply::<abi::OpenOut>(0)?.fh;
        let (mut offset, mut nodes) = (0, Vec::new());
        loop {
            let read = abi::ReadIn {
                fh,
                offset,
                size: PAGE,
                ..Default::default()
            };
            let body = [read.as_slice()];
            let len = share.call(opcode::READDIRPLUS, ROOT_ID, &body, PAGE as usize)?;
            if len == 0 {
                break;
            }
            let mut at = 0;
            while at < len {
                let entry: abi::EntryOut = share.reply(at)?;
                let head: abi::Dirent = share.reply(at + size_of::<abi::EntryOut>())?;
                if entry.nodeid != 0 {
                    nodes.push(entry.nodeid);
                }
                offset = head.off;
                at += size_of::<abi::EntryOut>()
                    + size_of::<abi::Dirent>()
                    + (head.namelen as usize).next_multiple_of(8);
            }
        }
        for node in nodes {
            share.forget(node, 1)?;
        }
        let release = abi::ReleaseIn {
            fh,
            ..Default::default()
        };
        share
            .call(opcode::RELEASEDIR, ROOT_ID, &[release.as_slice()], SMALL)
            .map(|_| ())
    }
}

struct Create(Share);

impl Rounds for Create {
    fn round(&mut self) -> Result<()> {
        let share = &mut self.0;
        let name: &[u8] = b"new-file\0";
        let create = abi::CreateIn {
            flags: (libc::O_RDWR | libc::O_CREAT | libc::O_EXCL) as u32,
            mode: libc::S_IFREG | 0o644,
            umask: 0o022,
            open_flags: 0,
        };
        share.call(opcode::CREATE, ROOT_ID, &[create.as_slice(), name], SMALL)?;
        let node = share.reply::<abi::EntryOut>(0)?.nodeid;
        let fh = share.reply::<abi::OpenOut>(size_of::<abi::EntryOut>())?.fh;
        let release = abi::ReleaseIn {
            fh,
            ..Default::default()
        };
        share.call(opcode::RELEASE, node, &[release.as_slice()], SMALL)?;
        share.call(opcode::UNLINK, ROOT_ID, &[name], SMALL)?;
        share.forget(node, 1)
    }
}

/// Reads or writes of one size, through a file of 1 MiB.
struct Transfer {
    share: Share,
    node: u64,
    fh: u64,
    size: u32,
    data: Option<Vec<u8>>,
    offset: u64,
}

impl Transfer {
    fn new(size: u32, write: bool) -> Result<Transfer> {
        let mut share = Share::new()?;
        let node = share.lookup(b"large\0")?;
        let open = abi::OpenIn {
            flags: libc::O_RDWR as u32,
            open_flags: 0,
        };
        share.call(opcode::OPEN, node, &[open.as_slice()], SMALL)?;
        let fh = share.reply::<abi::OpenOut>(0)?.fh;
        debug_assert!(share.folder.path().exists());
        Ok(Transfer {
            share,
            node,
            fh,
            size,
            data: write.then(|| vec![0x62; size as usize]),
            offset: 0,
        })
    }
}

impl Rounds for Transfer {
    fn round(&mut self) -> Result<()> {
        let (fh, offset, size) = (self.fh, self.offset, self.size);
        self.offset = (self.offset + u64::from(size)) % (1 << 20);
        if let Some(data) = &self.data {
            let write = abi::WriteIn {
                fh,
                offset,
                size,
                ..Default::default()
            };
            let body = [write.as_slice(), data.as_slice()];
            self.share.call(opcode::WRITE, self.node, &body, SMALL)?;
            return Ok(());
        }
        let read = abi::ReadIn {
            fh,
            offset,
            size,
            ..Default::default()
        };
        let body = [read.as_slice()];
        let count = self
            .share
            .call(opcode::READ, self.node, &body, size as usize)?;
        if count != size as usize {
            bail!("read {count} of {size} bytes");
        }
        Ok(())
    }
}
