//! xz for the box, on the host's processor: what an emulated one compresses in minutes takes
//! seconds here. The protocol is `boxbuild_protocol::xz`.
//!
//! What comes from the box is never decoded, only compressed, and what it asks for costs no more
//! memory than xz in the box could have taken.

use std::io::{self, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use boxbuild_protocol::xz::{BEGIN, DATA, END, ERROR, FRAME, Frame, HEAD, READY};
use liblzma::stream::{Action, Check, MtStreamBuilder, PRESET_EXTREME, Status, Stream};

/// What a box may take of the host.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Threads of one session, at least 1.
    pub(super) threads: u32,
    /// Bytes of memory for more than one thread.
    pub(super) memory: u64,
}

/// How long liblzma may be busy with a block before it is asked whether it should go on, in
/// milliseconds (the program xz takes 300).
const LOOK_UP: u32 = 300;

/// The thread that compresses. It ends with the machine, or when this is dropped.
#[derive(Debug)]
pub(super) struct Compressor {
    stream: UnixStream,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Compressor {
    /// Starts it; also returns the machine's end of the connection.
    ///
    /// # Errors
    /// Fails if the host has no more descriptors or threads.
    pub(super) fn start(limits: Limits) -> io::Result<(Compressor, UnixStream)> {
        let (stream, end) = UnixStream::pair()?;
        let served = stream.try_clone()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name(String::from("xz"))
            .spawn(move || {
                // A box that breaks the rules, or that is gone: its next xz is its own.
                let _ = serve(&served, limits, &stopped);
                let _ = served.shutdown(Shutdown::Both);
            })?;
        Ok((
            Compressor {
                stream,
                stop,
                thread: Some(thread),
            },
            end,
        ))
    }
}

impl Drop for Compressor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.stream.shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            // A panic of it has been printed.
            let _ = thread.join();
        }
    }
}

/// One session after the other, until the connection ends or `stop` is set.
fn serve(stream: &UnixStream, limits: Limits, stop: &AtomicBool) -> io::Result<()> {
    let mut incoming = BufReader::with_capacity(2 * FRAME, stream);
    let mut job: Option<Job<'_>> = None;
    loop {
        let frame = read(&mut incoming)?;
        if frame.kind == BEGIN {
            // Whoever talked before is gone: there is one at a time.
            job = None;
            let answer = match Order::parse(&frame.payload).and_then(|order| order.encoder(limits))
            {
                Ok(encoder) => {
                    job = Some(Job {
                        session: frame.session,
                        encoder,
                        sink: stream,
                        stop,
                    });
                    (READY, Vec::new())
                }
                Err(reason) => (ERROR, reason.into_bytes()),
            };
            send(stream, answer.0, frame.session, answer.1)?;
            continue;
        }
        let Some(current) = job.as_mut().filter(|job| job.session == frame.session) else {
            continue;
        };
        match frame.kind {
            DATA => current.run(&frame.payload, Action::Run)?,
            END => {
                current.run(&[], Action::Finish)?;
                send(stream, END, frame.session, Vec::new())?;
                job = None;
            }
            _ => return Err(io::Error::other("a frame of an unknown kind")),
        }
    }
}

/// What a box asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Order {
    preset: u32,
    blocks: bool,
}

impl Order {
    /// `PRESET EXTREME THREADS`. The error is for the box.
    fn parse(text: &[u8]) -> Result<Order, String> {
        let numbers: Option<Vec<u32>> = std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.split(' ').map(|word| word.parse().ok()).collect());
        match numbers.as_deref() {
            Some([preset @ 0..=9, extreme @ 0..=1, threads]) => Ok(Order {
                preset: if *extreme == 1 {
                    preset | PRESET_EXTREME
                } else {
                    *preset
                },
                blocks: *threads != 1,
            }),
            _ => Err(String::from("the host does not know these options")),
        }
    }

    fn encoder(self, limits: Limits) -> Result<Stream, String> {
        // What the program xz checks with, too (xz(1), --check).
        let check = Check::Crc64;
        let stream = if self.blocks {
            let mut builder = MtStreamBuilder::new();
            builder.preset(self.preset).check(check).timeout_ms(LOOK_UP);
            let threads = (1..=limits.threads)
                .rev()
                .find(|threads| builder.threads(*threads).memusage() <= limits.memory)
                .unwrap_or(1);
            builder.threads(threads).encoder()
        } else {
            Stream::new_easy_encoder(self.preset, check)
        };
        stream.map_err(|error| format!("the host cannot compress: {error}"))
    }
}

/// A session with a box.
struct Job<'a> {
    session: u64,
    encoder: Stream,
    sink: &'a UnixStream,
    stop: &'a AtomicBool,
}

impl Job<'_> {
    /// Compresses `input`, all of it, and sends what is done.
    fn run(&mut self, input: &[u8], action: Action) -> io::Result<()> {
        let start = self.encoder.total_in();
        loop {
            let done = (self.encoder.total_in() - start) as usize;
            if matches!(action, Action::Run) && done == input.len() {
                return Ok(());
            }
            if self.stop.load(Ordering::Relaxed) {
                return Err(io::Error::other("the machine is gone"));
            }
            let mut output = Vec::with_capacity(FRAME - HEAD);
            let status = self
                .encoder
                .process_vec(&input[done..], &mut output, action)
                .map_err(|error| io::Error::other(error.to_string()))?;
            // A vector may have more room than was asked for.
            for part in output.chunks(FRAME - HEAD) {
                send(self.sink, DATA, self.session, part.to_vec())?;
            }
            match status {
                Status::Ok | Status::GetCheck => {}
                Status::StreamEnd => return Ok(()),
                // liblzma's word for "no progress", which cannot be: there is room and input.
                Status::MemNeeded => return Err(io::Error::other("liblzma makes no progress")),
            }
        }
    }
}

/// The next frame; an error at the end, and if no frame begins like that.
fn read(stream: &mut impl Read) -> io::Result<Frame> {
    let mut head = [0; HEAD];
    stream.read_exact(&mut head)?;
    let (kind, length, session) =
        Frame::head(&head).ok_or_else(|| io::Error::other("a frame that is too long"))?;
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload)?;
    Ok(Frame {
        kind,
        session,
        payload,
    })
}

/// Waits for a box that does not read; its end of the connection goes with it.
fn send(mut stream: &UnixStream, kind: u32, session: u64, payload: Vec<u8>) -> io::Result<()> {
    let frame = Frame {
        kind,
        session,
        payload,
    };
    stream.write_all(&frame.encode().map_err(io::Error::other)?)
}

#[cfg(test)]
mod tests;
