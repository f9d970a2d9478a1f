//! Published boxes: fetched when they are missing, updated when they are old, and left alone
//! otherwise.
//!
//! One process fetches a box at a time; others that want it wait and then use what it fetched.
//! Files grow in `ROOT/.fetch-NAME.ARCH/`, which outlives a killed process, and is gone when the
//! box is published.

mod fetch_lock;
mod install;
mod kiwi_cache;

use boxbuild_host::error::{Classify, ErrorClass};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use crate::catalog::{Catalog, CatalogError, Origin, PublishedBox, Source, SourceError, Variant};
use crate::fetch::{
    self, Algorithm, Checksum, Client, Destination, FetchError, Fetched, Job, Key, Meter, Patience,
    Route, SignatureError, checksum,
};
use crate::lock_file::{LockError, Locked};
use crate::store::{
    BoxInfo, Guest, InstalledBox, Part, Published, Staging, Store, StoreError, published_name,
};
use boxbuild_host::arch::Arch;
use boxbuild_host::interrupt::Interrupt;
use boxbuild_host::reporter::Reporter;

use fetch_lock::FetchLock;
pub(crate) use install::empty_initrd;

/// How often progress is shown while bytes arrive.
const TICK: Duration = Duration::from_millis(100);

/// How new a box must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// As new as what is published.
    Current,
    /// Any: it is fetched if it is missing, and else used as it is.
    Any,
    /// What is there: nothing is asked of the network.
    Offline,
    /// Fetched anew, whatever is there.
    Again,
}

/// What is asked for.
#[derive(Debug)]
pub struct Request<'a> {
    /// Name of the box.
    pub name: &'a str,
    /// Its architecture; the host's unless said.
    pub arch: Option<Arch>,
    /// How new it must be.
    pub freshness: Freshness,
    /// What it must consist of.
    pub locked: Option<&'a Locked>,
    /// The key that checksums must be signed by.
    pub key: Option<Key>,
}

/// A box cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The list of published boxes.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Where the box is published.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The key.
    #[error(transparent)]
    Key(#[from] SignatureError),
    /// The lock file.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The network, or what came over it.
    #[error("cannot fetch the box '{name}'")]
    Fetch {
        /// Name of the box.
        name: String,
        /// What happened.
        #[source]
        source: FetchError,
    },
    /// No such box.
    #[error("there is no box '{name}'{}; there are: {}", hint(.nearest), .known.join(", "))]
    Unknown {
        /// As typed.
        name: String,
        /// Installed and published boxes.
        known: Vec<String>,
        /// The name that was probably meant.
        nearest: Option<String>,
    },
    /// Not for this architecture.
    #[error("the box '{name}' is not published for {arch}, but for {}", names(.arches))]
    Arch {
        /// Name of the box.
        name: String,
        /// As wanted.
        arch: Arch,
        /// As published.
        arches: Vec<Arch>,
    },
    /// It would have to be fetched.
    #[error(
        "the box '{0}' is not on this machine, and --offline fetches nothing: run 'boxbuild box \
         pull {0}' where there is a network"
    )]
    Offline(String),
    /// The list in the working folder wants to replace a box that came from elsewhere.
    #[error(
        "the box '{name}' on this machine comes from {installed}, and {file} in this folder would \
         replace it by one from {wanted}: if that is what you want, name the file with \
         KIWI_BOXED_PLUGIN_CFG"
    )]
    Hijack {
        /// Name of the box.
        name: String,
        /// Its source.
        installed: String,
        /// The file that names another.
        file: String,
        /// That one.
        wanted: String,
    },
    /// The disk is none.
    #[error("the disk of the box '{name}' cannot be used, though it is what is published")]
    Disk {
        /// Name of the box.
        name: String,
        /// What is wrong.
        #[source]
        source: boxbuild_vmm::disk::ImageError,
    },
    /// A file operation failed.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Classify for PullError {
    fn class(&self) -> ErrorClass {
        match self {
            PullError::Unknown { .. }
            | PullError::Arch { .. }
            | PullError::Hijack { .. }
            | PullError::Catalog(_)
            | PullError::Source(_)
            | PullError::Key(_)
            | PullError::Lock(_)
            | PullError::Store(StoreError::Unknown { .. } | StoreError::BadName(_)) => {
                ErrorClass::Usage
            }
            PullError::Fetch {
                source: FetchError::Interrupted,
                ..
            } => ErrorClass::Interrupted,
            _ => ErrorClass::Host,
        }
    }
}

fn hint(nearest: &Option<String>) -> String {
    nearest
        .as_ref()
        .map(|name| format!("; did you mean '{name}'?"))
        .unwrap_or_default()
}

fn names(arches: &[Arch]) -> String {
    let names: Vec<_> = arches.iter().map(|arch| arch.name()).collect();
    names.join(", ")
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> PullError {
    let path = path.to_owned();
    move |source| PullError::Io {
        action,
        path,
        source,
    }
}

/// A published box that is wanted.
#[derive(Debug)]
struct Wanted<'a> {
    published: &'a PublishedBox,
    variant: &'a Variant,
    source: Source,
    /// Its name in the store.
    full_name: String,
}

impl<'a> Wanted<'a> {
    fn find(
        catalog: &'a Catalog,
        store: &Store,
        name: &str,
        arch: Arch,
    ) -> Result<Self, PullError> {
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
            let nearest = known
                .iter()
                .map(|known| (strsim::damerau_levenshtein(known, name), known))
                .min()
                .filter(|(distance, _)| *distance <= 2)
                .map(|(_, known)| known.clone());
            return Err(PullError::Unknown {
                name: name.to_owned(),
                known,
                nearest,
            });
        };
        Ok(Wanted {
            published,
            variant,
            source: catalog.source(variant)?,
            full_name: published_name(name, arch),
        })
    }

    /// Names of the kernel's archive and of the disk.
    fn files(&self) -> [&str; 2] {
        [&self.variant.kernel_file, &self.variant.disk_file]
    }

    /// What is known of the box before it is there.
    fn info(&self) -> BoxInfo {
        let file = |name: String| crate::store::BoxFile {
            name,
            size: 0,
            sha256: String::new(),
        };
        let arch = self.variant.arch;
        BoxInfo {
            format: BoxInfo::FORMAT,
            name: self.full_name.clone(),
            origin: self.variant.source.clone(),
            arch,
            created: 0,
            kernel: file(format!("kernel.{arch}")),
            initrd: file(format!("initrd.{arch}")),
            disk: file(format!("system.{arch}.qcow2")),
            disk_size: 0,
            cmdline: self.variant.cmdline.clone(),
            console: self.published.console.clone(),
            guest: Guest::Compat,
            kiwi: None,
            memory_mib: self.published.memory_mib,
            cpus: self.published.cpus,
            container: Some(self.variant.container.clone())
                .filter(|name| !name.is_empty())
                .map(|registry| crate::store::ContainerImage::Registry { registry }),
            published: None,
        }
    }
}

/// Whether what is installed is what is published.
fn is_current(published: &Published, checksums: &[Checksum; 2]) -> bool {
    let same = |part: &Part, checksum: &Checksum| match checksum.algorithm {
        Algorithm::Sha256 => part.sha256 == checksum.hex,
        Algorithm::Sha512 => part.sha512.as_ref() == Some(&checksum.hex),
    };
    same(&published.kernel, &checksums[0]) && same(&published.disk, &checksums[1])
}

/// A box that is not fetched, as far as it is known, with the addresses of what would be fetched;
/// `None` if the box is on this machine or is none of the published ones. The network is not used.
///
/// # Errors
/// If the list of boxes cannot be had, or its box has no usable source.
pub fn preview(
    store: &Store,
    name: &str,
    arch: Option<Arch>,
) -> Result<Option<InstalledBox>, PullError> {
    if store.find(name, arch).is_some() {
        return Ok(None);
    }
    let catalog = Catalog::of_user()?;
    let wanted = Wanted::find(&catalog, store, name, arch.unwrap_or_else(Arch::host))?;
    let addresses = wanted
        .files()
        .iter()
        .map(|file| wanted.source.file(file).to_string())
        .collect();
    let dir = store.root().join(&wanted.full_name);
    Ok(Some(InstalledBox::prospective(
        dir,
        wanted.info(),
        addresses,
    )))
}

/// Hands over a box, which is fetched or updated first where that is necessary.
///
/// # Errors
/// If the box is not there and cannot be had. A box that is there stays as it was.
pub fn ensure(
    store: &Store,
    request: &Request<'_>,
    interrupt: &Interrupt,
    progress: &mut dyn Reporter,
) -> Result<InstalledBox, PullError> {
    let arch = request.arch.unwrap_or_else(Arch::host);
    let found = store.get_for(request.name, request.arch);
    // Boxes of this machine's own making have nothing to do with the published ones.
    let (name, arch, installed, damage) = match found {
        Ok(installed) => match &installed.info.published {
            None => return own(installed, request),
            Some(published) => (
                published.name.clone(),
                installed.info.arch,
                Some(installed),
                None,
            ),
        },
        Err(StoreError::Unknown { .. }) => (request.name.to_owned(), arch, None, None),
        Err(StoreError::Damaged { name, problem }) => {
            let base = name.strip_suffix(&format!(".{arch}")).map(str::to_owned);
            match base {
                Some(base) if Catalog::of_user()?.get(&base, arch).is_some() => {
                    (base, arch, None, Some(problem))
                }
                _ => return Err(StoreError::Damaged { name, problem }.into()),
            }
        }
        Err(error) => return Err(error.into()),
    };
    let catalog = Catalog::of_user()?;
    let wanted = Wanted::find(&catalog, store, &name, arch)?;
    if let Some(note) = catalog.note() {
        progress.note(&note);
    }
    if let Some(problem) = damage {
        progress.note(&format!(
            "the box {name} is damaged ({problem}) and is fetched again"
        ));
    }
    let mut puller = Puller {
        store,
        catalog: &catalog,
        wanted,
        request,
        client: Client::new(Patience::default(), interrupt.clone()).map_err(|source| {
            PullError::Fetch {
                name: name.clone(),
                source,
            }
        })?,
        interrupt,
        progress,
    };
    let installed = match installed {
        Some(installed) => Some(installed),
        None => puller.adopt()?,
    };
    puller.ensure(installed)
}

/// A box that is not published, and what the lock file says of it.
fn own(installed: InstalledBox, request: &Request<'_>) -> Result<InstalledBox, PullError> {
    if let Some(locked) = request.locked {
        locked.check(&installed)?;
    }
    Ok(installed)
}

/// Fetches one box.
struct Puller<'a> {
    store: &'a Store,
    catalog: &'a Catalog,
    wanted: Wanted<'a>,
    request: &'a Request<'a>,
    client: Client,
    interrupt: &'a Interrupt,
    progress: &'a mut dyn Reporter,
}

impl Puller<'_> {
    fn name(&self) -> &str {
        &self.wanted.published.name
    }

    fn failed(&self, source: FetchError) -> PullError {
        PullError::Fetch {
            name: self.name().to_owned(),
            source,
        }
    }

    /// Hands over what is there if that is good enough, and fetches the box otherwise.
    fn ensure(&mut self, installed: Option<InstalledBox>) -> Result<InstalledBox, PullError> {
        if let Some(installed) = installed
            && self.is_good_enough(&installed)?
        {
            return Ok(installed);
        }
        if self.request.freshness == Freshness::Offline {
            return Err(self.offline());
        }
        self.pull()
    }

    /// Whether what is there is what is asked for.
    fn is_good_enough(&mut self, installed: &InstalledBox) -> Result<bool, PullError> {
        let Some(published) = &installed.info.published else {
            return Ok(true);
        };
        if let Some(locked) = self.request.locked {
            // The lock file decides, not what is published today.
            return Ok(locked.check(installed).is_ok());
        }
        let elsewhere = published.source != self.wanted.source.to_string();
        let good = match self.request.freshness {
            Freshness::Any | Freshness::Offline if !elsewhere => true,
            Freshness::Offline | Freshness::Again => false,
            Freshness::Any | Freshness::Current => match self.checksums(Route::Mirrors) {
                Ok(checksums) => {
                    let current = is_current(published, &checksums);
                    if current {
                        fetch_lock::clear(self.store, &self.wanted.full_name);
                    }
                    current
                }
                Err(error) if elsewhere || matches!(error, FetchError::Interrupted) => {
                    return Err(self.failed(error));
                }
                Err(error) => {
                    self.progress.note(&format!(
                        "cannot look for a newer box {} ({error}): the one that is here is used",
                        self.name()
                    ));
                    true
                }
            },
        };
        match &self.catalog.origin {
            Origin::WorkingFolder(file)
                if !good && elsewhere && self.request.freshness != Freshness::Offline =>
            {
                Err(PullError::Hijack {
                    name: self.name().to_owned(),
                    installed: published.source.clone(),
                    file: file.display().to_string(),
                    wanted: self.wanted.source.to_string(),
                })
            }
            _ => Ok(good),
        }
    }

    fn offline(&self) -> PullError {
        PullError::Offline(self.name().to_owned())
    }

    /// The checksums of kernel archive and disk, as published now.
    fn checksums(&self, route: Route) -> Result<[Checksum; 2], FetchError> {
        let [kernel, disk] = self.wanted.files();
        let key = self.request.key.as_ref();
        let get = |name| checksum(&self.client, &self.wanted.source, name, route, key);
        Ok([get(kernel)?, get(disk)?])
    }

    /// Fetches the box, or waits for who does.
    fn pull(&mut self) -> Result<InstalledBox, PullError> {
        if let Some(note) = self.wanted.source.note() {
            self.progress.note(&note);
        }
        let lock = FetchLock::take(
            self.store,
            &self.wanted.full_name,
            self.interrupt,
            &mut |text| self.progress.note(text),
        )
        .map_err(|error| match error {
            Some(error) => error,
            None => self.failed(FetchError::Interrupted),
        })?;
        self.progress.begin(&format!("fetch {}", self.name()));
        let result = self.pull_locked(&lock);
        self.progress.finish(result.is_ok());
        let installed = result?;
        lock.done();
        Ok(installed)
    }

    fn pull_locked(&mut self, lock: &FetchLock) -> Result<InstalledBox, PullError> {
        let first = self.attempt(lock, Route::Mirrors);
        match first {
            Err(PullError::Fetch { source, .. }) if source.is_of_a_mirror() => {
                self.progress
                    .note(&format!("{source}: trying again, past the mirrors"));
                match self.attempt(lock, Route::Canonical) {
                    // The server behind the mirrors is no help.
                    Err(PullError::Fetch {
                        source: FetchError::Network { .. },
                        ..
                    }) => Err(self.failed(source)),
                    other => other,
                }
            }
            other => other,
        }
    }

    fn attempt(&mut self, lock: &FetchLock, route: Route) -> Result<InstalledBox, PullError> {
        let checksums = self.checksums(route).map_err(|error| self.failed(error))?;
        if let Some(locked) = self.request.locked {
            locked.check_published(&self.wanted.full_name, &checksums)?;
        }
        if self.request.freshness != Freshness::Again
            && let Ok(installed) = self.store.get(&self.wanted.full_name)
            && let Some(published) = &installed.info.published
            && is_current(published, &checksums)
        {
            // Another process was faster. What it fetched may have been from another source.
            return Ok(installed);
        }
        let staging = self.store.stage()?;
        let fetched = self
            .fetch(lock.dir(), &staging, route, &checksums)
            .map_err(|error| self.failed(error))?;
        self.install(lock.dir(), staging, &fetched)
    }

    /// Fetches both files at once.
    fn fetch(
        &mut self,
        dir: &Path,
        staging: &Staging,
        route: Route,
        checksums: &[Checksum; 2],
    ) -> Result<[Fetched; 2], FetchError> {
        let meter = Arc::new(Meter::default());
        let (sender, results) = mpsc::channel();
        let destination = install::kernel_destination(staging, self.wanted.variant.use_initrd);
        for (index, name) in self.wanted.files().into_iter().enumerate() {
            let job = Job {
                location: route.to(self.wanted.source.file(name)),
                fresh: route.is_fresh(),
                expected: checksums[index].clone(),
                part: dir.join(format!("{name}.part")),
                unpack: (index == 0).then(|| destination.clone()),
            };
            let (client, meter, sender) = (self.client.clone(), Arc::clone(&meter), sender.clone());
            std::thread::spawn(move || {
                // Nobody listens any more when the other file has failed for good.
                let _ = sender.send((index, fetch::fetch(&client, &job, &meter)));
            });
        }
        drop(sender);
        let mut done = [None, None];
        let mut of_a_mirror = None;
        loop {
            match results.recv_timeout(TICK) {
                Ok((index, Ok(fetched))) => done[index] = Some(fetched),
                // The other file goes on: it may be right, and is not fetched again then.
                Ok((_, Err(error))) if error.is_of_a_mirror() => {
                    of_a_mirror.get_or_insert(error);
                }
                Ok((_, Err(error))) => return Err(error),
                Err(mpsc::RecvTimeoutError::Timeout) => self.progress.report(&meter.line()),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
            if self.interrupt.count() > 0 {
                return Err(FetchError::Interrupted);
            }
        }
        match (done, of_a_mirror) {
            ([Some(kernel), Some(disk)], None) => Ok([kernel, disk]),
            (_, Some(error)) => Err(error),
            // A thread that panicked.
            _ => Err(FetchError::Client(String::from("a thread ended early"))),
        }
    }
}

/// The folder for what one process fetches is not the user's to keep: `box prune` removes it.
pub use fetch_lock::prune;

impl Puller<'_> {
    fn part(&self, name: &str, fetched: &Fetched) -> Part {
        Part {
            url: self.wanted.source.file(name).to_string(),
            size: fetched.size,
            sha256: fetched.sha256.clone(),
            sha512: fetched.sha512.clone(),
        }
    }

    fn published(&self, kernel: Part, disk: Part) -> Published {
        Published {
            name: self.name().to_owned(),
            source: self.wanted.source.to_string(),
            kernel,
            disk,
        }
    }
}

/// Where kernel and initial ramdisk are unpacked to.
fn destination(kernel: std::path::PathBuf, initrd: Option<std::path::PathBuf>) -> Destination {
    Destination { kernel, initrd }
}
