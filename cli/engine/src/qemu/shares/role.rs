//! The child's side: locks itself, and serves.

use std::error::Error;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use boxbuild_jail::seccomp::{COMMON, Filter, Rule};
use boxbuild_jail::{Capabilities, Channel, Entered, Jail, Role};
use boxbuild_virtiofs::vhost_user::{Filters, ServerInput, ServerStatus, serve};
use boxbuild_virtiofs::{PassthroughFs, Share};

use super::message::{Config, Message};

/// The role of the process that serves the shares of a machine.
pub const ROLE: Role = Role {
    name: "shares",
    run,
};

/// How often the parent is told what has changed.
const TICK: Duration = Duration::from_millis(100);

/// What the first thread calls once everything is served: it sends messages.
const REPORT: &[Rule] = &[Rule::any(libc::SYS_sendmsg)];

fn run(mut entered: Entered) -> Result<(), Box<dyn Error>> {
    let config: Config = entered.config()?;
    let mut open = Vec::new();
    let mut access = Vec::new();
    for share in config.shares {
        access.push(share.access());
        let listener = UnixListener::from(entered.descriptor()?);
        let root: OwnedFd = entered.descriptor()?;
        let fs = PassthroughFs::with_root(Share::try_from(share)?, root)?;
        open.push((fs, listener));
    }
    let roots = open.iter().map(|(fs, _)| fs.root()).zip(access);
    let confinement = Jail {
        files: roots.collect(),
        capabilities: Capabilities::Files,
        ..Jail::default()
    }
    .lock()?;
    let filters = confinement.seccomp.then(Filters::new).transpose()?;
    log::set_logger(&NOTES).map_err(|error| error.to_string())?;
    log::set_max_level(log::LevelFilter::Warn);
    let (sender, happened) = channel();
    let count = open.len();
    for (number, (fs, listener)) in open.into_iter().enumerate() {
        let input = ServerInput {
            fs,
            listener,
            processors: config.processors,
            filters: filters.clone(),
        };
        start(number, input, sender.clone())?;
    }
    drop(sender);
    let servers = started(&happened, count)?;
    if confinement.seccomp {
        Filter::compile(&[COMMON, REPORT])?.install("shares")?;
    }
    let channel = entered.into_channel();
    send(&channel, &Message::Ready(confinement.weakness()))?;
    report(&channel, &happened, &servers);
    Ok(())
}

/// What happens to one of the servers.
enum Happened {
    Started(usize, ServerStatus),
    Ended(Result<(), String>),
}

fn start(number: usize, input: ServerInput, sender: Sender<Happened>) -> std::io::Result<()> {
    std::thread::Builder::new()
        .name(String::from("share"))
        .spawn(move || {
            let result = serve(input, |status| {
                let _ = sender.send(Happened::Started(number, status));
            });
            let result = result.map_err(|error| error.to_string());
            let _ = sender.send(Happened::Ended(result));
        })
        .map(|_| ())
}

/// Waits until all servers have their connection.
fn started(happened: &Receiver<Happened>, count: usize) -> Result<Vec<ServerStatus>, String> {
    let mut servers: Vec<Option<ServerStatus>> = vec![None; count];
    while servers.iter().any(Option::is_none) {
        match happened.recv() {
            Ok(Happened::Started(number, status)) => {
                if let Some(server) = servers.get_mut(number) {
                    *server = Some(status);
                }
            }
            Ok(Happened::Ended(result)) => {
                result?;
                return Err(String::from("a connection ended before it was used"));
            }
            Err(_) => return Err(String::from("a thread ended without a word")),
        }
    }
    Ok(servers.into_iter().flatten().collect())
}

/// Tells the parent what changes, until all servers have ended or the parent is gone.
fn report(channel: &Channel, happened: &Receiver<Happened>, servers: &[ServerStatus]) {
    let mut last = Vec::new();
    let mut faulty = false;
    let mut left = servers.len();
    loop {
        match happened.recv_timeout(TICK) {
            Ok(Happened::Ended(_)) => left -= 1,
            Ok(Happened::Started(..)) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => left = 0,
        }
        let moved: Vec<_> = servers.iter().map(moved).collect();
        let mut messages: Vec<Message> = NOTES.take().into_iter().map(Message::Note).collect();
        if moved != last {
            messages.push(Message::Moved(moved.clone()));
            last = moved;
        }
        let fault = servers.iter().find_map(ServerStatus::fault);
        if let (Some(fault), false) = (fault, faulty) {
            messages.push(Message::Fault(fault));
            faulty = true;
        }
        if messages
            .iter()
            .any(|message| send(channel, message).is_err())
            || left == 0
        {
            return;
        }
    }
}

fn moved(status: &ServerStatus) -> (u64, u64) {
    let traffic = status.traffic();
    (traffic.to_guest(), traffic.from_guest())
}

fn send(channel: &Channel, message: &Message) -> std::io::Result<()> {
    channel.send(&serde_json::to_vec(message)?, &[])
}

/// Warnings that the parent has not been told of yet.
struct Notes(Mutex<Vec<String>>);

/// The most of them; further ones are lost.
const NOTES_MAX: usize = 16;

static NOTES: Notes = Notes(Mutex::new(Vec::new()));

impl Notes {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl log::Log for Notes {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.len() < NOTES_MAX {
            notes.push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}
