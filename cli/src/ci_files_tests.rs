//! Files for systems that run jobs, and those for packages: they are YAML, their scripts are scripts, and
//! the command lines in them are ones of this version.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::error::ErrorKind;
use serde_json::Value;

use crate::args;

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(top().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

/// Blocks of a page that are indented by four spaces.
fn blocks(page: &str) -> Vec<String> {
    let mut blocks = vec![String::new()];
    for line in page.lines() {
        match line.strip_prefix("    ") {
            Some(code) => *blocks.last_mut().unwrap() += &format!("{code}\n"),
            None if line.is_empty() && blocks.last().is_some_and(|block| !block.is_empty()) => {
                *blocks.last_mut().unwrap() += "\n";
            }
            None => blocks.push(String::new()),
        }
    }
    blocks.retain(|block| !block.trim().is_empty());
    blocks
}

/// Every text in it that belongs to one of the keys.
fn texts<'a>(value: &'a Value, keys: &[&str], found: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                if keys.contains(&key.as_str()) {
                    match value {
                        Value::String(text) => found.push(text),
                        Value::Array(lines) => found.extend(lines.iter().filter_map(Value::as_str)),
                        _ => {}
                    }
                }
                texts(value, keys, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| texts(value, keys, found)),
        _ => {}
    }
}

fn scripts(value: &Value) -> Vec<&str> {
    let mut found = Vec::new();
    texts(value, &["run", "script", "before_script"], &mut found);
    found
}

/// The command lines of boxbuild in a script, as words.
fn command_lines(script: &str) -> Vec<Vec<String>> {
    let script = script.replace("\\\n", " ");
    let mut lines = Vec::new();
    for line in script.lines().map(str::trim) {
        if line.starts_with('#') || line.starts_with("- ") {
            continue;
        }
        for (at, _) in line.match_indices("boxbuild ") {
            let before = line[..at].chars().next_back();
            let starts = ["", "! ", "$(", "&& ", "|| ", "run: ", "then "];
            let begins = starts
                .iter()
                .any(|start| line[..at].ends_with(start) && (!start.is_empty() || at == 0));
            if !begins && before.is_some() {
                continue;
            }
            let rest = &line[at + "boxbuild ".len()..];
            let ends = [" && ", " || ", " >", " | ", "; ", ")"];
            let end = ends.iter().filter_map(|end| rest.find(end)).min();
            let rest = &rest[..end.unwrap_or(rest.len())];
            let words = shell_words::split(rest.trim_end_matches(';'))
                .unwrap_or_else(|error| panic!("{error}: {line}"));
            // What a variable of several words may add is another line's.
            lines.push(
                words
                    .into_iter()
                    .filter(|word| word != "$@" && !word.contains("[@]"))
                    .collect(),
            );
        }
    }
    lines
}

/// Checks the command lines of a script, and returns how many there are.
fn check_command_lines(script: &str) -> usize {
    let lines = command_lines(script);
    for words in &lines {
        if let Err(error) = args::parse(words.iter().map(std::ffi::OsString::from)) {
            let fine = matches!(
                error.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
            );
            assert!(fine, "boxbuild {}: {error}", words.join(" "));
        }
    }
    lines.len()
}

/// Checks that a shell can read a script.
fn check_syntax(script: &str) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("script");
    fs::write(&file, script).unwrap();
    let output = Command::new("bash").arg("-n").arg(&file).output().unwrap();
    assert!(output.status.success(), "{output:?} in {script}");
}

/// Names after `prefix` in the expressions of a text.
fn names_in(text: &str, prefix: &str) -> BTreeSet<String> {
    let in_name = |char: char| char.is_ascii_alphanumeric() || char == '_' || char == '-';
    let names = text.match_indices(prefix).map(|(at, _)| {
        let rest = &text[at + prefix.len()..];
        rest[..rest.find(|char| !in_name(char)).unwrap_or(rest.len())].to_owned()
    });
    names.filter(|name| !name.is_empty()).collect()
}

#[test]
fn the_action_is_whole() {
    let text = read("action.yml");
    let action = yaml(&text);
    let keys = |value: &Value| -> BTreeSet<String> {
        value.as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(
        names_in(&text, "inputs."),
        keys(&action["inputs"]),
        "inputs used and declared"
    );
    let steps = action["runs"]["steps"].as_array().unwrap();
    let ids: BTreeSet<String> = steps
        .iter()
        .filter_map(|step| step["id"].as_str())
        .map(str::to_owned)
        .collect();
    assert_eq!(
        names_in(&text, "steps."),
        ids,
        "steps that outputs refer to"
    );
    let mut lines = 0;
    for step in steps {
        let Some(script) = step["run"].as_str() else {
            assert!(step["uses"].is_string(), "{step}");
            continue;
        };
        assert_eq!(step["shell"], "bash", "{step}");
        // What a workflow passes on would be text of the script, and so a command.
        assert!(!script.contains("${{"), "{script}");
        assert!(script.starts_with("set -euo pipefail\n"), "{script}");
        if let Some(variables) = step["env"].as_object() {
            for name in variables.keys() {
                assert!(
                    script.contains(name.as_str()),
                    "{name} is not used in {script}"
                );
            }
        }
        check_syntax(script);
        lines += check_command_lines(script);
    }
    assert!(lines >= 5, "{lines} command lines");
    let output = &action["outputs"]["matrix"]["value"];
    assert!(
        output
            .as_str()
            .unwrap()
            .contains("steps.matrix.outputs.matrix")
    );
}

#[test]
fn the_template_of_gitlab_is_whole() {
    let text = read("cli/packaging/gitlab.yml");
    let template = yaml(&text);
    let job = &template[".boxbuild"];
    let mut lines = 0;
    for script in scripts(job) {
        check_syntax(script);
        lines += check_command_lines(script);
        for name in names_in(script, "$IMAGES_") {
            let name = format!("IMAGES_{name}");
            assert!(!job["variables"][&name].is_null(), "{name}");
        }
    }
    assert!(lines >= 3, "{lines} command lines");
    // The report that the script writes is the one that GitLab takes.
    let report = job["artifacts"]["reports"]["junit"].as_str().unwrap();
    assert!(text.contains(&format!("--junit {report} ")), "{report}");
}

#[test]
fn workflows_of_the_project_can_be_read() {
    for name in ["ci.yml", "release.yml"] {
        let text = read(&format!(".github/workflows/{name}"));
        let workflow = yaml(&text);
        let scripts = scripts(&workflow);
        assert!(!scripts.is_empty(), "{name}");
        for script in scripts {
            assert!(!script.contains("${{"), "{name}: {script}");
            check_syntax(script);
            // What make is asked for is there.
            for target in names_in(script, "make ") {
                let rule = format!("\n{target}:");
                assert!(read("Makefile").contains(&rule), "{name}: make {target}");
            }
        }
    }
}

#[test]
fn examples_on_the_page_for_ci_are_right() {
    let page = read("docs/ci.md");
    let action = yaml(&read("action.yml"));
    let known = action["inputs"].as_object().unwrap();
    let (mut documents, mut lines, mut uses) = (0, 0, 0);
    for block in blocks(&page) {
        let is_yaml = block.lines().any(|line| {
            let line = line.trim_start();
            line == "jobs:" || line == "include:" || line.starts_with("- uses:")
        });
        if !is_yaml {
            lines += check_command_lines(&block);
            continue;
        }
        documents += 1;
        let document = yaml(&block);
        for script in scripts(&document) {
            check_syntax(script);
            lines += check_command_lines(script);
        }
        let mut steps = vec![&document];
        while let Some(value) = steps.pop() {
            match value {
                Value::Object(fields) => {
                    let action = fields.get("uses").and_then(Value::as_str);
                    if action.is_some_and(|action| action.starts_with("OWNER/boxbuild@")) {
                        uses += 1;
                        for name in fields
                            .get("with")
                            .and_then(Value::as_object)
                            .into_iter()
                            .flat_map(|with| with.keys())
                        {
                            assert!(known.contains_key(name), "the action has no input {name}");
                        }
                    }
                    steps.extend(fields.values());
                }
                Value::Array(values) => steps.extend(values),
                _ => {}
            }
        }
    }
    assert!(
        documents >= 3 && lines >= 3 && uses >= 2,
        "{documents}, {lines}, {uses}"
    );
}

/// A package of one version with a program of another one.
#[test]
fn files_for_packages_have_this_version_and_every_file() {
    let version = env!("CARGO_PKG_VERSION");
    let spec = read("cli/packaging/boxbuild.spec");
    let named = |line: &str| {
        line.strip_prefix("Version:")
            .map(|value| value.trim().to_owned())
    };
    assert_eq!(spec.lines().find_map(named).as_deref(), Some(version));
    assert!(read("CHANGELOG.md").contains(&format!("\n## [{version}] - ")));
    // What a package has, the others have as well.
    let nfpm = read("cli/packaging/nfpm.yaml");
    for part in [
        "bash-completion/completions/boxbuild",
        "zsh",
        "fish/vendor_completions.d/boxbuild.fish",
        "man1",
        "man5",
        "man7",
        "LGPL-2.1.txt",
    ] {
        for file in [&spec, &nfpm] {
            assert!(file.contains(part), "{part}");
        }
    }
    let sections: BTreeSet<&str> = crate::manual::TOPICS
        .iter()
        .map(|topic| topic.section)
        .collect();
    for section in sections {
        assert!(nfpm.contains(&format!("man{section}")), "section {section}");
    }
    check_syntax(&read("cli/packaging/install.sh"));
    // Licences that the program may have are those that the check of dependencies allows.
    let accepted = |text: &str, key: &str| -> BTreeSet<String> {
        let list = text
            .split(&format!("{key} = ["))
            .nth(1)
            .unwrap()
            .split(']')
            .next()
            .unwrap();
        list.split(',')
            .map(|item| item.trim().trim_matches('"').to_owned())
            .filter(|item| !item.is_empty())
            .collect()
    };
    assert_eq!(
        accepted(&read("cli/packaging/about.toml"), "accepted"),
        accepted(&read("deny.toml"), "allow")
    );
}

#[test]
fn command_lines_are_found_in_scripts() {
    let script = "set -e\nboxbuild doctor && boxbuild box list >x\n# boxbuild nonsense\nx=$(boxbuild batch \"$F\" \\\n  --matrix github)\nmkdir boxbuild dist\n";
    let lines: Vec<String> = command_lines(script)
        .iter()
        .map(|words| words.join(" "))
        .collect();
    assert_eq!(lines, ["doctor", "box list", "batch $F --matrix github"]);
}
