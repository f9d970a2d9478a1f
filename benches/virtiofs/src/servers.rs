//! Server processes.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use boxbuild_virtiofs::vhost_user::{self, Filters, ServerInput};
use boxbuild_virtiofs::{MountTag, PassthroughFs, Share};
use boxbuild_virtiofs_client::Client;

/// Requests that may be in flight at once.
pub(crate) const DEPTH: u16 = 16;

/// The servers that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Ours, with Landlock and checked names.
    Ours,
    /// virtiofsd without any confinement.
    Bare,
    /// virtiofsd with its defaults: own namespaces and a system call filter.
    Sandboxed,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Ours, Self::Bare, Self::Sandboxed];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "boxbuild",
            Self::Bare => "virtiofsd",
            Self::Sandboxed => "virtiofsd-sandbox",
        }
    }
}

/// A server with its client.
pub(crate) struct Running {
    pub(crate) kind: Kind,
    pub(crate) client: Client,
    /// The shared directory on the host.
    pub(crate) root: PathBuf,
    process: Process,
}

/// A child that is killed with its owner.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already, as the connection is closed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    pub(crate) fn start(
        kind: Kind,
        virtiofsd: Option<&Path>,
        work: &Path,
        uid: Option<u32>,
    ) -> Result<Self> {
        let home = work.join(kind.name());
        let root = home.join("share");
        fs::create_dir_all(&root)?;
        if let Some(uid) = uid {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o711);
            fs::set_permissions(work, mode)?;
            for dir in [&home, &root] {
                std::os::unix::fs::chown(dir, Some(uid), Some(uid))?;
            }
        }
        let (mut process, stream) = match (kind, virtiofsd) {
            (Kind::Ours, _) => {
                let (listener, stream) = vhost_user::connected_listener()?;
                let mut command = Command::new(std::env::current_exe()?);
                command.arg("serve").arg(&root);
                command.stdin(Stdio::from(OwnedFd::from(listener)));
                (spawn(&mut command, uid)?, stream)
            }
            (_, Some(program)) => {
                let socket = home.join("socket");
                let mut command = Command::new(program);
                command.arg("--shared-dir").arg(&root);
                command.arg("--socket-path").arg(&socket);
                command.args(["--log-level", "error"]);
                if kind == Kind::Bare {
                    command.args(["--sandbox", "none", "--seccomp", "none"]);
                }
                command.stdin(Stdio::null());
                let mut process = spawn(&mut command, uid)?;
                let stream = connect(&socket, &mut process)?;
                (process, stream)
            }
            (_, None) => bail!("no virtiofsd program is given (--virtiofsd)"),
        };
        let client = Client::connect(stream, DEPTH).and_then(|mut client| {
            client.init().map_err(std::io::Error::from_raw_os_error)?;
            client.disable_timeout();
            Ok(client)
        });
        let client = client.with_context(|| {
            let state = process.0.try_wait();
            format!("no session with {} (process: {state:?})", kind.name())
        })?;
        Ok(Self {
            kind,
            client,
            root,
            process,
        })
    }

    /// Returns the processor time that the process and its children have used.
    pub(crate) fn processor_time(&self) -> Result<Duration> {
        let mut nanos = 0;
        for pid in family(self.process.0.id())? {
            for task in fs::read_dir(format!("/proc/{pid}/task"))? {
                let stat = fs::read_to_string(task?.path().join("schedstat"))?;
                let used = stat.split_whitespace().next().unwrap_or_default();
                nanos += used.parse::<u64>().context("schedstat")?;
            }
        }
        Ok(Duration::from_nanos(nanos))
    }
}

/// Returns a process and its descendants: virtiofsd serves in a child if it creates namespaces.
fn family(pid: u32) -> Result<Vec<u32>> {
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(pid) = all.get(next).copied() {
        next += 1;
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let children = fs::read_to_string(task?.path().join("children"))?;
            let children = children.split_whitespace().map(str::parse);
            all.extend(children.collect::<Result<Vec<u32>, _>>()?);
        }
    }
    Ok(all)
}

fn spawn(command: &mut Command, uid: Option<u32>) -> Result<Process> {
    if let Some(uid) = uid {
        command.uid(uid).gid(uid);
    }
    let process = command
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    Ok(Process(process))
}

fn connect(socket: &Path, process: &mut Process) -> Result<UnixStream> {
    for _ in 0..500 {
        if let Ok(stream) = UnixStream::connect(socket) {
            return Ok(stream);
        }
        if let Some(status) = process.0.try_wait()? {
            bail!("the server ended: {status}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err(anyhow!("the server does not listen"))
}

/// The server process: serves the connection to the listener that is the standard input until the
/// client closes it.
pub(crate) fn serve(dir: &Path) -> Result<()> {
    let listener = std::io::stdin().as_fd().try_clone_to_owned()?;
    let input = ServerInput {
        fs: PassthroughFs::new(Share::new(MountTag::new("share")?, dir))?,
        listener: UnixListener::from(listener),
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        filters: Some(Filters::new()?),
    };
    Ok(vhost_user::serve(input, |_| ())?)
}
