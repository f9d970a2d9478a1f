//! Builds with the cache of packages, from a mirror on a narrow line: the first, the second, and several at once.

mod mirror;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::environment::{find, output};
use mirror::{Mirror, Sent};

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Megabits a second of the mirror's line
    #[arg(long, default_value_t = 20.0)]
    rate: f64,
    /// The box to build in
    #[arg(long = "box", default_value = "debian")]
    box_name: String,
    /// Descriptions of tests/descriptions
    #[arg(long = "description", default_values_t = [String::from("mini")])]
    descriptions: Vec<String>,
    /// Builds at once from an empty cache, in place of the first and the second
    #[arg(long, value_name = "N")]
    at_once: Option<usize>,
    /// Build once at full speed before, so that the mirror has all files
    #[arg(long)]
    fill: bool,
    /// The program [default: target/release/boxbuild]
    #[arg(long, value_name = "PROGRAM")]
    boxbuild: Option<PathBuf>,
    /// More options of boxbuild, e.g. --container
    #[arg(last = true)]
    more: Vec<String>,
}

/// Measures.
///
/// # Errors
/// If a program is missing or a build fails.
pub fn run(repository: &Path, options: &Options) -> Result<()> {
    ensure!(find("curl").is_some(), "curl is not installed");
    let setup = |program: &str, words: &[&str]| -> Result<String> {
        let mut command = Command::new(repository.join("tests/setup").join(program));
        Ok(output(command.args(words))?.trim_end().to_owned())
    };
    let upstream = setup("mirror", &[])?;
    let out = repository.join("target/package-cache");
    let bench = |rate: f64| -> Result<Bench> {
        let mirror = Mirror::start(&upstream, &out.join("mirror"), rate)?;
        let repo = setup("repo-option", &["trixie"])?.replace(&upstream, &mirror.url());
        Ok(Bench {
            repository,
            options,
            boxbuild: match &options.boxbuild {
                Some(program) => program.clone(),
                None => repository.join("target/release/boxbuild"),
            },
            mirror,
            repo,
            out: out.clone(),
        })
    };
    for description in &options.descriptions {
        if options.fill {
            bench(100_000.0)?.round(description, "full speed", 1)?;
        }
        let bench = bench(options.rate)?;
        bench.empty_cache()?;
        match options.at_once {
            Some(count) => bench.round(description, "at once", count)?,
            None => {
                bench.round(description, "first", 1)?;
                bench.round(description, "second", 1)?;
            }
        }
    }
    Ok(())
}

struct Bench<'a> {
    repository: &'a Path,
    options: &'a Options,
    boxbuild: PathBuf,
    mirror: Mirror,
    repo: String,
    out: PathBuf,
}

impl Bench<'_> {
    fn empty_cache(&self) -> Result<()> {
        let packages = self.out.join("cache/boxbuild/packages");
        if packages.exists() {
            fs::remove_dir_all(&packages).context("cannot empty the cache")?;
        }
        Ok(())
    }

    /// Builds, and prints what came from where.
    fn round(&self, description: &str, name: &str, count: usize) -> Result<()> {
        self.mirror.take_sent();
        let begin = Instant::now();
        let builds: Result<Vec<Child>> = (0..count)
            .map(|number| self.build(description, number))
            .collect();
        for (number, build) in builds?.into_iter().enumerate() {
            let ended = build.wait_with_output().context("cannot wait")?;
            let text = String::from_utf8_lossy(&ended.stdout);
            let mut events = text
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok());
            let result: Option<Value> = events.rfind(|event: &Value| event["event"] == "result");
            let Some(result) = result.filter(|_| ended.status.success()) else {
                bail!("{description}, {name}: {}\n{text}", ended.status);
            };
            println!(
                "{description}, {name}, build {}: {:.0} s, prepare {:.0} s, {:.1} MB from the cache, {:.1} MB \
                 from the mirror",
                number + 1,
                result["seconds"].as_f64().unwrap_or_default(),
                prepare(&result),
                megabytes(&result["packages"]["from_cache_bytes"]),
                megabytes(&result["packages"]["from_network_bytes"]),
            );
        }
        let sent = self.mirror.take_sent();
        println!(
            "{description}, {name}: {:.0} s in all; {}",
            begin.elapsed().as_secs_f64(),
            told(&sent)
        );
        Ok(())
    }

    fn build(&self, description: &str, number: usize) -> Result<Child> {
        let target = self.out.join(format!("target-{number}"));
        if target.exists() {
            fs::remove_dir_all(&target)?;
        }
        let mut command = Command::new(&self.boxbuild);
        command
            .env("XDG_CACHE_HOME", self.out.join("cache"))
            .args(["--json", "--box", &self.options.box_name])
            .args(&self.options.more)
            .arg("--")
            .arg("--description")
            .arg(self.repository.join("tests/descriptions").join(description))
            .arg("--target-dir")
            .arg(target)
            .args(["--set-repo", &self.repo])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        command
            .spawn()
            .with_context(|| format!("cannot start {}", self.boxbuild.display()))
    }
}

/// The time of kiwi's `prepare`, in which packages are fetched and installed.
fn prepare(result: &Value) -> f64 {
    let phases = result["phases"].as_array();
    let mut phases = phases.into_iter().flatten();
    let prepare = phases.find(|phase| phase["phase"] == "prepare");
    prepare.map_or(0.0, |phase| phase["seconds"].as_f64().unwrap_or_default())
}

fn megabytes(bytes: &Value) -> f64 {
    bytes.as_f64().unwrap_or_default() / 1e6
}

/// What the mirror has sent, in words.
fn told(sent: &HashMap<String, Sent>) -> String {
    let bytes: u64 = sent.values().map(|sent| sent.bytes).sum();
    let packages: Vec<_> = sent
        .iter()
        .filter(|(path, _)| path.ends_with(".deb"))
        .collect();
    let again: Vec<_> = packages.iter().filter(|(_, sent)| sent.times > 1).collect();
    let mut text = format!(
        "the mirror sent {:.1} MB, {} packages, {} of them more than once",
        bytes as f64 / 1e6,
        packages.len(),
        again.len()
    );
    for (path, sent) in again.iter().take(10) {
        text += &format!("\n  {} times: {path}", sent.times);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_that_were_fetched_again_are_named() {
        let once = Sent {
            times: 1,
            bytes: 1_000_000,
        };
        let twice = Sent {
            times: 2,
            bytes: 3_000_000,
        };
        let sent = |last: Sent| {
            told(&HashMap::from([
                (String::from("/a.deb"), once),
                (String::from("/InRelease"), twice),
                (String::from("/b.deb"), last),
            ]))
        };
        assert_eq!(
            sent(once),
            "the mirror sent 5.0 MB, 2 packages, 0 of them more than once"
        );
        assert!(sent(twice).ends_with("1 of them more than once\n  2 times: /b.deb"));
    }
}
