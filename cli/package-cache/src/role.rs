//! The process of the cache.

use std::error::Error;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use boxbuild_jail::seccomp::Filter;
use boxbuild_jail::{Capabilities, Channel, Entered, FileAccess, Jail, Limits, Message, Role};

use crate::flow::{Absences, Counters, Flow, Shared, offline};
use crate::message::{Config, FromCache, Moved};
use crate::names::Names;
use crate::rules;
use crate::store::Store;

/// Continues connections of one machine. See [`Role`].
pub const ROLE: Role = Role {
    name: "packages",
    run,
};

/// How often the parent is told what has changed.
const TICK: Duration = Duration::from_millis(100);
/// Connections at one time. The network hands over fewer (`limits::HANDED_OVER`).
const CONNECTIONS: usize = 320;
/// Open files: a connection has two sockets, and a few files of answers that wait.
const OPEN_FILES: u64 = 1 << 14;
/// Address space: stacks of two threads for each connection, and heaps.
const MEMORY: u64 = 8 << 30;

fn run(mut entered: Entered) -> Result<(), Box<dyn Error>> {
    let config: Config = entered.config()?;
    let folder = entered.descriptor()?;
    let network = Channel::from(entered.descriptor()?);
    let confinement = Jail {
        capabilities: Capabilities::None,
        limits: Limits {
            open_files: Some(OPEN_FILES),
            memory: Some(MEMORY),
            ..Limits::default()
        },
        ..Jail::default()
    }
    .allow(&folder, FileAccess::Write)
    .lock()?;
    if confinement.seccomp {
        Filter::compile(&rules::all())?.install(ROLE.name)?;
    }
    let shared = Arc::new(Shared {
        store: Arc::new(Store::new(folder, config.boot, config.limit)),
        names: Names::default(),
        counters: Counters::default(),
        parent: entered.into_channel(),
        network,
        absences: Absences::default(),
        proxies: config.proxies,
    });
    let tidied = Arc::clone(&shared);
    std::thread::Builder::new().spawn(move || tidied.store.tidy())?;
    let answers = Arc::clone(&shared);
    std::thread::Builder::new().spawn(move || take_answers(&answers))?;
    tell(&shared.parent, &FromCache::Ready(confinement.weakness()));
    serve(&shared, config.offline)
}

/// Takes the parent's answers. The process ends with it.
fn take_answers(shared: &Shared) {
    while let Ok(Some(bytes)) = shared.parent.receive(None) {
        if let Ok(answer) = serde_json::from_slice(&bytes) {
            shared.names.take(&answer);
        }
    }
    std::process::exit(0);
}

/// Takes connections until the network is gone.
fn serve(shared: &Arc<Shared>, offline: bool) -> Result<(), Box<dyn Error>> {
    let mut told = Moved::default();
    let open = Arc::new(AtomicUsize::new(0));
    let report = |told: &mut Moved| {
        let moved = shared.counters.moved();
        if moved != *told {
            *told = moved;
            tell(&shared.parent, &FromCache::Moved(moved));
        }
    };
    loop {
        match shared.network.receive_descriptors(Some(TICK)) {
            Ok(Some(message)) => begin(shared, &open, message, offline),
            Ok(None) => break,
            Err(error) if error.kind() == ErrorKind::TimedOut => report(&mut told),
            Err(error) => return Err(error.into()),
        }
    }
    report(&mut told);
    Ok(())
}

/// Continues a connection. What is not one is dropped.
fn begin(shared: &Arc<Shared>, open: &Arc<AtomicUsize>, message: Message, offline: bool) {
    let Some((id, server, guest)) = connection(message) else {
        return;
    };
    if server.is_none() && !offline {
        return shared.reset(id);
    }
    if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS {
        open.fetch_sub(1, Ordering::Relaxed);
        return shared.reset(id);
    }
    let shared = Arc::clone(shared);
    let done = Arc::clone(open);
    let flow = move || {
        match server {
            None => offline::run(&guest, &shared),
            Some(server) => {
                if let Some(flow) = Flow::new(id, guest, server, shared) {
                    flow.run();
                }
            }
        }
        done.fetch_sub(1, Ordering::Relaxed);
    };
    // Without a thread, both sockets are closed.
    let _ = std::thread::Builder::new()
        .stack_size(256 << 10)
        .spawn(flow);
}

fn connection(message: Message) -> Option<(u64, Option<TcpStream>, UnixStream)> {
    let id = u64::from_le_bytes(message.bytes.try_into().ok()?);
    let mut descriptors = message.descriptors;
    let guest = UnixStream::from(descriptors.pop()?);
    guest.set_nonblocking(false).ok()?;
    let server = descriptors.pop().map(TcpStream::from);
    if let Some(server) = &server {
        server.set_nonblocking(false).ok()?;
        // It fails for what is not connected over IP.
        server.peer_addr().ok()?;
    }
    descriptors.is_empty().then_some((id, server, guest))
}

fn tell(parent: &Channel, message: &FromCache) {
    if let Ok(bytes) = serde_json::to_vec(message) {
        // An error means that the parent is gone, and this process with it.
        let _ = parent.send(&bytes, &[]);
    }
}
