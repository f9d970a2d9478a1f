//! Batches through runners.

use std::fs;
use std::path::Path;
use std::time::Duration;

use boxbuild_tests::{ProcessOutput, Running, Sandbox, engine, test_env};
use serde_json::Value;

/// A guest that builds in a moment.
pub(crate) const GOOD: &str = "echo image >/result/image; echo 'a line of the log' >>$log";

/// A sandbox whose batch has `count` builds of a guest that runs `script`, and the runner `farm`.
pub(crate) fn with_farm(count: usize, script: &str, farm: &str) -> Sandbox {
    let sandbox = Sandbox::new("");
    sandbox.describe("image", script);
    let builds: String = (1..=count)
        .map(|number| format!("[[build]]\nname = 'b{number}'\n"))
        .collect();
    let batch = format!(
        "[defaults]\nbox = 'small'\ndescription = 'image'\ntarget-dir = 'out/{{name}}'\n\
         options = {{ engine = '{}', keep-failed = 'no' }}\n{builds}",
        engine()
    );
    fs::write(sandbox.path("batch.toml"), batch).unwrap();
    set_farm(&sandbox, farm);
    sandbox
}

/// Defines the runner `farm` anew.
pub(crate) fn set_farm(sandbox: &Sandbox, farm: &str) {
    fs::write(
        sandbox.path("farm.toml"),
        format!("[runner.farm]\n{farm}\n"),
    )
    .unwrap();
}

/// The program under test with the store and the home of the sandbox, for hosts with an environment of
/// their own.
pub(crate) fn program(sandbox: &Sandbox) -> String {
    let boxbuild = &test_env().expect("checked before the tests ran").boxbuild;
    let mut words = vec![String::from("env")];
    let command = sandbox.command(["worker"]);
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            words.push(format!("{}={}", name.display(), value.display()));
        }
    }
    words.push(boxbuild.display().to_string());
    format!("program = {words:?}\n")
}

/// A batch through the runner `farm`, ready to run.
pub(crate) fn command(sandbox: &Sandbox, options: &[&str]) -> std::process::Command {
    let mut command = sandbox.command(["batch"]);
    command
        .arg(sandbox.path("batch.toml"))
        .args(["--runner", "farm", "--runner-config"])
        .arg(sandbox.path("farm.toml"))
        .args(options);
    command
}

pub(crate) fn run(sandbox: &Sandbox, options: &[&str]) -> ProcessOutput {
    Running::start(&mut command(sandbox, options))
        .limit(Duration::from_secs(900))
        .finish()
}

/// The record of a build.
#[track_caller]
pub(crate) fn record(sandbox: &Sandbox, build: &str) -> Value {
    let path = sandbox.path("batch.logs").join(format!("{build}.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    serde_json::from_str(&text).unwrap()
}

/// Fails unless all of the builds have results and a record of where they were made. Returns the hosts.
#[track_caller]
pub(crate) fn assert_all_built(sandbox: &Sandbox, count: usize) -> Vec<String> {
    let mut hosts = Vec::new();
    for number in 1..=count {
        let name = format!("b{number}");
        let image = sandbox.path("out").join(&name).join("image");
        assert_eq!(fs::read_to_string(&image).unwrap(), "image\n", "{name}");
        let record = record(sandbox, &name);
        assert_eq!(record["result"], "built", "{record}");
        let last = record["attempts"].as_array().unwrap().last().unwrap();
        assert_eq!(last["host"], record["host"], "{record}");
        assert_eq!(last["result"], "built", "{record}");
        hosts.push(record["host"].as_str().unwrap().to_owned());
    }
    hosts
}

/// The results of all attempts of all builds, as `HOST RESULT`.
pub(crate) fn attempts(sandbox: &Sandbox, count: usize) -> Vec<String> {
    let mut all = Vec::new();
    for number in 1..=count {
        let record = record(sandbox, &format!("b{number}"));
        for attempt in record["attempts"].as_array().unwrap() {
            let host = attempt["host"].as_str().unwrap_or("-");
            all.push(format!("{host} {}", attempt["result"].as_str().unwrap()));
        }
    }
    all
}

/// How many builds have reached their guest's script, which touches `/bundle/started` first.
pub(crate) fn started(sandbox: &Sandbox, count: usize) -> usize {
    let begun = |number: &usize| {
        let target = sandbox.path("out").join(format!("b{number}"));
        target.join(".boxbuild.partial/bundle/started").exists()
    };
    (1..=count).filter(begun).count()
}

/// Fails unless nothing shows any more that folders were shared, and nothing of the builds runs.
#[track_caller]
pub(crate) fn assert_nothing_left(sandbox: &Sandbox) {
    sandbox.assert_nothing_left();
    let shared = |folder: &Path| {
        boxbuild_tests::names(folder)
            .into_iter()
            .filter(|name| name.starts_with(".boxbuild"))
            .collect::<Vec<_>>()
    };
    assert_eq!(shared(&sandbox.path("")), [""; 0]);
    assert_eq!(shared(&sandbox.path("out")), [""; 0]);
}
