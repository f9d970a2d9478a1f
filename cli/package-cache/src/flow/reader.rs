//! What servers answer: read by a thread of its own, in the order of the requests.

use std::fs::File;
use std::io::{self, Read};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::SystemTime;

use http_cache_semantics::{AfterResponse, CacheOptions, CachePolicy};

use super::answer::kept_fields;
use super::connection::{CHUNK, Shared};
use super::progress::Progress;
use crate::http::body::Chunks;
use crate::http::request::Request;
use crate::http::response::{Framing, Response};
use crate::http::{LONGEST_HEAD, Parsed, values};
use crate::kind::Kind;
use crate::store::{Announced, Claim, Download, Key, Stored};

/// Interim answers before the one that counts (RFC 9110, section 15.2).
const INTERIM: usize = 8;

/// A request that was sent.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) request: Request,
    /// How its answer is kept, if it may be.
    pub(super) keep: Option<Keep>,
    /// What is kept, whose news the request asks for.
    pub(super) stored: Option<Box<Stored>>,
    /// Gets the answer.
    pub(super) to: SyncSender<Piece>,
}

/// How an answer is kept.
#[derive(Debug)]
pub(super) struct Keep {
    pub(super) key: Key,
    pub(super) request: http::Request<()>,
    pub(super) kind: Kind,
    /// The claim, if it is made already.
    pub(super) download: Option<Download>,
}

/// A part of an answer, for the guest.
#[derive(Debug)]
pub(super) enum Piece {
    /// A head, and the length of the body if it is known.
    Head(Vec<u8>, Option<u64>),
    /// Bytes of the body, as they are on the line.
    Body(Vec<u8>),
    /// A body that is in this file as far as the other one says.
    File(File, Arc<Progress>),
    /// What is kept is still good.
    Stored(Box<Stored>),
    /// The end of the answer; the server may have ended the connection.
    End { closes: bool },
}

/// Why there is no whole answer.
struct Lost;

impl From<io::Error> for Lost {
    fn from(_: io::Error) -> Lost {
        Lost
    }
}

/// Reads answers until there are no more requests. An answer that is not whole has no [`Piece::End`].
pub(super) fn run(stream: TcpStream, jobs: &Receiver<Job>, shared: &Shared) {
    let mut reader = Reader {
        stream,
        shared,
        inbox: Vec::new(),
    };
    let mut next = jobs.recv().ok();
    while let Some(job) = next {
        let to = job.to.clone();
        let Ok(closes) = reader.answer(job) else {
            return;
        };
        next = jobs.try_recv().ok();
        // What comes without a request is the answer to none.
        let closes = closes || next.is_none() && !reader.inbox.is_empty();
        if to.send(Piece::End { closes }).is_err() || closes {
            return;
        }
        drop(to);
        if next.is_none() {
            next = jobs.recv().ok();
        }
    }
}

struct Reader<'s> {
    stream: TcpStream,
    shared: &'s Shared,
    /// What was read and belongs to what follows.
    inbox: Vec<u8>,
}

impl Reader<'_> {
    /// Reads an answer. Returns whether it was the last one of the connection.
    fn answer(&mut self, mut job: Job) -> Result<bool, Lost> {
        for _ in 0..INTERIM {
            let Some((head, bytes)) = self.head()? else {
                return self.rest(&job);
            };
            if head.status >= 200 {
                return self.final_answer(job, &head, bytes);
            }
            if head.status == 101 {
                return Err(Lost);
            }
            send(&mut job, Piece::Head(bytes, None))?;
        }
        Err(Lost)
    }

    fn final_answer(
        &mut self,
        mut job: Job,
        head: &Response,
        bytes: Vec<u8>,
    ) -> Result<bool, Lost> {
        let closes = head.closes;
        if head.status == 304
            && let Some(stored) = job.stored.take()
        {
            let stored = self.confirmed(&job, *stored, head)?;
            send(&mut job, Piece::Stored(Box::new(stored)))?;
            return Ok(closes);
        }
        match head.framing(job.request.is_get) {
            Some(Framing::Length(length)) => {
                let known = (head.status == 200).then_some(length);
                send(&mut job, Piece::Head(bytes, known))?;
                let download = self.download(&mut job, head, Some(length));
                match download {
                    Some((download, policy)) => {
                        self.keep(job, head, length, download, policy)?;
                    }
                    None => self.pass(&mut job, length)?,
                }
                Ok(closes)
            }
            Some(Framing::Chunked) => {
                send(&mut job, Piece::Head(bytes, None))?;
                self.chunks(job, head)?;
                Ok(closes)
            }
            // A length that is not to be believed has the server's own words, to the end.
            Some(Framing::Rest) | None => {
                send(&mut job, Piece::Head(bytes, None))?;
                self.rest(&job)
            }
        }
    }

    /// Updates what is kept by its server's word that it is still good.
    fn confirmed(&self, job: &Job, mut stored: Stored, head: &Response) -> Result<Stored, Lost> {
        let keep = job.keep.as_ref().ok_or(Lost)?;
        let mut head = head.clone();
        // It was asked by the validators of what is kept: a server that does not say them again means that.
        for name in ["etag", "last-modified"] {
            let known = values(&head.fields, name).next().is_some();
            let own = values(stored.fields(), name).next().map(str::to_owned);
            if let (false, Some(own)) = (known, own) {
                head.fields.push((name.to_owned(), own));
            }
        }
        let response = head.for_policy().ok_or(Lost)?;
        let now = SystemTime::now();
        match stored
            .policy()
            .after_response(&keep.request, &response, now)
        {
            AfterResponse::NotModified(policy, _) => {
                self.shared.store.refresh(&keep.key, &mut stored, policy);
                Ok(stored)
            }
            AfterResponse::Modified(..) => Err(Lost),
        }
    }

    /// Returns where an answer is kept, if it is to be.
    fn download(
        &self,
        job: &mut Job,
        head: &Response,
        length: Option<u64>,
    ) -> Option<(Download, CachePolicy)> {
        let keep = job.keep.as_mut()?;
        let download = self.claimed(keep, head, length);
        // A list that is not kept cannot be compared with the next one.
        if download.is_none() && head.status == 200 && keep.kind == Kind::Other {
            self.shared.store.server_has_changed(&keep.key);
        }
        download
    }

    fn claimed(
        &self,
        keep: &mut Keep,
        head: &Response,
        length: Option<u64>,
    ) -> Option<(Download, CachePolicy)> {
        let claimed = keep.download.take();
        if head.is_for_one() {
            return None;
        }
        let fits = |length| length > 0 && length <= self.shared.store.largest();
        if !length.is_none_or(fits) {
            return None;
        }
        let options = CacheOptions {
            shared: true,
            // Where the server says nothing, it is asked.
            cache_heuristic: 0.0,
            ..CacheOptions::default()
        };
        let response = head.for_policy()?;
        let now = SystemTime::now();
        let policy = CachePolicy::new_options(&keep.request, &response, now, options);
        if !policy.is_storable() || values(&head.fields, "vary").any(|vary| vary.contains('*')) {
            return None;
        }
        let download = claimed.or_else(|| match self.shared.store.claim(&keep.key) {
            Ok(Claim::Ours(download)) => Some(download),
            _ => None,
        })?;
        Some((download, policy))
    }

    /// Has a body come into a file, from which the guest is served.
    fn keep(
        &mut self,
        mut job: Job,
        head: &Response,
        length: u64,
        mut download: Download,
        policy: CachePolicy,
    ) -> Result<(), Lost> {
        let fields = kept_fields(&head.fields);
        if values(&head.fields, "vary").next().is_none() {
            // Without, others wait for the end.
            let _ = download.announce(&Announced {
                fields: fields.clone(),
                length,
            });
        }
        let Ok(file) = download.reader() else {
            drop(download);
            return self.pass(&mut job, length);
        };
        let progress = Arc::new(Progress::default());
        let ended = Ended(&progress);
        send(&mut job, Piece::File(file, Arc::clone(&progress)))?;
        let (mut left, mut last) = (length, 0);
        while left > 0 {
            let bytes = self.some(left)?;
            left -= bytes.len() as u64;
            if let Err(error) = download.write(&bytes) {
                log::debug!("a package is not kept: {error}");
                drop((download, ended));
                send(&mut job, Piece::Body(bytes))?;
                return self.pass(&mut job, left);
            }
            if left > 0 {
                progress.written(bytes.len());
            } else {
                last = bytes.len();
            }
        }
        // Before the guest has the last byte, so that its next request finds the file.
        if let Some(keep) = &job.keep
            && let Err(error) = download.keep(fields, policy, &keep.kind)
        {
            log::debug!("a package is not kept: {error}");
        }
        progress.written(last);
        drop(ended);
        Ok(())
    }

    /// Passes on so many bytes.
    fn pass(&mut self, job: &mut Job, length: u64) -> Result<(), Lost> {
        let mut left = length;
        while left > 0 {
            let bytes = self.some(left)?;
            left -= bytes.len() as u64;
            send(job, Piece::Body(bytes))?;
        }
        Ok(())
    }

    /// Passes on a chunked body as it is, and keeps what is in it.
    fn chunks(&mut self, mut job: Job, head: &Response) -> Result<(), Lost> {
        let mut kept = self.download(&mut job, head, None);
        let largest = self.shared.store.largest();
        let mut chunks = Chunks::default();
        let mut length = 0;
        while !chunks.is_done() {
            if self.inbox.is_empty() {
                self.more()?;
            }
            let mut raw = std::mem::take(&mut self.inbox);
            let mut at = 0;
            while at < raw.len() && !chunks.is_done() {
                let rest = raw.get(at..).unwrap_or_default();
                let step = chunks.step(rest).map_err(|_| Lost)?;
                let data = rest.get(step.data).unwrap_or_default();
                at += step.taken;
                length += data.len() as u64;
                self.shared.counters.fetched(data.len());
                let bad =
                    |download: &mut Download| length > largest || download.write(data).is_err();
                if kept.as_mut().is_some_and(|(download, _)| bad(download)) {
                    kept = None;
                }
            }
            self.inbox = raw.split_off(at);
            if chunks.is_done() {
                // Before the guest has the last byte, so that its next request finds the file.
                if let (Some((download, policy)), Some(keep)) =
                    (kept.take().filter(|_| length > 0), &job.keep)
                {
                    // Without, the next one fetches it again.
                    let _ = download.keep(kept_fields(&head.fields), policy, &keep.kind);
                }
            }
            send(&mut job, Piece::Body(raw))?;
        }
        Ok(())
    }

    /// Passes on everything to the end of the connection.
    fn rest(&mut self, job: &Job) -> Result<bool, Lost> {
        loop {
            let bytes = std::mem::take(&mut self.inbox);
            self.shared.counters.fetched(bytes.len());
            if !bytes.is_empty() {
                job.to.send(Piece::Body(bytes)).map_err(|_| Lost)?;
            }
            if !self.fill()? {
                return Ok(true);
            }
        }
    }

    /// Returns the next bytes of a body, at most so many.
    fn some(&mut self, most: u64) -> Result<Vec<u8>, Lost> {
        if self.inbox.is_empty() {
            self.more()?;
        }
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let behind = self.inbox.split_off(most.min(self.inbox.len()));
        let bytes = std::mem::replace(&mut self.inbox, behind);
        self.shared.counters.fetched(bytes.len());
        Ok(bytes)
    }

    /// Reads a head. `None` if what comes is not one; it is left in the inbox.
    fn head(&mut self) -> Result<Option<(Response, Vec<u8>)>, Lost> {
        loop {
            match Response::parse(&self.inbox) {
                Parsed::Whole(head, len) => {
                    let behind = self.inbox.split_off(len);
                    let bytes = std::mem::replace(&mut self.inbox, behind);
                    return Ok(Some((head, bytes)));
                }
                Parsed::Partial if self.inbox.len() < LONGEST_HEAD => self.more()?,
                Parsed::Partial | Parsed::Foreign => return Ok(None),
            }
        }
    }

    /// Reads more.
    fn more(&mut self) -> Result<(), Lost> {
        if self.fill()? { Ok(()) } else { Err(Lost) }
    }

    /// Reads more. False at the end.
    fn fill(&mut self) -> io::Result<bool> {
        let start = self.inbox.len();
        self.inbox.resize(start + CHUNK, 0);
        loop {
            let place = self.inbox.get_mut(start..).unwrap_or_default();
            match self.stream.read(place) {
                Ok(count) => {
                    self.inbox.truncate(start + count);
                    return Ok(count > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.inbox.truncate(start);
                    return Err(error);
                }
            }
        }
    }
}

/// Tells of the end of a file, however it comes.
struct Ended<'p>(&'p Progress);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn send(job: &mut Job, piece: Piece) -> Result<(), Lost> {
    job.to.send(piece).map_err(|_| Lost)
}
