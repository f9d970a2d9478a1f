//! Help and its topics.

use crate::user::User;

/// Cases E12 and E13.
#[test]
fn the_help_has_commands_topics_and_the_options_behind_the_separator() {
    let user = User::new();
    for (line, words) in [
        ("help", "--no-snapshot"),
        ("--help", "boxbuild help build-args"),
        ("help build-args", "--set-repo-credentials"),
        ("--box x -- --help", "--set-repo-credentials"),
        ("-- --help", "--set-repo-credentials"),
        ("system boxbuild --box x kiwi -h", "--set-repo-credentials"),
        ("help batch-file", "[[override]]"),
        ("help exit-codes", "124"),
        ("help environment", "KIWI_BOXED_CACHE_DIR"),
        ("help files", "boxbuild.lock"),
        ("help json", "'time'"),
        ("help box create", "--from"),
        ("box help create", "--from"),
    ] {
        let ended = user.run(line);
        assert_eq!(ended.code, 0, "{line}: {}", ended.stderr);
        assert!(ended.stdout.contains(words), "{line}: {}", ended.stdout);
        assert!(ended.stderr.is_empty(), "{line}: {}", ended.stderr);
    }
    let ended = user.run("help build-arg");
    assert_eq!(ended.code, 2);
    assert!(
        ended.stderr.contains("did you mean 'build-args'?"),
        "{}",
        ended.stderr
    );
    for (line, words) in [
        ("help box creat", "did you mean 'create'?"),
        ("help box doctor", "known: create, list, "),
        ("help doctor x", "'doctor' has none below it"),
    ] {
        let ended = user.run(line);
        assert_eq!(ended.code, 2, "{line}");
        assert!(ended.stderr.contains(words), "{line}: {}", ended.stderr);
    }
    let ended = user.run("--box x -- --no-such-option --description image");
    assert!(
        ended.stderr.contains("boxbuild help build-args"),
        "{}",
        ended.stderr
    );
}

/// Case E13: without a word, the program says what there is.
#[test]
fn a_command_line_without_words_shows_the_short_help() {
    let user = User::new();
    let ended = user.run("");
    assert_eq!(ended.code, 2);
    assert!(
        ended
            .stderr
            .contains("Usage: boxbuild [OPTIONS] --box NAME"),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.lines().count() <= 48, "{}", ended.stderr);
    assert!(ended.stdout.is_empty());
}

#[test]
fn the_short_help_is_one_screen_in_the_program() {
    let user = User::new();
    let ended = user.run("-h");
    assert!(ended.stdout.lines().count() <= 48, "{}", ended.stdout);
}

/// Case E12: what the topic shows is a batch file, and each of its keys exists.
#[test]
fn the_topic_has_keys_of_a_batch_file_and_a_whole_one() {
    let user = User::new();
    let topic = user.run("help batch-file").stdout;
    let code: Vec<&str> = topic
        .lines()
        .skip_while(|line| !line.starts_with("    [defaults]"))
        .take_while(|line| line.is_empty() || line.starts_with("    "))
        .map(str::trim)
        .collect();
    let batch = |text: &str| {
        std::fs::write(user.work().join("builds.toml"), text).unwrap();
        user.run("batch builds.toml --dry-run").stderr
    };
    // Only the folders of the example are missing.
    let problems = batch(&code.join("\n"));
    assert!(problems.contains("images/server"), "{problems}");
    for mistake in ["no key", "no option", "expected"] {
        assert!(!problems.contains(mistake), "{problems}");
    }
    let build = "[[build]]\nname = 'x'\ndescription = 'image'\nbox = 'none'\ntarget-dir = 'out'\n";
    for (key, line) in [
        ("jobs", "jobs = 2"),
        ("log-dir", "log-dir = 'logs'"),
        ("name", "name = '{description}'"),
    ] {
        assert!(topic.contains(&format!("\n  {key}")), "{key}");
        let problems = batch(&format!("{line}\n{build}"));
        assert!(problems.contains("no box 'none'"), "{key}: {problems}");
    }
    for line in [
        "profile = ['Live']",
        "type = 'tbz'",
        "arch = 'x86_64'",
        "options.timeout = '1h'",
        "build-args.add-package = ['y']",
    ] {
        let key = line.split([' ', '.']).next().unwrap();
        assert!(topic.contains(&format!("\n  {key}")), "{key}");
        let problems = batch(&format!("{build}{line}\n"));
        assert!(problems.contains("no box 'none'"), "{key}: {problems}");
    }
    let problems = batch(&format!("{build}bogus = 1\n"));
    assert!(problems.contains("bogus"), "{problems}");
}
