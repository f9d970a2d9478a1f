//! The words of the command line that start a machine.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::kernel::{Flavour, Suite};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Count instructions: slow, but a measurement repeats
    #[arg(long)]
    count: bool,
    /// With --count: the processor says that it is TCG's, so that a monitor can keep away from the
    /// emulation's faults (docs/lab.md, "Traps")
    #[arg(long)]
    tcg_named: bool,
    /// Memory of the machine
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    memory: u32,
    /// CPUs of the machine; more than one is not to be relied on (docs/lab.md) [default: 1]
    #[arg(long, value_name = "N")]
    cpus: Option<u32>,
    /// Run COMMAND as uid 1000 in group kvm, not as root
    #[arg(long)]
    user: bool,
    /// Put a file or folder of the host into the machine, at the same path or at DST; programs get
    /// their shared libraries with them
    #[arg(long = "file", value_name = "SRC[:DST]")]
    files: Vec<String>,
    /// Bring a file or folder back
    #[arg(long = "get", value_name = "PATH")]
    gets: Vec<String>,
    /// Where to
    #[arg(long, value_name = "DIR", default_value = ".")]
    into: PathBuf,
    /// A folder of the host, for reading and writing; not with --count
    #[arg(long = "share", value_name = "DIR:MOUNT")]
    shares: Vec<String>,
    /// A network card and the way out through the host; not with --count
    #[arg(long)]
    network: bool,
    /// An environment variable for COMMAND
    #[arg(long = "env", value_name = "NAME=VALUE")]
    environment: Vec<String>,
    /// Load one more kernel module
    #[arg(long = "module", value_name = "NAME")]
    modules: Vec<String>,
    /// The machine's kernel: bookworm (6.1) or trixie (6.12)
    #[arg(
        long,
        value_name = "SUITE",
        value_enum,
        env = "BOXBUILD_LAB_SUITE",
        default_value = "bookworm"
    )]
    kernel: Suite,
    /// More words for that kernel's command line
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    append: Vec<String>,
    /// Give up after so many seconds
    #[arg(long, value_name = "S", default_value_t = 600)]
    timeout: u64,
    /// Say how long it took, and show the machine's console
    #[arg(long)]
    verbose: bool,
    /// Only say whether the lab can be used here, and why not
    #[arg(long)]
    check: bool,
    /// The command and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Whether a command is to be run, or the lab only be looked at.
#[derive(Debug)]
pub(crate) enum Request {
    Check(Suite, Flavour),
    Run(Box<Job>),
}

/// How the emulator keeps time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    /// The host's.
    Host,
    /// Counted: an instruction is a nanosecond.
    Counted {
        /// Whether CPUID says that the processor is TCG's.
        tcg_named: bool,
    },
}

/// Who runs the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum User {
    Root,
    /// uid 1000 in group kvm.
    Normal,
}

/// A folder of the host in the machine.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) folder: PathBuf,
    pub(crate) mount: String,
}

/// Something to be run in a machine.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) clock: Clock,
    pub(crate) user: User,
    pub(crate) memory_mib: u32,
    pub(crate) cpus: u32,
    /// Of the host, with the path in the machine.
    pub(crate) files: Vec<(PathBuf, String)>,
    /// Paths in the machine, without leading slashes.
    pub(crate) gets: Vec<String>,
    pub(crate) into: PathBuf,
    pub(crate) shares: Vec<Share>,
    pub(crate) network: bool,
    pub(crate) environment: Vec<String>,
    pub(crate) modules: Vec<String>,
    pub(crate) suite: Suite,
    pub(crate) append: Vec<String>,
    pub(crate) timeout: Duration,
    pub(crate) verbose: bool,
    pub(crate) program: String,
    pub(crate) arguments: Vec<String>,
}

impl Job {
    pub(crate) fn flavour(&self) -> Flavour {
        flavour(self.shares.is_empty())
    }
}

/// The cloud kernel is the smaller one, and has everything but 9p, which shares need.
fn flavour(no_shares: bool) -> Flavour {
    if no_shares {
        Flavour::CloudAmd64
    } else {
        Flavour::Amd64
    }
}

impl Options {
    /// What the words ask for.
    ///
    /// # Errors
    /// If they contradict each other, or a folder is not there.
    pub(crate) fn request(self) -> Result<Request> {
        let clock = self.clock()?;
        ensure!(
            self.into.is_dir(),
            "--into {}: no such folder",
            self.into.display()
        );
        if self.check {
            return Ok(Request::Check(self.kernel, flavour(self.shares.is_empty())));
        }
        let mut command = self.command.into_iter();
        let program = command.next().context("no command: it follows after --")?;
        let files = self.files.iter().map(|words| file(words));
        let shares = self.shares.iter().map(|words| share(words));
        Ok(Request::Run(Box::new(Job {
            clock,
            user: if self.user { User::Normal } else { User::Root },
            memory_mib: self.memory,
            cpus: self.cpus.unwrap_or(1),
            files: files.collect::<Result<_>>()?,
            gets: self
                .gets
                .iter()
                .map(|path| path.trim_start_matches('/').to_owned())
                .collect(),
            into: self.into,
            shares: shares.collect::<Result<_>>()?,
            network: self.network,
            environment: self.environment,
            modules: self.modules,
            suite: self.kernel,
            append: self.append,
            timeout: Duration::from_secs(self.timeout),
            verbose: self.verbose,
            program,
            arguments: command.collect(),
        })))
    }

    fn clock(&self) -> Result<Clock> {
        if !self.count {
            ensure!(!self.tcg_named, "--tcg-named goes with --count");
            return Ok(Clock::Host);
        }
        if !self.shares.is_empty() {
            bail!(
                "--share and --count exclude each other: a share answers when the host does. Use \
                 --file and --get"
            );
        }
        ensure!(
            !self.network,
            "--network and --count exclude each other: the world answers when it likes"
        );
        ensure!(self.cpus.unwrap_or(1) == 1, "--count counts on one CPU");
        Ok(Clock::Counted {
            tcg_named: self.tcg_named,
        })
    }
}

/// `SRC[:DST]`, where SRC may have a colon itself if there is no DST.
fn file(words: &str) -> Result<(PathBuf, String)> {
    let (from, to) = match words.rsplit_once(':') {
        Some((from, to)) if std::fs::symlink_metadata(words).is_err() => {
            (PathBuf::from(from), to.to_owned())
        }
        _ => (PathBuf::from(words), absolute(words)?),
    };
    ensure!(from.exists(), "{}: no such file", from.display());
    Ok((from, to))
}

fn share(words: &str) -> Result<Share> {
    let (folder, mount) = words
        .rsplit_once(':')
        .with_context(|| format!("--share {words}: a folder, a colon and where to mount it"))?;
    let folder = PathBuf::from(folder)
        .canonicalize()
        .ok()
        .filter(|folder| folder.is_dir())
        .with_context(|| format!("--share {words}: no such folder"))?;
    let mount = mount.to_owned();
    Ok(Share { folder, mount })
}

/// A path of the host from its root on.
pub(crate) fn absolute(path: &str) -> Result<String> {
    let path = std::path::absolute(path).with_context(|| format!("{path:?} is no path"))?;
    Ok(boxbuild_tests::tree::text(&path)?.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Arguments {
        #[command(flatten)]
        options: Options,
    }

    fn request(words: &[&str]) -> Result<Request> {
        let words = ["lab"].iter().chain(words);
        Arguments::try_parse_from(words)?.options.request()
    }

    fn error(words: &[&str]) -> String {
        format!("{:#}", request(words).unwrap_err())
    }

    #[test]
    fn what_excludes_each_other_is_refused() {
        assert!(error(&["--tcg-named", "--", "true"]).contains("goes with --count"));
        assert!(error(&["--count", "--share", "/tmp:/x", "--", "true"]).contains("--share"));
        assert!(error(&["--count", "--network", "--", "true"]).contains("--network"));
        assert!(error(&["--count", "--cpus", "2", "--", "true"]).contains("one CPU"));
        assert!(error(&["--memory", "x", "--", "true"]).contains("--memory"));
        assert!(error(&["--user"]).contains("no command"));
        assert!(error(&["--file", "/nonexistent", "--", "true"]).contains("no such file"));
        assert!(error(&["true"]).contains("true"));
    }

    #[test]
    fn a_job_has_what_was_asked_for() {
        let words = [
            "--count",
            "--tcg-named",
            "--file",
            "/tmp:/x",
            "--get",
            "/a/b",
        ];
        let words = words
            .iter()
            .chain(&["--append", "-x y", "--", "sh", "-c", "--user"]);
        let words: Vec<&str> = words.copied().collect();
        let Ok(Request::Run(job)) = request(&words) else {
            panic!("no job");
        };
        assert_eq!(job.clock, Clock::Counted { tcg_named: true });
        assert_eq!(job.files, [(PathBuf::from("/tmp"), String::from("/x"))]);
        assert_eq!(job.gets, ["a/b"]);
        assert_eq!(job.append, ["-x y"]);
        assert_eq!(job.user, User::Root);
        assert_eq!((job.program.as_str(), job.arguments.len()), ("sh", 2));
    }

    #[test]
    fn only_shares_need_the_larger_kernel() {
        let flavour = |words: &[&str]| match request(words) {
            Ok(Request::Check(_, flavour)) => flavour,
            other => panic!("{other:?}"),
        };
        assert_eq!(flavour(&["--check"]), Flavour::CloudAmd64);
        assert_eq!(flavour(&["--check", "--share", "/tmp:/x"]), Flavour::Amd64);
    }
}
