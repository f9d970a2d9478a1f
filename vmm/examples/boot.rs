//! Boots a kernel: a machine to try things with.
//!
//! The guest's serial port and console go to standard output, its control port to standard
//! error with a prefix. Exit code: 0 if it powered itself off, 3 after a reset, 1 otherwise.

#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a program for the terminal"
)]

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use boxbuild_virtiofs::MountTag;
use boxbuild_vmm::disk::{DiskConfig, ImageFormat, NamedFile, OverlayConfig, tmpfile};
use boxbuild_vmm::machine::{self, Config, Ended, Event, PassthroughFs, Share};
use boxbuild_vmm::net::NetworkConfig;
use boxbuild_vmm::virtio::console::{Input, Port};
use clap::Parser;

/// How long a console that is to be answered may say nothing.
const SILENCE: Duration = Duration::from_secs(15);

/// Boots a kernel over /dev/kvm.
#[derive(Parser)]
struct Args {
    /// bzImage or ELF file; on Arm an Image
    #[arg(long)]
    kernel: PathBuf,
    /// Initial ramdisk
    #[arg(long)]
    initrd: Option<PathBuf>,
    /// Kernel command line
    #[arg(long, default_value = "console=ttyS0 panic=-1")]
    cmdline: String,
    /// Memory in MiB
    #[arg(long, default_value_t = 256)]
    memory: u64,
    /// Number of CPUs
    #[arg(long, default_value_t = 1)]
    cpus: u32,
    /// Disk: a raw file; "ro:FILE" read only; "overlay:FILE" an image, raw or qcow2, under a
    /// throw-away overlay in the current folder
    #[arg(long)]
    disk: Vec<String>,
    /// Share a folder: TAG=FOLDER
    #[arg(long)]
    share: Vec<String>,
    /// Give it a network
    #[arg(long)]
    net: bool,
    /// Let it run virtual machines itself
    #[arg(long)]
    nested: bool,
    /// Let it reach PCI by ports, too
    #[arg(long)]
    config_ports: bool,
    /// No console, random numbers and balloon
    #[arg(long)]
    serial_only: bool,
    /// Say something to the guest's console
    #[arg(long)]
    input: Option<String>,
    /// When the console says TEXT, type REPLY and a line feed: TEXT=REPLY. Each once, in order. A line
    /// feed alone after each 15 s of silence: a prompt that something else was written into comes again
    #[arg(long)]
    answer: Vec<String>,
    /// Say how long it took
    #[arg(long)]
    time: bool,
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(Ended::PoweredOff) => ExitCode::SUCCESS,
        Ok(Ended::Reset) => ExitCode::from(3),
        Ok(Ended::TripleFault(place)) => {
            eprintln!("triple fault: {place}");
            ExitCode::from(3)
        }
        Ok(ended) => {
            eprintln!("{ended:?}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprint!("{error}");
            let mut source = error.source();
            while let Some(error) = source {
                eprint!(": {error}");
                source = error.source();
            }
            eprintln!();
            ExitCode::FAILURE
        }
    }
}

fn open(disk: &str) -> Result<DiskConfig, Box<dyn std::error::Error>> {
    if let Some(path) = disk.strip_prefix("overlay:") {
        let folder = Path::new(".");
        return Ok(DiskConfig::Overlay(OverlayConfig {
            image: NamedFile {
                file: File::open(path)?,
                name: PathBuf::from(path),
            },
            format: ImageFormat::Any,
            kept: Vec::new(),
            len: None,
            changes: NamedFile {
                file: tmpfile::create(folder)?,
                name: folder.to_owned(),
            },
        }));
    }
    let (path, read_only) = match disk.strip_prefix("ro:") {
        Some(path) => (path, true),
        None => (disk, false),
    };
    let file = File::options().read(true).write(!read_only).open(path)?;
    Ok(DiskConfig::Raw { file, read_only })
}

fn share(text: &str) -> Result<PassthroughFs, String> {
    let (tag, folder) = text.split_once('=').ok_or("--share TAG=FOLDER")?;
    let tag = MountTag::new(tag).map_err(|error| error.to_string())?;
    PassthroughFs::new(Share::new(tag, folder)).map_err(|error| error.to_string())
}

/// What is still to be typed into the console, and when.
struct Answers {
    left: VecDeque<(String, String)>,
    /// What the console said since the last answer; no more of it than can matter.
    said: Vec<u8>,
}

impl Answers {
    /// Longest part of a text that may be at the end of one event.
    const KEPT: usize = 4096;

    fn new(words: &[String]) -> Result<Answers, String> {
        let answer = |word: &String| {
            let (text, reply) = word
                .split_once('=')
                .filter(|(text, _)| !text.is_empty())
                .ok_or("--answer TEXT=REPLY")?;
            Ok::<_, String>((text.to_owned(), format!("{reply}\n")))
        };
        Ok(Answers {
            left: words.iter().map(answer).collect::<Result<_, _>>()?,
            said: Vec::new(),
        })
    }

    /// Nothing was said for [`SILENCE`].
    fn nothing(&self, input: &Input) {
        if !self.left.is_empty() && !self.said.is_empty() {
            input.send(Port::Console, b"\n");
        }
    }

    fn hear(&mut self, bytes: &[u8], input: &Input) {
        self.said.extend(bytes);
        if let Some((text, reply)) = self.left.front()
            && self
                .said
                .windows(text.len())
                .any(|part| part == text.as_bytes())
        {
            input.send(Port::Console, reply.as_bytes());
            self.left.pop_front();
            self.said.clear();
        }
        self.said
            .drain(..self.said.len().saturating_sub(Answers::KEPT));
    }
}

fn run(args: Args) -> Result<Ended, Box<dyn std::error::Error>> {
    let start = Instant::now();
    let mut answers = Answers::new(&args.answer)?;
    let config = Config {
        kvm: None,
        threads: boxbuild_vmm::threads::Threads::default(),
        memory_mib: args.memory,
        cpus: args.cpus,
        kernel: File::open(args.kernel)?,
        initrd: args.initrd.map(File::open).transpose()?,
        cmdline: args.cmdline,
        disks: args
            .disk
            .iter()
            .map(|disk| open(disk))
            .collect::<Result<_, _>>()?,
        network: args.net.then(NetworkConfig::default),
        shares: args
            .share
            .iter()
            .map(|text| share(text))
            .collect::<Result<_, _>>()?,
        config_ports: args.config_ports,
        standard_devices: !args.serial_only,
        nested: args.nested,
    };
    let (sender, events) = channel();
    let sender = Mutex::new(sender);
    let mut running = machine::start(
        config,
        Arc::new(move |event| {
            if let Ok(sender) = sender.lock() {
                let _ = sender.send(event);
            }
        }),
    )?;
    let ready = start.elapsed();
    if let Some(input) = args.input {
        running.input().send(Port::Console, input.as_bytes());
    }
    let mut marks = Vec::new();
    let mut out = std::io::stdout();
    loop {
        let event = match events.recv_timeout(SILENCE) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => {
                answers.nothing(&running.input());
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        };
        match event {
            Event::Serial(bytes) => {
                out.write_all(&bytes)?;
                out.flush()?;
            }
            Event::Notice(text) | Event::StorageFull(text) => eprintln!("notice: {text}"),
            Event::Console(bytes) => {
                out.write_all(&bytes)?;
                out.flush()?;
                answers.hear(&bytes, &running.input());
            }
            Event::Mark(mark) => marks.push(mark),
            Event::Control(bytes) => eprintln!("control: {}", bytes.escape_ascii()),
            Event::Ended(ended) => {
                if args.time {
                    eprintln!("started after {ready:?}, ended after {:?}", start.elapsed());
                    for mark in marks {
                        eprintln!("mark {:#x} after {:?}", mark.code, mark.after);
                    }
                }
                running.wait();
                return Ok(ended);
            }
        }
    }
    Err("the machine ended without a word".into())
}
