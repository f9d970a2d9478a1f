//! A whole build, side by side in one run: boxbuild's qemu engine and kiwi's own
//! `system boxbuild`, same box, same description, in turn, each with its own defaults.
//!
//! The peer gets the box over HTTP from 127.0.0.1 in its own format, shares folders with
//! virtiofsd (which it expects in /usr/libexec), and boots the box its own way.

use std::fmt::Write;
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::environment::{find, output};

/// Where the peer looks for virtiofsd.
pub const VIRTIOFSD: &str = "/usr/libexec/virtiofsd";

/// What is built, and by which programs. Logs go to target/whole-build.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// A kiwi-ng that has `system boxbuild` (KIWI 11 or newer)
    peer: String,
    /// The box
    #[arg(long = "box", value_name = "NAME", default_value = "debian")]
    box_name: String,
    /// Builds of each
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// One more word for the peer, as --peer-option=--box-smp-cpus --peer-option=2, which gives it as
    /// many processors as boxbuild takes on two cores
    #[arg(long = "peer-option", value_name = "WORD", allow_hyphen_values = true)]
    peer_options: Vec<String>,
    /// The program that is measured [default: target/release/boxbuild]
    #[arg(long)]
    boxbuild: Option<PathBuf>,
}

/// Seconds of the builds, in order.
#[derive(Debug, Default)]
pub struct Times {
    /// Of boxbuild.
    pub boxbuild: Vec<f64>,
    /// Of the peer.
    pub peer: Vec<f64>,
}

impl Times {
    /// boxbuild's mean over the peer's.
    pub fn ratio(&self) -> f64 {
        let mean = |times: &[f64]| times.iter().sum::<f64>() / times.len() as f64;
        mean(&self.boxbuild) / mean(&self.peer)
    }
}

impl Options {
    /// One build of each in a box.
    pub fn once(peer: &Path, box_name: &str) -> Options {
        Options {
            peer: peer.display().to_string(),
            box_name: box_name.to_owned(),
            rounds: 1,
            peer_options: Vec::new(),
            boxbuild: None,
        }
    }
}

/// Builds, and says how long each build took.
///
/// # Errors
/// If a program is missing or a build fails.
pub fn run(repository: &Path, options: &Options) -> Result<Times> {
    ensure!(
        Path::new(VIRTIOFSD).exists(),
        "the peer finds no {VIRTIOFSD} (cargo install virtiofsd)"
    );
    let out = repository.join("target/whole-build");
    if out.exists() {
        fs::remove_dir_all(&out)?;
    }
    fs::create_dir_all(out.join("home"))?;
    let repo = output(Command::new(repository.join("tests/setup/repo-option")).arg("trixie"))?;
    let boxbuild = options.boxbuild.clone();
    let bench = Bench {
        boxbuild: boxbuild.unwrap_or(repository.join("target/release/boxbuild")),
        peer: find(&options.peer).with_context(|| format!("no program {}", options.peer))?,
        description: repository.join("tests/descriptions/mini"),
        repo: repo.trim_end().to_owned(),
        out,
    };
    let _server = bench.serve(&options.box_name)?;
    let mut times = Times::default();
    for round in 1..=options.rounds {
        times
            .peer
            .push(bench.build("peer", round, bench.peer(options))?);
        times
            .boxbuild
            .push(bench.build("boxbuild", round, bench.boxbuild(options))?);
    }
    // What each built, as the package manager saw it.
    let packages = |who| {
        bench
            .result(who, ".packages")
            .and_then(|path| Ok(fs::read(path)?))
    };
    if packages("peer")? == packages("boxbuild")? {
        println!("same packages");
    } else {
        println!("not the same packages: {}", bench.out.display());
    }
    println!("boxbuild / peer = {:.2}", times.ratio());
    Ok(times)
}

/// A process that ends with its owner.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Bench {
    boxbuild: PathBuf,
    peer: PathBuf,
    description: PathBuf,
    repo: String,
    out: PathBuf,
}

impl Bench {
    /// Serves the box in the format of the published ones, and writes the peer's configuration.
    fn serve(&self, box_name: &str) -> Result<Server> {
        let info = output(Command::new(&self.boxbuild).args(["box", "info", box_name]))?;
        let mut lines = info
            .lines()
            .filter_map(|line| line.trim_start().split_once(char::is_whitespace));
        let folder = lines
            .find_map(|(name, value)| (name == "folder").then(|| value.trim()))
            .with_context(|| format!("the box {box_name} has no folder"))?;
        let folder = Path::new(folder);
        let arch = std::env::consts::ARCH;
        let www = self.out.join("www");
        fs::create_dir(&www)?;
        let name = format!("Bench-Box.{arch}");
        let part = |start: &str, end: &str| -> Result<PathBuf> {
            named(folder, start, end)?.with_context(|| format!("the box has no {start}*{end}"))
        };
        symlink(part("kernel", arch)?, www.join("vm.kernel"))?;
        symlink(part("initrd", arch)?, www.join("vm.initrd"))?;
        let archive = format!("{name}-Kernel.tar");
        let here = |program: &str| {
            let mut command = Command::new(program);
            command.current_dir(&www);
            command
        };
        output(here("tar").args(["-chf", &archive, "vm.kernel", "vm.initrd"]))?;
        output(here("xz").args(["-0", "-T0", &archive]))?;
        let disk = format!("{name}-System.qcow2");
        fs::copy(part("system", &format!("{arch}.qcow2"))?, www.join(&disk))?;
        for file in [format!("{archive}.xz"), disk] {
            let sum = output(here("sha256sum").arg(&file))?;
            fs::write(www.join(format!("{file}.sha256")), sum)?;
        }
        fs::write(www.join(format!("{name}-System.json")), "{}\n")?;
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        fs::write(self.out.join("peer.yml"), configuration(&name, arch, port))?;
        let log = File::create(self.out.join("http.log"))?;
        let server = Command::new("python3")
            .args([
                "-m",
                "http.server",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--directory",
            ])
            .arg(&www)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start python3")?;
        Ok(Server(server))
    }

    fn peer(&self, options: &Options) -> Command {
        let mut command = Command::new(&self.peer);
        command
            .env("HOME", self.out.join("home"))
            .env("KIWI_BOXED_PLUGIN_CFG", self.out.join("peer.yml"))
            .args(["system", "boxbuild", "--box", "bench", "--no-accel"])
            .args(["--cpu", "max,-cx16,-la57", "--virtiofs-sharing"])
            .args(&options.peer_options)
            .arg("kiwi");
        command
    }

    fn boxbuild(&self, options: &Options) -> Command {
        let mut command = Command::new(&self.boxbuild);
        command.args(["--box", &options.box_name, "--verbose", "--"]);
        command
    }

    /// Builds, and returns how many seconds it took.
    fn build(&self, who: &str, round: usize, mut command: Command) -> Result<f64> {
        let target = self.out.join(who);
        if target.exists() {
            fs::remove_dir_all(&target)?;
        }
        fs::create_dir(&target)?;
        let path = self.out.join(format!("{who}-{round}.log"));
        let log = File::create(&path)?;
        command
            .arg("--description")
            .arg(&self.description)
            .arg("--target-dir")
            .arg(&target)
            .args(["--set-repo", &self.repo])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let start = Instant::now();
        let status = command
            .status()
            .with_context(|| format!("cannot start {who}"))?;
        let took = start.elapsed().as_secs_f64();
        if !status.success() || self.result(who, ".tar.xz").is_err() {
            bail!(
                "{who} did not build the image ({status}); see {}",
                path.display()
            );
        }
        let kept = self.out.join(format!("{who}-{round}.result.log"));
        fs::copy(target.join("result.log"), kept)?;
        println!("{who:<9} {took:>7.1} s");
        Ok(took)
    }

    /// A file that a build left.
    fn result(&self, who: &str, end: &str) -> Result<PathBuf> {
        named(&self.out.join(who), "mini.", end)?
            .with_context(|| format!("{who} left no mini.*{end}"))
    }
}

/// The first file of a folder with this start and end.
fn named(folder: &Path, start: &str, end: &str) -> Result<Option<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("no {}", folder.display()))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(start) && name.ends_with(end))
        .collect();
    names.sort();
    Ok(names.first().map(|name| folder.join(name)))
}

/// The configuration of the peer's boxes.
fn configuration(name: &str, arch: &str, port: u16) -> String {
    let mut text = String::from(
        "box:\n  - name: bench\n    mem_mb: 4096M\n    console: hvc0\n    processors: 4\n    arch:\n",
    );
    let _ = write!(
        text,
        "      - name: {arch}\n        cmdline: [\"root=/dev/vda1\"]\n        \
         source: \"http://127.0.0.1:{port}/\"\n        container: \"none\"\n        \
         packages_file: {name}-System.json\n        use_initrd: true\n        boxfiles:\n          \
         - {name}-Kernel.tar.xz\n          - {name}-System.qcow2\n"
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_of_the_means() {
        let times = Times {
            boxbuild: vec![1.0, 3.0],
            peer: vec![4.0, 4.0],
        };
        assert!((times.ratio() - 0.5).abs() < 1e-9);
    }

    #[test]
    fn the_configuration_is_indented() {
        let text = configuration("Bench-Box.x86_64", "x86_64", 80);
        assert!(
            text.contains("\n      - name: x86_64\n        cmdline:"),
            "{text}"
        );
        assert!(
            text.ends_with("          - Bench-Box.x86_64-System.qcow2\n"),
            "{text}"
        );
    }
}
