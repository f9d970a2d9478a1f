//! The process that has something read.

use std::fs::File;
use std::io::{self, PipeReader, Read, Write, pipe};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use boxbuild_host::error::{Classify, ErrorClass};
use boxbuild_host::interrupt::Interrupt;
use boxbuild_host::text::plain;
use boxbuild_jail::{Exit, Jailed, Launch, LaunchError, Program};
use serde::de::DeserializeOwned;

use crate::child::ROLE;
use crate::disk::DiskFacts;
use crate::job::{Job, Message, TreeFacts, TreeJob, TreeSource};
use crate::survey::Survey;

/// How often the user's requests to stop, and the time, are looked at.
const TICK: Duration = Duration::from_millis(50);
/// Time for a child that is done to end.
const GRACE: Duration = Duration::from_secs(10);
/// Bytes that are taken from a pipe at once.
const CHUNK: usize = 256 << 10;
/// Longest text of a child that is shown, in characters.
const LONGEST_TEXT: usize = 1000;
/// Most files of an OCI layout that a child gets.
const MOST_WANTED: usize = 2000;

/// Starts processes that read what is not trusted, one for each piece of work.
#[derive(Debug, Clone)]
pub struct Parser {
    program: Program,
    interrupt: Interrupt,
}

/// Where something goes that a child makes.
pub struct Output<'a> {
    writer: &'a mut (dyn Write + Send),
    limit: u64,
}

impl std::fmt::Debug for Output<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl<'a> Output<'a> {
    /// At most `limit` bytes go to `writer`.
    pub fn new(writer: &'a mut (dyn Write + Send), limit: u64) -> Output<'a> {
        Output { writer, limit }
    }
}

/// Where the parts of a root tree go.
#[derive(Debug)]
pub struct TreeOutputs<'a> {
    /// The tree as one archive.
    pub tree: Output<'a>,
    /// Its newest kernel, if that is wanted.
    pub kernel: Option<Output<'a>>,
    /// Its newest initial ramdisk, if that is wanted.
    pub initrd: Option<Output<'a>>,
}

/// Where the files of an exported box go.
#[derive(Debug)]
pub struct BoxOutputs<'a> {
    /// Its kernel.
    pub kernel: Output<'a>,
    /// Its initial ramdisk.
    pub initrd: Output<'a>,
    /// Its disk.
    pub disk: Output<'a>,
    /// Its container image; nothing goes there if it has none.
    pub container: Output<'a>,
}

/// Something cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// What is wrong with it, or that it is more than it may be.
    #[error("{0}")]
    Refused(String),
    /// The process that read it met a limit.
    #[error("reading it takes too much: the process for that {0}")]
    Limit(String),
    /// The process that read it broke.
    #[error("the process that reads it ended: {0}")]
    Ended(String),
    /// The process that read it did not end in time.
    #[error("reading it takes longer than {} s", .0.as_secs())]
    TimedOut(Duration),
    /// No process can be started.
    #[error("cannot start a process that reads it")]
    Start(#[source] LaunchError),
    /// The host failed.
    #[error("the process that reads it cannot be used")]
    Host(#[source] io::Error),
    /// What it is unpacked to cannot be written.
    #[error("cannot write what is in it")]
    Write(#[source] io::Error),
    /// The user interrupted it.
    #[error("interrupted")]
    Interrupted,
}

impl ParseError {
    /// Whether the same input would come to the same again.
    pub fn is_final(&self) -> bool {
        matches!(self, ParseError::Refused(_) | ParseError::Limit(_))
    }
}

impl Classify for ParseError {
    fn class(&self) -> ErrorClass {
        match self {
            ParseError::Interrupted => ErrorClass::Interrupted,
            _ => ErrorClass::Host,
        }
    }
}

/// A piece of work, with what the child may ask for.
struct Request<'a, 'o> {
    job: Job,
    input: Option<&'a File>,
    outputs: Vec<Output<'o>>,
    /// Decides on the number of bytes that are going to be written.
    size: &'a mut dyn FnMut(u64) -> io::Result<()>,
    /// Opens a file of an OCI layout.
    open: &'a mut dyn FnMut(&str) -> io::Result<File>,
}

impl Parser {
    /// Returns a parser whose work ends when the user interrupts it.
    pub fn new(interrupt: Interrupt) -> Parser {
        Parser {
            program: Program::this(),
            interrupt,
        }
    }

    /// Unpacks kernel and initial ramdisk of a published box's archive.
    ///
    /// # Errors
    /// Fails if the archive is damaged or lacks one of them.
    pub fn boot_archive<'a>(
        &self,
        archive: &File,
        kernel: Output<'a>,
        initrd: Option<Output<'a>>,
    ) -> Result<(), ParseError> {
        let job = Job::BootArchive {
            initrd: initrd.is_some(),
        };
        let outputs = std::iter::once(kernel).chain(initrd).collect();
        self.run(job, archive, outputs)
    }

    /// Unpacks the archive of an exported box. Returns the description in it, which is as little
    /// trusted as the rest.
    ///
    /// # Errors
    /// Fails if it is damaged, or is something else.
    pub fn box_archive(
        &self,
        archive: &File,
        outputs: BoxOutputs<'_>,
    ) -> Result<String, ParseError> {
        let BoxOutputs {
            kernel,
            initrd,
            disk,
            container,
        } = outputs;
        let outputs = vec![kernel, initrd, disk, container];
        self.run(Job::BoxArchive, archive, outputs)
    }

    /// Looks at a disk image; with `qcow2`, a raw one is refused.
    ///
    /// # Errors
    /// Fails if it is damaged, or in use by a writer.
    pub fn disk(&self, image: &File, qcow2: bool) -> Result<DiskFacts, ParseError> {
        self.run(Job::Disk { qcow2 }, image, Vec::new())
    }

    /// Writes a disk as plain qcow2. `size` gets the length first, and can refuse it.
    ///
    /// # Errors
    /// Fails if the image is damaged, or the output cannot be written.
    pub fn plain_disk(
        &self,
        image: &File,
        out: Output<'_>,
        size: &mut dyn FnMut(u64) -> io::Result<()>,
    ) -> Result<(), ParseError> {
        self.carry_out(Request {
            job: Job::PlainDisk,
            input: Some(image),
            outputs: vec![out],
            size,
            open: &mut nothing,
        })
    }

    /// Returns the type of the file system that `root=` among `cmdline` names, if that can be told.
    ///
    /// # Errors
    /// Fails if the image is damaged.
    pub fn root_kind(
        &self,
        image: &File,
        cmdline: &[String],
    ) -> Result<Option<String>, ParseError> {
        let cmdline = cmdline.to_vec();
        self.run(Job::RootKind { cmdline }, image, Vec::new())
    }

    /// Unpacks the kernel in a bzImage. Returns whether QEMU can start it.
    ///
    /// # Errors
    /// Fails if there is none.
    pub fn kernel(&self, packed: &File, out: Output<'_>) -> Result<bool, ParseError> {
        self.run(Job::Kernel, packed, vec![out])
    }

    /// Reduces an initial ramdisk to what a fast boot needs of it. Returns whether that can be done.
    ///
    /// # Errors
    /// Fails if it is damaged, or too much work.
    pub fn ramdisk(
        &self,
        ramdisk: &File,
        root: Option<&str>,
        out: Output<'_>,
    ) -> Result<bool, ParseError> {
        let root = root.map(str::to_owned);
        self.run(Job::Ramdisk { root }, ramdisk, vec![out])
    }

    /// Lists what is in a result, line by line (docs/provenance.md).
    ///
    /// # Errors
    /// Fails if it is damaged, or the list is longer than `out` takes.
    pub fn listing(&self, result: &File, out: Output<'_>) -> Result<(), ParseError> {
        self.run(Job::Listing, result, vec![out])
    }

    /// Puts a root tree together. `input` is the archive; of a folder, `open` opens the files. `arch` is
    /// the architecture in the words of OCI images.
    ///
    /// # Errors
    /// Fails if an archive is damaged, or leads out of the tree.
    pub fn tree(
        &self,
        source: TreeSource,
        arch: &str,
        input: Option<&File>,
        outputs: TreeOutputs<'_>,
        open: &mut dyn FnMut(&str) -> io::Result<File>,
    ) -> Result<TreeFacts, ParseError> {
        let job = TreeJob {
            source,
            arch: arch.to_owned(),
            kernel: outputs.kernel.is_some(),
            initrd: outputs.initrd.is_some(),
        };
        let parts = [Some(outputs.tree), outputs.kernel, outputs.initrd];
        self.carry_out(Request {
            job: Job::Tree(job),
            input,
            outputs: parts.into_iter().flatten().collect(),
            size: &mut |_| Ok(()),
            open,
        })
    }

    /// Looks at what is in an archive or a compressed file.
    ///
    /// # Errors
    /// Fails if it is damaged.
    pub fn survey(&self, file: &File) -> Result<Survey, ParseError> {
        self.run(Job::Survey, file, Vec::new())
    }

    /// Writes the entry `number` of an archive.
    ///
    /// # Errors
    /// Fails if the archive is damaged, or the output cannot be written.
    pub fn part(&self, archive: &File, number: usize, out: Output<'_>) -> Result<(), ParseError> {
        self.run(Job::Part(number), archive, vec![out])
    }

    /// Unpacks a compressed file.
    ///
    /// # Errors
    /// Fails if it is damaged, or the output cannot be written.
    pub fn unpack(&self, file: &File, out: Output<'_>) -> Result<(), ParseError> {
        self.run(Job::Unpack, file, vec![out])
    }

    fn run<R: DeserializeOwned>(
        &self,
        job: Job,
        input: &File,
        outputs: Vec<Output<'_>>,
    ) -> Result<R, ParseError> {
        self.carry_out(Request {
            job,
            input: Some(input),
            outputs,
            size: &mut |_| Ok(()),
            open: &mut nothing,
        })
    }

    fn carry_out<R: DeserializeOwned>(&self, request: Request<'_, '_>) -> Result<R, ParseError> {
        let Request {
            job,
            input,
            outputs,
            size,
            open,
        } = request;
        let (mut readers, mut writers) = (Vec::new(), Vec::new());
        for output in outputs {
            let (reader, writer) = pipe().map_err(ParseError::Host)?;
            readers.push((reader, output));
            writers.push(writer);
        }
        std::thread::scope(|scope| {
            let mut launch = Launch::new(&self.program, ROLE.name);
            if let Some(input) = &input {
                launch = launch.descriptor(*input);
            }
            for writer in &writers {
                launch = launch.descriptor(writer);
            }
            let child = launch.start(&job).map_err(ParseError::Start)?;
            // The child has the only other ends: they end with it.
            drop(writers);
            let pumps: io::Result<Vec<_>> = readers
                .into_iter()
                .map(|(reader, output)| {
                    let pump = move || pump(reader, output);
                    std::thread::Builder::new().spawn_scoped(scope, pump)
                })
                .collect();
            let pumps = pumps.map_err(|error| {
                // Its ends of the pipes close with it, and the threads that there are end.
                child.kill();
                ParseError::Host(error)
            })?;
            let reply = self.attend(&child, &job, size, open);
            if reply.is_err() {
                child.kill();
            }
            let exit = child.wait(GRACE).map_err(ParseError::Host)?;
            for pump in pumps {
                let failed = |_| Err(io::Error::other("a thread ended early"));
                pump.join().unwrap_or_else(failed).map_err(not_written)?;
            }
            match reply? {
                Some(reply) => Ok(reply),
                None => Err(why(&exit, &job)),
            }
        })
    }

    /// Answers the child until it is done; `None` if it ends before.
    fn attend<R: DeserializeOwned>(
        &self,
        child: &Jailed,
        job: &Job,
        size: &mut dyn FnMut(u64) -> io::Result<()>,
        open: &mut dyn FnMut(&str) -> io::Result<File>,
    ) -> Result<Option<R>, ParseError> {
        let channel = child.channel();
        let deadline = Instant::now() + job.deadline();
        let mut wanted = 0;
        loop {
            let message = match channel.receive(Some(TICK)) {
                Ok(Some(message)) => message,
                Ok(None) => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    if self.interrupt.count() > 0 {
                        return Err(ParseError::Interrupted);
                    }
                    if Instant::now() >= deadline {
                        return Err(ParseError::TimedOut(job.deadline()));
                    }
                    continue;
                }
                Err(error) => return Err(ParseError::Host(error)),
            };
            let message = serde_json::from_slice(&message).map_err(|error| {
                ParseError::Ended(format!("its answer cannot be read: {error}"))
            })?;
            let sent = match message {
                Message::Done(reply) => return Ok(Some(reply)),
                Message::Failed(text) => return Err(ParseError::Refused(shown(text.as_bytes()))),
                Message::Size(bytes) => {
                    size(bytes).map_err(ParseError::Write)?;
                    channel.send(b"go on", &[])
                }
                Message::Want(name) => {
                    wanted += 1;
                    if wanted > MOST_WANTED {
                        return Err(ParseError::Refused(String::from("it has too many parts")));
                    }
                    match open(&name) {
                        Ok(file) => channel.send(b"here", &[file.as_fd()]),
                        Err(_) => channel.send(b"none", &[]),
                    }
                }
            };
            // One that is gone is found at the next look.
            let _ = sent;
        }
    }
}

/// There are no further files.
fn nothing(_name: &str) -> io::Result<File> {
    Err(io::ErrorKind::NotFound.into())
}

/// Moves what comes out of a pipe to its place.
fn pump(mut pipe: PipeReader, output: Output<'_>) -> io::Result<()> {
    let Output { writer, limit } = output;
    let mut buffer = vec![0; CHUNK];
    let mut left = limit;
    loop {
        let count = match pipe.read(&mut buffer) {
            Ok(0) => return writer.flush(),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        left = left.checked_sub(count as u64).ok_or_else(|| {
            let text = format!("it unpacks to more than {} MiB", limit >> 20);
            io::Error::new(io::ErrorKind::FileTooLarge, text)
        })?;
        writer.write_all(&buffer[..count])?;
    }
}

fn not_written(error: io::Error) -> ParseError {
    match error.kind() {
        io::ErrorKind::FileTooLarge => ParseError::Refused(error.to_string()),
        _ => ParseError::Write(error),
    }
}

/// Why a child ended before it was done.
fn why(exit: &Exit, job: &Job) -> ParseError {
    let words = shown(&exit.words);
    if words.contains("memory allocation of") {
        let most = job.limits().memory.unwrap_or_default() >> 20;
        return ParseError::Limit(format!("needs more than {most} MiB of memory"));
    }
    // Another signal may be the host's, which has too little memory at the moment.
    if exit.status.signal() == Some(libc::SIGXCPU) {
        let most = job.processor().as_secs();
        return ParseError::Limit(format!("needs more than {most} s of processor time"));
    }
    ParseError::Ended(if words.is_empty() {
        exit.to_string()
    } else {
        format!("{exit}: {words}")
    })
}

/// A text of a child, fit for a terminal.
fn shown(bytes: &[u8]) -> String {
    let lines: Vec<String> = bytes
        .split(|byte| *byte == b'\n')
        .map(plain)
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines.join("; ").chars().take(LONGEST_TEXT).collect()
}
