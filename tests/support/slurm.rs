//! A real Slurm below the folder of a test: munged, slurmctld, and two nodes on this host.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;

use crate::command::{command, output, require};
use crate::daemons::{Daemon, descendants, parent, processes_with, signal_all, wait_until};

/// A cluster of the nodes `n1` and `n2`. Its daemons end with it.
#[derive(Debug)]
pub struct Cluster {
    /// Not that of the test, where a socket would be left over.
    dir: tempfile::TempDir,
    nodes: Vec<(String, Option<Daemon>)>,
    _controller: Daemon,
    _munge: Daemon,
}

impl Cluster {
    /// Starts a cluster, whose nodes have `cpus` each; more lines of slurm.conf are `extra`.
    ///
    /// # Errors
    /// Says what is not there.
    pub fn start(cpus: u32, extra: &str) -> Result<Cluster, String> {
        let tools = [
            ("slurmctld", "slurmctld"),
            ("slurmd", "slurmd"),
            ("srun", "slurm-client"),
            ("munged", "munge"),
        ];
        require(tools).map_err(|error| error.to_string())?;
        let dir = tempfile::Builder::new()
            .prefix("boxbuild-slurm-")
            .tempdir()
            .unwrap();
        // munged wants a way to its socket that everybody can go.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let folder = dir.path();
        fs::create_dir_all(folder.join("munge")).unwrap();
        for name in ["state", "spool-n1", "spool-n2"] {
            fs::create_dir_all(folder.join(name)).unwrap();
        }
        let munge = start_munge(folder);
        let ports = [0; 3].map(|_| free_port());
        let text = configuration(folder, cpus, ports, extra);
        fs::write(folder.join("slurm.conf"), text).unwrap();
        let conf = folder.join("slurm.conf");
        let controller = Daemon::start(
            command("slurmctld").arg("-D").arg("-f").arg(&conf),
            &folder.join("slurmctld.out"),
        );
        let mut cluster = Cluster {
            nodes: vec![(String::from("n1"), None), (String::from("n2"), None)],
            _controller: controller,
            _munge: munge,
            dir,
        };
        for node in ["n1", "n2"] {
            cluster.start_node(node);
        }
        Ok(cluster)
    }

    /// Starts a node, and waits until it takes jobs.
    pub fn start_node(&mut self, name: &str) {
        let conf = self.configuration();
        let daemon = Daemon::start(
            command("slurmd")
                .args(["-D", "-N", name, "-f"])
                .arg(&conf)
                .env("SLURM_CONF", &conf),
            &self.dir.path().join(format!("{name}.out")),
        );
        let node = self.nodes.iter_mut().find(|(node, _)| node == name);
        node.expect("a node").1 = Some(daemon);
        let log = self.dir.path().join(format!("{name}.log"));
        let told = || fs::read_to_string(&log).unwrap_or_default();
        wait_until("a node that takes jobs", told, || {
            self.ask("sinfo", &["-h", "-n", name, "-o", "%t"]).trim() == "idle"
        });
    }

    /// The file slurm.conf.
    pub fn configuration(&self) -> PathBuf {
        self.dir.path().join("slurm.conf")
    }

    /// Gives a command the cluster.
    pub fn use_in(&self, command: &mut Command) {
        command.env("SLURM_CONF", self.configuration());
    }

    /// What a command of Slurm says; nothing if it fails.
    pub fn ask(&self, program: &str, words: &[&str]) -> String {
        output(
            command(program)
                .args(words)
                .env("SLURM_CONF", self.configuration()),
        )
        .unwrap_or_default()
    }

    /// The jobs in the queue, a line each.
    pub fn queue(&self) -> Vec<String> {
        let text = self.ask("squeue", &["-h", "-o", "%j %t %N"]);
        text.lines().map(|line| line.trim().to_owned()).collect()
    }

    /// Kills everything on a node at once, as a loss of power does.
    pub fn kill_node(&mut self, name: &str) {
        let processes = self.processes(name);
        signal_all(&processes, Signal::SIGKILL);
        if let Some((_, daemon)) = self.nodes.iter_mut().find(|(node, _)| node == name) {
            *daemon = None;
        }
    }

    /// Sends a signal to everything on a node: SIGSTOP is a node that does not answer, SIGCONT one
    /// that is back.
    pub fn signal_node(&self, name: &str, signal: Signal) {
        signal_all(&self.processes(name), signal);
    }

    /// All processes of a node: its daemon, its job steps, and what they have started.
    fn processes(&self, name: &str) -> Vec<i32> {
        let mut found: Vec<i32> = Vec::new();
        let daemon = self.nodes.iter().find(|(node, _)| node == name);
        found.extend(daemon.and_then(|(_, daemon)| Some(daemon.as_ref()?.pid())));
        let conf = format!("SLURM_CONF={}", self.configuration().display());
        let ours: Vec<i32> = processes_with(&conf)
            .into_iter()
            .map(|(pid, _)| pid)
            .collect();
        for (pid, parent_pid) in processes_with(&format!("SLURMD_NODENAME={name}")) {
            if ours.contains(&pid) {
                found.push(pid);
                found.extend(step_of(parent_pid));
            }
        }
        for pid in found.clone() {
            found.extend(descendants(pid));
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// The slurmstepd above a process, if its parent is one.
fn step_of(pid: i32) -> Option<i32> {
    let mut pid = pid;
    for _ in 0..10 {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        if name.trim() == "slurmstepd" {
            return Some(pid);
        }
        pid = parent(pid)?;
    }
    None
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in ["n1", "n2"] {
            signal_all(&self.processes(node), Signal::SIGKILL);
        }
    }
}

fn start_munge(folder: &Path) -> Daemon {
    let folder = folder.join("munge");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    let key = folder.join("key");
    fs::write(&key, [7; 128]).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let option = |name: &str, file: &str| format!("--{name}={}", folder.join(file).display());
    let daemon = Daemon::start(
        command("munged")
            .args(["--foreground", "--force"])
            .arg(option("key-file", "key"))
            .arg(option("socket", "socket"))
            .arg(option("pid-file", "pid"))
            .arg(option("log-file", "log"))
            .arg(option("seed-file", "seed")),
        &folder.join("out"),
    );
    let socket = folder.join("socket");
    wait_until("munged's socket", || daemon.said(), || socket.exists());
    daemon
}

fn configuration(folder: &Path, cpus: u32, ports: [u16; 3], extra: &str) -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let host = name
        .trim()
        .split('.')
        .next()
        .unwrap_or("localhost")
        .to_owned();
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid());
    let user = user.ok().flatten().expect("a user with a name").name;
    let folder = folder.display();
    let [controller, one, two] = ports;
    format!(
        "ClusterName=boxbuild
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/builtin
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SlurmdParameters=config_overrides
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
SlurmctldTimeout=10
SlurmdTimeout=10
KillWait=5
MessageTimeout=10
ReturnToService=2
{extra}
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={one} CPUs={cpus} RealMemory=20000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={two} CPUs={cpus} RealMemory=20000
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"
    )
}

/// A port of the loopback that nothing listens on.
pub fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}
