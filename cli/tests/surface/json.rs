//! `--json` of every command.

use serde_json::Value;

use crate::user::User;

/// The events on standard output.
fn events(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// All keys of a document.
fn keys(document: &Value) -> Vec<String> {
    match document {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(key, value)| [vec![key.clone()], keys(value)].concat())
            .collect(),
        Value::Array(items) => items.iter().flat_map(keys).collect(),
        _ => Vec::new(),
    }
}

/// Case E14.
#[test]
fn every_command_has_json() {
    let user = User::new();
    let page = include_str!("../../../docs/json.md");
    for (line, key) in [
        ("box list --json", "boxes"),
        ("box --json list", "boxes"),
        ("box info leap --json", "to_fetch"),
        ("box verify --json", "boxes"),
        ("box prune --json", "bytes"),
        ("doctor --json", "findings"),
    ] {
        let ended = user.run(line);
        let document: Value = serde_json::from_str(&ended.stdout)
            .unwrap_or_else(|error| panic!("{line}: {error}: {}{}", ended.stdout, ended.stderr));
        assert!(!document[key].is_null(), "{line}: {document}");
        for key in keys(&document) {
            let known = page.contains(&format!("`{key}`"));
            assert!(known, "{line}: {key} is not in docs/json.md");
        }
    }
    let ended = user.run("builds --json");
    assert_eq!(
        serde_json::from_str::<Value>(&ended.stdout).unwrap(),
        Value::Array(Vec::new())
    );
}

#[test]
fn a_failure_is_an_error_event_and_an_exit_event() {
    let user = User::new();
    for line in [
        "box info none --json",
        "box rm none --json",
        "box verify none --json",
        "box lock none --json",
        "box pull none --json",
        "box import x --rootfs none --json",
        "box create x --from none --json",
        "box create --json",
        "logs --json",
        "bench --boot-box none --json",
        "--json --box none -- --description image --target-dir out",
        "--json --dry-run --box none -- --description image --target-dir out",
        "--json --no-such-option",
        "no-such-command --json",
    ] {
        let ended = user.run(line);
        let events = events(&ended.stdout);
        let [error, exit] = &events[..] else {
            panic!("{line}: {}{}", ended.stdout, ended.stderr);
        };
        assert_eq!(error["event"], "error", "{line}");
        let message = error["message"].as_str().unwrap();
        assert!(
            !message.is_empty() && !message.contains("Usage"),
            "{line}: {message}"
        );
        assert_eq!(exit["event"], "exit", "{line}");
        assert_eq!(exit["code"], ended.code, "{line}");
        for event in &events {
            let time = event["time"].as_str().unwrap();
            assert!(time.ends_with('Z') && time.contains('T'), "{line}: {time}");
        }
    }
    let ended = user.run("--json --box x --box-memry 4G -- --description image");
    let events = events(&ended.stdout);
    assert!(
        events[0]["hint"].as_str().unwrap().contains("--box-memory"),
        "{}",
        events[0]
    );
}
