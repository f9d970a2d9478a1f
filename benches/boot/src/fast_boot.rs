//! Boots the box `debian` once, to kiwi's first line, and prints a line of figures
//! (docs/benchmarks.md, "A box's boot, to kiwi's first line"). On the host, or in the lab.
//!
//!     fast-boot-probe BOXBUILD ENGINE STYLE DESCRIPTION TARGET

#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a program for the terminal"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A guest that shows no progress for so many milliseconds is dead. What is idle runs fast in the lab.
const LIMIT: u64 = 3_000_000;

/// The interval between looks; figures of the host are rounded up to it.
const STEP: Duration = Duration::from_millis(50);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [boxbuild, engine, style, description, target] = &arguments[..] else {
        bail!("usage: fast-boot-probe BOXBUILD ENGINE STYLE DESCRIPTION TARGET");
    };
    let log = tempfile::NamedTempFile::new()?;
    let before = Moment::now()?;
    let child = Command::new(boxbuild)
        .args(["--engine", engine, "--boot", style, "--box", "debian"])
        .args(["--box-smp-cpus", "1", "--box-memory", "1G", "--"])
        .args(["--description", description, "--target-dir", target])
        .args(["--set-repo", "http://127.0.0.1:1/debian,apt-deb,x"])
        .stdin(Stdio::null())
        .stdout(log.reopen()?)
        .stderr(log.reopen()?)
        .spawn()
        .with_context(|| format!("cannot start {boxbuild}"))?;
    let mut build = Build { child, before };
    let files = Path::new(target).join(".boxbuild.partial");
    let line = measure(&mut build, &files)
        .inspect_err(|_| eprintln!("{}", fs::read_to_string(log.path()).unwrap_or_default()))?;
    // Outside of the lab, the host's clock counts other things than instructions.
    let of_host = |value: u64| match engine.as_str() {
        "kvm" => value.to_string(),
        _ => String::from("-"),
    };
    println!(
        "{engine:<6} {style:<7} {:>10} {:>10} {:>10} {:>12} {:>12} {:>12}",
        of_host(line.start_busy),
        of_host(line.elapsed),
        of_host(line.busy),
        line.guest_uptime,
        line.guest_busy,
        line.guest_line,
    );
    build.end()
}

/// Milliseconds.
struct Figures {
    start_busy: u64,
    elapsed: u64,
    busy: u64,
    guest_uptime: u64,
    guest_busy: u64,
    guest_line: u64,
}

fn measure(build: &mut Build, files: &Path) -> Result<Figures> {
    let started = build.wait_for(&files.join("uptime"))?;
    let line = build.wait_for(&files.join("result.log"))?;
    build.wait_for(&files.join("line"))?;
    // An uptime, and a line of /proc/stat.
    let guest = read(&files.join("uptime"))?;
    Ok(Figures {
        start_busy: started.busy - build.before.busy,
        elapsed: line.uptime - build.before.uptime,
        busy: line.busy - build.before.busy,
        guest_uptime: uptime(&guest)?,
        guest_busy: busy(&guest)?,
        guest_line: busy(&read(&files.join("line"))?)?,
    })
}

struct Build {
    child: Child,
    before: Moment,
}

impl Build {
    /// Waits until a file has something in it.
    fn wait_for(&mut self, file: &PathBuf) -> Result<Moment> {
        while fs::metadata(file).map_or(0, |found| found.len()) == 0 {
            let now = Moment::now()?;
            let waited = now.uptime - self.before.uptime;
            if self.child.try_wait()?.is_some() || waited > LIMIT {
                bail!(
                    "nothing in {} after {waited} ms, {} of them busy",
                    file.display(),
                    now.busy - self.before.busy
                );
            }
            sleep(STEP);
        }
        Moment::now()
    }

    fn end(mut self) -> Result<()> {
        kill(
            Pid::from_raw(self.child.id().cast_signed()),
            Signal::SIGTERM,
        )?;
        self.child.wait()?;
        Ok(())
    }
}

/// Milliseconds since the start of this system, and those of them that it was not idle.
struct Moment {
    uptime: u64,
    busy: u64,
}

impl Moment {
    fn now() -> Result<Moment> {
        Ok(Moment {
            uptime: uptime(&read(Path::new("/proc/uptime"))?)?,
            busy: busy(&read(Path::new("/proc/stat"))?)?,
        })
    }
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Reads `SECONDS.HUNDREDTHS …` (proc_uptime(5)).
fn uptime(text: &str) -> Result<u64> {
    let word = text.split_whitespace().next().unwrap_or_default();
    let hundredths: u64 = word
        .replace('.', "")
        .parse()
        .with_context(|| format!("no uptime in {text:?}"))?;
    Ok(hundredths * 10)
}

/// The time of all processors that is neither idle nor waiting, of a line `cpu USER NICE SYSTEM IDLE
/// IOWAIT IRQ SOFTIRQ …` in hundredths of a second (proc_stat(5)).
fn busy(text: &str) -> Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "));
    let fields: Vec<u64> = line
        .with_context(|| format!("no processor time in {text:?}"))?
        .split_whitespace()
        .map_while(|word| word.parse().ok())
        .collect();
    let [user, nice, system, _, _, irq, soft, ..] = fields[..] else {
        bail!("no processor time in {text:?}");
    };
    Ok((user + nice + system + irq + soft) * 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_is_not_busy() {
        let text = "12.34 1.00\ncpu  1 2 3 1000 2000 4 5 0 0 0\n";
        assert_eq!(uptime(text).unwrap(), 12_340);
        assert_eq!(busy(text).unwrap(), 150);
        assert!(busy("cpu 1 2").is_err() && uptime("").is_err());
    }
}
