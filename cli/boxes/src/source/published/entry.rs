//! Entries of the list of published boxes.

use boxbuild_host::arch::Arch;
use boxbuild_host::nearest::{TYPO, nearest};
use boxbuild_host::secret;

use super::error::PullError;
use crate::catalog::{Catalog, PublishedBox, Repository, Variant};
use crate::fetch::FetchedFile;
use crate::source::box_source::Target;
use crate::source::contents::{BoxContents, FileNames};
use crate::source::create;
use crate::store::{
    BoxFile, ContainerImage, Guest, Published, PublishedFile, Store, published_name,
};

/// A published box for one architecture.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) published: &'a PublishedBox,
    pub(super) variant: &'a Variant,
    /// The repository with its files.
    pub(super) repository: Repository,
    /// Name of the box in the store.
    pub(super) full_name: String,
}

impl<'a> Entry<'a> {
    /// Finds the box `name` for `arch` in the list. Boxes of the store are only named in the error.
    pub(super) fn find(
        catalog: &'a Catalog,
        store: &Store,
        name: &str,
        arch: Arch,
    ) -> Result<Entry<'a>, PullError> {
        let Some((published, variant)) = catalog.get(name, arch) else {
            let arches = catalog.arches(name);
            if !arches.is_empty() {
                return Err(PullError::Arch {
                    name: name.to_owned(),
                    arch,
                    arches,
                });
            }
            let mut known = store.names()?;
            known.extend(catalog.names());
            let nearest = nearest(name, known.iter().map(String::as_str), TYPO);
            return Err(PullError::Unknown {
                name: name.to_owned(),
                nearest: nearest.map(str::to_owned),
                release: create::release_for(name),
                known,
            });
        };
        Ok(Entry {
            published,
            variant,
            repository: catalog.repository(variant)?,
            full_name: published_name(name, arch),
        })
    }

    /// Returns the name of the box in the list.
    pub(super) fn name(&self) -> &'a str {
        &self.published.name
    }

    /// Returns the names of the archive with the kernel and of the disk in the repository.
    pub(super) fn files(&self) -> [&'a str; 2] {
        [&self.variant.kernel_file, &self.variant.disk_file]
    }

    /// Returns what is known of the box before it is made.
    pub(super) fn target(&self) -> Target {
        Target {
            name: self.full_name.clone(),
            arch: self.variant.arch,
            origin: secret::redact(&self.variant.source).into_owned(),
        }
    }

    /// Returns the properties of the box, with files that are not there yet: their sizes are 0.
    pub(super) fn contents(&self) -> BoxContents {
        let names = FileNames::of(self.variant.arch);
        let file = |name: String| BoxFile {
            name,
            size: 0,
            sha256: String::new(),
        };
        BoxContents {
            kernel: file(names.kernel),
            initrd: file(names.initrd),
            disk: file(names.disk),
            disk_size: 0,
            cmdline: self.variant.cmdline.clone(),
            console: self.published.console.clone(),
            guest: Guest::Compat,
            kiwi: None,
            memory_mib: self.published.memory_mib,
            cpus: self.published.cpus,
            container: Some(self.variant.container.clone())
                .filter(|name| !name.is_empty())
                .map(|registry| ContainerImage::Registry { registry }),
            inventory: None,
            published: None,
        }
    }

    /// Returns the record of the files that the box was fetched from: the archive with the kernel,
    /// and the disk.
    pub(super) fn record(&self, fetched: &[FetchedFile; 2]) -> Published {
        let [kernel_name, disk_name] = self.files();
        let [kernel, disk] = fetched;
        let file = |name: &str, fetched: &FetchedFile| PublishedFile {
            url: self.repository.file(name).to_string(),
            size: fetched.size,
            sha256: fetched.sha256.clone(),
            sha512: fetched.sha512.clone(),
        };
        let record = Published {
            name: self.name().to_owned(),
            source: self.repository.to_string(),
            kernel: file(kernel_name, kernel),
            disk: file(disk_name, disk),
        };
        // It goes into files that are kept and shared; what is fetched is in the list.
        record.redacted()
    }
}
