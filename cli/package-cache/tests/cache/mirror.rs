//! A mirror on the loopback. What a path begins with says how it is served.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const DATE: &str = "Sat, 01 Feb 2025 10:00:00 GMT";

/// A running mirror. Its threads end with the test's process.
#[derive(Clone)]
pub struct Mirror {
    pub address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// How often the whole of each path was sent, or begun to be.
    sent: Mutex<HashMap<String, usize>>,
    /// How often something was still good.
    confirmed: AtomicUsize,
    /// Bodies that are not made from their path.
    bodies: Mutex<HashMap<String, Vec<u8>>>,
    /// Paths where nothing is.
    lacks: Mutex<HashSet<String>>,
    /// Pause after each 16 KiB.
    pause: Duration,
}

impl Mirror {
    pub fn start() -> Mirror {
        Mirror::at(Ipv4Addr::LOCALHOST, Duration::ZERO)
    }

    pub fn slow(pause: Duration) -> Mirror {
        Mirror::at(Ipv4Addr::LOCALHOST, pause)
    }

    pub fn at(ip: Ipv4Addr, pause: Duration) -> Mirror {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            pause,
            ..State::default()
        });
        let serving = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&serving);
                // An error is a client that has gone.
                std::thread::spawn(move || serve(&stream, &state).unwrap_or_default());
            }
        });
        Mirror { address, state }
    }

    /// How often the body of a path was sent.
    pub fn sent(&self, path: &str) -> usize {
        self.state
            .sent
            .lock()
            .unwrap()
            .get(path)
            .copied()
            .unwrap_or(0)
    }

    pub fn confirmed(&self) -> usize {
        self.state.confirmed.load(Ordering::SeqCst)
    }

    pub fn lack(&self, path: &str) {
        self.state.lacks.lock().unwrap().insert(path.to_owned());
    }

    pub fn set(&self, path: &str, body: &[u8]) {
        self.state
            .bodies
            .lock()
            .unwrap()
            .insert(path.to_owned(), body.to_vec());
    }
}

/// What the mirror has under a path, if nothing else was set: its length depends on the path as well.
pub fn body(path: &str) -> Vec<u8> {
    let mut state = path.bytes().fold(0x9e37_79b9_7f4a_7c15_u64, |state, byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    let length = 20_000 + (state % 300_000) as usize;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn serve(stream: &TcpStream, state: &State) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream);
    loop {
        let mut first = String::new();
        if lines.read_line(&mut first)? == 0 {
            return Ok(());
        }
        if first.starts_with("ECHO") {
            return echo(stream, &mut lines, &first);
        }
        let mut fields = HashMap::new();
        loop {
            let mut line = String::new();
            lines.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else {
                break;
            };
            fields.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let mut sent = vec![
            0;
            fields
                .get("content-length")
                .map_or(0, |len| len.parse().unwrap())
        ];
        lines.read_exact(&mut sent)?;
        let target = first.split(' ').nth(1).unwrap_or_default().to_owned();
        let path = target
            .split_once("://")
            .map_or(target.as_str(), |(_, rest)| {
                rest.find('/').map_or("/", |slash| &rest[slash..])
            });
        let closes = fields.get("connection").is_some_and(|word| word == "close");
        if answer(stream, state, path, &fields, &sent)? || closes {
            return Ok(());
        }
    }
}

fn echo(mut stream: &TcpStream, rest: &mut impl Read, first: &str) -> std::io::Result<()> {
    stream.write_all(first.as_bytes())?;
    std::io::copy(rest, &mut stream)?;
    stream.shutdown(std::net::Shutdown::Write)
}

/// Answers. Returns whether the connection ends.
fn answer(
    mut stream: &TcpStream,
    state: &State,
    path: &str,
    fields: &HashMap<String, String>,
    sent: &[u8],
) -> std::io::Result<bool> {
    if state.lacks.lock().unwrap().contains(path) {
        stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
        return Ok(false);
    }
    let set = state.bodies.lock().unwrap().get(path).cloned();
    let body = match (set, fields.get("x-forwarded-host")) {
        (_, Some(host)) => format!("for {host}").into_bytes(),
        (Some(body), None) => body,
        (None, None) if !sent.is_empty() => sent.to_vec(),
        (None, None) => body(path),
    };
    let tag = format!(
        "\"{}-{}\"",
        body.len(),
        body.iter().map(|byte| u64::from(*byte)).sum::<u64>()
    );
    let validators = format!("ETag: {tag}\r\nLast-Modified: {DATE}\r\n");
    let is = |name: &str| path.split('/').nth(1) == Some(name);
    if fields.get("if-none-match") == Some(&tag) && !is("always") {
        state.confirmed.fetch_add(1, Ordering::SeqCst);
        // As some servers, without saying the validators again.
        stream.write_all(b"HTTP/1.1 304 Not Modified\r\n\r\n")?;
        return Ok(false);
    }
    *state
        .sent
        .lock()
        .unwrap()
        .entry(path.to_owned())
        .or_default() += 1;
    let length = body.len();
    let more = match path.split('/').nth(1) {
        Some("cookie") => "Set-Cookie: id=1\r\n",
        Some("timed") => "Cache-Control: public, max-age=1000\r\n",
        Some("private") => "Cache-Control: private\r\n",
        Some("varies") => "Vary: Accept-Encoding\r\n",
        _ => "",
    };
    if is("chunked") {
        write!(
            stream,
            "HTTP/1.1 200 OK\r\n{validators}Transfer-Encoding: chunked\r\n\r\n"
        )?;
        for part in body.chunks(5000) {
            write!(stream, "{:x};a=b\r\n", part.len())?;
            stream.write_all(part)?;
            stream.write_all(b"\r\n")?;
        }
        stream.write_all(b"0\r\nX-Sum: 1\r\n\r\n")?;
        return Ok(false);
    }
    let (version, closes) = if is("old") {
        ("1.0", true)
    } else {
        ("1.1", false)
    };
    let length = if is("rest") {
        String::from("Connection: close\r\n")
    } else {
        format!("Content-Length: {length}\r\n")
    };
    write!(
        stream,
        "HTTP/{version} 200 OK\r\n{validators}{more}{length}\r\n"
    )?;
    let half = if is("broken") {
        body.len() / 2
    } else {
        body.len()
    };
    for part in body[..half].chunks(16 << 10) {
        stream.write_all(part)?;
        std::thread::sleep(state.pause);
    }
    Ok(closes || is("rest") || is("broken") || is("idle"))
}
