//! Caches of kiwi's own boxbuild (`ROOT/NAME/`, files of several architectures side by side).
//!
//! They are used as they are: the disk becomes a file of our box by a hard link, so that it takes
//! no place twice, and kiwi can go on with its cache, or replace it. Kernel and initial ramdisk
//! come from the archive, because kiwi writes its unpacked ones anew at every run. Before that,
//! both files are checked against the checksums beside them: kiwi puts files into its cache
//! before it checks them.

use std::fs::{self, File};

use super::{Algorithm, Checksum, PullError, Puller, install, io_error};
use crate::fetch::{self, Fetched};
use crate::store::InstalledBox;
use boxbuild_host::digest::sha256;

impl Puller<'_> {
    /// The box from kiwi's cache, if it is there and whole.
    pub(super) fn adopt(&mut self) -> Result<Option<InstalledBox>, PullError> {
        let dir = self.store.root().join(&self.wanted.published.name);
        let [kernel, disk] = self.wanted.files();
        let (kernel, disk) = (dir.join(kernel), dir.join(disk));
        if !kernel.is_file() || !disk.is_file() {
            return Ok(None);
        }
        self.progress.begin("check kiwi's cache");
        let mut checked = Vec::new();
        for path in [&kernel, &disk] {
            let mut sum = path.clone().into_os_string();
            sum.push(".sha256");
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let published = fs::read_to_string(&sum)
                .ok()
                .and_then(|text| Checksum::parse(&text, &name, Algorithm::Sha256).ok());
            let mut file = File::open(path).map_err(io_error("open", path))?;
            let (size, found) = sha256(&mut file).map_err(io_error("read", path))?;
            if published.is_none_or(|published| published.hex != found) {
                self.progress.note(&format!(
                    "{} is not what {} says: kiwi's cache is left as it is, and not used",
                    path.display(),
                    sum.display()
                ));
                self.progress.finish(false);
                return Ok(None);
            }
            checked.push(Fetched {
                size,
                sha256: found,
                sha512: None,
                unpacked: None,
            });
        }
        let [kernel_name, disk_name] = self.wanted.files();
        let parts = [
            self.part(kernel_name, &checked[0]),
            self.part(disk_name, &checked[1]),
        ];
        let staging = self.store.stage()?;
        let destination = install::kernel_destination(&staging, self.wanted.variant.use_initrd);
        let unpacked = match fetch::unpack_file(&kernel, &destination) {
            Ok(unpacked) => unpacked,
            Err(error) => {
                self.progress.note(&format!(
                    "{} of kiwi's cache is not used: {error}",
                    kernel.display()
                ));
                self.progress.finish(false);
                return Ok(None);
            }
        };
        let installed = self.publish(staging, Some(&unpacked), &disk, parts, false)?;
        self.progress.finish(true);
        Ok(Some(installed))
    }
}
