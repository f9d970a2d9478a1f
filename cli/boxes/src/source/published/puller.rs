//! Decides whether a box is fetched, and has it made.

use std::path::Path;

use boxbuild_host::arch::Arch;
use boxbuild_host::interrupt::Interrupt;
use boxbuild_host::reporter::Reporter;
use boxbuild_host::secret;

use super::entry::Entry;
use super::error::PullError;
use super::fetch_lock::{self, FetchLock};
use super::kiwi_cache::KiwiCache;
use super::request::{Freshness, PullRequest};
use super::source::FetchedBox;
use crate::catalog::{Catalog, Origin};
use crate::fetch::{Algorithm, Checksum, Client, FetchError, RetryPolicy, Route, checksum};
use crate::lock_file::LockError;
use crate::source::box_source::install;
use crate::source::error::SourceError;
use crate::store::{IfExists, InstalledBox, Published, PublishedFile, Store, StoreError};

/// Returns a box that is not fetched yet, as far as it is known, with the addresses of its files.
/// `None` if the box is installed and whole. `config` is as in [`PullRequest`]. The network is not used.
///
/// # Errors
/// Fails if the list of boxes cannot be read, does not have the box, or names a repository that
/// cannot be used.
pub fn preview(
    store: &Store,
    name: &str,
    arch: Option<Arch>,
    config: Option<&Path>,
) -> Result<Option<InstalledBox>, PullError> {
    let request = PullRequest {
        name,
        arch,
        freshness: Freshness::Any,
        locked: None,
        config,
        key: None,
    };
    let state = match find(store, &request)? {
        Found::Unpublished(_) => return Ok(None),
        Found::Published { state, .. } => state,
    };
    if matches!(state, State::Installed(_)) {
        return Ok(None);
    }
    let catalog = Catalog::of_user(config)?;
    let entry = Entry::find(&catalog, store, name, arch.unwrap_or_else(Arch::host))?;
    let addresses = entry
        .files()
        .iter()
        .map(|file| entry.repository.file(file).to_string())
        .collect();
    let dir = store.root().join(&entry.full_name);
    let target = entry.target();
    let info = entry
        .contents()
        .into_info(target.name, target.origin, target.arch, 0);
    Ok(Some(InstalledBox::prospective(dir, info, addresses)))
}

/// Returns the box that is asked for. It is fetched or updated first if necessary.
///
/// # Errors
/// Fails if the box is not installed and cannot be fetched. An installed box is then as it was.
pub fn ensure(
    store: &Store,
    request: &PullRequest<'_>,
    interrupt: &Interrupt,
    reporter: &mut dyn Reporter,
) -> Result<InstalledBox, PullError> {
    let (name, arch, state) = match find(store, request)? {
        // A box that was made on this host is not published.
        Found::Unpublished(installed) => {
            if let Some(locked) = request.locked {
                locked.check(&installed)?;
            }
            return Ok(*installed);
        }
        Found::Published { name, arch, state } => (name, arch, state),
    };
    let catalog = Catalog::of_user(request.config)?;
    let entry = Entry::find(&catalog, store, &name, arch)?;
    if let Some(note) = catalog.note() {
        reporter.note(&note);
    }
    if let State::Damaged(problem) = &state {
        reporter.note(&damaged(&name, problem));
    }
    let client = Client::new(RetryPolicy::default(), interrupt.clone())
        .map_err(|source| SourceError::Fetch { name, source })?;
    let mut puller = Puller {
        store,
        catalog: &catalog,
        entry: &entry,
        request,
        client,
        interrupt,
        reporter,
    };
    let installed = match state {
        State::Installed(installed) => Some(*installed),
        State::Missing | State::Damaged(_) => puller.adopt()?,
    };
    puller.ensure(installed)
}

/// The note about a box that is fetched again.
pub(super) fn damaged(name: &str, problem: &str) -> String {
    format!("the box {name} is damaged ({problem}) and is fetched again")
}

/// The box that a request is about.
pub(super) enum Found {
    /// One that was made on this host.
    Unpublished(Box<InstalledBox>),
    /// A published one, or one that is not installed.
    Published {
        /// Name in the list of published boxes.
        name: String,
        arch: Arch,
        state: State,
    },
}

/// A published box in the store.
pub(super) enum State {
    Installed(Box<InstalledBox>),
    Missing,
    /// It has to be fetched again; what is wrong.
    Damaged(String),
}

pub(super) fn find(store: &Store, request: &PullRequest<'_>) -> Result<Found, PullError> {
    let arch = request.arch.unwrap_or_else(Arch::host);
    match store.get_for(request.name, request.arch) {
        Ok(installed) => Ok(match &installed.info.published {
            None => Found::Unpublished(Box::new(installed)),
            Some(published) => Found::Published {
                name: published.name.clone(),
                arch: installed.info.arch,
                state: State::Installed(Box::new(installed)),
            },
        }),
        Err(StoreError::Unknown { .. }) => Ok(Found::Published {
            name: request.name.to_owned(),
            arch,
            state: State::Missing,
        }),
        Err(StoreError::Damaged { name, problem }) => {
            match name.strip_suffix(&format!(".{arch}")) {
                Some(listed)
                    if Catalog::of_user(request.config)?
                        .get(listed, arch)
                        .is_some() =>
                {
                    Ok(Found::Published {
                        name: listed.to_owned(),
                        arch,
                        state: State::Damaged(problem),
                    })
                }
                _ => Err(StoreError::Damaged { name, problem }.into()),
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether an installed box is the one with the published checksums.
fn is_current(published: &Published, checksums: &[Checksum; 2]) -> bool {
    let same = |file: &PublishedFile, checksum: &Checksum| match checksum.algorithm {
        Algorithm::Sha256 => file.sha256 == checksum.hex,
        Algorithm::Sha512 => file.sha512.as_ref() == Some(&checksum.hex),
    };
    same(&published.kernel, &checksums[0]) && same(&published.disk, &checksums[1])
}

/// Fetches one box.
struct Puller<'a> {
    store: &'a Store,
    catalog: &'a Catalog,
    entry: &'a Entry<'a>,
    request: &'a PullRequest<'a>,
    client: Client,
    interrupt: &'a Interrupt,
    reporter: &'a mut dyn Reporter,
}

impl Puller<'_> {
    fn name(&self) -> &str {
        self.entry.name()
    }

    /// The error for a fetch that failed.
    fn failed(&self, source: FetchError) -> PullError {
        PullError::Source(SourceError::Fetch {
            name: self.name().to_owned(),
            source,
        })
    }

    /// Makes the box of the files in kiwi's cache, if they are there and whole.
    fn adopt(&mut self) -> Result<Option<InstalledBox>, PullError> {
        let Some(cache) = KiwiCache::find(self.store, self.entry) else {
            return Ok(None);
        };
        self.reporter.begin("check kiwi's cache");
        let replace = IfExists::Replace;
        match install(self.store, &cache, replace, self.interrupt, self.reporter) {
            Ok(installed) => {
                self.reporter.finish(true);
                Ok(Some(installed))
            }
            Err(SourceError::Unusable(reason)) => {
                self.reporter.note(&reason);
                self.reporter.finish(false);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the installed box if it will do, and fetches the box otherwise.
    fn ensure(&mut self, installed: Option<InstalledBox>) -> Result<InstalledBox, PullError> {
        if let Some(installed) = installed
            && self.will_do(&installed)?
        {
            return Ok(installed);
        }
        if self.request.freshness == Freshness::Offline {
            return Err(PullError::Offline(self.name().to_owned()));
        }
        self.pull()
    }

    /// Whether an installed box is as new as the request wants it, from the right repository.
    fn will_do(&mut self, installed: &InstalledBox) -> Result<bool, PullError> {
        let Some(published) = &installed.info.published else {
            return Ok(true);
        };
        if let Some(locked) = self.request.locked {
            return match locked.check(installed) {
                Err(error @ LockError::Changed(_)) => Err(error.into()),
                // The lock file decides, not the version that is published today.
                result => Ok(result.is_ok()),
            };
        }
        let repository = self.entry.repository.to_string();
        // Records have no secrets; older ones may.
        let elsewhere = secret::redact(&published.source) != secret::redact(&repository);
        let freshness = self.request.freshness;
        let good = match freshness {
            Freshness::Any | Freshness::Offline if !elsewhere => true,
            Freshness::Offline | Freshness::Again => false,
            Freshness::Any | Freshness::Current => match self.checksums(Route::Mirrors) {
                Ok(checksums) if is_current(published, &checksums) => {
                    fetch_lock::clear(self.store, &self.entry.full_name);
                    true
                }
                // What builds were told to keep is not thrown away unasked.
                Ok(_) if installed.changed.is_some() && !elsewhere => {
                    let name = &installed.info.name;
                    self.reporter.note(&format!(
                        "there is a newer box {name}, which is not fetched, because builds with \
                         --no-snapshot have written into this one: 'boxbuild box reset {name}' undoes \
                         that, 'boxbuild box pull --force {name}' fetches the newer one"
                    ));
                    true
                }
                Ok(_) => false,
                Err(error) if elsewhere || matches!(error, FetchError::Interrupted) => {
                    return Err(self.failed(error));
                }
                Err(error) => {
                    self.reporter.note(&format!(
                        "cannot look for a newer box {} ({error}): the one that is here is used",
                        self.name()
                    ));
                    true
                }
            },
        };
        match &self.catalog.origin {
            Origin::WorkingFolder(file)
                if !good && elsewhere && freshness != Freshness::Offline =>
            {
                Err(PullError::Hijack {
                    name: self.name().to_owned(),
                    installed: published.source.clone(),
                    file: file.display().to_string(),
                    listed: repository,
                })
            }
            _ => Ok(good),
        }
    }

    /// Returns the published checksums of the archive with the kernel and of the disk.
    fn checksums(&self, route: Route) -> Result<[Checksum; 2], FetchError> {
        let [kernel, disk] = self.entry.files();
        let key = self.request.key.as_ref();
        let get = |name| checksum(&self.client, &self.entry.repository, name, route, key);
        Ok([get(kernel)?, get(disk)?])
    }

    /// Fetches the box, or waits for the process that does.
    fn pull(&mut self) -> Result<InstalledBox, PullError> {
        if let Some(note) = self.entry.repository.note() {
            self.reporter.note(&note);
        }
        let name = &self.entry.full_name;
        let Some(lock) = FetchLock::take(self.store, name, self.interrupt, self.reporter)? else {
            return Err(self.failed(FetchError::Interrupted));
        };
        self.reporter.begin(&format!("fetch {}", self.name()));
        let result = self.pull_locked(&lock);
        self.reporter.finish(result.is_ok());
        let installed = result?;
        lock.done();
        Ok(installed)
    }

    /// Fetches the box over mirrors, and past them if those have other files.
    fn pull_locked(&mut self, lock: &FetchLock) -> Result<InstalledBox, PullError> {
        let source = match self.attempt(lock, Route::Mirrors) {
            Err(PullError::Source(SourceError::Fetch { source, .. }))
                if source.may_be_a_mirrors() =>
            {
                source
            }
            other => return other,
        };
        self.reporter
            .note(&format!("{source}: trying again, past the mirrors"));
        match self.attempt(lock, Route::Canonical) {
            // The server behind the mirrors cannot be reached: the mirror's error tells more.
            Err(PullError::Source(SourceError::Fetch {
                source: FetchError::Network { .. },
                ..
            })) => Err(self.failed(source)),
            other => other,
        }
    }

    fn attempt(&mut self, lock: &FetchLock, route: Route) -> Result<InstalledBox, PullError> {
        let checksums = self.checksums(route).map_err(|error| self.failed(error))?;
        if let Some(locked) = self.request.locked {
            locked.check_published(&self.entry.full_name, &checksums)?;
        }
        if self.request.freshness != Freshness::Again
            && let Ok(installed) = self.store.get(&self.entry.full_name)
            && let Some(published) = &installed.info.published
            && is_current(published, &checksums)
        {
            // Another process was faster, perhaps with another repository.
            return Ok(installed);
        }
        let source = FetchedBox {
            entry: self.entry,
            client: &self.client,
            route,
            checksums: &checksums,
            dir: lock.dir(),
        };
        let replace = IfExists::Replace;
        Ok(install(
            self.store,
            &source,
            replace,
            self.interrupt,
            self.reporter,
        )?)
    }
}
