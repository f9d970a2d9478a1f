//! Command lines of scripts for kiwi-ng: they run unchanged, and mean the same.

use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use boxbuild_tests::{ProcessOutput, Sandbox, executable, test_env};
use serde_json::Value;

crate::tests! {
    Engine:
        the_log_goes_to_standard_output,
        words_for_qemu_do_not_hold_a_build_up;
    Program:
        a_script_for_kiwi_ng_means_the_same,
        words_for_qemu_ask_for_no_engine,
        an_architecture_to_build_for_selects_the_box,
        other_commands_go_to_the_next_kiwi_ng,
        links_and_scripts_do_not_go_round_in_circles,
        without_another_kiwi_ng_the_answer_helps,
        boxes_are_listed_without_a_home;
}

/// Returns the plan of a build with these options.
#[track_caller]
fn plan(sandbox: &Sandbox, front: &[&str], back: &[&str]) -> Value {
    let front = [&["--dry-run", "--json"], front].concat();
    let output = sandbox.build(&front, back);
    output.expect(0, &[]);
    serde_json::from_str(&output.stdout).unwrap()
}

fn notes(plan: &Value) -> String {
    plan["notes"].to_string()
}

fn the_log_goes_to_standard_output() {
    let sandbox = Sandbox::new(
        "echo '[ INFO    ]: a line of the log' >>/bundle/result.log; echo image >/result/image; echo the console >/dev/console",
    );
    let output = sandbox.build(&["--logfile", "stdout"], &[]);
    output.expect(0, &[]);
    assert!(output.stdout.contains("a line of the log"), "{output:?}");
    assert!(!output.stdout.contains("the console"), "{output:?}");
    assert!(!output.stderr.contains("a line of the log"), "{output:?}");
    let path = sandbox.path("socket");
    let socket = UnixListener::bind(&path).unwrap();
    let reader = std::thread::spawn(move || {
        let mut log = String::new();
        socket.accept().unwrap().0.read_to_string(&mut log).unwrap();
        log
    });
    let path = path.to_str().unwrap();
    let output = sandbox.build(&["--logfile=stdout", "--json", "--logsocket", path], &[]);
    // Ends a reader that the build did not connect to.
    drop(UnixStream::connect(path));
    assert!(reader.join().unwrap().contains("a line of the log\n"));
    output.expect(0, &[]);
    let lines: Vec<Value> = output
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("nothing but events"))
        .collect();
    let is_line = |event: &Value| {
        event["event"] == "line" && event["text"].to_string().contains("a line of the log")
    };
    assert!(lines.iter().any(is_line), "{output:?}");
    sandbox.assert_nothing_left();
}

/// `--cpu host` under emulation ended in QEMU's "requires KVM".
fn words_for_qemu_do_not_hold_a_build_up() {
    let sandbox = Sandbox::new("echo image >/result/image");
    let words = ["--cpu", "host", "--machine", "q35,accel=kvm"];
    let texts: &[&str] = if boxbuild_tests::engine() == "kvm" {
        &["--machine q35,accel=kvm: no effect"]
    } else {
        &["--cpu host: no effect", "accel=kvm has no effect"]
    };
    sandbox.build(&words, &[]).expect(0, texts);
    sandbox.assert_nothing_left();
}

fn a_script_for_kiwi_ng_means_the_same() {
    let sandbox = Sandbox::new("");
    let target = sandbox.path("other");
    let target = target.to_str().unwrap();
    let plan = plan(
        &sandbox,
        &[
            "--debug",
            "--debug",
            "--loglevel",
            "-5",
            "--type",
            "",
            "--box-smp",
            "2",
            "--box-memory",
            "1024",
            "--9p-sharing",
            "--ssh-key",
            "id_rsa",
        ],
        &["--target", target, "--set-repo", "x", "--set-repo=y"],
    );
    assert_eq!(plan["memory_mib"], 1024);
    assert_eq!(plan["cpus"], 2);
    assert_eq!(plan["target_dir"], target);
    let words: Vec<&str> = plan["kiwi_args"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(
        words.join(" "),
        "--loglevel -5 --debug system build --set-repo y"
    );
    for note in [
        "--box-smp: taken for --box-smp-cpus",
        "--target: taken for --target-dir",
        "--target-dir is given more than once",
        "--set-repo is given more than once: y counts, not x",
        "--type: an empty value counts as not given",
        "means MiB: the box gets 1024 MiB",
    ] {
        assert!(notes(&plan).contains(note), "{note}: {}", notes(&plan));
    }
    // A typing error, or GiB that were meant as MiB.
    let output = sandbox.build(&["--box-memory", "6144G"], &[]);
    output.expect(2, &["--box-memory", "this host has"]);
}

fn words_for_qemu_ask_for_no_engine() {
    let sandbox = Sandbox::new("");
    for words in [
        &["--cpu", "host"][..],
        &["--machine=q35"],
        &["--machine", "virt", "--cpu=max"],
    ] {
        let plan = plan(&sandbox, &[&["--engine", "auto"], words].concat(), &[]);
        assert_eq!(plan["engine"]["asked"], "auto", "{words:?}");
    }
    let plan = plan(&sandbox, &["--engine", "auto", "--no-accel"], &[]);
    assert_eq!(plan["engine"]["asked"], "qemu");
}

/// `--target-arch` was forwarded, and the packages of the box's own architecture got its name.
fn an_architecture_to_build_for_selects_the_box() {
    let sandbox = Sandbox::new("");
    let (own, other) = if cfg!(target_arch = "x86_64") {
        ("x86_64", "aarch64")
    } else {
        ("aarch64", "x86_64")
    };
    let plan = plan(&sandbox, &["--target-arch", own], &[]);
    assert_eq!(plan["box"]["arch"], own);
    let output = sandbox.build(&["--target-arch", other], &[]);
    output.expect(2, &["the box small is for", other]);
    let flag = format!("--{own}");
    let output = sandbox.build(&["--target-arch", other, &flag], &[]);
    output.expect(2, &["leave one of the two options out"]);
    assert!(!sandbox.target().exists());
}

/// A folder with a link of this name to the program.
fn linked(sandbox: &Sandbox, folder: &str, name: &str) -> PathBuf {
    let folder = sandbox.path(folder);
    fs::create_dir_all(&folder).unwrap();
    symlink(&test_env().unwrap().boxbuild, folder.join(name)).unwrap();
    folder
}

/// A folder with a script of this name.
fn script(sandbox: &Sandbox, folder: &str, name: &str, text: &str) -> PathBuf {
    let folder = sandbox.path(folder);
    fs::create_dir_all(&folder).unwrap();
    executable::script(&folder.join(name), text);
    folder
}

/// The program under the name `name`, with these folders and those of the system in `PATH`.
fn kiwi_ng(sandbox: &Sandbox, name: &str, folders: &[&PathBuf], words: &[&str]) -> Command {
    let mut command = sandbox.command(words);
    let path = std::env::var_os("PATH").unwrap();
    let own = std::env::split_paths(&path).filter(|folder| !folder.join("kiwi-ng").exists());
    let all = folders.iter().map(|folder| (*folder).clone()).chain(own);
    command.env("PATH", std::env::join_paths(all).unwrap());
    command.arg0(name);
    command
}

const REAL: &str = "#!/bin/sh\necho real kiwi-ng:; printf '<%s>' \"$@\"\nexit 7\n";

fn other_commands_go_to_the_next_kiwi_ng() {
    let sandbox = Sandbox::new("");
    let link = linked(&sandbox, "link", "kiwi-ng");
    let again = linked(&sandbox, "again", "kiwi-ng");
    let real = script(&sandbox, "real", "kiwi-ng", REAL);
    let run = |words: &[&str]| {
        let folders = [&link, &again, &real];
        ProcessOutput::of(&mut kiwi_ng(&sandbox, "kiwi-ng", &folders, words))
    };
    for words in [
        &["--debug", "system", "build", "--description", "a b"][..],
        &["--profile", "X", "image", "info"],
        &["result", "list", "--target-dir="],
        &["system", "stackbuild", "--", "x"],
        &["--version"],
        &["--help"],
    ] {
        let output = run(words);
        output.expect(7, &[]);
        let expected: String = words.iter().map(|word| format!("<{word}>")).collect();
        assert!(output.stdout.ends_with(&expected), "{words:?}: {output:?}");
    }
    // This one is boxbuild's.
    let build = ["system", "boxbuild", "--box", "smal", "--", "--description"];
    let description = sandbox.description();
    let words = [
        &build[..],
        &[
            description.to_str().unwrap(),
            "--target-dir=/tmp/never/made",
        ],
    ]
    .concat();
    run(&words).expect(2, &["did you mean 'small'?"]);
    let help = run(&["system", "boxbuild", "--help"]);
    help.expect(0, &[]);
    assert!(help.stdout.contains("--box-smp-cpus"), "{help:?}");
}

fn links_and_scripts_do_not_go_round_in_circles() {
    let sandbox = Sandbox::new("");
    let link = linked(&sandbox, "link", "kiwi-ng");
    let copy = sandbox.path("copy");
    fs::create_dir(&copy).unwrap();
    executable::copy(&test_env().unwrap().boxbuild, &copy.join("kiwi-ng"));
    let back = "#!/bin/bash\nexec -a kiwi-ng BOXBUILD \"$@\"\n";
    let program = test_env().unwrap().boxbuild.to_str().unwrap();
    let back = script(
        &sandbox,
        "back",
        "kiwi-ng",
        &back.replace("BOXBUILD", program),
    );
    let real = script(&sandbox, "real", "kiwi-ng", REAL);
    let run = |folders: &[&PathBuf]| {
        let mut command = kiwi_ng(&sandbox, "kiwi-ng", folders, &["image", "info"]);
        ProcessOutput::of(&mut command)
    };
    let texts = ["there is no other one in PATH"];
    run(&[&link]).expect(2, &texts);
    run(&[&link, &copy]).expect(2, &texts);
    run(&[&copy, &link, &real]).expect(7, &[]);
    run(&[&back, &link]).expect(2, &texts);
}

fn without_another_kiwi_ng_the_answer_helps() {
    let sandbox = Sandbox::new("");
    for name in ["kiwi-ng", "kiwi", "kiwi-ng-3"] {
        let link = linked(&sandbox, name, name);
        let run = |words: &[&str]| ProcessOutput::of(&mut kiwi_ng(&sandbox, name, &[&link], words));
        run(&["--debug", "system", "build"]).expect(2, &["system build'", "system boxbuild'"]);
        for word in ["--version", "-v"] {
            let version = run(&[word]);
            version.expect(0, &["boxbuild"]);
            assert_eq!(version.stdout, "KIWI (next generation) version 11.1.6\n");
        }
        let help = run(&["--help"]);
        help.expect(0, &[]);
        // How scripts find out whether kiwi-ng can do that.
        assert!(help.stdout.contains("--logfile stdout"), "{help:?}");
    }
    // Under its own name, the same in fewer words.
    let output = sandbox.run(["--profile", "X", "image", "info"]);
    output.expect(2, &["only one command of kiwi-ng, 'system boxbuild'"]);
    let output = sandbox.run(["--version"]);
    output.expect(0, &[]);
    assert!(output.stdout.starts_with("boxbuild "), "{output:?}");
}

fn boxes_are_listed_without_a_home() {
    let sandbox = Sandbox::new("");
    for home in [None, Some("")] {
        let mut command = sandbox.command(["system", "boxbuild", "--list-boxes"]);
        command
            .env_remove("KIWI_BOXED_CACHE_DIR")
            .env_remove("HOME");
        command.envs(home.map(|home| ("HOME", home)));
        let output = ProcessOutput::of(&mut command);
        output.expect(0, &[]);
        assert!(
            output.stdout.contains("\n  name: tumbleweed\n"),
            "{output:?}"
        );
    }
    let output = sandbox.run(["--list-boxes"]);
    output.expect(0, &[]);
    assert!(output.stdout.contains("\n  name: small\n"), "{output:?}");
}
