//! Caches of kiwi's own boxbuild (`ROOT/NAME/`, files of several architectures side by side).
//!
//! They are used as they are: the disk becomes a file of our box by a hard link, so that it takes
//! no space twice, and kiwi can go on with its cache, or replace it. Kernel and initial ramdisk
//! come from the archive, because kiwi writes its unpacked ones anew at every run. Both files are
//! checked against the checksums beside them first: kiwi puts files into its cache before it checks
//! them.

use std::path::{Path, PathBuf};

use boxbuild_host::digest::sha256_until;
use boxbuild_host::error::IoError;
use boxbuild_host::input;
use boxbuild_host::interrupt::Interrupt;
use boxbuild_host::stop::{StopCheck, Stopped};

use super::assemble::{DiskForm, PublishedFiles, assemble};
use super::entry::Entry;
use crate::fetch::{Algorithm, Checksum, FetchedFile};
use crate::source::box_source::{BoxSource, MakeBox, Making, Target};
use crate::source::contents::BoxContents;
use crate::source::error::{CommandError, SourceError};
use crate::store::Store;

/// A box of the files in kiwi's cache.
#[derive(Debug)]
pub(super) struct KiwiCache<'a> {
    entry: &'a Entry<'a>,
    /// The archive with the kernel.
    kernel: PathBuf,
    disk: PathBuf,
}

impl<'a> KiwiCache<'a> {
    /// Finds the files of a box in kiwi's cache.
    pub(super) fn find(store: &Store, entry: &'a Entry<'a>) -> Option<KiwiCache<'a>> {
        let dir = store.root().join(entry.name());
        let [kernel, disk] = entry.files().map(|name| dir.join(name));
        (kernel.is_file() && disk.is_file()).then_some(KiwiCache {
            entry,
            kernel,
            disk,
        })
    }

    /// Makes the box of the cache's files. Fails with [`SourceError::Unusable`] if they do not match their
    /// checksums.
    fn make(&self, making: &mut Making<'_>) -> Result<BoxContents, SourceError> {
        let checked = [
            check(&self.kernel, making.interrupt)?,
            check(&self.disk, making.interrupt)?,
        ];
        let files = PublishedFiles {
            archive: &self.kernel,
            disk: &self.disk,
            fetched: &checked,
        };
        assemble(self.entry, making, &files, DiskForm::AsIs)
    }
}

impl BoxSource for KiwiCache<'_> {
    fn target(&self) -> Target {
        self.entry.target()
    }

    fn prepare(&self) -> Result<MakeBox<'_>, SourceError> {
        Ok(Box::new(|making| self.make(making)))
    }
}

/// Checks a file against the checksum file beside it.
fn check(path: &Path, interrupt: &Interrupt) -> Result<FetchedFile, SourceError> {
    let mut sum = path.to_owned().into_os_string();
    sum.push(".sha256");
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let published = input::read_text(Path::new(&sum))
        .ok()
        .and_then(|text| Checksum::parse(&text, &name, Algorithm::Sha256).ok());
    let mut file = input::open(path).map_err(IoError::on("open", path))?;
    let stop = StopCheck::new(interrupt, None);
    let (size, found) =
        sha256_until(&mut file, &stop).map_err(|error| match Stopped::of(&error) {
            Some(_) => CommandError::Interrupted.into(),
            None => SourceError::from(IoError::on("read", path)(error)),
        })?;
    if published.is_none_or(|published| published.hex != found) {
        return Err(SourceError::Unusable(format!(
            "{} does not match {}: kiwi's cache is left as it is, and not used",
            path.display(),
            sum.display()
        )));
    }
    Ok(FetchedFile {
        size,
        sha256: found,
        sha512: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hashing a disk of gigabytes went on after Ctrl-C.
    #[test]
    fn an_interrupt_ends_the_check_of_a_large_disk() {
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("disk");
        let file = std::fs::File::create(&disk).unwrap();
        file.set_len(1 << 40).unwrap();
        let interrupt = Interrupt::default();
        interrupt.request();
        let error = check(&disk, &interrupt).unwrap_err();
        assert!(matches!(
            error,
            SourceError::Command(CommandError::Interrupted)
        ));
    }
}
