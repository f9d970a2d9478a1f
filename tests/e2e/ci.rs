//! Builds in systems that run jobs: what they print where there is no terminal.

use std::fs;

use boxbuild_tests::{ProcessOutput, Sandbox, engine};

crate::tests! {
    Program:
        a_guest_forges_no_command_of_a_runner,
        a_batch_reports_to_github_and_as_junit,
        lines_are_folded_where_a_runner_folds_them,
        the_last_build_tells_how_long_the_next_one_takes;
    Full:
        a_silent_build_says_what_it_does_every_minute;
}

/// What a runner of GitHub obeys: a line whose first word begins with `::`, `##[` anywhere.
fn commands(output: &ProcessOutput) -> Vec<String> {
    let lines = output.stdout.lines().chain(output.stderr.lines());
    lines
        .filter(|line| line.trim_start().starts_with("::") || line.contains("##["))
        .map(str::to_owned)
        .collect()
}

/// Writes forged commands wherever text of a guest goes.
const FORGER: &str =
    "for line in '::set-output name=x::y' '  ::add-path::/tmp' '##[add-path]/tmp' \
         'x ##[set-env name=PATH]/tmp' '::stop-commands::x' '::endgroup::'; do
        echo \"$line\" >>$log; echo \"[ ERROR   ]: 00:00:00 | $line\" >>$log
        echo \"$line\" >/dev/console; touch \"/bundle/$line\" 2>/dev/null
    done; echo '[ ERROR   ]: ::error::gone' >>$log; echo '::error::gone' >>$log";

fn build(sandbox: &Sandbox, system: &str, front: &[&str]) -> ProcessOutput {
    let mut command = sandbox.build_command(front, &[]);
    ProcessOutput::of(command.env(system, "true"))
}

fn a_guest_forges_no_command_of_a_runner() {
    let sandbox = Sandbox::new(&format!("{FORGER}; return 7"));
    for front in [&[][..], &["--json"], &["--json", "--verbose"]] {
        let output = build(&sandbox, "GITHUB_ACTIONS", front);
        assert_eq!(output.code, 1, "{output:?}");
        let text = "::error title=description::the build failed in the box (kiwi's exit code 7)";
        let ours: &[&str] = if front.is_empty() { &[text] } else { &[] };
        assert_eq!(commands(&output), ours, "{front:?}");
    }
    let output = build(
        &sandbox,
        "GITHUB_ACTIONS",
        &["--verbose", "--keep-failed=yes"],
    );
    assert!(output.stderr.contains("set-output name=x"), "{output:?}");
    let ours = |line: &String| {
        line == "::endgroup::"
            || line.starts_with("::group::")
            || line.starts_with("::error title=description::the build failed in the box")
    };
    let forged: Vec<String> = commands(&output)
        .into_iter()
        .filter(|line| !ours(line))
        .collect();
    assert_eq!(forged, [] as [&str; 0]);
    // As many ends as beginnings: none of them is the guest's.
    let count = |start: &str| {
        commands(&output)
            .iter()
            .filter(|line| line.starts_with(start))
            .count()
    };
    assert_eq!(count("::endgroup::"), count("::group::"));
    let mut logs = sandbox.command(["logs"]);
    let logs = ProcessOutput::of(logs.env("GITHUB_ACTIONS", "true"));
    assert!(logs.stdout.contains("set-output name=x"), "{logs:?}");
    assert_eq!(commands(&logs), [] as [&str; 0]);
    // Programs get the line as it is: within JSON it is no command.
    let mut logs = sandbox.command(["logs", "--json"]);
    let logs = ProcessOutput::of(logs.env("GITHUB_ACTIONS", "true"));
    let line = r#""text":"::set-output name=x::y""#;
    assert!(logs.stdout.contains(line), "{logs:?}");
    assert_eq!(commands(&logs), [] as [&str; 0]);
    // Results as well.
    sandbox.script(&format!(
        "{FORGER}; touch /result/image '/result/##[x] ::y'"
    ));
    let output = build(&sandbox, "GITHUB_ACTIONS", &[]);
    assert_eq!(commands(&output), [] as [&str; 0], "{output:?}");
}

fn a_batch_reports_to_github_and_as_junit() {
    let sandbox = Sandbox::new("");
    sandbox.describe("good", "touch /result/image");
    sandbox.describe(
        "bad",
        &format!("{FORGER}; echo '[ ERROR   ]: 00:00:00 | ]]></failure> <b> http://me:s3cret@host/' >>$log; return 7"),
    );
    let batch = format!(
        "[defaults]\nbox = 'small'\ntarget-dir = 'out/{{name}}'\n\
         options = {{ engine = '{}', keep-failed = 'no' }}\n\
         [[build]]\nname = 'good'\ndescription = 'good'\n[[build]]\nname = 'bad'\ndescription = 'bad'\n",
        engine()
    );
    let (file, report, summary) = (
        sandbox.path("batch.toml"),
        sandbox.path("report.xml"),
        sandbox.path("summary.md"),
    );
    fs::write(&file, batch).unwrap();
    // The runner makes it.
    fs::write(&summary, "before\n").unwrap();
    let mut command = sandbox.command(["batch"]);
    command.arg(&file).arg("--junit").arg(&report);
    command
        .env("GITHUB_ACTIONS", "true")
        .env("GITHUB_WORKSPACE", sandbox.path("."))
        .env("GITHUB_STEP_SUMMARY", &summary);
    let output = ProcessOutput::of(&mut command);
    assert_eq!(output.code, 1, "{output:?}");
    let found = commands(&output);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("::error title=bad,file=") && found[0].contains("batch.toml,line=8::"),
        "{found:?}"
    );
    let text = fs::read_to_string(&report).unwrap();
    for words in [
        "tests=\"2\" failures=\"1\" errors=\"0\"",
        "<testcase name=\"good\" classname=\"batch\" time=\"",
        "<failure message=\"",
        "]]&gt;&lt;/failure&gt;",
    ] {
        assert!(text.contains(words), "{words} is not in {text}");
    }
    let page = fs::read_to_string(&summary).unwrap();
    assert!(page.starts_with("before\n### "), "{page}");
    assert!(
        page.contains("| ✓ | good |") && page.contains("| ✗ | bad |"),
        "{page}"
    );
    for (text, markup) in [(&text, "<b>"), (&page, "<b>"), (&output.stderr, "\n::add")] {
        assert!(!text.contains("s3cret") && !text.contains(markup), "{text}");
    }
    sandbox.assert_nothing_left();
}

fn lines_are_folded_where_a_runner_folds_them() {
    let sandbox = Sandbox::new("echo 'a line of kiwi' >>$log; touch /result/image");
    let output = build(&sandbox, "GITHUB_ACTIONS", &["--verbose"]);
    output.expect(0, &[]);
    let lines: Vec<&str> = output.stderr.lines().collect();
    let at = |text: &str| {
        let at = lines.iter().position(|line| line.contains(text));
        at.unwrap_or_else(|| panic!("no {text} in {lines:#?}"))
    };
    let (begin, line, end) = (
        at("::group::prepare"),
        at("a line of kiwi"),
        at("✓ prepare"),
    );
    assert!(begin < line && line < end, "{lines:#?}");
    // What a user must see is not folded away.
    assert_eq!(lines[end - 1], "::endgroup::");

    let output = build(&sandbox, "GITLAB_CI", &["--verbose"]);
    output.expect(0, &[]);
    let begin = output.stderr.find("\x1b[0Ksection_start:").unwrap();
    let end = output.stderr.find("\x1b[0Ksection_end:").unwrap();
    assert!(
        begin < end
            && output
                .stderr
                .contains(":boxbuild_prepare[collapsed=true]\r\x1b[0Kprepare")
    );

    // Neither without --verbose nor with --json nor elsewhere.
    for (system, front) in [
        ("GITHUB_ACTIONS", &[][..]),
        ("GITLAB_CI", &["--json", "--verbose"]),
        ("CI", &["--verbose"]),
    ] {
        let output = build(&sandbox, system, front);
        let text = output.stdout + &output.stderr;
        assert!(
            !text.contains("::group::") && !text.contains("section_start"),
            "{text}"
        );
    }
}

fn the_last_build_tells_how_long_the_next_one_takes() {
    let sandbox = Sandbox::new("sleep 1; touch /result/image");
    let expected = |output: &ProcessOutput| {
        let lines = output.stdout.lines();
        lines
            .filter(|line| line.contains("\"expected_seconds\""))
            .count()
    };
    let first = sandbox.build(&["--json"], &[]);
    first.expect(0, &[]);
    assert_eq!(expected(&first), 0, "{first:?}");
    let second = sandbox.build(&["--json"], &[]);
    assert_eq!(expected(&second), 4, "{second:?}");
    // Another profile is another build.
    let other = sandbox.build(&["--json", "--profile", "P"], &[]);
    assert_eq!(expected(&other), 0, "{other:?}");
    // One that fails tells nothing.
    sandbox.script("return 7");
    sandbox.build(&["--profile", "Q"], &[]).expect(1, &[]);
    let again = sandbox.build(&["--json", "--profile", "Q"], &[]);
    assert_eq!(expected(&again), 0, "{again:?}");
}

/// E4: no line for seven minutes, and the system that ran the job killed it. The minute is that of the program.
fn a_silent_build_says_what_it_does_every_minute() {
    let sandbox = Sandbox::new(
        "echo '[ INFO    ]: 10:00:00 | Installing packages from http://me:s3cret@host/' >>$log
         sleep 130; touch /result/image",
    );
    let said = |output: &ProcessOutput| -> Vec<String> {
        let lines = output.stderr.lines();
        let of_kiwi = lines.filter(|line| line.contains("Installing packages"));
        of_kiwi.map(str::to_owned).collect()
    };
    let output = sandbox.build(&[], &[]);
    output.expect(0, &["prepare        1 min 0"]);
    assert_eq!(said(&output).len(), 2, "{output:?}");
    assert!(!output.stderr.contains("s3cret"), "{output:?}");
    // The next one knows how long it takes.
    let output = sandbox.build(&[], &[]);
    output.expect(0, &["about 1 min left"]);
    let output = sandbox.build(&["--json"], &[]);
    let beats = output
        .stdout
        .lines()
        .filter(|line| line.contains("\"left_seconds\""));
    assert_eq!(beats.count(), 2, "{output:?}");
}
