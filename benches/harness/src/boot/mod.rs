//! Counts what it takes to boot a stock kernel, in the lab: our machine, QEMU's microvm and q35,
//! firecracker and cloud-hypervisor, in one run (docs/benchmarks.md, "Boot, counted").

mod guest;
mod rows;
mod script;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::environment::{find, output};
use rows::{Files, Row};
pub use script::TOGETHER;

/// What is counted. One line a measurement on standard output; times are virtual milliseconds.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Options {
    /// Only the times: neither exits, nor system calls, nor memory
    #[arg(long)]
    times_only: bool,
    /// Several machines of a row at once (1, 2, 4, 8): time to the last one's first line, memory, page cache
    #[arg(long, conflicts_with = "times_only")]
    together: bool,
    /// Another build of the example "boot" [default: target/release/examples/boot]
    #[arg(long, value_name = "PROGRAM")]
    boot: Option<PathBuf>,
    /// More words for the guest's command line
    #[arg(long, value_name = "WORDS", default_value = "")]
    cmdline: String,
    /// Another QEMU
    #[arg(long, value_name = "PROGRAM")]
    qemu: Option<PathBuf>,
    /// The firmware of that QEMU
    #[arg(long, value_name = "FOLDER")]
    qemu_data: Option<PathBuf>,
    /// Rows of the table [default: all]
    rows: Vec<String>,
}

/// The lab, ready to count. What it reads is removed when this is dropped.
#[derive(Debug)]
pub struct Prepared {
    /// The command that counts.
    pub command: Command,
    _work: TempDir,
}

impl Options {
    /// Only the times of some rows.
    pub fn times_of<S: AsRef<str>>(rows: impl IntoIterator<Item = S>) -> Options {
        Options {
            times_only: true,
            rows: rows
                .into_iter()
                .map(|row| row.as_ref().to_owned())
                .collect(),
            ..Options::default()
        }
    }

    /// Several machines at once of some rows.
    pub fn together_of<S: AsRef<str>>(rows: impl IntoIterator<Item = S>) -> Options {
        Options {
            times_only: false,
            together: true,
            ..Options::times_of(rows)
        }
    }

    /// All that is measured of some rows.
    pub fn all_of<S: AsRef<str>>(rows: impl IntoIterator<Item = S>) -> Options {
        Options {
            times_only: false,
            ..Options::times_of(rows)
        }
    }

    /// Makes the guest, and what the lab runs.
    ///
    /// # Errors
    /// If a row does not exist, a program is missing, or a file cannot be made.
    pub fn prepare(&self, repository: &Path) -> Result<Prepared> {
        let release = repository.join("target/release");
        let built = |path: PathBuf| {
            path.canonicalize()
                .with_context(|| format!("{} is not built: make guard-programs", path.display()))
        };
        let work = tempfile::tempdir()?;
        let kernel = |words: &[&str]| -> Result<PathBuf> {
            let mut command = Command::new(repository.join("tests/lab/lab"));
            let path = output(command.arg("kernel").args(words))?;
            Ok(PathBuf::from(path.trim_end()))
        };
        let of_kernel = ["bookworm", "cloud-amd64"];
        let files = Files {
            boot: built(self.boot.clone().unwrap_or(release.join("examples/boot")))?,
            qemu: match &self.qemu {
                Some(qemu) => qemu.clone(),
                None => find("qemu-system-x86_64").context("QEMU is not installed")?,
            },
            bzimage: kernel(&of_kernel)?.join("vmlinuz"),
            vmlinux: kernel(&["--vmlinux", "bookworm", "cloud-amd64"])?,
            work: work.path().to_owned(),
        };
        guest::make(repository, work.path())?;
        let rows = self.wanted(rows::all(&files, &self.cmdline)?)?;

        let probe = built(release.join("boot-probe"))?;
        let path = work.path().join("script");
        let script = if self.together {
            script::together(&rows, &probe)
        } else {
            script::of(&rows, &probe, self.times_only)
        };
        std::fs::write(&path, script)?;
        let mut command = Command::new(repository.join("tests/lab/lab"));
        command.args(["--count", "--memory", "4096"]);
        // A healthy row takes some ten seconds for each of its two to four runs, thirty on a slow
        // machine.
        let each = match (self.together, self.times_only) {
            (true, _) => 600,
            (false, true) => 60,
            (false, false) => 120,
        };
        let timeout = 180 + rows.len() * each;
        command.args(["--timeout", &timeout.to_string()]);
        let mut programs = vec![&probe, &files.work, &files.bzimage, &files.vmlinux];
        for row in &rows {
            if !programs.contains(&&row.program) {
                programs.push(&row.program);
            }
        }
        for file in programs {
            command.arg("--file").arg(file);
        }
        if rows.iter().any(|row| row.program == files.qemu) {
            let data = self.qemu_data.as_deref();
            guest::firmware(data.unwrap_or(Path::new("/usr/share/qemu")), work.path())?;
            let folder = work.path().join("qemu");
            command.arg("--file");
            command.arg(format!("{}:/usr/share/qemu", folder.display()));
        }
        command.args(["--", "/bin/sh"]).arg(&path);
        Ok(Prepared {
            command,
            _work: work,
        })
    }

    /// The rows that are asked for, or all that can be counted here.
    fn wanted(&self, all: Vec<Row>) -> Result<Vec<Row>> {
        let names: Vec<&str> = all.iter().map(|row| row.name).collect();
        for name in &self.rows {
            ensure!(
                names.contains(&name.as_str()),
                "no row {name} ({})",
                names.join(" ")
            );
        }
        let mut wanted = Vec::new();
        for row in all {
            let named = self.rows.iter().any(|name| name == row.name);
            if !named && !self.rows.is_empty() {
                continue;
            }
            let program = row.program.display();
            if row.program.exists() {
                wanted.push(row);
            } else if named {
                bail!("no row {}: {program} is not installed", row.name);
            } else {
                eprintln!("no row {}: {program} is not installed", row.name);
            }
        }
        Ok(wanted)
    }
}
