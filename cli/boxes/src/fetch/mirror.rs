//! Checksum files, and the two routes to a publisher's files: over mirrors, and past them.
//!
//! A mirror may be hours behind, have some files of a new version and not the others, or lack one.
//! The publisher's own server has them all: it is asked once when a mirror's files do not match.

use std::io;

use boxbuild_host::error::IoError;
use boxbuild_host::input;

use super::checksum::{Algorithm, Checksum};
use super::error::FetchError;
use super::http::{Client, LARGEST_SMALL_FILE};
use super::signature::{Key, SignatureError};
use crate::catalog::{Location, Repository};

/// openSUSE's redirector, and its server that never redirects.
const REDIRECTOR: &str = "download.opensuse.org";
const NO_MIRRORS: &str = "downloadcontent.opensuse.org";

/// Makes other redirectors of that kind (MirrorCache) choose only mirrors that have the file.
const PEDANTIC: &str = "PEDANTIC=1";

/// The route to a publisher's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// The published address; a redirector may choose a mirror.
    Mirrors,
    /// The publisher's own server, bypassing caches.
    Canonical,
}

impl Route {
    /// Returns the address of the file at `location` on this route.
    pub fn apply(self, location: Location) -> Location {
        match (self, location) {
            (Route::Canonical, Location::Web(mut url)) => {
                if url.host_str() == Some(REDIRECTOR) && url.set_host(Some(NO_MIRRORS)).is_ok() {
                    let _ = url.set_scheme("https");
                } else {
                    url.set_query(Some(PEDANTIC));
                }
                Location::Web(url)
            }
            (_, location) => location,
        }
    }

    /// Whether caches are bypassed.
    pub fn bypasses_caches(self) -> bool {
        self == Route::Canonical
    }
}

/// Fetches the checksum file of the file `name`, and returns the checksum in it. If there is a
/// `key`, the checksum file must be signed by it.
///
/// # Errors
/// Fails if there is no checksum file, or if it has no checksum or no good signature.
pub fn checksum(
    client: &Client,
    repository: &Repository,
    name: &str,
    route: Route,
    key: Option<&Key>,
) -> Result<Checksum, FetchError> {
    let mut missing = None;
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let file = format!("{name}.{}", algorithm.extension());
        let location = route.apply(repository.file(&file));
        let text = match text(client, &location, route) {
            Ok(text) => text,
            Err(error @ FetchError::NotFound { .. }) => {
                missing.get_or_insert(error);
                continue;
            }
            Err(error) => return Err(error),
        };
        let text = match key {
            None => text,
            Some(key) => verified(client, repository, &file, route, key, &text)?,
        };
        let parsed = match key {
            None => Checksum::parse(&text, name, algorithm),
            // What is signed must say what it is for: a mirror may serve another box's.
            Some(_) => Checksum::parse_named(&text, name, algorithm),
        };
        return parsed.map_err(|error| FetchError::Checksum {
            location: location.to_string(),
            source: error,
        });
    }
    Err(missing.unwrap_or_else(|| FetchError::NotFound {
        location: repository.file(name).to_string(),
        answer: String::from("no checksum file"),
    }))
}

/// Returns the part of a checksum file that `key` has signed.
fn verified(
    client: &Client,
    repository: &Repository,
    file: &str,
    route: Route,
    key: &Key,
    signed: &str,
) -> Result<String, FetchError> {
    let detached = match text(
        client,
        &route.apply(repository.file(&format!("{file}.asc"))),
        route,
    ) {
        Ok(signature) => Some(signature),
        Err(FetchError::NotFound { .. }) => None,
        Err(error) => return Err(error),
    };
    key.verified(signed, detached.as_deref(), file)
        .map_err(|error: SignatureError| FetchError::Signature {
            location: repository.file(file).to_string(),
            source: error,
        })
}

/// Returns the text of a small file.
fn text(client: &Client, location: &Location, route: Route) -> Result<String, FetchError> {
    match location {
        Location::Web(url) => client.text(url, route.bypasses_caches()),
        Location::File(path) => match input::read(path, LARGEST_SMALL_FILE) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(FetchError::NotFound {
                location: location.to_string(),
                answer: String::from("no such file"),
            }),
            Err(error) => Err(IoError::on("read", path)(error).into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_canonical_route_goes_past_the_mirrors() {
        let to = |text: &str| {
            let location = Location::Web(text.parse().unwrap());
            Route::Canonical.apply(location).to_string()
        };
        assert_eq!(
            to("http://download.opensuse.org/repositories/A:/B/images/x"),
            "https://downloadcontent.opensuse.org/repositories/A:/B/images/x"
        );
        assert_eq!(
            to("https://obs.example/x"),
            "https://obs.example/x?PEDANTIC=1"
        );
        let file = Location::File("/srv/x".into());
        assert_eq!(Route::Canonical.apply(file.clone()), file);
    }
}
