//! A web server that plays the build service and its mirrors, and misbehaves on cue.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use sha2::{Digest, Sha256};

/// What goes wrong.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// This status, with a page of HTML.
    Status(u16),
    /// Go there.
    Redirect(String),
    /// The body ends after so many bytes; the announced length is right.
    Truncate(usize),
    /// The connection is reset after so many bytes of the body.
    Reset(usize),
    /// The announced length is larger than the file by so many bytes.
    TooLong(usize),
    /// Only so many bytes, and the announced length says the same.
    TooShort(usize),
    /// After so many bytes, nothing more comes.
    Stall(usize),
    /// So many bytes at once, and a pause of as many milliseconds.
    Slow(usize, u64),
    /// The whole file, whatever range was asked for.
    IgnoreRange,
    /// No length is announced.
    NoLength,
}

/// A request that was answered.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// With the query.
    pub(crate) target: String,
    /// The header `Range`.
    pub(crate) range: Option<String>,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<String, Arc<Vec<u8>>>,
    /// For a path, what goes wrong with the next requests; `None` as the number means all.
    faults: Vec<(String, Option<u32>, Fault)>,
    requests: Vec<Request>,
    /// Bytes of bodies, for each path, and how often they were asked for: what belongs to an
    /// older request is not counted.
    served: BTreeMap<String, u64>,
    epoch: u64,
}

/// The server; it ends with this value.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    end: Arc<AtomicBool>,
}

impl Server {
    pub(crate) fn start() -> Server {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let server = Server {
            address: listener.local_addr().unwrap(),
            state: Arc::default(),
            end: Arc::default(),
        };
        let (state, end) = (Arc::clone(&server.state), Arc::clone(&server.end));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if end.load(Ordering::Relaxed) {
                    break;
                }
                let state = Arc::clone(&state);
                if let Ok(stream) = stream {
                    // A client that is killed is no error.
                    std::thread::spawn(move || drop(answer(&stream, &state)));
                }
            }
        });
        server
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The address of the server's root, without a slash at the end.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A file, from now on.
    pub(crate) fn put(&self, path: &str, content: impl Into<Vec<u8>>) {
        let content = Arc::new(content.into());
        self.state().files.insert(path.to_owned(), content);
    }

    pub(crate) fn remove(&self, path: &str) {
        self.state().files.remove(path);
    }

    /// The next `times` requests for `path` go wrong; all if that is `None`. A path without a
    /// query means requests without one.
    pub(crate) fn fault(&self, path: &str, times: Option<u32>, fault: Fault) {
        self.state().faults.push((path.to_owned(), times, fault));
    }

    pub(crate) fn no_faults(&self) {
        self.state().faults.clear();
    }

    /// The requests so far, which are forgotten.
    pub(crate) fn take_requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state().requests)
    }

    /// Bytes of bodies sent so far for `path`, which are forgotten.
    pub(crate) fn take_served(&self, path: &str) -> u64 {
        let mut state = self.state();
        state.epoch += 1;
        state.served.remove(path).unwrap_or(0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        // Wakes it up.
        let _ = TcpStream::connect(self.address);
    }
}

fn answer(stream: &TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let target = first.split(' ').nth(1).unwrap_or("/").to_owned();
    let (mut range, mut if_range) = (None, None);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.trim().to_owned();
        match name.to_ascii_lowercase().as_str() {
            "range" => range = Some(value),
            "if-range" => if_range = Some(value),
            _ => {}
        }
    }
    let path = target.split('?').next().unwrap_or_default().to_owned();
    let (content, fault, epoch) = {
        let mut state = state.lock().unwrap();
        state.requests.push(Request {
            target: target.clone(),
            range: range.clone(),
        });
        let fault = state.faults.iter_mut().find_map(|(at, times, fault)| {
            if *at != target || *times == Some(0) {
                return None;
            }
            *times = times.map(|times| times - 1);
            Some(fault.clone())
        });
        (state.files.get(&path).cloned(), fault, state.epoch)
    };
    let mut out = stream;
    match (&fault, content) {
        (Some(Fault::Status(status)), _) => page(out, *status),
        (Some(Fault::Redirect(to)), _) => write!(
            out,
            "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        ),
        (_, None) => page(out, 404),
        (fault, Some(content)) => {
            let file = File {
                content: &content,
                range: range.filter(|_| !matches!(fault, Some(Fault::IgnoreRange))),
                if_range,
            };
            file.send(stream, fault.as_ref(), &mut |count| {
                let mut state = state.lock().unwrap();
                if state.epoch == epoch {
                    *state.served.entry(path.clone()).or_default() += count;
                }
            })
        }
    }
}

fn page(mut out: &TcpStream, status: u16) -> std::io::Result<()> {
    let body = format!("<html><body>{status}</body></html>");
    write!(
        out,
        "HTTP/1.1 {status} Test\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
}

struct File<'a> {
    content: &'a [u8],
    range: Option<String>,
    if_range: Option<String>,
}

impl File<'_> {
    fn send(
        &self,
        stream: &TcpStream,
        fault: Option<&Fault>,
        count: &mut dyn FnMut(u64),
    ) -> std::io::Result<()> {
        let mut out = stream;
        let hash = Sha256::digest(self.content);
        let tag = format!(
            "\"{:02x}{:02x}{:02x}{:02x}\"",
            hash[0], hash[1], hash[2], hash[3]
        );
        let total = self.content.len();
        let from = self
            .range
            .as_deref()
            .filter(|_| self.if_range.as_ref().is_none_or(|wanted| *wanted == tag))
            .and_then(|range| {
                range
                    .strip_prefix("bytes=")?
                    .strip_suffix('-')?
                    .parse()
                    .ok()
            });
        let head = match from {
            Some(from) if from >= total => {
                return write!(
                    out,
                    "HTTP/1.1 416 Range\r\nContent-Range: bytes */{total}\r\nContent-Length: 0\r\n\
                     Connection: close\r\n\r\n"
                );
            }
            Some(from) => format!(
                "HTTP/1.1 206 Partial\r\nContent-Range: bytes {from}-{}/{total}\r\n",
                total - 1
            ),
            None => String::from("HTTP/1.1 200 OK\r\n"),
        };
        let mut body = &self.content[from.unwrap_or(0)..];
        let mut length = Some(body.len());
        let mut pace = (64 << 10, 0);
        match fault {
            Some(Fault::TooLong(more)) => length = Some(body.len() + more),
            Some(Fault::TooShort(end)) => {
                body = &body[..body.len().min(*end)];
                length = Some(body.len());
            }
            Some(Fault::Truncate(end) | Fault::Reset(end) | Fault::Stall(end)) => {
                body = &body[..body.len().min(*end)];
            }
            Some(Fault::Slow(bytes, pause)) => pace = (*bytes, *pause),
            Some(Fault::NoLength) => length = None,
            _ => {}
        }
        write!(out, "{head}ETag: {tag}\r\nConnection: close\r\n")?;
        if let Some(length) = length {
            write!(out, "Content-Length: {length}\r\n")?;
        }
        write!(out, "\r\n")?;
        for chunk in body.chunks(pace.0) {
            // Before the client can have them.
            count(chunk.len() as u64);
            out.write_all(chunk)?;
            std::thread::sleep(Duration::from_millis(pace.1));
        }
        match fault {
            Some(Fault::Reset(_)) => {
                // What was sent shall arrive before the reset overtakes it.
                std::thread::sleep(Duration::from_millis(100));
                socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))
            }
            Some(Fault::Stall(_)) => {
                std::thread::sleep(Duration::from_secs(3));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
