//! The command line, as typed.
//!
//! Two grammars are accepted, so that scripts written for `kiwi-ng system boxbuild` run with
//! `alias kiwi-ng=boxbuild`:
//!
//! ```text
//! boxbuild [GLOBAL] [OPTIONS] --box NAME (-- | kiwi) BUILD-ARGS...
//! boxbuild [GLOBAL] system boxbuild [OPTIONS] --box NAME (-- | kiwi) BUILD-ARGS...
//! ```
//!
//! The words behind the separator belong to `kiwi-ng system build` and are cut off before
//! clap sees the rest ([`crate::kiwi_options`] reads them).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::arch::Arch;
use crate::batch::BatchArgs;
use crate::box_args::{BoxCommand, SourceOptions};
use crate::engine;
use crate::examples;
use crate::fetch_options::FetchOptions;
use crate::generate::What;
use crate::global_options::GlobalOptions;
use crate::kiwi_options;
use crate::peer_options::PeerOptions;
use crate::timings;

const EXAMPLES: &str = "\
Examples:
  Make a box once, then build an image in it:
    boxbuild box create debian --from debian:trixie
    boxbuild --box debian -- --description ./image --target-dir /tmp/image

  Select a profile and add a repository; words behind -- go to 'kiwi-ng system build':
    boxbuild --profile Virtual --box debian -- --description ./image \\
        --target-dir /tmp/image --add-repo http://mirror.example/debian,apt-deb

Exit codes:
  0 built   1 the build failed in the box   2 wrong usage
  3 a problem of the host or the box   124 timeout   130 interrupted";

/// Builds OS images with KIWI NG in a box: a fast-booting virtual machine.
#[derive(Debug, Parser)]
#[command(
    name = "boxbuild",
    version,
    after_help = EXAMPLES,
    override_usage = "boxbuild [OPTIONS] --box <NAME> -- --description <DIR> --target-dir <DIR> \
        [BUILD-ARGS]...\n       boxbuild box <COMMAND>",
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub struct Cli {
    /// What to do instead of a build.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Options of a build.
    #[command(flatten)]
    pub build: BuildOptions,
}

/// Commands besides the build.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Fetch, make, import, show, check and remove boxes.
    #[command(subcommand)]
    Box(BoxCommand),
    /// Check whether this machine has what builds need, and say how to get what it lacks.
    Doctor,
    /// Run many builds from one file, several at once.
    Batch(BatchArgs),
    /// Measure boot, share, disk and network on this machine, in about a minute.
    Bench(BenchArgs),
    /// List the failed builds that are kept.
    Builds {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show the log of a failed build.
    Logs(LogsArgs),
    /// Enter the box of a failed build: a root shell on its disk, as the build left it. What is
    /// changed there is thrown away; folders of the host are read-only.
    Shell(ShellArgs),
    /// Remove failed builds that are kept.
    Prune {
        /// Names of the builds [default: all].
        #[arg(value_name = "ID")]
        ids: Vec<String>,
    },
    /// Make manual pages or shell completions in a folder ('make docs').
    #[command(hide = true)]
    Generate {
        /// What to make.
        what: What,
        /// Where.
        dir: PathBuf,
    },
}

/// Options of `logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Name of the build (see 'boxbuild builds') [default: the newest].
    pub id: Option<String>,
    /// Show what the box wrote to its console instead.
    #[arg(long)]
    pub console: bool,
}

/// Options of `shell`.
#[derive(Debug, Args)]
pub struct ShellArgs {
    /// Name of the build (see 'boxbuild builds') [default: the newest].
    pub id: Option<String>,
    /// Guest memory, e.g. 4G [default: the build's].
    #[arg(long, value_name = "SIZE", value_parser = parse_memory)]
    pub box_memory: Option<Memory>,
}

/// Options of `bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Box to boot [default: the first that is installed].
    // Not as the build's option: that one is required.
    #[arg(long = "boot-box", value_name = "NAME")]
    pub boot_box: Option<String>,
    /// What boots it; auto takes kvm if it works here, else qemu.
    #[arg(long = "boot-engine", value_name = "ENGINE", default_value = "auto",
        value_parser = engine::NAMES)]
    pub boot_engine: String,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Time for each figure of share, disk and network.
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = parse_duration)]
    pub time: Duration,
}

/// Options of `box create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Name of the new box.
    pub name: String,
    /// Distribution and suite to make it from, e.g. debian:trixie.
    #[arg(long, value_name = "DISTRIBUTION:SUITE")]
    pub from: String,
    /// Package mirror [default: the one in this host's apt configuration].
    #[arg(long, value_name = "URL")]
    pub mirror: Option<String>,
    /// Size of the box's disk as the guest sees it.
    #[arg(long, value_name = "SIZE", default_value = "20G", value_parser = parse_size)]
    pub disk_size: u64,
    /// Architecture of the box. Another one than this host's takes QEMU's user emulation
    /// (qemu-user-static), and the box is stored as NAME.ARCH.
    #[arg(long, value_name = "ARCH")]
    pub arch: Option<Arch>,
    /// Version of KIWI from the Python package index.
    #[arg(long, value_name = "VERSION")]
    pub kiwi_version: Option<String>,
    /// Replace a box of that name.
    #[arg(long)]
    pub force: bool,
}

/// Options of a build, before the separator.
#[derive(Debug, Args)]
pub struct BuildOptions {
    /// Box to build in (see 'boxbuild box list').
    #[arg(
        long = "box",
        value_name = "NAME",
        required_unless_present = "list_boxes"
    )]
    pub box_name: Option<String>,
    /// What runs the box; auto takes kvm if it works here, else qemu.
    #[arg(long, value_name = "ENGINE", default_value = "auto", value_parser = engine::NAMES)]
    pub engine: String,
    /// How the box is brought up: by boxbuild's own init (fast) or by the box's (compat); auto is
    /// fast, and compat for boxes where that does not work.
    #[arg(long, value_name = "STYLE", default_value = "auto",
        value_parser = ["auto", "fast", "compat"])]
    pub boot: String,
    /// Run the box's kernel in FIPS mode (fips=1), with the self-tests of its cryptographic
    /// algorithms, which a fast boot leaves out otherwise.
    #[arg(long)]
    pub fips: bool,
    /// Guest memory, e.g. 4G or 6000M; a bare number means GiB [default: the box's].
    #[arg(long, value_name = "SIZE", value_parser = parse_memory)]
    pub box_memory: Option<Memory>,
    /// Number of virtual CPUs [default: the host's, at most the box's].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=255))]
    pub box_smp_cpus: Option<u32>,
    /// Grow the disk that the guest sees, e.g. 60G.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub disk_size: Option<u64>,
    /// Write into the box's own disk instead of a private copy: what the build changes there
    /// stays, for all later builds. No other build can use the box meanwhile.
    #[arg(long, conflicts_with_all = ["container", "disk_size"])]
    pub no_snapshot: bool,
    /// Keep the disk and the logs of a build that failed, for 'boxbuild shell' and 'boxbuild
    /// logs': the newest five, at most 32 GiB.
    #[arg(long, value_name = "WHETHER", default_value = "yes", value_parser = ["yes", "no"])]
    pub keep_failed: String,
    /// Keep the box open after the build, failed or not, with a root shell on this terminal.
    /// Ctrl-] three times ends the box at once.
    #[arg(long, conflicts_with = "container")]
    pub box_debug: bool,
    /// Network of the box; user means outgoing connections only.
    #[arg(long, value_name = "MODE", default_value = "user", value_parser = ["user", "none"])]
    pub network: String,
    /// Machine type for the qemu engine.
    #[arg(long, value_name = "TYPE")]
    pub machine: Option<OsString>,
    /// CPU model for the qemu engine.
    #[arg(long, value_name = "MODEL")]
    pub cpu: Option<OsString>,
    /// Do not use KVM (selects the qemu engine).
    #[arg(long)]
    pub no_accel: bool,
    /// Build in a container (podman) instead of a virtual machine: fast without KVM, but hardly
    /// isolated. Options of the machine have no effect.
    #[arg(long, conflicts_with_all = ["no_accel", "machine", "cpu", "disk_size"])]
    pub container: bool,
    /// With --container: as a normal user, without sudo. For image types that need no loop
    /// device (tbz, docker, oci, appx).
    #[arg(long, requires = "container")]
    pub rootless: bool,
    /// Share the description writable, for the rare script that changes it.
    #[arg(long)]
    pub description_rw: bool,
    /// End the build after this time, e.g. 90m (exit code 124).
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
    /// End the build when the box shows no sign of life for this time; 0 never does.
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = parse_duration)]
    pub timeout_idle: Duration,
    /// Show the build log and the box's console live.
    #[arg(long, short)]
    pub verbose: bool,
    /// Say where the time went; html also writes a page with charts, timings.html in the target
    /// directory.
    #[arg(long, value_name = "FORMAT", num_args = 0..=1, require_equals = true,
        default_missing_value = "text")]
    pub timings: Option<timings::Format>,
    /// Say what would be run, and stop.
    #[arg(long)]
    pub dry_run: bool,
    /// For programs: events as JSON, one object a line on standard output; with --dry-run, the
    /// whole plan as one object.
    #[arg(long, conflicts_with = "box_debug")]
    pub json: bool,
    /// Architecture of the box.
    #[arg(long, value_name = "ARCH")]
    pub arch: Option<Arch>,
    /// What may be fetched.
    #[command(flatten)]
    pub fetch: FetchOptions,
    /// What the box must be.
    #[command(flatten)]
    pub source: SourceOptions,
    /// Handed on to kiwi-ng.
    #[command(flatten)]
    pub kiwi: GlobalOptions,
    /// Accepted for the sake of existing scripts.
    #[command(flatten)]
    pub peer: PeerOptions,
}

impl BuildOptions {
    /// The architecture that was asked for, in either spelling.
    pub fn arch(&self) -> Option<Arch> {
        self.arch.or_else(|| self.peer.arch())
    }

    /// What the user should know about these options, though the build runs.
    pub fn notes(&self) -> Vec<String> {
        let memory = self.box_memory.filter(|memory| memory.bare);
        memory
            .map(|memory| {
                format!(
                    "--box-memory: a number without a unit means GiB: the box gets {} MiB",
                    memory.bytes >> 20
                )
            })
            .into_iter()
            .chain(self.peer.notes())
            .collect()
    }
}

/// An amount of guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Bytes.
    pub bytes: u64,
    /// It was typed without a unit.
    pub bare: bool,
}

/// A command line, cut at the separator.
#[derive(Debug)]
pub struct Invocation {
    /// What stands before the separator.
    pub cli: Cli,
    /// What stands behind it; `None` if there is no separator.
    pub build_args: Option<Vec<OsString>>,
}

/// The definition of the command line, with examples for each command.
pub fn command() -> clap::Command {
    examples::add(Cli::command())
}

/// Whether a command line asks for JSON, right or wrong as it may be otherwise.
pub fn wants_json(argv: Vec<OsString>) -> bool {
    let (front, _) = split(argv);
    front.iter().any(|word| word == "--json")
}

/// Reads a command line (without the program's name).
pub fn parse(argv: impl IntoIterator<Item = OsString>) -> Result<Invocation, clap::Error> {
    let (front, build_args) = split(argv.into_iter().collect());
    let words = std::iter::once(OsString::from("boxbuild")).chain(front);
    let cli = command()
        .try_get_matches_from(words)
        .and_then(|matches| Cli::from_arg_matches(&matches))
        .map_err(explained)?;
    Ok(Invocation { cli, build_args })
}

/// Says what is to be done about words that are right, but stand in the wrong place.
fn explained(error: clap::Error) -> clap::Error {
    if error.kind() != ErrorKind::UnknownArgument && error.kind() != ErrorKind::InvalidSubcommand {
        return error;
    }
    let word = [ContextKind::InvalidArg, ContextKind::InvalidSubcommand]
        .into_iter()
        .find_map(|kind| error.get(kind));
    let Some(ContextValue::String(word)) = word else {
        return error;
    };
    // clap shows an option with its value.
    let name = word.split(['=', ' ']).next().unwrap_or_default();
    let text = if kiwi_options::is_option(name) {
        format!(
            "{name} is an option of 'kiwi-ng system build': write it behind the separator, as in\n  \
             boxbuild --box NAME -- --description DIR --target-dir DIR"
        )
    } else if ["system", "image", "result"].contains(&name) {
        format!(
            "'{name}': of kiwi-ng's commands, boxbuild has only 'system boxbuild'; run the others \
             with kiwi-ng itself"
        )
    } else {
        return error;
    };
    Cli::command().error(error.kind(), text)
}

/// Cuts at the first `--` or bare word `kiwi`, and drops the words `system boxbuild`.
fn split(argv: Vec<OsString>) -> (Vec<OsString>, Option<Vec<OsString>>) {
    let command = Cli::command();
    let mut front = Vec::new();
    let mut words = argv.into_iter();
    let mut bare_words = 0;
    while let Some(word) = words.next() {
        if word == "--" || (word == "kiwi" && bare_words == 0) {
            return (front, Some(words.collect()));
        }
        if takes_value(&command, &word) {
            front.push(word);
            front.extend(words.next());
        } else if word == "system" && bare_words == 0 {
            // `system boxbuild` is one command of kiwi-ng; alone, the word is a mistake
            // that clap reports.
            match words.next() {
                Some(next) if next == "boxbuild" => {}
                next => {
                    front.push(word);
                    front.extend(next);
                    bare_words += 1;
                }
            }
        } else {
            bare_words += usize::from(!word.as_bytes().starts_with(b"-"));
            front.push(word);
        }
    }
    (front, None)
}

/// Whether `word` is an option whose value is the next word.
fn takes_value(command: &clap::Command, word: &OsStr) -> bool {
    let Some(name) = word.to_str().and_then(|word| word.strip_prefix("--")) else {
        return false;
    };
    command
        .get_arguments()
        .filter(|arg| arg.get_long() == Some(name))
        // An optional value follows behind "=", never as a word of its own.
        .any(|arg| arg.get_action().takes_values() && !arg.is_require_equals_set())
}

/// Whether `name` is an option of a build, in front of the separator.
pub fn is_option(name: &str) -> bool {
    let command = Cli::command();
    name.strip_prefix("--").is_some_and(|name| {
        command
            .get_arguments()
            .any(|arg| arg.get_long() == Some(name))
    })
}

/// Bytes from a number with an optional binary unit (K, M, G, T; `B` and `iB` are ignored).
/// A bare number means `bare_unit` bytes.
fn parse_bytes(text: &str, bare_unit: u64) -> Result<u64, String> {
    let complaint = || format!("'{text}' is not a size: write e.g. 4G, 6000M or 20GiB");
    let split = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit
        .trim()
        .to_ascii_lowercase()
        .trim_end_matches('b')
        .trim_end_matches('i')
    {
        "" if unit.is_empty() => bare_unit,
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1u64 << 40,
        _ => return Err(complaint()),
    };
    let bytes = match number.parse::<u64>() {
        Ok(number) => number.checked_mul(factor),
        // A fraction such as 1.5G: exact enough in f64 below 2^53 bytes.
        Err(_) => number
            .parse::<f64>()
            .ok()
            .map(|number| number * factor as f64)
            .filter(|bytes| (0.0..9e15).contains(bytes))
            .map(|bytes| bytes as u64),
    };
    bytes.filter(|bytes| *bytes > 0).ok_or_else(complaint)
}

pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    parse_bytes(text, 1 << 30)
}

/// Guest memory in bytes. KIWI's documentation says GB for a bare number.
pub(crate) fn parse_memory(text: &str) -> Result<Memory, String> {
    let bytes = parse_bytes(text, 1 << 30)?;
    if bytes < 256 << 20 {
        return Err(format!(
            "{text} is too little memory for a box (at least 256M)"
        ));
    }
    Ok(Memory {
        bytes,
        bare: text.ends_with(|c: char| c.is_ascii_digit() || c == '.'),
    })
}

/// A time: seconds, or a number with s, m or h.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "" | "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        _ => 0,
    };
    number
        .parse::<u64>()
        .ok()
        .filter(|_| factor > 0)
        .and_then(|number| number.checked_mul(factor))
        .map(Duration::from_secs)
        .ok_or_else(|| format!("'{text}' is not a time: write e.g. 90, 90s, 15m or 2h"))
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
