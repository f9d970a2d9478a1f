//! A connection of a guest where nothing leaves the host: what is kept answers, whatever its age, and all else is
//! not there.

use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::time::SystemTime;

use http_cache_semantics::BeforeRequest;

use super::answer::{self, field};
use super::connection::{Broken, Shared, guest};
use super::output::Output;
use super::serve::{self, Next};
use crate::http::request::Request;
use crate::http::{LONGEST_HEAD, Parsed};
use crate::store::{Key, Server, Stored};

/// What is said of a file that is not kept. Package managers look for another one then, as from a server that
/// does not have it, and do not wait for it.
const ABSENT: &str = "404 Not in the cache of packages (--offline)";

/// Serves a guest to its end.
pub(crate) fn run(stream: &UnixStream, shared: &Shared) {
    // A guest that is gone, or says what is not understood, has its connection closed.
    let _ = serve_all(stream, shared);
    let _ = stream.shutdown(std::net::Shutdown::Both);
}

fn serve_all(mut stream: &UnixStream, shared: &Shared) -> Result<(), Broken> {
    let mut inbox = Vec::new();
    loop {
        match Request::parse(&inbox) {
            Parsed::Whole(request, len) => {
                inbox.drain(..len);
                if answer(stream, &request, shared)? == Next::Ends {
                    return Ok(());
                }
            }
            Parsed::Foreign => return Ok(()),
            Parsed::Partial => {
                let start = inbox.len();
                inbox.resize(start + LONGEST_HEAD, 0);
                let place = inbox.get_mut(start..).unwrap_or_default();
                let count = match stream.read(place) {
                    Ok(0) => return Ok(()),
                    Ok(count) => count,
                    Err(error) if error.kind() == ErrorKind::Interrupted => 0,
                    Err(error) => return Err(guest(error)),
                };
                inbox.truncate(start + count);
            }
        }
    }
}

fn answer(stream: &UnixStream, request: &Request, shared: &Shared) -> Result<Next, Broken> {
    let mut output = Output::new(stream);
    let stored = kept(request, shared);
    let mut more = Vec::new();
    if request.closes {
        more.push(field("Connection", &"close"));
    }
    match stored {
        Some(stored) if request.is_get => {
            return serve::serve(&stored, request, output, &shared.counters);
        }
        // The head alone.
        Some(stored) => output.raw(&answer::head(
            "200 OK",
            stored.fields(),
            &more,
            stored.length(),
        ))?,
        None => {
            shared.absent(&format!("http://{}{}", request.host, path(request)));
            output.raw(&answer::head(ABSENT, &[], &more, 0))?;
        }
    }
    Ok(if request.closes {
        Next::Ends
    } else {
        Next::GoesOn
    })
}

/// Returns what is kept for a request, if it may be used for it. There is no server that could obey a field.
fn kept(request: &Request, shared: &Shared) -> Option<Stored> {
    let policy = request.for_policy()?;
    if !shared.names.may_be_said(&shared.parent, &request.host) {
        return None;
    }
    let path = path(request);
    let stored = shared
        .store
        .lookup(&Key::new(Server::Named(&request.host), path))
        .or_else(|| {
            // As a proxy was asked for it.
            let target = format!("http://{}{path}", request.host);
            let key = Key::new(Server::Proxied(&request.host), &target);
            shared.store.lookup(&key)
        })?;
    let before = stored.policy().before_request(&policy, SystemTime::now());
    let differs = matches!(before, BeforeRequest::Stale { matches: false, .. });
    (!differs).then_some(stored)
}

/// The path of a request, which may be in the form for a proxy.
fn path(request: &Request) -> &str {
    let rest = request.target.strip_prefix("http://");
    rest.map_or(&request.target, |rest| {
        rest.find('/')
            .and_then(|slash| rest.get(slash..))
            .unwrap_or("/")
    })
}
