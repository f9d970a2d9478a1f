//! The HTTP client: who may redirect where, and small files.

use std::io::Read;
use std::time::Duration;

use reqwest::blocking::Response;
use reqwest::header::{ACCEPT_ENCODING, CACHE_CONTROL, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{StatusCode, Url};

use super::{FetchError, Patience};
use boxbuild_host::interrupt::Interrupt;

/// Checksum files and signatures are smaller than this, in bytes.
const LARGEST_SMALL_FILE: u64 = 1 << 20;

/// Redirects in a row that are followed.
const REDIRECTS: usize = 10;

/// Longest time that a server's wish to be asked later is granted.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Talks to web servers.
#[derive(Debug, Clone)]
pub struct Client {
    /// For what is trusted as it comes: never led from https to http.
    strict: reqwest::blocking::Client,
    /// For what is checked against a checksum that came over `strict`: mirrors may be http.
    any: reqwest::blocking::Client,
    pub(super) patience: Patience,
    pub(super) interrupt: Interrupt,
}

/// An attempt failed.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It may go better next time, at the earliest after this time.
    Passing(String, Option<Duration>),
    /// It will not.
    Final(FetchError),
}

impl Client {
    /// A client that stops when the user asks.
    ///
    /// # Errors
    /// If TLS cannot be set up: this host has no certificates of authorities.
    pub fn new(patience: Patience, interrupt: Interrupt) -> Result<Client, FetchError> {
        let build = |policy: Policy| {
            let mut headers = HeaderMap::new();
            // The bytes are hashed and counted as they are.
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            reqwest::blocking::Client::builder()
                .user_agent(concat!("boxbuild/", env!("CARGO_PKG_VERSION")))
                .default_headers(headers)
                .connect_timeout(patience.stall.min(Duration::from_secs(30)))
                // For the answer, and for each read of the body.
                .timeout(patience.stall)
                .redirect(policy)
                .build()
                .map_err(|error| FetchError::Client(chain(&error)))
        };
        Ok(Client {
            strict: build(policy(true))?,
            any: build(policy(false))?,
            patience,
            interrupt,
        })
    }

    /// Asks for a file: `from` bytes are there already, of what the validator names. `fresh` asks
    /// caches on the way for the server's own copy.
    pub(super) fn open(
        &self,
        url: &Url,
        from: u64,
        validator: Option<&str>,
        fresh: bool,
    ) -> Result<Response, Trouble> {
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
        let response = request.send().map_err(|error| failed(url, &error))?;
        if response.status() == StatusCode::RANGE_NOT_SATISFIABLE && from > 0 {
            return Ok(response);
        }
        checked(url, response)
    }

    /// A small file as text.
    pub(super) fn text(&self, url: &Url, fresh: bool) -> Result<String, FetchError> {
        let attempt = || {
            let mut request = self.strict.get(url.clone());
            if fresh {
                request = request.header(CACHE_CONTROL, "no-cache");
            }
            let response = request.send().map_err(|error| failed(url, &error))?;
            let length = response.content_length();
            let mut bytes = Vec::new();
            checked(url, response)?
                .take(LARGEST_SMALL_FILE)
                .read_to_end(&mut bytes)
                .map_err(|error| Trouble::Passing(chain(&error), None))?;
            match length {
                Some(length) if length >= LARGEST_SMALL_FILE => {
                    Err(Trouble::Final(FetchError::Refused {
                        location: url.to_string(),
                        answer: format!("a file of {length} bytes, which is no checksum file"),
                    }))
                }
                _ => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            }
        };
        let mut attempts = 0;
        loop {
            match attempt() {
                Ok(text) => return Ok(text),
                Err(Trouble::Final(error)) => return Err(error),
                Err(Trouble::Passing(problem, wait)) => {
                    attempts += 1;
                    self.wait(url.as_str(), attempts, problem, wait)?;
                }
            }
        }
    }

    /// Waits before the attempt after `attempts` ones that brought nothing, or gives up.
    pub(super) fn wait(
        &self,
        location: &str,
        attempts: u32,
        problem: String,
        wish: Option<Duration>,
    ) -> Result<(), FetchError> {
        if attempts >= self.patience.attempts {
            return Err(FetchError::Network {
                location: location.to_owned(),
                problem,
                attempts,
            });
        }
        let doubled = self.patience.backoff * 2u32.saturating_pow(attempts.saturating_sub(1));
        let end = std::time::Instant::now() + wish.unwrap_or(doubled).min(LONGEST_WAIT);
        while std::time::Instant::now() < end {
            self.check()?;
            std::thread::sleep(Duration::from_millis(20).min(self.patience.backoff));
        }
        self.check()
    }

    /// Fails if the user wants an end.
    pub(super) fn check(&self) -> Result<(), FetchError> {
        if self.interrupt.count() > 0 {
            return Err(FetchError::Interrupted);
        }
        Ok(())
    }
}

/// Follows redirects; if `strict`, not from https to anything else.
fn policy(strict: bool) -> Policy {
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
        } else {
            attempt.follow()
        }
    })
}

fn keeps_trust(from: &Url, to: &Url) -> bool {
    from.scheme() != "https" || to.scheme() == "https"
}

/// Sorts answers: good, to be tried again, hopeless.
fn checked(url: &Url, response: Response) -> Result<Response, Trouble> {
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
            Trouble::Final(FetchError::NotFound { location, answer })
        }
        _ if status.is_server_error()
            || status == StatusCode::TOO_MANY_REQUESTS
            || status == StatusCode::REQUEST_TIMEOUT =>
        {
            let wish = response
                .headers()
                .get(RETRY_AFTER)
                .and_then(|value| value.to_str().ok()?.parse().ok())
                .map(Duration::from_secs);
            Trouble::Passing(format!("the server answered {answer}"), wish)
        }
        _ => Trouble::Final(FetchError::Refused { location, answer }),
    })
}

/// No answer. What a redirect breaks is broken the next time as well.
fn failed(url: &Url, error: &reqwest::Error) -> Trouble {
    if error.is_redirect() {
        return Trouble::Final(FetchError::Refused {
            location: url.to_string(),
            answer: chain(error),
        });
    }
    Trouble::Passing(chain(error), None)
}

/// An error with its causes; reqwest's own text only says that something went wrong.
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
    fn checksums_are_not_taken_from_where_anybody_can_change_them() {
        let url = |text| Url::parse(text).unwrap();
        assert!(!keeps_trust(&url("https://a/"), &url("http://a/")));
        assert!(!keeps_trust(&url("https://a/"), &url("ftp://a/")));
        assert!(keeps_trust(&url("https://a/"), &url("https://b/")));
        assert!(keeps_trust(&url("http://a/"), &url("http://b/")));
    }
}
