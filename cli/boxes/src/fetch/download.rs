//! One file of a box: fetched, resumed, hashed, unpacked.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use reqwest::header::{CONTENT_RANGE, ETAG, LAST_MODIFIED};
use reqwest::{StatusCode, Url};
use serde::{Deserialize, Serialize};

use super::checksum::{Algorithm, Checksum, Hasher};
use super::http::{Client, Trouble, chain};
use super::meter::Meter;
use super::unpack::{Destination, Unpacked, Unpacking};
use super::{FetchError, io_error};
use crate::catalog::Location;

/// Bytes that are read at once.
const CHUNK: usize = 128 << 10;

/// Free space that is left alone, in bytes.
const RESERVE: u64 = 64 << 20;

/// A file to fetch.
#[derive(Debug, Clone)]
pub struct Job {
    /// Where it is.
    pub location: Location,
    /// Ask caches on the way for the server's own copy.
    pub fresh: bool,
    /// What it must be.
    pub expected: Checksum,
    /// Where it grows: a file that outlives this process.
    pub part: PathBuf,
    /// The file is an archive with a kernel, to be unpacked on the way.
    pub unpack: Option<Destination>,
}

/// A file that is there and right.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 in lower-case hex.
    pub sha256: String,
    /// SHA-512, if the publisher's checksum is one.
    pub sha512: Option<String>,
    /// What was unpacked from it.
    pub unpacked: Option<Unpacked>,
}

/// What is known of the server's copy of a partial file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    /// The checksum that the whole file shall have.
    expected: String,
    /// Names the server's copy: its strong entity tag, or else the time of its last change.
    validator: Option<String>,
    /// Bytes of the whole file.
    total: Option<u64>,
}

/// The bytes that are there, and what becomes of them.
struct Sink<'a> {
    job: &'a Job,
    file: File,
    have: u64,
    hasher: Hasher,
    unpacking: Option<Unpacking>,
    meter: &'a Meter,
}

/// Fetches a file, or what is missing of it.
///
/// # Errors
/// If it is not there, cannot be had, or is not what it must be. What was fetched of it stays,
/// unless it is wrong.
pub fn fetch(client: &Client, job: &Job, meter: &Arc<Meter>) -> Result<Fetched, FetchError> {
    let mut sink = Sink::open(client, job, meter)?;
    let mut resumed = sink.have > 0;
    loop {
        match &job.location {
            Location::Web(url) => from_web(client, job, url, &mut sink)?,
            Location::File(path) => from_file(client, path, &mut sink)?,
        }
        let size = sink.have;
        let (sha256, sha512, unpacked) = sink.finish();
        let found = Checksum {
            algorithm: job.expected.algorithm,
            hex: match job.expected.algorithm {
                Algorithm::Sha256 => sha256.clone(),
                Algorithm::Sha512 => sha512.clone().unwrap_or_default(),
            },
        };
        if found == job.expected {
            let unpacked = unpacked.transpose().map_err(|source| FetchError::Unpack {
                location: job.location.to_string(),
                source,
            })?;
            return Ok(Fetched {
                size,
                sha256,
                sha512,
                unpacked,
            });
        }
        forget(&job.part);
        meter.take_back(size);
        if !resumed {
            return Err(FetchError::Mismatch {
                location: job.location.to_string(),
                expected: job.expected.clone(),
                found,
            });
        }
        // The old bytes may be of another version, or lost in a crash of the host.
        resumed = false;
        sink = Sink::open(client, job, meter)?;
    }
}

/// Removes a partial file and what is known of it.
fn forget(part: &Path) {
    // What cannot be removed is truncated when it is opened.
    let _ = fs::remove_file(part);
    let _ = fs::remove_file(state_path(part));
}

fn state_path(part: &Path) -> PathBuf {
    let mut path = part.as_os_str().to_owned();
    path.push(".json");
    path.into()
}

impl State {
    fn load(part: &Path) -> Option<State> {
        serde_json::from_slice(&fs::read(state_path(part)).ok()?).ok()
    }

    /// Writes it whole or not at all.
    fn store(&self, part: &Path) -> Result<(), FetchError> {
        let path = state_path(part);
        let new = path.with_extension("new");
        let text = serde_json::to_vec(self).unwrap_or_default();
        fs::write(&new, text)
            .and_then(|()| fs::rename(&new, &path))
            .map_err(io_error("write", &path))
    }
}

impl<'a> Sink<'a> {
    /// Goes on with what is there, if it is of the same file.
    fn open(client: &Client, job: &'a Job, meter: &'a Meter) -> Result<Sink<'a>, FetchError> {
        let known = State::load(&job.part).filter(|state| state.expected == job.expected.hex);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(known.is_none())
            .open(&job.part)
            .map_err(io_error("write", &job.part))?;
        let mut hasher = Hasher::new(job.expected.algorithm);
        let mut unpacking = job.unpack.clone().map(Unpacking::start);
        let mut have = 0;
        let mut buffer = vec![0; CHUNK];
        loop {
            client.check()?;
            let count = file
                .read(&mut buffer)
                .map_err(io_error("read", &job.part))?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
            if let Some(unpacking) = &mut unpacking {
                unpacking.feed(&buffer[..count]);
            }
            have += count as u64;
        }
        meter.add(have);
        Ok(Sink {
            job,
            file,
            have,
            hasher,
            unpacking,
            meter,
        })
    }

    /// Drops what is there.
    fn restart(&mut self) -> Result<(), FetchError> {
        let part = &self.job.part;
        self.file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .map_err(io_error("write", part))?;
        self.meter.take_back(self.have);
        self.have = 0;
        self.hasher = Hasher::new(self.job.expected.algorithm);
        // The old thread meets the end of its input.
        self.unpacking = self.job.unpack.clone().map(Unpacking::start);
        Ok(())
    }

    fn add(&mut self, bytes: &[u8]) -> Result<(), FetchError> {
        self.file
            .write_all(bytes)
            .map_err(io_error("write", &self.job.part))?;
        self.hasher.update(bytes);
        if let Some(unpacking) = &mut self.unpacking {
            unpacking.feed(bytes);
        }
        self.have += bytes.len() as u64;
        self.meter.add(bytes.len() as u64);
        Ok(())
    }

    fn finish(
        self,
    ) -> (
        String,
        Option<String>,
        Option<Result<Unpacked, super::UnpackError>>,
    ) {
        let (sha256, sha512) = self.hasher.finish();
        (sha256, sha512, self.unpacking.map(Unpacking::finish))
    }

    /// Refuses what would fill up the disk.
    fn check_space(&self, total: u64) -> Result<(), FetchError> {
        let folder = self.job.part.parent().unwrap_or(Path::new("."));
        let Ok(stat) = nix::sys::statvfs::statvfs(folder) else {
            return Ok(());
        };
        let free = stat.blocks_available() * stat.fragment_size();
        let needed = total.saturating_sub(self.have);
        if free >= needed.saturating_add(RESERVE) || needed == 0 {
            return Ok(());
        }
        Err(FetchError::Space {
            folder: folder.to_owned(),
            free: free >> 20,
            needed: needed >> 20,
        })
    }
}

fn from_file(client: &Client, path: &Path, sink: &mut Sink<'_>) -> Result<(), FetchError> {
    let mut file = File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => FetchError::NotFound {
            location: path.display().to_string(),
            answer: String::from("no such file"),
        },
        _ => io_error("read", path)(error),
    })?;
    let total = file.metadata().map_err(io_error("read", path))?.len();
    if sink.have > 0 {
        sink.restart()?;
    }
    sink.check_space(total)?;
    sink.meter.expect(total);
    let mut buffer = vec![0; CHUNK];
    loop {
        client.check()?;
        match file.read(&mut buffer).map_err(io_error("read", path))? {
            0 => return Ok(()),
            count => sink.add(&buffer[..count])?,
        }
    }
}

fn from_web(client: &Client, job: &Job, url: &Url, sink: &mut Sink<'_>) -> Result<(), FetchError> {
    let mut attempts = 0;
    let mut expected_in_meter = false;
    // Bytes that come a second time are no progress.
    let mut most = sink.have;
    loop {
        client.check()?;
        match attempt(client, job, url, sink, &mut expected_in_meter) {
            Ok(()) => return Ok(()),
            Err(Trouble::Final(error)) => return Err(error),
            Err(Trouble::Passing(problem, wish)) => {
                if sink.have > most {
                    most = sink.have;
                    attempts = 0;
                }
                attempts += 1;
                client.wait(url.as_str(), attempts, problem, wish)?;
            }
        }
    }
}

/// One request. `Ok` means that everything is there.
fn attempt(
    client: &Client,
    job: &Job,
    url: &Url,
    sink: &mut Sink<'_>,
    expected_in_meter: &mut bool,
) -> Result<(), Trouble> {
    let known = State::load(&job.part).unwrap_or_default();
    if sink.have > 0 && known.total == Some(sink.have) {
        return Ok(());
    }
    let mut response = client.open(url, sink.have, known.validator.as_deref(), job.fresh)?;
    let status = response.status();
    let range = response
        .headers()
        .get(CONTENT_RANGE)
        .and_then(|value| value.to_str().ok())
        .and_then(content_range);
    if status == StatusCode::RANGE_NOT_SATISFIABLE
        || (status == StatusCode::PARTIAL_CONTENT
            && range.is_none_or(|(from, _)| from != sink.have))
    {
        // The server's copy is shorter than ours, or it sends what was not asked for.
        sink.restart().map_err(Trouble::Final)?;
        forget_state(&job.part);
        return Err(Trouble::Passing(
            String::from("the server cannot go on where the last attempt ended"),
            None,
        ));
    }
    if status != StatusCode::PARTIAL_CONTENT && sink.have > 0 {
        // It ignores ranges, or its copy is another one.
        sink.restart().map_err(Trouble::Final)?;
    }
    let total = match range.filter(|_| status == StatusCode::PARTIAL_CONTENT) {
        Some((_, total)) => total,
        None => response.content_length().map(|rest| sink.have + rest),
    };
    let state = State {
        expected: job.expected.hex.clone(),
        validator: validator(response.headers()),
        total,
    };
    state.store(&job.part).map_err(Trouble::Final)?;
    if let Some(total) = total {
        sink.check_space(total).map_err(Trouble::Final)?;
        if !*expected_in_meter {
            sink.meter.expect(total);
            *expected_in_meter = true;
        }
    }
    let mut buffer = vec![0; CHUNK];
    loop {
        client.check().map_err(Trouble::Final)?;
        let count = response
            .read(&mut buffer)
            .map_err(|error| Trouble::Passing(chain(&error), None))?;
        if count == 0 {
            break;
        }
        sink.add(&buffer[..count]).map_err(Trouble::Final)?;
    }
    match total {
        Some(total) if sink.have < total => Err(Trouble::Passing(
            format!("the connection ended after {} of {total} bytes", sink.have),
            None,
        )),
        _ => Ok(()),
    }
}

fn forget_state(part: &Path) {
    let _ = fs::remove_file(state_path(part));
}

/// First byte and whole length from e.g. `bytes 100-199/200` (RFC 9110, section 14.4).
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (from, _) = range.split_once('-')?;
    Some((from.trim().parse().ok()?, total.trim().parse().ok()))
}

/// What names the server's copy in `If-Range` (RFC 9110, section 13.1.5): weak tags cannot.
fn validator(headers: &reqwest::header::HeaderMap) -> Option<String> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::to_owned);
    text(ETAG)
        .filter(|tag| tag.starts_with('"'))
        .or_else(|| text(LAST_MODIFIED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!(content_range("bytes 100-199/200"), Some((100, Some(200))));
        assert_eq!(content_range("bytes 0-9/*"), Some((0, None)));
        for bad in ["", "bytes", "bytes */200", "lines 1-2/3", "bytes x-9/10"] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }
}
