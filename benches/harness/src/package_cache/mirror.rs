//! A mirror on the loopback with a narrow line: it has what the host's mirror has, which it asks once for each
//! file and over all runs.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Bytes that are sent before the line is waited for.
const CHUNK: usize = 16 << 10;

/// The mirror. Its threads end with the program.
#[derive(Debug, Clone)]
pub(super) struct Mirror {
    state: Arc<State>,
    port: u16,
}

#[derive(Debug)]
struct State {
    /// The host's mirror.
    upstream: String,
    /// Where its files are kept.
    folder: PathBuf,
    /// Bytes a second, of all connections together.
    rate: f64,
    /// When the line is free again.
    free: Mutex<Instant>,
    sent: Mutex<HashMap<String, Sent>>,
    /// One file at a time comes from the host's mirror.
    fetching: Mutex<()>,
}

/// What went over the line.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sent {
    /// How often a file was sent.
    pub(super) times: usize,
    /// Bytes of these.
    pub(super) bytes: u64,
}

impl Mirror {
    /// Serves what `upstream` has at `megabits` a second. Its files stay in `folder`.
    ///
    /// # Errors
    /// If no port of the loopback can be had.
    pub(super) fn start(upstream: &str, folder: &Path, megabits: f64) -> Result<Mirror> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen")?;
        let port = listener.local_addr()?.port();
        let state = Arc::new(State {
            upstream: upstream.trim_end_matches('/').to_owned(),
            folder: folder.to_owned(),
            rate: megabits * 1e6 / 8.0,
            free: Mutex::new(Instant::now()),
            sent: Mutex::default(),
            fetching: Mutex::default(),
        });
        let serving = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&serving);
                // An error is a client that has gone.
                thread::spawn(move || state.serve(&stream).unwrap_or_default());
            }
        });
        Ok(Mirror { state, port })
    }

    /// Its address.
    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/debian", self.port)
    }

    /// Returns what it has sent since the last call.
    pub(super) fn take_sent(&self) -> HashMap<String, Sent> {
        std::mem::take(&mut *lock(&self.state.sent))
    }
}

impl State {
    fn serve(&self, stream: &TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream);
        loop {
            let mut first = String::new();
            if lines.read_line(&mut first)? == 0 {
                return Ok(());
            }
            let mut known = None;
            loop {
                let mut line = String::new();
                lines.read_line(&mut line)?;
                let Some((name, value)) = line.trim_end().split_once(':') else {
                    break;
                };
                if name.eq_ignore_ascii_case("if-none-match") {
                    known = Some(value.trim().to_owned());
                }
            }
            let path = first.split(' ').nth(1).unwrap_or_default();
            self.answer(stream, path, known.as_deref())?;
        }
    }

    fn answer(
        &self,
        mut stream: &TcpStream,
        path: &str,
        known: Option<&str>,
    ) -> std::io::Result<()> {
        let file = path
            .strip_prefix("/debian/")
            .and_then(|path| self.file(path));
        let Some(mut file) = file else {
            return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        };
        let length = file.metadata()?.len();
        // The files do not change while the program runs.
        let tag = format!("\"{length:x}\"");
        if known == Some(&tag) {
            return write!(stream, "HTTP/1.1 304 Not Modified\r\nETag: {tag}\r\n\r\n");
        }
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nETag: {tag}\r\nContent-Length: {length}\r\n\r\n"
        )?;
        {
            let mut sent = lock(&self.sent);
            let sent = sent.entry(path.to_owned()).or_default();
            sent.times += 1;
            sent.bytes += length;
        }
        let mut buffer = vec![0; CHUNK];
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            self.wait_for_the_line(count);
            stream.write_all(buffer.get(..count).unwrap_or_default())?;
        }
    }

    /// Waits until so many bytes have gone over the line.
    fn wait_for_the_line(&self, bytes: usize) {
        let gone = {
            let mut free = lock(&self.free);
            let start = (*free).max(Instant::now());
            *free = start + Duration::from_secs_f64(bytes as f64 / self.rate);
            *free
        };
        thread::sleep(gone.saturating_duration_since(Instant::now()));
    }

    /// Opens a file, which comes from the host's mirror the first time.
    fn file(&self, path: &str) -> Option<File> {
        let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
        let relative = Path::new(path.split('?').next()?);
        if !relative.components().all(plain) {
            return None;
        }
        let place = self.folder.join(relative);
        if let Ok(file) = File::open(&place) {
            return Some(file);
        }
        let _one = lock(&self.fetching);
        if let Ok(file) = File::open(&place) {
            return Some(file);
        }
        fs::create_dir_all(place.parent()?).ok()?;
        let unfinished = place.with_extension("unfinished");
        let fetched = Command::new("curl")
            .args(["--silent", "--fail", "--location", "--output"])
            .arg(&unfinished)
            .arg(format!("{}/{path}", self.upstream))
            .status();
        if !fetched.is_ok_and(|status| status.success()) {
            return None;
        }
        fs::rename(&unfinished, &place).ok()?;
        File::open(&place).ok()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
