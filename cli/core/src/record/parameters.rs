//! What a build was asked for, and what was decided on.

use std::collections::BTreeMap;

use boxbuild_engine::Network;
use boxbuild_host::secret;
use serde_json::{Map, Value, json};

use super::Attest;
use crate::boot::{Boot, RunsAs};
use crate::plan::Plan;

/// What the user asked for.
pub(super) fn external(plan: &Plan, attest: &Attest) -> Map<String, Value> {
    let words = secret::redact_words(&attest.command_line);
    let plain = attest
        .command_line
        .iter()
        .map(|word| word.to_string_lossy().into_owned());
    let entries = [
        ("box", json!(plan.installed.info.name)),
        ("secretsRemoved", json!(!plain.eq(words.iter().cloned()))),
        ("sourceDateEpoch", json!(plan.reproducible)),
        ("arguments", json!(words)),
        (
            "workingFolder",
            json!(attest.working_folder.to_string_lossy()),
        ),
    ];
    named(entries)
}

/// What was decided on.
pub(super) fn internal(plan: &Plan, engine: &str) -> Map<String, Value> {
    let network = match plan.network {
        Network::User => "user",
        Network::Public => "public",
        Network::None => "none",
    };
    let boot = match plan.runs_as {
        RunsAs::Machine(Boot::Fast) => json!("fast"),
        RunsAs::Machine(Boot::Compat) => json!("compat"),
        RunsAs::Container(_) => Value::Null,
    };
    named([
        ("engine", json!(engine)),
        ("boot", boot),
        ("arch", json!(plan.installed.info.arch.name())),
        ("memoryMib", json!(plan.memory_mib)),
        ("cpus", json!(plan.cpus)),
        ("network", json!(network)),
        (
            "kiwiArguments",
            json!(secret::redact_words(&plan.kiwi_args)),
        ),
    ])
}

/// Versions of what took part.
pub(super) fn versions(plan: &Plan) -> BTreeMap<String, String> {
    let mut versions = BTreeMap::from([(
        String::from("boxbuild"),
        env!("CARGO_PKG_VERSION").to_owned(),
    )]);
    let kiwi = plan
        .kiwi_version
        .as_ref()
        .or(plan.installed.info.kiwi.as_ref());
    versions.extend(kiwi.map(|kiwi| (String::from("kiwi"), kiwi.clone())));
    versions
}

fn named<const N: usize>(entries: [(&str, Value); N]) -> Map<String, Value> {
    entries
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}
