//! Completions, asked for by real shells.

use std::path::Path;

use crate::user::{Ended, User, boxbuild};

/// Lines, and what may stand at their ends.
const CASES: &[(&str, &str)] = &[
    ("boxbuild --box le", "leap"),
    ("boxbuild --box x -- --desc", "--description"),
    ("boxbuild box create x --from debian:tr", "debian:trixie"),
    ("boxbuild help batch-", "batch-file"),
    ("kiwi-ng system box", "boxbuild"),
    ("kiwi-ng system boxbuild --box le", "leap"),
    ("boxbuild --box x -- --description im", "image/"),
    (
        "boxbuild --box x -- --description image --target-dir im",
        "image/",
    ),
];

/// Runs a script in a shell, with boxbuild in its PATH; `None` if there is no such shell.
fn shell(name: &str, options: &[&str], script: &str) -> Option<String> {
    let user = User::new();
    std::fs::create_dir(user.work().join("st*r")).unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let own = boxbuild().parent().unwrap().display().to_string();
    let program = std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|program| program.exists());
    let Some(program) = program else {
        eprintln!("skipped: completions: {name} is not installed");
        return None;
    };
    let ended = Ended::of(
        user.command(&program)
            .args(options)
            .args(["-c", script])
            .env("PATH", format!("{own}:{path}")),
    );
    assert_eq!(ended.stderr, "", "{name}");
    Some(ended.stdout)
}

/// Case E11.
#[test]
fn bash_completes_values() {
    let script = r#"
source <(boxbuild completions bash)
source <(boxbuild completions bash --name kiwi-ng)
while read -r line; do
    COMP_WORDS=()
    # As readline does it with COMP_WORDBREAKS.
    for word in ${line//:/ : }; do COMP_WORDS+=("$word"); done
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    COMPREPLY=()
    function=_${COMP_WORDS[0]//-/_}
    "$function" "${COMP_WORDS[0]}" 2>/dev/null
    echo "$line>${COMPREPLY[*]}"
done <<'END'
LINES
END
"#;
    // bash 5.0 takes a name with a backslash for a pattern, which matches the name without it.
    let cases = [CASES, &[("boxbuild info st", "st\\*r/")]].concat();
    let lines: Vec<&str> = cases.iter().map(|(line, _)| *line).collect();
    let script = script.replace("LINES", &lines.join("\n"));
    let Some(output) = shell("bash", &["--norc"], &script) else {
        return;
    };
    for (line, expected) in cases {
        // bash keeps what stands before the colon.
        let expected = expected.split(':').next_back().unwrap();
        assert!(
            output.contains(&format!("{line}>{expected}\n")),
            "{line}: {output}"
        );
    }
}

#[test]
fn fish_completes_values() {
    let mut script = String::from(
        "boxbuild completions fish | source\nboxbuild completions fish --name kiwi-ng | source\n",
    );
    for (line, _) in CASES {
        script += &format!("echo '{line}>'(complete -C '{line}' | string split -f1 \\t)\n");
    }
    let Some(output) = shell("fish", &["--no-config"], &script) else {
        return;
    };
    for (line, expected) in CASES {
        assert!(
            output.contains(&format!("{line}>{expected}\n")),
            "{line}: {output}"
        );
    }
}

#[test]
fn zsh_completes_values() {
    let mut script = String::from(
        r#"
compdef() { :; }
compadd() { shift 3; print -rn -- "$*"; }
_describe() { print -rn -- "${${(P)3}%%:*}"; }
source <(boxbuild completions zsh)
source <(boxbuild completions zsh --name kiwi-ng)
"#,
    );
    // _describe separates by colons.
    let cases: Vec<_> = CASES
        .iter()
        .filter(|(_, word)| !word.contains(':'))
        .collect();
    for (line, _) in &cases {
        let function = format!("_{}", line.split(' ').next().unwrap().replace('-', "_"));
        script += &format!(
            "words=({line}); CURRENT=${{#words}}; print -rn -- '{line}>'; {function}; print\n"
        );
    }
    let Some(output) = shell("zsh", &["-f"], &script) else {
        return;
    };
    for (line, expected) in cases {
        assert!(
            output.contains(&format!("{line}>{expected}\n")),
            "{line}: {output}"
        );
    }
}

#[test]
fn a_name_of_no_command_gets_no_script() {
    let user = User::new();
    for name in ["", "a b", "$(x)", "-x", "a;b"] {
        let ended = user.run_words(&["completions", "bash", &format!("--name={name}")]);
        assert_eq!(ended.code, 2, "{name}");
        assert!(ended.stdout.is_empty());
    }
    assert!(Path::new(boxbuild()).is_file());
}
