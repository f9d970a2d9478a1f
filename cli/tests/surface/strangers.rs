//! Command lines, files and hosts of people who have not read the pages.

use std::fs::File;
use std::process::Stdio;

use crate::user::{Ended, User, boxbuild};

/// `boxbuild batch FILE -- --clear-cache` built without a word about the option.
#[test]
fn words_behind_the_separator_are_refused_where_nothing_takes_them() {
    let user = User::new();
    for line in [
        "info image -- --set-repo x",
        "box list -- x",
        "prune --dry-run -- --all",
        "builds -- x",
        "logs -- x",
        "doctor -- x",
        "batch none -- --clear-cache",
        "completions bash -- x",
        "help -- x",
    ] {
        let ended = user.run(line);
        assert_eq!(ended.code, 2, "{line}: {}", ended.stdout);
        assert!(
            ended.stderr.contains("takes no build arguments"),
            "{line}: {}",
            ended.stderr
        );
    }
    assert_eq!(user.run("info image --").code, 0);
    assert_eq!(user.run("check image -- --set-repo http://h/x").code, 0);
}

/// "--all: --allow-existing-root is an option of …", "kiwi may be --kiwi-version".
#[test]
fn hints_on_options_are_for_those_who_can_follow_them() {
    let user = User::new();
    for (line, wrong) in [
        ("box reset --all", "--allow-existing-root"),
        ("box kiwi", "--kiwi-version"),
        ("batch x kiwi y", "--kiwi-version"),
        ("builds --add-repo x", "put it after --"),
    ] {
        let ended = user.run(line);
        assert_eq!(ended.code, 2, "{line}");
        assert!(!ended.stderr.contains(wrong), "{line}: {}", ended.stderr);
    }
    let ended = user.run("check image --set-repo x");
    assert!(
        ended.stderr.contains("boxbuild check DESCRIPTION -- "),
        "{}",
        ended.stderr
    );
    let ended = user.run("--box x --desc image");
    assert!(ended.stderr.contains("--description"), "{}", ended.stderr);
}

/// "invalid digit found in string", "number would be zero for non-zero type".
#[test]
fn numbers_are_refused_in_words() {
    let user = User::new();
    for (line, range) in [
        ("--box x --box-smp-cpus=1.5 --", "from 1 to 254"),
        ("--box x --box-smp-cpus=auto --", "from 1 to 254"),
        ("--box x --box-smp-cpus=0 --", "from 1 to 254"),
        ("--box x --ssh-port=abc --", "from 0 to 65535"),
        ("--box x --ssh-port=65536 --", "from 0 to 65535"),
        ("box import x --disk d --kernel k --cpus=x", "from 1 to 254"),
        ("batch x --jobs 0", "from 1 to 10000"),
        ("batch x --jobs x", "from 1 to 10000"),
    ] {
        let ended = user.run(line);
        assert_eq!(ended.code, 2, "{line}");
        assert!(
            ended.stderr.contains("is not a whole number") && ended.stderr.contains(range),
            "{line}: {}",
            ended.stderr
        );
    }
    let ended = user.run("--box x --disk-size=9999999T --");
    assert!(
        ended.stderr.contains("at most 16.0 TiB"),
        "{}",
        ended.stderr
    );
    std::fs::write(user.work().join("b.toml"), "jobs = 0\n").unwrap();
    let ended = user.run("batch b.toml");
    assert!(
        ended
            .stderr
            .contains("b.toml:1: jobs: 0 is not a whole number from 1"),
        "{}",
        ended.stderr
    );
}

/// The dry run said nothing of a folder that the batch could not make.
#[test]
fn a_batch_whose_logs_have_no_place_is_refused_in_the_dry_run() {
    let user = User::new();
    std::fs::write(
        user.work().join("b.toml"),
        "log-dir = 'image/config.xml/x'\n",
    )
    .unwrap();
    for line in [
        "batch b.toml --dry-run",
        "batch b.toml --dry-run --log-dir /dev/null",
    ] {
        let ended = user.run(line);
        assert_eq!(ended.code, 2, "{line}");
        assert!(
            ended.stderr.contains("the folder for the logs: "),
            "{line}: {}",
            ended.stderr
        );
    }
}

/// With `--json` and a full disk nothing was said, and `--version` ended with 0.
#[test]
fn output_that_cannot_be_written_is_said() {
    let user = User::new();
    for line in [
        "--version",
        "--help",
        "help",
        "--box x -- --help",
        "box list",
        "box list --json",
        "info image --json",
        "box info none --json",
    ] {
        let mut command = user.command(boxbuild());
        command.args(line.split(' '));
        command.stdout(File::create("/dev/full").unwrap());
        command.stderr(Stdio::piped());
        let output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_ne!(output.status.code(), Some(0), "{line}");
        assert_eq!(
            stderr.matches("cannot write to standard output").count(),
            1,
            "{line}: {stderr}"
        );
    }
}

/// 10,000 builds took minutes, in which Ctrl-C did nothing; of 300 mistakes 200 were told without a word
/// about the others.
#[test]
fn a_large_batch_is_refused_soon_and_whole() {
    let user = User::new();
    let mut text = String::from("[defaults]\nbox = 'none'\ntarget-dir = 'out/{name}'\n");
    for number in 0..300 {
        text += &format!("[[build]]\nname = 'b{number}'\ndescription = 'no{number}'\n");
    }
    std::fs::write(user.work().join("b.toml"), text).unwrap();
    let ended = user.run("batch b.toml --dry-run");
    assert_eq!(ended.code, 2);
    // One is that there is no box.
    assert!(
        ended.stderr.contains("b.toml: 101 more mistakes"),
        "{}",
        ended.stderr
    );
}

/// `--lock-file` alone built with any box, and said nothing.
#[test]
fn a_lock_file_that_nothing_insists_on_is_refused() {
    let user = User::new();
    let build = "--box leap --lock-file x -- --description image --target-dir out";
    for line in [
        build,
        "box pull leap --lock-file x",
        "check --lock-file x image",
    ] {
        let ended = user.run(line);
        assert_eq!(ended.code, 2, "{line}: {}", ended.stderr);
        assert!(
            ended.stderr.contains("--locked"),
            "{line}: {}",
            ended.stderr
        );
    }
}

/// A batch that looks at its builds ends soon after Ctrl-C.
#[test]
fn a_signal_ends_the_look_at_a_batch() {
    use std::os::unix::process::ExitStatusExt;
    use std::time::{Duration, Instant};

    let user = User::new();
    let mut text = String::from("[defaults]\nbox = 'none'\ntarget-dir = 'out/{name}'\n");
    for number in 0..20_000 {
        text += &format!("[[build]]\nname = 'b{number}'\ndescription = 'image'\n");
    }
    std::fs::write(user.work().join("b.toml"), text).unwrap();
    let mut command = user.command(boxbuild());
    command.args(["batch", "b.toml", "--dry-run"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    std::thread::sleep(Duration::from_millis(700));
    let begun = Instant::now();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    while begun.elapsed() < Duration::from_secs(20) && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(50));
    }
    let _ = child.kill();
    let status = child.wait().unwrap();
    // On a fast host it has refused the batch before.
    assert!(
        matches!(status.code(), Some(130 | 2)),
        "{:?} {:?}",
        status.code(),
        status.signal()
    );
}

/// A folder "a\\nb" was completed as "a\\" or "b".
#[test]
fn names_for_no_terminal_are_not_completed() {
    let user = User::new();
    for name in ["good", "go\nod", "go\u{1b}[31m"] {
        std::fs::create_dir(user.work().join(name)).unwrap();
    }
    let words = [
        "complete",
        "bash",
        "5",
        "--",
        "boxbuild",
        "--box",
        "x",
        "--",
        "--description",
        "go",
    ];
    let ended = user.run_words(&words);
    assert_eq!(ended.stdout, "good/\n");
}

/// The dry run said nothing of a --logsocket that is not a socket, of variables that kiwi fails on or makes "None"
/// of, of a log file behind links in a circle; a line of the plan could be another's.
#[test]
fn a_dry_run_says_what_a_build_would_say() {
    let user = User::new();
    std::os::unix::fs::symlink("circle", user.work().join("circle")).unwrap();
    let run = |options: &[&str], target: &str| {
        let words = ["--", "--description", "image", "--target-dir", target];
        let mut command = user.with_box("test", None);
        command.args(["--dry-run", "--box", "plain"]);
        Ended::of(command.args(options).args(words))
    };
    let plain = run(&[], "a\nb\u{1b}[31m");
    if plain.code == 3 {
        eprintln!(
            "skipped: a_dry_run_says_what_a_build_would_say: {}",
            plain.stderr
        );
        return;
    }
    assert_eq!(plain.code, 0, "{}", plain.stderr);
    assert!(
        plain.stdout.contains("a\\nb\\u{1b}[31m\n"),
        "{}",
        plain.stdout
    );
    for (option, code, text) in [
        ("--logsocket=image", 0, "is not a socket"),
        ("--setenv=NAME", 0, "kiwi sets it to None"),
        ("--setenv==x", 2, "it has no name"),
        ("--logfile=circle", 2, "symbolic links"),
        ("--disk-size=100M", 2, "is 256.0 MiB already"),
    ] {
        let ended = run(&[option], "out");
        assert_eq!(ended.code, code, "{option}: {}", ended.stderr);
        assert!(ended.stderr.contains(text), "{option}: {}", ended.stderr);
    }
}

/// An empty variable of a script: `--type=$TYPE`.
#[test]
fn empty_values_count_as_not_given_for_descriptions_as_well() {
    let user = User::new();
    for command in ["check", "info"] {
        let words = [command, "--type=", "--profile=", "--kiwi-file=", "image"];
        let ended = user.run_words(&words);
        assert_eq!(ended.code, 0, "{command}: {}", ended.stderr);
    }
}

/// `boxbuild check` found nothing where the dry run of a build has a note.
#[test]
fn a_check_says_of_repositories_what_a_build_says() {
    let user = User::new();
    let file = user.work().join("image/config.xml");
    let xml = std::fs::read_to_string(&file).unwrap();
    let xml = xml.replace("http://packages.example/debian", "dir:///nowhere/repo");
    std::fs::write(&file, xml).unwrap();
    let ended = user.run("check image");
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(
        ended
            .stderr
            .contains("image/config.xml:6: dir:///nowhere/repo: does not exist"),
        "{}",
        ended.stderr
    );
    let ended = user.run("check image -- --set-repo http://m.example/x");
    assert!(!ended.stderr.contains("nowhere"), "{}", ended.stderr);
    let ended = user.run("check image -- --signing-key none");
    assert_eq!(ended.code, 2);
    assert!(ended.stderr.contains("--signing-key"), "{}", ended.stderr);
    let json: Ended = user.run("check image --json");
    let document: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(document["findings"][0]["line"], 6, "{document}");
}
