//! The HTTP client: its rules for redirects, and small files.

use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use boxbuild_host::interrupt::Interrupt;
use reqwest::blocking::Response;
use reqwest::header::{ACCEPT_ENCODING, CACHE_CONTROL, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{StatusCode, Url};

use super::error::FetchError;
use super::reach::Reach;
use super::retry::RetryPolicy;

/// Checksum files and signatures are smaller than this, in bytes.
pub(super) const LARGEST_SMALL_FILE: u64 = 1 << 20;

/// Redirects in a row that are followed.
const REDIRECTS: usize = 10;

/// Longest pause that a server's `Retry-After` is granted.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Talks to web servers.
#[derive(Debug, Clone)]
pub struct Client {
    /// For files that are trusted as they come: redirects from https to http are refused.
    strict: reqwest::blocking::Client,
    /// For files that are checked against a checksum that came over `strict`: mirrors may be http.
    any: reqwest::blocking::Client,
    reach: Arc<Reach>,
    pub(super) retry: RetryPolicy,
    pub(super) interrupt: Interrupt,
}

/// An attempt to fetch a file failed.
#[derive(Debug)]
pub(super) enum AttemptError {
    /// The next attempt may succeed.
    Transient {
        /// What happened.
        problem: String,
        /// Pause before the next attempt, if the server asks for one.
        retry_after: Option<Duration>,
    },
    /// Every attempt fails.
    Permanent(FetchError),
}

impl AttemptError {
    /// An error after which the next attempt may be made at any time.
    pub(super) fn transient(problem: String) -> AttemptError {
        AttemptError::Transient {
            problem,
            retry_after: None,
        }
    }
}

impl From<FetchError> for AttemptError {
    fn from(error: FetchError) -> AttemptError {
        AttemptError::Permanent(error)
    }
}

impl Client {
    /// Creates a client whose transfers end when the user interrupts them.
    ///
    /// # Errors
    /// Fails if TLS cannot be set up: this host has no certificates of authorities.
    pub fn new(retry: RetryPolicy, interrupt: Interrupt) -> Result<Client, FetchError> {
        let reach = Arc::new(Reach::of_environment());
        let build = |policy: Policy| {
            let mut headers = HeaderMap::new();
            // Bytes are hashed and counted as they are published.
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            reqwest::blocking::Client::builder()
                .user_agent(concat!("boxbuild/", env!("CARGO_PKG_VERSION")))
                .default_headers(headers)
                .connect_timeout(retry.stall.min(Duration::from_secs(30)))
                // Applies to the answer, and to each read of the body.
                .timeout(retry.stall)
                .redirect(policy)
                .dns_resolver(Arc::clone(&reach))
                .build()
                .map_err(|error| FetchError::Client(chain(&error)))
        };
        Ok(Client {
            strict: build(policy(true, Arc::clone(&reach)))?,
            any: build(policy(false, Arc::clone(&reach)))?,
            reach,
            retry,
            interrupt,
        })
    }

    /// Requests a file from the byte `from` on, if it still is the version that `validator` names.
    /// `fresh` bypasses caches.
    pub(super) fn open(
        &self,
        url: &Url,
        from: u64,
        validator: Option<&str>,
        fresh: bool,
    ) -> Result<Response, AttemptError> {
        let mut request = self.any.get(url.clone());
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
            if let Some(validator) = validator {
                request = request.header("If-Range", validator);
            }
        }
        if fresh {
            request = request.header(CACHE_CONTROL, "no-cache");
        }
        self.reach.start_at(url);
        let response = request.send().map_err(|error| failed(url, &error))?;
        if response.status() == StatusCode::RANGE_NOT_SATISFIABLE && from > 0 {
            return Ok(response);
        }
        checked(url, response)
    }

    /// Fetches a small file, and returns its text.
    pub(super) fn text(&self, url: &Url, fresh: bool) -> Result<String, FetchError> {
        let attempt = || {
            let mut request = self.strict.get(url.clone());
            if fresh {
                request = request.header(CACHE_CONTROL, "no-cache");
            }
            self.reach.start_at(url);
            let response = request.send().map_err(|error| failed(url, &error))?;
            let length = response.content_length();
            let bytes = self.small(checked(url, response)?)?;
            match length {
                Some(length) if length >= LARGEST_SMALL_FILE => {
                    Err(AttemptError::Permanent(FetchError::Refused {
                        location: url.to_string(),
                        answer: format!("a file of {length} bytes, which is not a checksum file"),
                    }))
                }
                _ => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            }
        };
        let mut attempts = 0;
        loop {
            match attempt() {
                Ok(text) => return Ok(text),
                Err(AttemptError::Permanent(error)) => return Err(error),
                Err(AttemptError::Transient {
                    problem,
                    retry_after,
                }) => {
                    attempts += 1;
                    self.wait(url.as_str(), attempts, problem, retry_after)?;
                }
            }
        }
    }

    /// Reads the first bytes of an answer, within the time that a stalled one is granted.
    fn small(&self, response: Response) -> Result<Vec<u8>, AttemptError> {
        let deadline = Instant::now() + self.retry.stall;
        let mut bytes = Vec::new();
        let mut body = response.take(LARGEST_SMALL_FILE);
        let mut buffer = vec![0; 16 << 10];
        loop {
            self.check()?;
            let count = body
                .read(&mut buffer)
                .map_err(|error| AttemptError::transient(chain(&error)))?;
            if count == 0 {
                return Ok(bytes);
            }
            bytes.extend_from_slice(&buffer[..count]);
            if Instant::now() > deadline {
                return Err(AttemptError::transient(String::from(
                    "the server takes too long for a small file",
                )));
            }
        }
    }

    /// Pauses before the next attempt, or gives up after `attempts` without progress.
    pub(super) fn wait(
        &self,
        location: &str,
        attempts: u32,
        problem: String,
        retry_after: Option<Duration>,
    ) -> Result<(), FetchError> {
        if attempts >= self.retry.attempts {
            return Err(FetchError::Network {
                location: location.to_owned(),
                problem,
                attempts,
            });
        }
        let doubled = self.retry.backoff * 2u32.saturating_pow(attempts.saturating_sub(1));
        let end = std::time::Instant::now() + retry_after.unwrap_or(doubled).min(LONGEST_WAIT);
        while std::time::Instant::now() < end {
            self.check()?;
            std::thread::sleep(Duration::from_millis(20).min(self.retry.backoff));
        }
        self.check()
    }

    /// Fails if the user has interrupted the transfer.
    pub(super) fn check(&self) -> Result<(), FetchError> {
        if self.interrupt.count() > 0 {
            return Err(FetchError::Interrupted);
        }
        Ok(())
    }
}

/// Returns a policy that follows redirects; if `strict`, not from https to anything else.
fn policy(strict: bool, reach: Arc<Reach>) -> Policy {
    Policy::custom(move |attempt| {
        let from = attempt.previous().last();
        if attempt.previous().len() > REDIRECTS {
            attempt.error("too many redirects")
        } else if strict && from.is_some_and(|from| !keeps_trust(from, attempt.url())) {
            let text = format!(
                "it is redirected to {}, which is not authenticated",
                attempt.url()
            );
            attempt.error(text)
        } else if let Err(problem) = reach.may_follow(attempt.url()) {
            attempt.error(problem)
        } else {
            attempt.follow()
        }
    })
}

fn keeps_trust(from: &Url, to: &Url) -> bool {
    from.scheme() != "https" || to.scheme() == "https"
}

/// Sorts answers: success, transient and permanent failures.
fn checked(url: &Url, response: Response) -> Result<Response, AttemptError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let answer = if response.url() == url {
        status.to_string()
    } else {
        format!("{status}, from {}", response.url())
    };
    let location = url.to_string();
    Err(match status {
        StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::FORBIDDEN => {
            AttemptError::Permanent(FetchError::NotFound { location, answer })
        }
        _ if status.is_server_error()
            || status == StatusCode::TOO_MANY_REQUESTS
            || status == StatusCode::REQUEST_TIMEOUT =>
        {
            let retry_after = response
                .headers()
                .get(RETRY_AFTER)
                .and_then(|value| value.to_str().ok()?.parse().ok())
                .map(Duration::from_secs);
            AttemptError::Transient {
                problem: format!("the server answered {answer}"),
                retry_after,
            }
        }
        _ => AttemptError::Permanent(FetchError::Refused { location, answer }),
    })
}

/// The error for a request without an answer. One that a redirect caused recurs.
fn failed(url: &Url, error: &reqwest::Error) -> AttemptError {
    if error.is_redirect() {
        return AttemptError::Permanent(FetchError::Refused {
            location: url.to_string(),
            answer: chain(error),
        });
    }
    AttemptError::transient(chain(error))
}

/// Returns the text of an error with its causes, which reqwest's own text lacks.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut parts = vec![error.to_string()];
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if parts.last().is_none_or(|last| !last.contains(&text)) {
            parts.push(text);
        }
        source = cause.source();
    }
    parts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_not_redirected_to_unauthenticated_servers() {
        let url = |text| Url::parse(text).unwrap();
        assert!(!keeps_trust(&url("https://a/"), &url("http://a/")));
        assert!(!keeps_trust(&url("https://a/"), &url("ftp://a/")));
        assert!(keeps_trust(&url("https://a/"), &url("https://b/")));
        assert!(keeps_trust(&url("http://a/"), &url("http://b/")));
    }
}
