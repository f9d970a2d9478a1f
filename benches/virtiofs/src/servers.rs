//! Server processes.

use std::fs;
use std::io::{IoSlice, IoSliceMut, Read};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use boxbuild_virtiofs::vhost_user::ShareServer;
use boxbuild_virtiofs::{MountTag, Share};
use boxbuild_virtiofs_client::Client;
use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};

/// Requests that may be under way at once.
pub(crate) const DEPTH: u16 = 16;

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Ours, with Landlock and checked names.
    Ours,
    /// virtiofsd without any confinement.
    Bare,
    /// virtiofsd as it comes: its own namespaces and a system call filter.
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
    // Our own server ends when this is closed.
    _control: Option<UnixStream>,
}

/// A child that ends with us.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself, as the connection is closed.
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
        let (mut process, stream, control) = match (kind, virtiofsd) {
            (Kind::Ours, _) => {
                let (control, theirs) = UnixStream::pair()?;
                let mut command = Command::new(std::env::current_exe()?);
                command.arg("serve").arg(&root);
                command.stdin(Stdio::from(OwnedFd::from(theirs)));
                let process = spawn(&mut command, uid)?;
                let stream = receive(&control)?;
                (process, stream, Some(control))
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
                (process, stream, None)
            }
            (_, None) => bail!("no virtiofsd to start"),
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
            _control: control,
        })
    }

    /// Processor time that the process and its children have used.
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

/// A process and all that it started: virtiofsd serves in a child when it makes namespaces.
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

/// The server's side: serves until the standard input is closed.
pub(crate) fn serve(dir: &Path) -> Result<()> {
    let (_server, stream) = ShareServer::start(Share::new(MountTag::new("share")?, dir))?;
    let control = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let descriptors = [stream.as_raw_fd()];
    let message = [ControlMessage::ScmRights(&descriptors)];
    let data = [IoSlice::new(b"s")];
    sendmsg::<UnixAddr>(
        control.as_raw_fd(),
        &data,
        &message,
        MsgFlags::empty(),
        None,
    )?;
    drop(stream);
    let _ = (&control).read(&mut [0])?;
    Ok(())
}

/// Receives the connection from our own server.
fn receive(control: &UnixStream) -> Result<UnixStream> {
    let mut byte = [0];
    let mut data = [IoSliceMut::new(&mut byte)];
    let mut space = cmsg_space!([i32; 1]);
    let message = recvmsg::<UnixAddr>(
        control.as_raw_fd(),
        &mut data,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = part
            && let [descriptor] = descriptors[..]
        {
            // SAFETY: the kernel has just made this descriptor for us.
            return Ok(unsafe { UnixStream::from_raw_fd(descriptor) });
        }
    }
    bail!("our own server did not start");
}
