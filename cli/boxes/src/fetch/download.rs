//! A file of a box: fetched, resumed and checked.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use boxbuild_host::error::IoError;
use boxbuild_host::input;
use reqwest::blocking::Response;
use reqwest::header::{CONTENT_RANGE, ETAG, HeaderMap, LAST_MODIFIED};
use reqwest::{StatusCode, Url};

use super::checksum::Checksum;
use super::error::FetchError;
use super::http::{AttemptError, Client, chain};
use super::meter::Meter;
use super::partial_file::{self, CHUNK, Options, PartialFile, State};
use crate::catalog::Location;

/// A file to fetch.
#[derive(Debug, Clone)]
pub struct Download {
    /// Address or path of the file.
    pub location: Location,
    /// Whether caches are bypassed.
    pub fresh: bool,
    /// Expected checksum.
    pub expected: Checksum,
    /// Path of the partial file, which outlives this process.
    pub part: PathBuf,
}

/// A file that was fetched, with the right checksum.
#[derive(Debug, Clone)]
pub struct FetchedFile {
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 in lower-case hex.
    pub sha256: String,
    /// SHA-512 in lower-case hex, if the publisher's checksum is one.
    pub sha512: Option<String>,
}

/// Fetches a file, or what is missing of it.
///
/// # Errors
/// Fails if it cannot be fetched, or has another checksum. The bytes that were fetched are kept,
/// unless their checksum is wrong.
pub fn download(
    client: &Client,
    download: &Download,
    meter: &Meter,
) -> Result<FetchedFile, FetchError> {
    let options = Options {
        path: &download.part,
        expected: &download.expected,
    };
    let mut file = PartialFile::open(client, options, meter)?;
    let mut resumed = file.len() > 0;
    loop {
        match &download.location {
            Location::Web(url) => from_web(client, download, url, &mut file)?,
            Location::File(path) => from_file(client, path, &mut file)?,
        }
        let complete = file.finish();
        if complete.checksum == download.expected {
            return Ok(FetchedFile {
                size: complete.size,
                sha256: complete.sha256,
                sha512: complete.sha512,
            });
        }
        partial_file::remove(&download.part);
        meter.take_back(complete.size);
        if !resumed {
            return Err(FetchError::Mismatch {
                location: download.location.to_string(),
                expected: download.expected.clone(),
                found: complete.checksum,
            });
        }
        // The old bytes may be of another version, or lost in a crash of the host.
        resumed = false;
        file = PartialFile::open(client, options, meter)?;
    }
}

/// Copies a file of this host.
fn from_file(client: &Client, path: &Path, to: &mut PartialFile<'_>) -> Result<(), FetchError> {
    let mut file = input::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => FetchError::NotFound {
            location: path.display().to_string(),
            answer: String::from("no such file"),
        },
        _ => IoError::on("read", path)(error).into(),
    })?;
    let total = file.metadata().map_err(IoError::on("read", path))?.len();
    if to.len() > 0 {
        to.restart()?;
    }
    to.check_space(total)?;
    to.expect(total);
    let mut buffer = vec![0; CHUNK];
    loop {
        client.check()?;
        match file.read(&mut buffer).map_err(IoError::on("read", path))? {
            0 => return Ok(()),
            count => to.append(&buffer[..count])?,
        }
    }
}

/// Fetches a file from a web server, in as many attempts as the client's policy allows.
fn from_web(
    client: &Client,
    download: &Download,
    url: &Url,
    file: &mut PartialFile<'_>,
) -> Result<(), FetchError> {
    let mut attempts = 0;
    let mut announced = false;
    // Bytes that arrive a second time are no progress, nor are some now and then.
    let mut most = file.len();
    loop {
        client.check()?;
        match attempt(client, download, url, file, &mut announced) {
            Ok(()) => return Ok(()),
            Err(AttemptError::Permanent(error)) => return Err(error),
            Err(AttemptError::Transient {
                problem,
                retry_after,
            }) => {
                if file.len() >= most + Pace::LEAST {
                    most = file.len();
                    attempts = 0;
                }
                attempts += 1;
                client.wait(url.as_str(), attempts, problem, retry_after)?;
            }
        }
    }
}

/// Makes one request; `Ok` means that the file is complete. `announced` tells whether its size has
/// been added to the expected bytes.
fn attempt(
    client: &Client,
    download: &Download,
    url: &Url,
    file: &mut PartialFile<'_>,
    announced: &mut bool,
) -> Result<(), AttemptError> {
    let state = State::load(&download.part).unwrap_or_default();
    if file.len() > 0 && state.total == Some(file.len()) {
        return Ok(());
    }
    let validator = state.validator.as_deref();
    let mut response = client.open(url, file.len(), validator, download.fresh)?;
    let total = continue_with(&response, download, file)?;
    if let Some(total) = total {
        file.check_space(total)?;
        if !*announced {
            file.expect(total);
            *announced = true;
        }
    }
    let mut buffer = vec![0; CHUNK];
    let mut pace = Pace::new(client.retry.stall);
    loop {
        client.check()?;
        let count = response
            .read(&mut buffer)
            .map_err(|error| AttemptError::transient(chain(&error)))?;
        if count == 0 {
            break;
        }
        pace.count(count)?;
        file.append(&buffer[..count])?;
    }
    match total {
        Some(total) if file.len() < total => Err(AttemptError::transient(format!(
            "the connection ended after {} of {total} bytes",
            file.len()
        ))),
        _ => Ok(()),
    }
}

/// Gives up connections over which next to nothing arrives.
struct Pace {
    period: Duration,
    since: Instant,
    bytes: u64,
}

impl Pace {
    /// Bytes that arrive in a period at least.
    const LEAST: u64 = 16 << 10;

    fn new(period: Duration) -> Pace {
        Pace {
            period,
            since: Instant::now(),
            bytes: 0,
        }
    }

    fn count(&mut self, bytes: usize) -> Result<(), AttemptError> {
        self.bytes += bytes as u64;
        if self.bytes >= Pace::LEAST {
            *self = Pace::new(self.period);
        } else if self.since.elapsed() > self.period {
            return Err(AttemptError::transient(format!(
                "the server sent only {} bytes in {} s",
                self.bytes,
                self.period.as_secs()
            )));
        }
        Ok(())
    }
}

/// Makes the bytes in `file` those that the body of `response` continues, and records the state of
/// the server's copy. Returns the size of the whole file, if the server announces it.
fn continue_with(
    response: &Response,
    download: &Download,
    file: &mut PartialFile<'_>,
) -> Result<Option<u64>, AttemptError> {
    let status = response.status();
    let range = response
        .headers()
        .get(CONTENT_RANGE)
        .and_then(|value| value.to_str().ok())
        .and_then(content_range);
    let partial = status == StatusCode::PARTIAL_CONTENT;
    if status == StatusCode::RANGE_NOT_SATISFIABLE
        || (partial && range.is_none_or(|(from, _)| from != file.len()))
    {
        // The server's copy is shorter than ours, or it sends another range.
        file.restart()?;
        State::remove(&download.part);
        return Err(AttemptError::transient(String::from(
            "the server cannot continue where the last attempt ended",
        )));
    }
    if !partial && file.len() > 0 {
        // It ignores ranges, or has another version.
        file.restart()?;
    }
    let total = match range.filter(|_| partial) {
        Some((_, total)) => total,
        None => response.content_length().map(|rest| file.len() + rest),
    };
    let state = State {
        expected: download.expected.hex.clone(),
        validator: validator(response.headers()),
        total,
    };
    state.store(&download.part)?;
    Ok(total)
}

/// Parses e.g. `bytes 100-199/200` (RFC 9110, section 14.4): first byte and size of the whole.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (from, _) = range.split_once('-')?;
    Some((from.trim().parse().ok()?, total.trim().parse().ok()))
}

/// Returns what identifies the server's copy in `If-Range` (RFC 9110, section 13.1.5), which a weak
/// tag cannot.
fn validator(headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::to_owned);
    text(ETAG)
        .filter(|tag| tag.starts_with('"'))
        .or_else(|| text(LAST_MODIFIED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_parsed() {
        assert_eq!(content_range("bytes 100-199/200"), Some((100, Some(200))));
        assert_eq!(content_range("bytes 0-9/*"), Some((0, None)));
        for bad in ["", "bytes", "bytes */200", "lines 1-2/3", "bytes x-9/10"] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }
}
