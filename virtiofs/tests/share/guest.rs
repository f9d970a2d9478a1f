//! The operations through a share, as a guest's kernel does them.

use std::collections::HashMap;
use std::path::PathBuf;

use boxbuild_virtiofs::fuse::abi::Attr;

use crate::operation::{Answer, Operation, Seen};
use crate::plain::{punch, summary};
use crate::support::{ROOT, TestShare};

/// A share as the guest's kernel uses it: looks up every path name by name, and gives references
/// back as soon as possible.
pub(crate) struct Guest {
    share: TestShare,
    open: HashMap<usize, (u64, u64)>,
}

impl Guest {
    pub(crate) fn new() -> Self {
        Self {
            share: TestShare::new(),
            open: HashMap::new(),
        }
    }

    /// Returns the host's path of the share.
    pub(crate) fn host(&self) -> PathBuf {
        self.share.host("")
    }

    /// Closes every file, and checks that nothing beside the share was changed.
    pub(crate) fn close(&mut self) {
        for (_, (node, fh)) in self.open.drain() {
            self.share.release(node, fh).unwrap();
            self.share.forget(node, 1);
        }
        assert_eq!(self.share.server.status().fault(), None);
        self.share.assert_unharmed();
    }

    /// Looks a path up. Gives the references on the way back at once; the caller does so for the
    /// last inode.
    fn walk(&mut self, names: &[&str]) -> Result<(u64, Option<Attr>), i32> {
        let (mut node, mut attr) = (ROOT, None);
        for name in names {
            let found = self.share.lookup(node, name);
            self.share.forget(node, 1);
            let found = found?;
            (node, attr) = (found.nodeid, Some(found.attr));
        }
        Ok((node, attr))
    }

    /// Looks up the directory of the last name; returns it and that name.
    fn parent<'a>(&mut self, names: &[&'a str]) -> Result<(u64, &'a str), i32> {
        let (last, above) = names.split_last().expect("a name");
        let (node, attr) = self.walk(above)?;
        if attr.is_some_and(|attr| attr.mode & libc::S_IFMT != libc::S_IFDIR) {
            self.share.forget(node, 1);
            return Err(libc::ENOTDIR);
        }
        Ok((node, last))
    }

    /// Runs `work` on the directory of the last name, and that name.
    fn within<T>(
        &mut self,
        names: &[&str],
        work: impl FnOnce(&mut TestShare, u64, &str) -> Result<T, i32>,
    ) -> Result<T, i32> {
        let (parent, name) = self.parent(names)?;
        let result = work(&mut self.share, parent, name);
        self.share.forget(parent, 1);
        result
    }

    /// Runs `work` on the inode of a path.
    fn on<T>(
        &mut self,
        names: &[&str],
        work: impl FnOnce(&mut TestShare, u64) -> Result<T, i32>,
    ) -> Result<T, i32> {
        let (node, _) = self.walk(names)?;
        let result = work(&mut self.share, node);
        self.share.forget(node, 1);
        result
    }

    fn keep(&mut self, handle: usize, node: u64, fh: u64) {
        if let Some((old, fh)) = self.open.insert(handle, (node, fh)) {
            self.share.release(old, fh).unwrap();
            self.share.forget(old, 1);
        }
    }

    pub(crate) fn apply(&mut self, operation: &Operation) -> Answer {
        use Operation as O;
        let none = Seen::default();
        Ok(match operation {
            O::Create(names, mode, handle) => {
                let (entry, fh) =
                    self.within(names, |g, dir, name| g.create(dir, name, 0o600 | mode))?;
                self.keep(*handle, entry.nodeid, fh);
                none
            }
            O::Open(names, truncate, handle) => {
                let flags = libc::O_RDWR | if *truncate { libc::O_TRUNC } else { 0 };
                let (node, _) = self.walk(names)?;
                let fh = self.share.open(node, flags);
                match fh {
                    Ok(fh) => self.keep(*handle, node, fh),
                    Err(error) => {
                        self.share.forget(node, 1);
                        return Err(error);
                    }
                }
                none
            }
            O::Close(handle) => {
                if let Some((node, fh)) = self.open.remove(handle) {
                    self.share.release(node, fh)?;
                    self.share.forget(node, 1);
                }
                none
            }
            O::Write(handle, offset, byte, size) => {
                if let Some((node, fh)) = self.open.get(handle) {
                    let count = self.share.write(*node, *fh, *offset, &vec![*byte; *size])?;
                    assert_eq!(count as usize, *size);
                }
                none
            }
            O::Read(handle, offset, size) => {
                let bytes = match self.open.get(handle) {
                    Some((node, fh)) => self.share.read(*node, *fh, *offset, *size)?,
                    None => Vec::new(),
                };
                Seen { bytes, ..none }
            }
            O::Punch(handle, offset, size) => {
                if let Some(open) = self.open.get(handle) {
                    self.share
                        .fallocate(*open, punch().bits(), *offset, *size)?;
                }
                none
            }
            O::Stat(names) => {
                let attr = self.on(names, |g, node| g.getattr(node))?;
                let stat = Some(summary(attr.mode, attr.nlink, attr.size));
                Seen { stat, ..none }
            }
            O::Mkdir(names, mode) => {
                let entry = self.within(names, |g, dir, name| g.mkdir(dir, name, 0o700 | mode))?;
                self.share.forget(entry.nodeid, 1);
                none
            }
            O::Symlink(names, target) => {
                let entry = self.within(names, |g, dir, name| g.symlink(dir, name, target))?;
                self.share.forget(entry.nodeid, 1);
                none
            }
            O::Readlink(names) => {
                let bytes = self.on(names, |g, node| g.readlink(node))?;
                Seen { bytes, ..none }
            }
            O::Link(from, to) => {
                let (node, _) = self.walk(from)?;
                let linked = self.within(to, |g, dir, name| g.link(node, dir, name));
                self.share.forget(node, 1 + u64::from(linked.is_ok()));
                linked?;
                none
            }
            O::Unlink(names) => {
                self.within(names, |g, dir, name| g.unlink(dir, name))?;
                none
            }
            O::Rmdir(names) => {
                self.within(names, |g, dir, name| g.rmdir(dir, name))?;
                none
            }
            O::Rename(from, to, flags) => {
                let (old, name) = self.parent(from)?;
                let result =
                    self.within(to, |g, new, to| g.rename2((old, name), (new, to), *flags));
                self.share.forget(old, 1);
                result?;
                none
            }
            O::Truncate(names, size) => {
                self.on(names, |g, node| g.truncate(node, *size))?;
                none
            }
            O::Chmod(names, mode) => {
                let (node, attr) = self.walk(names)?;
                let directory = attr.is_some_and(|a| a.mode & libc::S_IFMT == libc::S_IFDIR);
                let own = if directory { 0o700 } else { 0o600 };
                let result = self.share.chmod(node, own | mode);
                self.share.forget(node, 1);
                result?;
                none
            }
            O::Times(names, time) => {
                let set = boxbuild_virtiofs_client::set_times(*time, *time);
                let attr = self.on(names, |g, node| g.setattr(node, set))?;
                assert_eq!((attr.mtime, attr.mtimensec), (*time, 0));
                none
            }
            O::List(names, plus) => {
                let found = self.on(names, |g, node| g.list(node, *plus, 4096))?;
                let mut names = Vec::new();
                for entry in found {
                    self.share.forget(entry.node, 1);
                    if entry.name != b"." && entry.name != b".." {
                        names.push(entry.name);
                    }
                }
                names.sort();
                Seen { names, ..none }
            }
        })
    }
}
