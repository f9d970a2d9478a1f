//! The side of the program: starts the process of the cache, and answers its questions.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use boxbuild_jail::{Channel, Jailed, Launch, LaunchError, Program};

use crate::message::{ABSENCES, Answer, Config, FromCache, LONGEST_ADDRESS, Moved, Question};
use crate::role::ROLE;

/// Longest wait for its last words.
const END: Duration = Duration::from_secs(2);
/// How often its end is looked for.
const TICK: Duration = Duration::from_millis(500);
/// Questions that wait.
const QUESTIONS: usize = 64;

/// What tells whether a name has an address, by this host's own resolver; offline, whether a guest may ask for
/// what a server of this name has said.
pub type Lookup = Box<dyn Fn(&str, IpAddr) -> bool + Send>;

/// A cache, for one machine.
pub struct CacheConfig {
    /// The program that has the role [`ROLE`].
    pub program: Program,
    /// The folder, private to the user. It is created.
    pub folder: PathBuf,
    /// Bytes that are kept.
    pub limit: u64,
    /// See [`Lookup`].
    pub lookup: Lookup,
    /// Connections without a server are answered from what is kept, whatever its age.
    pub offline: bool,
    /// Proxies of the user's, through which servers are reached: name or address, and port.
    pub proxies: Vec<String>,
}

impl std::fmt::Debug for CacheConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CacheConfig")
            .field("folder", &self.folder)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// The process of the cache of one machine. It ends with the machine's network, and is killed when this
/// is dropped.
#[derive(Debug)]
pub struct PackageCache {
    process: Arc<Jailed>,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    from_cache: AtomicU64,
    from_network: AtomicU64,
    ended: AtomicBool,
    absent: Mutex<Vec<String>>,
}

/// There is no cache.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// Its folder cannot be used.
    #[error("cannot use the folder {path}")]
    Folder {
        /// The folder.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Its process cannot be started.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The host is out of descriptors or threads.
    #[error("cannot start the cache of packages")]
    Host(#[source] io::Error),
}

impl PackageCache {
    /// Starts it. Returns it, and the end of the channel for the machine's network.
    ///
    /// Must be called on a thread that outlives the process.
    ///
    /// # Errors
    /// See [`CacheError`].
    pub fn start(config: CacheConfig) -> Result<(PackageCache, Channel), CacheError> {
        let CacheConfig {
            program,
            folder: path,
            limit,
            lookup,
            offline,
            proxies,
        } = config;
        let folder = open_folder(&path).map_err(|source| CacheError::Folder {
            path: path.display().to_string(),
            source,
        })?;
        let (network, theirs) = Channel::pair().map_err(CacheError::Host)?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let config = Config {
            boot: boot.trim().to_owned(),
            limit,
            offline,
            proxies,
        };
        let process = Launch::new(&program, ROLE.name)
            .descriptor(&folder)
            .descriptor(&theirs)
            .start(&config)?;
        let process = Arc::new(process);
        let state = Arc::new(State::default());
        let (questions, asked) = sync_channel(QUESTIONS);
        let answers = Arc::clone(&process);
        let thread = |name: &str| std::thread::Builder::new().name(String::from(name));
        thread("package-names")
            .spawn(move || answer(&answers, &asked, &lookup))
            .map_err(CacheError::Host)?;
        let (heard, told) = (Arc::clone(&process), Arc::clone(&state));
        thread("package-cache")
            .spawn(move || {
                hear(&heard, &told, |question| {
                    // One that has no place is answered by silence.
                    let _ = questions.try_send(question);
                });
                told.ended.store(true, Ordering::Release);
            })
            .map_err(CacheError::Host)?;
        Ok((PackageCache { process, state }, network))
    }

    /// Returns the bytes so far.
    pub fn moved(&self) -> Moved {
        Moved {
            from_cache: self.state.from_cache.load(Ordering::Relaxed),
            from_network: self.state.from_network.load(Ordering::Relaxed),
        }
    }

    /// Waits for the last number of bytes, once the machine's network is gone.
    pub fn finish(&self) -> Moved {
        let deadline = Instant::now() + END;
        while !self.state.ended.load(Ordering::Acquire) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.moved()
    }

    /// Returns addresses of files that were asked for and are not kept, where no server is reached.
    pub fn absent(&self) -> Vec<String> {
        let absent = self.state.absent.lock();
        absent.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the process's id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

impl Drop for PackageCache {
    fn drop(&mut self) {
        // Its threads have it, too.
        self.process.kill();
    }
}

/// Opens the folder, and creates it if it is not there.
fn open_folder(path: &PathBuf) -> io::Result<File> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let folder = File::options().read(true).custom_flags(flags).open(path)?;
    let metadata = folder.metadata()?;
    let private = metadata.uid() == nix::unistd::geteuid().as_raw() && metadata.mode() & 0o022 == 0;
    let text = "it is another user's, or others can write there";
    private
        .then_some(folder)
        .ok_or_else(|| io::Error::new(ErrorKind::PermissionDenied, text))
}

/// Takes what the process says, until it is gone.
fn hear(process: &Jailed, state: &State, ask: impl Fn(Question)) {
    loop {
        let bytes = match process.channel().receive(Some(TICK)) {
            Ok(Some(bytes)) => bytes,
            Err(error) if error.kind() == ErrorKind::TimedOut => continue,
            Ok(None) | Err(_) => return,
        };
        match serde_json::from_slice(&bytes) {
            Ok(FromCache::Moved(moved)) => {
                state
                    .from_cache
                    .fetch_max(moved.from_cache, Ordering::Relaxed);
                state
                    .from_network
                    .fetch_max(moved.from_network, Ordering::Relaxed);
            }
            Ok(FromCache::Absent(address)) => {
                let mut absent = state.absent.lock().unwrap_or_else(PoisonError::into_inner);
                if absent.len() < ABSENCES {
                    let visible = address.chars().filter(char::is_ascii_graphic);
                    absent.push(visible.take(LONGEST_ADDRESS).collect());
                }
            }
            Ok(FromCache::Lookup(question)) => ask(question),
            Ok(FromCache::Ready(weakness)) => {
                if let Some(weakness) = weakness {
                    log::debug!("the cache of packages is confined in part: {weakness}");
                }
            }
            // Nothing that we have written says this.
            Err(_) => process.kill(),
        }
    }
}

/// Answers questions one after the other: a name server may take its time.
fn answer(process: &Jailed, asked: &Receiver<Question>, lookup: &Lookup) {
    while let Ok(question) = asked.recv() {
        let yes = is_name(&question.name) && lookup(&question.name, question.ip);
        let answer = Answer { question, yes };
        let sent = serde_json::to_vec(&answer).map_err(io::Error::from);
        if sent
            .and_then(|bytes| process.channel().send(&bytes, &[]))
            .is_err()
        {
            return;
        }
    }
}

/// Whether it is a name of the DNS: it comes from the process, which a guest may have broken into.
fn is_name(name: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    (1..=253).contains(&name.len()) && name.bytes().all(good) && !name.starts_with('-')
}
