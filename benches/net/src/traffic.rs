//! The traffic: a server on the host, and the guest's side of each workload.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::backend::Backend;
use crate::namespaces::{HostNetwork, SERVER};

/// Bytes of one read or write.
const CHUNK: usize = 128 << 10;
/// Bytes that a short connection sends, and receives.
const MESSAGE: usize = 64;
/// Short connections of a measurement.
const CONNECTIONS: usize = 1000;
/// Timeout of each operation.
const LIMIT: Duration = Duration::from_secs(60);

/// First byte of a connection: the server sends, receives, or echoes.
const SEND: u8 = b's';
const RECEIVE: u8 = b'r';
const ANSWER: u8 = b'a';

/// One measurement of a workload.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Measurement {
    /// In [`Workload::unit`].
    pub(crate) rate: f64,
    /// Number of [`Workload::piece`]s that were transferred.
    pieces: f64,
    /// Seconds of the backend's processor time.
    processor: f64,
}

impl Measurement {
    /// Returns the processor time per piece, in microseconds.
    pub(crate) fn cost(self) -> f64 {
        self.processor * 1e6 / self.pieces
    }
}

/// One kind of traffic.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Workload {
    /// One stream to the guest, for this long.
    Down(Duration),
    /// One stream from the guest, for this long.
    Up(Duration),
    /// Short connections from the guest, this many at once.
    Short(usize),
}

impl Workload {
    pub(crate) fn all(millis: u64) -> [Workload; 4] {
        let time = Duration::from_millis(millis);
        [
            Workload::Down(time),
            Workload::Up(time),
            Workload::Short(1),
            Workload::Short(16),
        ]
    }

    pub(crate) fn name(self) -> String {
        match self {
            Workload::Down(_) => String::from("one stream to the guest"),
            Workload::Up(_) => String::from("one stream from the guest"),
            Workload::Short(1) => format!("{CONNECTIONS} short connections, one after the other"),
            Workload::Short(at_once) => {
                format!("{CONNECTIONS} short connections, {at_once} at once")
            }
        }
    }

    pub(crate) fn unit(self) -> &'static str {
        match self {
            Workload::Down(_) | Workload::Up(_) => "Gbit/s",
            Workload::Short(_) => "1000/s",
        }
    }

    pub(crate) fn piece(self) -> &'static str {
        match self {
            Workload::Down(_) | Workload::Up(_) => "MB",
            Workload::Short(_) => "connection",
        }
    }

    /// Runs it in the backend's guest.
    pub(crate) fn run(self, backend: &Backend, server: &Server) -> Result<Measurement> {
        // The first packet resolves the neighbour's address.
        backend.guest.run(|| answered(server.address))?;
        let before = backend.processor_time()?;
        let (bytes, took) = match self {
            Workload::Down(time) => backend.guest.run(|| {
                let mut stream = connect(server.address, SEND)?;
                stream.write_all(&(time.as_millis() as u64).to_le_bytes())?;
                drain(&mut stream)
            })?,
            Workload::Up(time) => {
                backend.guest.run(|| {
                    let mut stream = connect(server.address, RECEIVE)?;
                    pour(&mut stream, time)?;
                    // The server answers when it has received everything.
                    stream.read_exact(&mut [0])?;
                    Ok(())
                })?;
                server
                    .received
                    .lock()
                    .expect("not poisoned")
                    .recv_timeout(LIMIT)?
            }
            Workload::Short(at_once) => backend.guest.run(|| {
                let start = Instant::now();
                let share = CONNECTIONS / at_once;
                std::thread::scope(|scope| {
                    let threads: Vec<_> = (0..at_once)
                        .map(|_| {
                            scope.spawn(|| (0..share).try_for_each(|_| answered(server.address)))
                        })
                        .collect();
                    threads.into_iter().try_for_each(|thread| {
                        let joined = thread.join();
                        joined.unwrap_or_else(|_| bail!("a client's thread panicked"))
                    })
                })?;
                Ok((at_once * share, start.elapsed()))
            })?,
        };
        let processor = backend.processor_time()? - before;
        let count = bytes as f64;
        let pieces = match self {
            Workload::Short(_) => count,
            _ => count / 1e6,
        };
        let rate = match self {
            Workload::Short(_) => count / 1e3,
            _ => count * 8.0 / 1e9,
        } / took.as_secs_f64();
        Ok(Measurement {
            rate,
            pieces,
            processor,
        })
    }
}

fn connect(address: SocketAddr, order: u8) -> Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT).context("the guest connects")?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    stream.write_all(&[order])?;
    Ok(stream)
}

/// Makes one short connection.
fn answered(address: SocketAddr) -> Result<()> {
    let mut message = [ANSWER; MESSAGE];
    let mut stream = TcpStream::connect_timeout(&address, LIMIT).context("the guest connects")?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(&message)?;
    stream.read_exact(&mut message)?;
    if stream.read(&mut [0])? != 0 {
        bail!("more than an answer");
    }
    Ok(())
}

/// Reads to the end; returns the number of bytes, and the time since the first of them.
fn drain(stream: &mut TcpStream) -> Result<(usize, Duration)> {
    let mut buffer = vec![0; CHUNK];
    let (mut bytes, mut start) = (0, None);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                bytes += count;
                start.get_or_insert_with(Instant::now);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("the stream"),
        }
    }
    Ok((bytes, start.context("nothing came")?.elapsed()))
}

/// Writes for `time`, and ends the stream.
fn pour(stream: &mut TcpStream, time: Duration) -> Result<()> {
    let (buffer, start) = (vec![b'x'; CHUNK], Instant::now());
    while start.elapsed() < time {
        stream.write_all(&buffer)?;
    }
    Ok(stream.shutdown(Shutdown::Write)?)
}

/// The server on the host, for all workloads.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    /// Bytes and time of each stream from the guest.
    received: Mutex<Receiver<(usize, Duration)>>,
}

impl Server {
    pub(crate) fn start(_host: &HostNetwork) -> Result<Server> {
        let listener = TcpListener::bind((SERVER, 0))?;
        let address = listener.local_addr()?;
        let (sender, received) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let sender = sender.clone();
                // A client that fails says so itself.
                std::thread::spawn(move || serve(stream, &sender));
            }
        });
        Ok(Server {
            address,
            received: Mutex::new(received),
        })
    }
}

fn serve(mut stream: TcpStream, received: &Sender<(usize, Duration)>) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut order = [0];
    stream.read_exact(&mut order)?;
    match order {
        [SEND] => {
            let mut millis = [0; 8];
            stream.read_exact(&mut millis)?;
            pour(
                &mut stream,
                Duration::from_millis(u64::from_le_bytes(millis)),
            )?;
            // Waits until the guest has received everything.
            let _ = stream.read(&mut [0]);
        }
        [RECEIVE] => {
            let seen = drain(&mut stream)?;
            received.send(seen)?;
            stream.write_all(&[0])?;
        }
        _ => {
            let mut rest = [0; MESSAGE - 1];
            stream.read_exact(&mut rest)?;
            stream.write_all(&[ANSWER; MESSAGE])?;
        }
    }
    Ok(())
}
