//! Checksum files, and the two ways to a publisher's files: over mirrors, and past them.
//!
//! A mirror may be hours behind, have some files of a new set and not the others, or lack one.
//! The publisher's own server has them all: it is asked once when what a mirror has does not fit.

use std::fs;
use std::io;

use super::checksum::{Algorithm, Checksum};
use super::http::Client;
use super::signature::{Key, SignatureError};
use super::{FetchError, io_error};
use crate::catalog::{Location, Source};

/// openSUSE's redirector, and its server that never redirects.
const REDIRECTOR: &str = "download.opensuse.org";
const NO_MIRRORS: &str = "downloadcontent.opensuse.org";

/// Asks other redirectors of that kind (MirrorCache) to send only to who has the file.
const PEDANTIC: &str = "PEDANTIC=1";

/// How a publisher's files are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// As everybody does; a redirector may choose a mirror.
    Mirrors,
    /// From the publisher's own server, past caches.
    Canonical,
}

impl Route {
    /// Where `location` is on this route.
    pub fn to(self, location: Location) -> Location {
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

    /// Caches on the way are asked for the server's own copy.
    pub fn is_fresh(self) -> bool {
        self == Route::Canonical
    }
}

/// The published checksum of the file `name`; signed by `key`, if there is one.
///
/// # Errors
/// If there is no checksum file, or it is not one, or not signed.
pub fn checksum(
    client: &Client,
    source: &Source,
    name: &str,
    route: Route,
    key: Option<&Key>,
) -> Result<Checksum, FetchError> {
    let mut missing = None;
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let file = format!("{name}.{}", algorithm.extension());
        let location = route.to(source.file(&file));
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
            Some(key) => verified(client, source, &file, route, key, &text)?,
        };
        return Checksum::parse(&text, name, algorithm).map_err(|error| FetchError::Checksum {
            location: location.to_string(),
            source: error,
        });
    }
    Err(missing.unwrap_or_else(|| FetchError::NotFound {
        location: source.file(name).to_string(),
        answer: String::from("no checksum file"),
    }))
}

/// What of a checksum file is signed.
fn verified(
    client: &Client,
    source: &Source,
    file: &str,
    route: Route,
    key: &Key,
    signed: &str,
) -> Result<String, FetchError> {
    let detached = match text(
        client,
        &route.to(source.file(&format!("{file}.asc"))),
        route,
    ) {
        Ok(signature) => Some(signature),
        Err(FetchError::NotFound { .. }) => None,
        Err(error) => return Err(error),
    };
    key.verified(signed, detached.as_deref(), file)
        .map_err(|error: SignatureError| FetchError::Signature {
            location: source.file(file).to_string(),
            source: error,
        })
}

fn text(client: &Client, location: &Location, route: Route) -> Result<String, FetchError> {
    match location {
        Location::Web(url) => client.text(url, route.is_fresh()),
        Location::File(path) => match fs::read(path) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(FetchError::NotFound {
                location: location.to_string(),
                answer: String::from("no such file"),
            }),
            Err(error) => Err(io_error("read", path)(error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_the_mirrors() {
        let to = |text: &str| {
            let location = Location::Web(text.parse().unwrap());
            Route::Canonical.to(location).to_string()
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
        assert_eq!(Route::Canonical.to(file.clone()), file);
    }
}
