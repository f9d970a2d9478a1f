//! The requests of one connection, and who answers them.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::SystemTime;

use http_cache_semantics::BeforeRequest;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv};

use super::answer::field;
use super::connection::{Broken, CHUNK, Flow, guest, server};
use super::output::Output;
use super::reader::{self, Job, Keep, Piece};
use super::serve::{self, Next};
use super::tunnel;
use crate::http::request::Request;
use crate::http::{Field, LONGEST_HEAD, Parsed, values};
use crate::kind::Kind;
use crate::store::{Claim, Download, Key, Server, Stored, Waiting};

/// Requests that wait for their answers, and bytes of them: what a server takes without being read.
const PIPELINE: usize = 10;
const REQUESTED: usize = 16 << 10;
/// Pieces of an answer that wait for the guest.
const PIECES: usize = 2;

pub(super) struct Conversation<'f> {
    pub(super) flow: &'f Flow,
    /// What the guest has sent and is not taken yet.
    inbox: Vec<u8>,
    queue: VecDeque<Pending>,
    /// Bytes of requests to the server that are not answered.
    requested: usize,
    /// The name of the server, and whether it is one that the host knows it by.
    host: Option<(String, bool)>,
    jobs: Option<SyncSender<Job>>,
    guest: Guest,
}

/// What the guest does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Guest {
    Asks,
    /// It will not ask again.
    Done,
    /// It, or its server, says what is not understood here.
    Foreign,
}

/// A request that is not answered yet.
enum Pending {
    Stored(Box<Stored>, Request),
    Fetched(Receiver<Piece>, Request, usize),
    Followed(Waiting, Request),
}

/// How what is kept can be used.
enum Use {
    AtOnce,
    /// If its server says so, asked with these fields.
    Asked(Vec<Field>),
    Never,
}

impl<'f> Conversation<'f> {
    #[allow(clippy::unnecessary_wraps, reason = "the beginning of a chain")]
    pub(super) fn new(flow: &'f Flow) -> Result<Conversation<'f>, Broken> {
        Ok(Conversation {
            flow,
            inbox: Vec::new(),
            queue: VecDeque::new(),
            requested: 0,
            host: None,
            jobs: None,
            guest: Guest::Asks,
        })
    }

    pub(super) fn run(mut self) -> Result<(), Broken> {
        loop {
            self.admit()?;
            let next = match self.queue.pop_front() {
                Some(Pending::Stored(stored, request)) => {
                    self.serve(&stored, &request, Output::new(&self.flow.guest))?
                }
                Some(Pending::Fetched(pieces, request, bytes)) => {
                    self.requested -= bytes;
                    self.relay(&pieces, &request, Output::new(&self.flow.guest))?
                }
                Some(Pending::Followed(waiting, request)) => self.follow(&waiting, request)?,
                None if self.guest == Guest::Foreign => {
                    // The other thread has no request, and reads nothing.
                    self.jobs = None;
                    return tunnel::run(self.flow, &self.inbox);
                }
                None => Next::Ends,
            };
            if next == Next::Ends {
                return Ok(());
            }
        }
    }

    /// Takes requests. Waits for one if there is nothing else to do.
    fn admit(&mut self) -> Result<(), Broken> {
        let follows = |pending: Option<&Pending>| matches!(pending, Some(Pending::Followed(..)));
        // What is behind one that follows is not asked for: it may have to be asked for itself.
        while self.guest == Guest::Asks
            && self.queue.len() < PIPELINE
            && self.requested < REQUESTED
            && !follows(self.queue.back())
        {
            match Request::parse(&self.inbox) {
                Parsed::Whole(request, len) => {
                    let host = self
                        .host
                        .get_or_insert_with(|| (request.host.clone(), false));
                    // The next one could be for another server, behind the same address.
                    if host.0 != request.host {
                        self.guest = Guest::Foreign;
                        return Ok(());
                    }
                    self.inbox.drain(..len);
                    if request.closes {
                        self.guest = Guest::Done;
                    }
                    let pending = self.plan(request)?;
                    self.queue.push_back(pending);
                }
                Parsed::Foreign => self.guest = Guest::Foreign,
                Parsed::Partial if self.queue.is_empty() => self.wait()?,
                Parsed::Partial => {
                    if !is_readable(&self.flow.guest) {
                        return Ok(());
                    }
                    self.read()?;
                }
            }
        }
        Ok(())
    }

    /// Waits for the guest, and looks whether the server is still there.
    fn wait(&mut self) -> Result<(), Broken> {
        let mut polled = [
            PollFd::new(self.flow.guest.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.flow.server.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return Err(Broken::Server),
        }
        let [asks, speaks] = polled.map(|polled| polled.any().unwrap_or(true));
        if asks {
            return self.read();
        }
        if !speaks {
            return Ok(());
        }
        match self.peek()? {
            // An idle connection is closed by its server, and a guest sees that.
            0 if self.inbox.is_empty() && self.host.is_some() => self.guest = Guest::Done,
            // It speaks first, or only listens: that is not HTTP.
            _ if self.host.is_none() || self.peek()? == 0 => self.guest = Guest::Foreign,
            _ => return Err(Broken::Server),
        }
        Ok(())
    }

    /// Returns how much the server has sent without being asked: 0 at its end.
    fn peek(&self) -> Result<usize, Broken> {
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        let mut byte = [0];
        recv(self.flow.server.as_raw_fd(), &mut byte, flags).map_err(|_| Broken::Server)
    }

    fn read(&mut self) -> Result<(), Broken> {
        let start = self.inbox.len();
        self.inbox.resize(start + LONGEST_HEAD, 0);
        let place = self.inbox.get_mut(start..).unwrap_or_default();
        let count = match (&self.flow.guest).read(place) {
            Ok(0) => {
                // It may listen still, to a server that speaks without being asked.
                self.guest = if start == 0 && self.host.is_some() {
                    Guest::Done
                } else {
                    Guest::Foreign
                };
                0
            }
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => 0,
            Err(error) => return Err(guest(error)),
        };
        self.inbox.truncate(start + count);
        Ok(())
    }

    /// Decides who answers a request, and asks the server if it is that.
    fn plan(&mut self, request: Request) -> Result<Pending, Broken> {
        let policy = request.for_policy().filter(|_| request.is_cacheable());
        let Some(policy) = policy else {
            return self.ask(request, None, None);
        };
        let key = self.key(&request);
        let kind = Kind::of(&request.target);
        let stored = self.flow.shared.store.lookup(&key);
        let usable = stored.map(|stored| (self.usable(&key, &stored, &policy, &kind), stored));
        let keep = |download| Keep {
            key: key.clone(),
            request: policy.clone(),
            kind: kind.clone(),
            download,
        };
        match usable {
            // A guest that has a copy asks about that one.
            _ if request.range().is_none() && request.is_conditional() => {
                self.ask(request, Some(keep(None)), None)
            }
            Some((Use::AtOnce, stored)) => Ok(Pending::Stored(Box::new(stored), request)),
            _ if request.range().is_some() => self.ask(request, None, None),
            Some((Use::Asked(fields), stored)) => {
                self.ask(request, Some(keep(None)), Some((Box::new(stored), fields)))
            }
            Some((Use::Never, _)) | None => match self.flow.shared.store.claim(&key) {
                Ok(Claim::Others(waiting)) => Ok(Pending::Followed(waiting, request)),
                Ok(Claim::Ours(download)) => self.fetch(request, keep, download),
                Err(error) => {
                    log::debug!("nothing is kept: {error}");
                    self.ask(request, None, None)
                }
            },
        }
    }

    /// Fetches what no other one fetches, unless that has just ended.
    fn fetch(
        &mut self,
        request: Request,
        keep: impl Fn(Option<Download>) -> Keep,
        download: Download,
    ) -> Result<Pending, Broken> {
        let keep = keep(Some(download));
        if let Some(stored) = self.flow.shared.store.lookup(&keep.key)
            && !matches!(
                self.usable(&keep.key, &stored, &keep.request, &keep.kind),
                Use::Never
            )
        {
            return Ok(Pending::Stored(Box::new(stored), request));
        }
        self.ask(request, Some(keep), None)
    }

    /// Under which name an answer is kept.
    fn key(&mut self, request: &Request) -> Key {
        let flow = self.flow;
        let shared = &flow.shared;
        // To a proxy: it is the proxy that answers.
        let to_proxy = !request.target.starts_with('/');
        let is_users = |proxy: &String| shared.names.are_of(&shared.parent, proxy, flow.peer);
        if to_proxy && shared.proxies.iter().any(is_users) {
            return Key::new(Server::Proxied(&request.host), &request.target);
        }
        let named = match &mut self.host {
            Some((_, true)) => true,
            Some((host, known)) if !to_proxy => {
                *known = shared.names.are_of(&shared.parent, host, flow.peer);
                *known
            }
            _ => false,
        };
        let server = if named && !to_proxy {
            Server::Named(&request.host)
        } else {
            Server::At(flow.peer, &request.host)
        };
        Key::new(server, &request.target)
    }

    /// Sends a request to the server.
    fn ask(
        &mut self,
        request: Request,
        keep: Option<Keep>,
        stored: Option<(Box<Stored>, Vec<Field>)>,
    ) -> Result<Pending, Broken> {
        let (stored, fields) = stored.unzip();
        let bytes = request.write(&fields.unwrap_or_default());
        self.requested += bytes.len();
        let (to, pieces) = sync_channel(PIECES);
        let job = Job {
            request: request.clone(),
            keep,
            stored,
            to,
        };
        // Before the server can answer: what it says without a request ends the connection.
        self.jobs()?.send(job).map_err(|_| Broken::Server)?;
        (&self.flow.server).write_all(&bytes).map_err(server)?;
        Ok(Pending::Fetched(pieces, request, bytes.len()))
    }

    /// Returns the way to the thread that reads what the server says.
    fn jobs(&mut self) -> Result<&SyncSender<Job>, Broken> {
        if self.jobs.is_none() {
            let (jobs, wanted) = sync_channel(PIPELINE);
            let stream = self.flow.server.try_clone().map_err(server)?;
            let shared = Arc::clone(&self.flow.shared);
            std::thread::Builder::new()
                .stack_size(CHUNK * 4)
                .spawn(move || reader::run(stream, &wanted, &shared))
                .map_err(server)?;
            self.jobs = Some(jobs);
        }
        self.jobs.as_ref().ok_or(Broken::Server)
    }

    /// Asks the server for what another one has not fetched to its end.
    pub(super) fn ask_after_all(
        &mut self,
        request: Request,
        output: Output<'f>,
    ) -> Result<Next, Broken> {
        // It may have closed the connection while the guest had something else to do. A guest asks again
        // then, over another one, unless it has a part of the answer.
        if is_readable(&self.flow.server) && !output.is_resumed() {
            return Ok(Next::Ends);
        }
        let pending = match request.for_policy() {
            Some(policy) => {
                let keep = Keep {
                    key: self.key(&request),
                    kind: Kind::of(&request.target),
                    request: policy,
                    download: None,
                };
                self.ask(request, Some(keep), None)?
            }
            None => self.ask(request, None, None)?,
        };
        match pending {
            Pending::Fetched(pieces, request, bytes) => {
                self.requested -= bytes;
                self.relay(&pieces, &request, output)
            }
            _ => Err(Broken::Server),
        }
    }

    /// Passes on what the server answers.
    fn relay(
        &self,
        pieces: &Receiver<Piece>,
        request: &Request,
        mut output: Output<'f>,
    ) -> Result<Next, Broken> {
        loop {
            match pieces.recv().map_err(|_| Broken::Server)? {
                Piece::Head(_, length) if output.is_resumed() => output.check(length)?,
                Piece::Head(bytes, _) => output.raw(&bytes)?,
                Piece::Body(bytes) => output.body(&bytes)?,
                Piece::File(file, progress) => {
                    let mut seen = 0;
                    loop {
                        let now = progress.after(seen);
                        seen += output.file(&file, seen, now.written)?;
                        if seen < now.written {
                            return Err(Broken::Server);
                        }
                        if now.ended {
                            break;
                        }
                    }
                }
                Piece::Stored(stored) => {
                    let next = self.serve(&stored, request, output)?;
                    // Its reader must not find this end closed: it has other answers to read.
                    return Ok(match pieces.recv() {
                        Ok(Piece::End { closes: false }) => next,
                        _ => Next::Ends,
                    });
                }
                Piece::End { closes } if closes || request.closes => return Ok(Next::Ends),
                Piece::End { .. } => return Ok(Next::GoesOn),
            }
        }
    }

    /// Answers with what is kept.
    pub(super) fn serve(
        &self,
        stored: &Stored,
        request: &Request,
        output: Output<'f>,
    ) -> Result<Next, Broken> {
        serve::serve(stored, request, output, &self.flow.shared.counters)
    }

    /// How what is kept can be used for a request.
    fn usable(&self, key: &Key, stored: &Stored, request: &http::Request<()>, kind: &Kind) -> Use {
        let before = stored.policy().before_request(request, SystemTime::now());
        let says = |name| values(stored.fields(), name).next();
        let unchanged = || {
            // Where the server says nothing of the time, it is its lists that tell.
            let timed = says("cache-control").is_some() || says("expires").is_some();
            let insists = request.headers().contains_key("cache-control")
                || request.headers().contains_key("pragma");
            !timed && !insists && self.flow.shared.store.is_unchanged(key, stored)
        };
        match (before, kind) {
            (BeforeRequest::Stale { matches: false, .. }, _) => return Use::Never,
            (BeforeRequest::Fresh(_), Kind::Package) | (_, Kind::Hashed(_)) => return Use::AtOnce,
            (_, Kind::Package) if unchanged() => return Use::AtOnce,
            _ => {}
        }
        let asks = [
            ("etag", "If-None-Match"),
            ("last-modified", "If-Modified-Since"),
        ];
        let fields = asks.map(|(name, asks)| says(name).map(|value| field(asks, &value)));
        let fields: Vec<Field> = fields.into_iter().flatten().collect();
        if fields.is_empty() {
            Use::Never
        } else {
            Use::Asked(fields)
        }
    }

    /// Whether a request can be answered with what another one has just fetched.
    pub(super) fn may_serve(
        &mut self,
        stored: &Stored,
        request: &Request,
        output: &Output<'f>,
    ) -> bool {
        let Some(policy) = request.for_policy() else {
            return false;
        };
        let kind = Kind::of(&request.target);
        let key = self.key(request);
        output.check(Some(stored.length())).is_ok()
            && !matches!(self.usable(&key, stored, &policy, &kind), Use::Never)
    }
}

/// Whether there is something to read, or the end.
fn is_readable(stream: &impl AsFd) -> bool {
    let mut polled = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}
