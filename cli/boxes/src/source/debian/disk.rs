//! A disk from a root tree, for boxes that are imported.

use std::ffi::OsString;
use std::path::Path;

use super::command::Runner;
use super::host::Host;
use super::rootfs::{format_disk, namespace};
use super::{CreateError, Work};
use boxbuild_host::interrupt::Interrupt;

/// A host that can make disks.
#[derive(Debug)]
pub(crate) struct DiskMaker<'a> {
    host: Host,
    interrupt: &'a Interrupt,
}

impl<'a> DiskMaker<'a> {
    /// Checks what that needs of this host.
    ///
    /// # Errors
    /// If something is missing; the error says how to get it.
    pub(crate) fn new(interrupt: &'a Interrupt) -> Result<DiskMaker<'a>, CreateError> {
        Ok(DiskMaker {
            host: Host::examine_for_disk()?,
            interrupt,
        })
    }

    /// Makes `disk.raw` of `root.tar`, both in the folder `dir`: `size` bytes, one partition.
    /// `root.tar` goes.
    ///
    /// # Errors
    /// If a program fails: the tree does not fit, for example.
    pub(crate) fn make_disk(&self, dir: &Path, size: u64) -> Result<(), CreateError> {
        let runner = Runner::new(&self.host, self.interrupt);
        let work = Work {
            dir: dir.to_owned(),
            runner: &runner,
        };
        format_disk(&work, &self.host, size, "")
    }

    /// Packs the folder `from` to the archive `to`. What belongs to the caller belongs to root in
    /// the archive.
    ///
    /// # Errors
    /// If a program fails: a file cannot be read, for example.
    pub(crate) fn pack_folder(&self, from: &Path, to: &Path) -> Result<(), CreateError> {
        let runner = Runner::new(&self.host, self.interrupt);
        let mut args = namespace(&self.host);
        args.extend(
            [
                "tar",
                "--numeric-owner",
                "--xattrs",
                "--xattrs-include=*",
                "--format=pax",
                "--one-file-system",
                "-cf",
            ]
            .map(OsString::from),
        );
        args.extend([to.into(), "-C".into(), from.into(), ".".into()]);
        let program = args.remove(0).to_string_lossy().into_owned();
        Ok(runner.run(&program, args, &[])?)
    }
}
