//! What a fetch would refuse, as far as that can be told without the network.

use boxbuild_host::secret;

use super::entry::Entry;
use super::error::PullError;
use super::kiwi_cache::KiwiCache;
use super::puller::{Found, State, damaged, find};
use super::request::{Freshness, PullRequest};
use crate::catalog::Catalog;
use crate::store::{InstalledBox, Store};

/// Checks whether [`super::ensure`] can have the box. Returns what it would tell the user first.
///
/// # Errors
/// Fails with the error of [`super::ensure`], if that needs no network.
pub fn check(store: &Store, request: &PullRequest<'_>) -> Result<Vec<String>, PullError> {
    let (name, arch, state) = match find(store, request)? {
        Found::Unpublished(installed) => {
            if let Some(locked) = request.locked {
                locked.check(&installed)?;
            }
            return Ok(Vec::new());
        }
        Found::Published { name, arch, state } => (name, arch, state),
    };
    let catalog = Catalog::of_user(request.config)?;
    let entry = Entry::find(&catalog, store, &name, arch)?;
    let mut notes: Vec<String> = catalog.note().into_iter().collect();
    let will_do = match &state {
        State::Installed(installed) => will_do(installed, &entry, request),
        State::Missing => Some(KiwiCache::find(store, &entry).is_some()),
        State::Damaged(problem) => {
            notes.push(damaged(&name, problem));
            Some(KiwiCache::find(store, &entry).is_some())
        }
    };
    if request.freshness == Freshness::Offline && will_do == Some(false) {
        return Err(PullError::Offline(entry.name().to_owned()));
    }
    if will_do == Some(false) {
        notes.extend(entry.repository.note());
    }
    Ok(notes)
}

/// Whether an installed box will do; `None` if only the network can tell.
fn will_do(installed: &InstalledBox, entry: &Entry<'_>, request: &PullRequest<'_>) -> Option<bool> {
    let published = installed.info.published.as_ref()?;
    if let Some(locked) = request.locked {
        return Some(locked.check(installed).is_ok());
    }
    let repository = entry.repository.to_string();
    let elsewhere = secret::redact(&published.source) != secret::redact(&repository);
    match request.freshness {
        Freshness::Any | Freshness::Offline if !elsewhere => Some(true),
        Freshness::Offline | Freshness::Again => Some(false),
        Freshness::Any | Freshness::Current => None,
    }
}
