//! The parent's side: starts the process, and takes what it tells.

use std::error::Error;
use std::io;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use boxbuild_host::text::plain;
use boxbuild_jail::{Jailed, Launch, MAX_MESSAGE, Program};
use boxbuild_virtiofs::vhost_user::connected_listener;
use boxbuild_virtiofs::{PassthroughFs, Share, Traffic};

use super::message::{Config, Message};
use super::role::ROLE;
use crate::error::StartError;
use crate::wire_share::WireShare;

/// Longest wait for the process to serve. It is a matter of milliseconds.
const START: Duration = Duration::from_secs(30);
/// Longest wait for its end once QEMU is gone: it has requests to finish.
const END: Duration = Duration::from_secs(10);
/// Longest wait for the kernel to end it after that; a call into a file system that hangs cannot
/// be ended.
const KILLED: Duration = Duration::from_secs(2);
/// Messages that are taken at a time: more, and the rest waits.
const AT_ONCE: usize = 64;

/// The process that serves the shares of a machine.
#[derive(Debug)]
pub struct ShareProcess {
    /// `None` once it has ended.
    jailed: Option<Jailed>,
    traffic: Vec<Traffic>,
    fault: Option<Fault>,
    buffer: Vec<u8>,
}

/// Why shares do not work any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The guest's driver has violated the device's protocol.
    Guest(String),
    /// The process has ended.
    Server(String),
}

/// What the process has told.
#[derive(Debug, Default)]
pub struct News {
    /// What the user should know, fit to be shown.
    pub notes: Vec<String>,
}

/// A process that has been started and may not serve yet.
#[derive(Debug)]
pub struct Starting {
    process: ShareProcess,
    path: std::path::PathBuf,
}

impl ShareProcess {
    /// Starts `program` for `shares`, of a machine with this many processors. Returns the ends of
    /// the connections for QEMU, in the order of the shares.
    ///
    /// Must be called on a thread that outlives the process.
    ///
    /// # Errors
    /// If a folder cannot be opened, or the host refuses a socket or process.
    pub fn start(
        program: &Program,
        shares: &[Share],
        processors: usize,
    ) -> Result<(Starting, Vec<UnixStream>), StartError> {
        let mut config = Config {
            shares: Vec::new(),
            processors,
        };
        let (mut descriptors, mut ends) = (Vec::new(), Vec::new());
        for share in shares {
            let root = PassthroughFs::open_root(share).map_err(failed(share))?;
            let (listener, end) = connected_listener().map_err(failed(share))?;
            config.shares.push(WireShare::from(share));
            descriptors.extend([listener.into(), root]);
            ends.push(end);
        }
        let mut launch = Launch::new(program, ROLE.name);
        for descriptor in &descriptors {
            launch = launch.descriptor(descriptor);
        }
        let start = |error: Box<dyn Error + Send + Sync>| StartError::Host {
            action: String::from("start the server of the shared folders"),
            source: io::Error::other(error),
        };
        let jailed = launch.start(&config).map_err(|error| start(error.into()))?;
        let process = ShareProcess {
            jailed: Some(jailed),
            traffic: shares.iter().map(|_| Traffic::default()).collect(),
            fault: None,
            buffer: vec![0; MAX_MESSAGE],
        };
        let path = shares.first().map(|share| share.root.clone());
        let path = path.unwrap_or_default();
        Ok((Starting { process, path }, ends))
    }

    /// Returns the byte counts of the shares, in their order.
    pub fn traffic(&self) -> Vec<Traffic> {
        self.traffic.clone()
    }

    /// Returns the process's id, until it has ended.
    pub fn pid(&self) -> Option<u32> {
        self.jailed.as_ref().map(Jailed::pid)
    }

    /// Returns why shares do not work any more, as far as [`news`](Self::news) has told.
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// Takes what the process has told, without waiting.
    pub fn news(&mut self) -> News {
        let mut news = News::default();
        for _ in 0..AT_ONCE {
            match self.receive(Duration::ZERO) {
                Ok(Some(message)) => self.take(message, &mut news),
                Ok(None) => {
                    self.ended();
                    break;
                }
                Err(_) => break,
            }
        }
        news
    }

    /// Waits until nothing changes in the shares any more, once QEMU is gone.
    pub fn finish(mut self) -> (Option<Fault>, News) {
        let mut news = News::default();
        let deadline = Instant::now() + END;
        while Instant::now() < deadline {
            match self.receive(deadline.saturating_duration_since(Instant::now())) {
                Ok(Some(message)) => self.take(message, &mut news),
                Ok(None) => break,
                Err(error) if error.kind() == io::ErrorKind::TimedOut => break,
                Err(_) => {}
            }
        }
        if let Some(jailed) = self.jailed.take()
            && let Some(pid) = end(jailed)
        {
            news.notes.push(format!(
                "the server of the shared folders (process {pid}) does not end: its file system \
                 does not answer"
            ));
        }
        (self.fault.take(), news)
    }

    /// Returns the next message, `None` once there are no more.
    fn receive(&mut self, time: Duration) -> io::Result<Option<Message>> {
        let Some(jailed) = &self.jailed else {
            return Ok(None);
        };
        let len = jailed
            .channel()
            .receive_into(&mut self.buffer, Some(time))?;
        let bytes = self.buffer.get(..len).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(None);
        }
        // Anything else comes from a process that a guest has taken over.
        Ok(serde_json::from_slice(bytes).map(Some)?)
    }

    fn take(&mut self, message: Message, news: &mut News) {
        match message {
            Message::Ready(_) => {}
            Message::Moved(moved) => {
                for (traffic, (to_guest, from_guest)) in self.traffic.iter().zip(moved) {
                    let more = |now: u64, before| now.saturating_sub(before) as usize;
                    traffic.add_to_guest(more(to_guest, traffic.to_guest()));
                    traffic.add_from_guest(more(from_guest, traffic.from_guest()));
                }
            }
            Message::Fault(text) => {
                self.fault.get_or_insert(Fault::Guest(shown(&text)));
            }
            Message::Note(text) => news.notes.push(shown(&text)),
        }
    }

    /// Takes note of the end of the process.
    fn ended(&mut self) {
        let Some(jailed) = &self.jailed else { return };
        let text = match jailed.wait(KILLED) {
            // QEMU has closed all connections: it is about to end.
            Ok(exit) if exit.is_good() => {
                self.jailed = None;
                return;
            }
            Ok(exit) => match shown(&String::from_utf8_lossy(&exit.words)) {
                words if words.is_empty() => exit.to_string(),
                words => format!("{exit}: {words}"),
            },
            Err(error) => error.to_string(),
        };
        self.fault.get_or_insert(Fault::Server(text));
        self.jailed = None;
    }
}

impl Starting {
    /// Waits until all shares are served. Also returns what the host's kernel lacks to confine the
    /// process, if anything.
    ///
    /// # Errors
    /// If a share cannot be served.
    pub fn ready(self) -> Result<(ShareProcess, Option<String>), StartError> {
        let Starting { mut process, path } = self;
        let source = match process.receive(START) {
            Ok(Some(Message::Ready(weakness))) => {
                return Ok((process, weakness.map(|text| shown(&text))));
            }
            Ok(None) => {
                process.ended();
                match process.fault {
                    Some(Fault::Server(text) | Fault::Guest(text)) => io::Error::other(text),
                    None => io::ErrorKind::UnexpectedEof.into(),
                }
            }
            Ok(Some(_)) => io::Error::other("its server does not keep to the protocol"),
            Err(error) => error,
        };
        Err(StartError::Share {
            path,
            source: Box::new(source),
        })
    }
}

/// Waits for the end of a process that has nothing more to do; kills it after a while. Returns its
/// id if that does not end it either; a thread waits for it then.
fn end(jailed: Jailed) -> Option<u32> {
    let start = Instant::now();
    let mut killed = false;
    while start.elapsed() < END + KILLED {
        if jailed.exited().is_ok_and(|exit| exit.is_some()) {
            return None;
        }
        if !killed && start.elapsed() > END {
            jailed.kill();
            killed = true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let pid = jailed.pid();
    // Without a thread, it is waited for here.
    let _ = std::thread::Builder::new().spawn(move || drop(jailed));
    Some(pid)
}

/// Makes a text of the process fit to be shown: what it says may be the guest's words.
fn shown(text: &str) -> String {
    const LONGEST: usize = 1000;
    let lines: Vec<String> = text
        .lines()
        .map(|line| plain(line.as_bytes()))
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines.join("; ").chars().take(LONGEST).collect()
}

fn failed<E: Error + Send + Sync + 'static>(share: &Share) -> impl FnOnce(E) -> StartError {
    let path = share.root.clone();
    move |source| StartError::Share {
        path,
        source: Box::new(source),
    }
}
