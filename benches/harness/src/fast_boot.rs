//! Counts what it takes from exec to kiwi's first line: the same box, booted by its own init and
//! fast, under each engine.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::environment::search_path_with;

/// An engine of boxbuild.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// In the counting lab (docs/lab.md).
    Kvm,
    /// On this host, with QEMU counting instructions.
    Qemu,
}

/// A way to boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Style {
    /// By the box's own init system.
    Compat,
    /// By boxbuild's init.
    Fast,
}

impl Style {
    fn name(self) -> &'static str {
        match self {
            Style::Compat => "compat",
            Style::Fast => "fast",
        }
    }
}

/// Counts, in virtual milliseconds: a million instructions, one processor. A line a boot:
///
/// start-busy: boxbuild's exec to kiwi's start: guest, monitor and the lab's kernel, without what is
/// idle (in steps of 50). line, line-busy: exec to kiwi's first line, which has Python's import of
/// kiwi in it, with and without what is idle. guest-uptime, guest-busy: the guest's own account, from
/// its kernel's start to kiwi's. guest-line: the same (busy) to kiwi's first line; the guest looks for
/// it every 100 ms, which takes it 1 or 2 ms each time.
///
/// A counted guest dies now and then (docs/lab.md, "Traps"): its output is printed, and the next one
/// is booted.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The folder of an installed box of this architecture
    #[arg(value_name = "BOX")]
    box_folder: PathBuf,
    /// Engines
    #[arg(value_enum, default_values = ["kvm", "qemu"])]
    engines: Vec<Engine>,
    /// Ways to boot
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["compat", "fast"])]
    styles: Vec<Style>,
    /// The program that is measured [default: target/release/boxbuild]
    #[arg(long)]
    boxbuild: Option<PathBuf>,
}

/// The box's guest sides source this just before kiwi. What the guest knows goes to the host.
const PROFILE: &str = "{ cat /proc/uptime; head -n 1 /proc/stat; } >/bundle/uptime
setsid sh -c 'until [ -s /bundle/result.log ]; do sleep 0.1; done; head -n 1 /proc/stat >/bundle/line' \\
    </dev/null >/dev/null 2>&1 3>&- &
";

/// Boots each way under each engine, and prints a table.
///
/// # Errors
/// If something is missing, or a guest died.
pub fn run(repository: &Path, options: &Options) -> Result<()> {
    let release = repository.join("target/release");
    let found = |path: PathBuf| {
        path.canonicalize()
            .with_context(|| format!("no {}", path.display()))
    };
    let boxbuild = options.boxbuild.clone();
    let work = tempfile::tempdir()?;
    let bench = Bench {
        repository,
        work: work.path(),
        boxbuild: found(boxbuild.unwrap_or(release.join("boxbuild")))?,
        probe: found(release.join("fast-boot-probe"))?,
        box_folder: found(options.box_folder.clone())?,
    };
    bench.prepare()?;
    println!(
        "{:<6} {:<7} {:>10} {:>10} {:>10} {:>12} {:>12} {:>12}",
        "engine",
        "boot",
        "start-busy",
        "line",
        "line-busy",
        "guest-uptime",
        "guest-busy",
        "guest-line"
    );
    let mut failed = Vec::new();
    for &engine in &options.engines {
        for &style in &options.styles {
            let mut command = match engine {
                Engine::Kvm => bench.in_the_lab(style),
                Engine::Qemu => bench.on_this_host(style)?,
            };
            if !command.status()?.success() {
                failed.push(format!("{engine:?} {}", style.name()));
            }
        }
    }
    if !failed.is_empty() {
        bail!("no figures of {}", failed.join(", "));
    }
    Ok(())
}

struct Bench<'a> {
    repository: &'a Path,
    work: &'a Path,
    boxbuild: PathBuf,
    probe: PathBuf,
    box_folder: PathBuf,
}

impl Bench<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.work.join(name)
    }

    /// Makes the description, and makes ready what is made once for all builds.
    fn prepare(&self) -> Result<()> {
        let etc = self.path("probe/boxroot/etc");
        fs::create_dir_all(&etc)?;
        fs::write(etc.join("boxprofile"), PROFILE)?;
        let description = "appliance.kiwi";
        fs::copy(
            self.repository
                .join("tests/descriptions/mini")
                .join(description),
            self.path("probe").join(description),
        )?;
        for folder in ["store", "cache", "bin"] {
            fs::create_dir(self.path(folder))?;
        }
        symlink(&self.box_folder, self.path("store/debian"))?;
        let counting = self.path("bin/qemu-system-x86_64");
        fs::copy(self.repository.join("benches/boot/counting-qemu"), counting)?;
        let mut command = self.probe(Style::Fast)?;
        let output = command.output()?;
        if !output.status.success() {
            bail!(
                "the box does not boot: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        readable(&self.path("cache"))
    }

    /// The probe on this host, with the qemu engine.
    fn probe(&self, style: Style) -> Result<Command> {
        let target = self.path("target");
        if target.exists() {
            fs::remove_dir_all(&target)?;
        }
        let mut command = Command::new(&self.probe);
        command
            .arg(&self.boxbuild)
            .args(["qemu", style.name()])
            .args([self.path("probe"), target])
            .env("KIWI_BOXED_CACHE_DIR", self.path("store"))
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env("TMPDIR", self.work);
        Ok(command)
    }

    fn on_this_host(&self, style: Style) -> Result<Command> {
        let mut command = self.probe(style)?;
        command.env("PATH", search_path_with(&self.path("bin"))?);
        Ok(command)
    }

    fn in_the_lab(&self, style: Style) -> Command {
        let mut command = Command::new(self.repository.join("tests/lab/lab"));
        // The emulation's known fault is kept away from: it kills guests while they count, too.
        command.args(["--count", "--tcg-named", "--user", "--kernel", "trixie"]);
        command.args(["--memory", "6144", "--timeout", "3000"]);
        for (from, to) in [
            (&self.boxbuild, "/boxbuild"),
            (&self.box_folder, "/box/debian"),
            (&self.path("probe"), "/probe"),
            (&self.probe, "/fast-boot-probe"),
            (&self.path("cache/boxbuild"), "/tmp/.cache/boxbuild"),
        ] {
            command
                .arg("--file")
                .arg(format!("{}:{to}", from.display()));
        }
        command.args(["--env", "KIWI_BOXED_CACHE_DIR=/box", "--env", "TMPDIR=/tmp"]);
        command.args(["--", "/fast-boot-probe", "/boxbuild", "kvm", style.name()]);
        command.args(["/probe", "/tmp/target"]);
        command
    }
}

/// Makes a folder readable for all: the lab's user is another one.
fn readable(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let folder = entry.file_type()?.is_dir();
        let mode = entry.metadata()?.permissions().mode();
        let more = if folder { 0o555 } else { 0o444 };
        fs::set_permissions(entry.path(), fs::Permissions::from_mode(mode | more))?;
        if folder {
            readable(&entry.path())?;
        }
    }
    Ok(())
}
