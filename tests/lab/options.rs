//! The words of the command line that start a machine.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::arch::Arch;
use crate::kernel::{Flavour, Suite};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The machine's architecture, and that of COMMAND
    #[arg(long, value_name = "ARCH", value_enum, default_value = Arch::HOST.name())]
    arch: Arch,
    /// The processor that QEMU emulates; x86_64 gets SVM in addition
    #[arg(long, value_name = "MODEL", default_value = "max")]
    cpu: String,
    /// With aarch64: the version of the interrupt controller
    #[arg(long, value_name = "VERSION", value_parser = ["2", "3"])]
    gic: Option<String>,
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
    /// Put a package of Debian and what it depends on into the machine; only where its architecture is
    /// not the host's
    #[arg(long = "package", value_name = "NAME")]
    packages: Vec<String>,
    /// Load one more kernel module
    #[arg(long = "module", value_name = "NAME")]
    modules: Vec<String>,
    /// The machine's kernel: bookworm (6.1), trixie (6.12), trixie-backports
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
    Check(Arch, Suite, Flavour),
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
    pub(crate) arch: Arch,
    pub(crate) cpu: String,
    /// The version of an Arm machine's interrupt controller.
    pub(crate) gic: String,
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
    pub(crate) packages: Vec<String>,
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
        flavour(self.arch, self.shares.is_empty())
    }
}

/// The cloud kernel is the smaller one, and has everything but 9p, which shares need.
fn flavour(arch: Arch, no_shares: bool) -> Flavour {
    match (arch, no_shares) {
        (Arch::X86_64, true) => Flavour::CloudAmd64,
        (Arch::X86_64, false) => Flavour::Amd64,
        (Arch::Aarch64, true) => Flavour::CloudArm64,
        (Arch::Aarch64, false) => Flavour::Arm64,
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
        ensure!(
            self.gic.is_none() || self.arch == Arch::Aarch64,
            "--gic goes with --arch aarch64"
        );
        ensure!(
            self.packages.is_empty() || self.arch != Arch::HOST,
            "--package goes with an --arch that is not the host's; install the package here instead"
        );
        if self.check {
            let flavour = flavour(self.arch, self.shares.is_empty());
            return Ok(Request::Check(self.arch, self.kernel, flavour));
        }
        let mut command = self.command.into_iter();
        let program = command.next().context("no command: it follows after --")?;
        let files = self.files.iter().map(|words| file(words));
        let shares = self.shares.iter().map(|words| share(words));
        Ok(Request::Run(Box::new(Job {
            arch: self.arch,
            cpu: self.cpu,
            gic: self.gic.unwrap_or_else(|| String::from("3")),
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
            packages: self.packages,
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
            Ok(Request::Check(.., flavour)) => flavour,
            other => panic!("{other:?}"),
        };
        let x86 = ["--check", "--arch", "x86_64"];
        let arm = ["--check", "--arch", "aarch64"];
        let share = ["--share", "/tmp:/x"];
        assert_eq!(flavour(&x86), Flavour::CloudAmd64);
        assert_eq!(flavour(&[x86.as_slice(), &share].concat()), Flavour::Amd64);
        assert_eq!(flavour(&arm), Flavour::CloudArm64);
        assert_eq!(flavour(&[arm.as_slice(), &share].concat()), Flavour::Arm64);
    }

    #[test]
    fn a_machine_is_of_the_hosts_architecture_unless_another_is_named() {
        let arch = |words: &[&str]| match request(&[words, &["--", "true"]].concat()) {
            Ok(Request::Run(job)) => job.arch,
            other => panic!("{other:?}"),
        };
        assert_eq!(arch(&[]), Arch::HOST);
        assert_eq!(arch(&["--arch", "arm64"]), Arch::Aarch64);
        assert_eq!(arch(&["--arch", "x86_64"]), Arch::X86_64);
        assert!(error(&["--arch", "s390x", "--", "true"]).contains("aarch64"));
        let gic = ["--arch", "x86_64", "--gic", "2", "--", "true"];
        assert!(error(&gic).contains("--gic"));
        let package = ["--arch", Arch::HOST.name(), "--package", "x", "--", "true"];
        assert!(error(&package).contains("--package"));
    }
}
