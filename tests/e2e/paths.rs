//! Command lines of public scripts: where they have their folders, files and repositories.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::thread;

use boxbuild_tests::{ProcessOutput, Sandbox, engine, names, skip};

use crate::container::fixture::ContainerSandbox;

crate::tests! {
    Engine:
        a_target_folder_that_is_the_description_shows_no_results,
        a_target_folder_below_the_description_shows_no_results,
        a_bind_mount_of_the_target_folder_shows_no_results,
        a_folder_that_is_seen_twice_is_seen_as_it_is,
        folders_and_files_of_kiwis_options_are_there;
    Program:
        a_target_folder_around_the_description_is_used,
        a_repository_on_this_host_is_reached,
        relative_repositories_are_seen;
    Podman:
        a_container_sees_no_results_in_its_description,
        folders_of_kiwis_options_are_there_in_a_container;
}

/// What the guest sees of its description, but for the folder itself.
const LIST: &str = "cd /description && find . | sort | tail -n +2 >/result/seen
    echo image >/result/image.raw";

/// A build in the description folder, as scripts of the peer's users have it.
fn build_here(sandbox: &Sandbox, target: &str) -> ProcessOutput {
    let mut command = sandbox.command(["--box", "small", "--keep-failed=no"]);
    command.args(["--engine", &engine(), "--", "--description", "."]);
    command.args(["--target-dir", target]);
    ProcessOutput::of(command.current_dir(sandbox.description()))
}

/// What a guest saw of its description in a build whose target folder is `target`.
fn seen(sandbox: &Sandbox, target: &str) -> Vec<String> {
    let path = sandbox.description().join(target).join("seen");
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Case A1: `--description=. --target-dir=.` was refused.
fn a_target_folder_that_is_the_description_shows_no_results() {
    let sandbox = Sandbox::new(LIST);
    let here = sandbox.description();
    fs::create_dir(here.join("root")).unwrap();
    fs::write(here.join("root/own"), "mine\n").unwrap();
    let own = ["./config.xml", "./root", "./root/own", "./script.sh"];
    for _ in 0..3 {
        build_here(&sandbox, ".").expect(0, &[]);
        assert_eq!(seen(&sandbox, "."), own);
    }
    assert_eq!(
        fs::read_to_string(here.join("image.raw")).unwrap(),
        "image\n"
    );
    // A failed build changes nothing but its verdict.
    sandbox.script("echo other >/result/image.raw; return 7");
    build_here(&sandbox, "./").expect(1, &["exit code 7"]);
    assert_eq!(
        fs::read_to_string(here.join("image.raw")).unwrap(),
        "image\n"
    );
    assert_eq!(fs::read_to_string(here.join("result.code")).unwrap(), "7\n");
    // A guest does not replace a file of the user's: all its results go aside.
    sandbox.script("echo evil >/result/config.xml; echo x >/result/image.raw");
    build_here(&sandbox, ".").expect(3, &["config.xml", "result.unpublished-1"]);
    assert_eq!(
        fs::read_to_string(here.join("config.xml")).unwrap(),
        "<image/>"
    );
    sandbox.script(LIST);
    build_here(&sandbox, ".").expect(0, &[]);
    assert_eq!(seen(&sandbox, "."), own);
    sandbox.assert_nothing_left();
}

fn a_target_folder_below_the_description_shows_no_results() {
    let sandbox = Sandbox::new(LIST);
    let here = sandbox.description();
    for _ in 0..2 {
        build_here(&sandbox, "./out/images").expect(0, &[]);
        let own = ["./config.xml", "./out", "./out/images", "./script.sh"];
        assert_eq!(seen(&sandbox, "out/images"), own);
    }
    // What the user has there is seen; a box that may write cannot touch what it does not see.
    fs::write(here.join("out/images/own"), "mine\n").unwrap();
    sandbox.script(
        "cd /description/out/images && ls -A >/result/seen; rm -rf * .b*; mkdir image.raw result.log
         mv own image.raw; echo x >result.code; touch made; echo image >/result/image.raw",
    );
    let mut command = sandbox.build_command_to(
        &here.join("out/images"),
        &["--description-rw", "--verbose"],
        &[],
    );
    ProcessOutput::of(&mut command).expect(0, &[]);
    assert_eq!(seen(&sandbox, "out/images"), ["own"]);
    let left = names(&here.join("out/images"));
    let expected = ["image.raw", "made", "result.code", "result.log", "seen"];
    assert!(
        expected
            .iter()
            .all(|name| left.contains(&(*name).to_owned())),
        "{left:?}"
    );
    assert_eq!(
        fs::read_to_string(here.join("out/images/image.raw")).unwrap(),
        "image\n"
    );
    sandbox.assert_nothing_left();
}

/// The folder is known by its device and inode, not by its path.
fn a_bind_mount_of_the_target_folder_shows_no_results() {
    let sandbox = Sandbox::new(LIST);
    let (target, mounted) = (sandbox.target(), sandbox.description().join("mounted"));
    fs::create_dir_all(&target).unwrap();
    fs::create_dir(&mounted).unwrap();
    let mount = |program: &str, words: &[&Path]| {
        let status = Command::new(program).args(words).status();
        status.is_ok_and(|status| status.success())
    };
    if !mount("mount", &[Path::new("--bind"), &target, &mounted]) {
        return skip(
            "a_bind_mount_of_the_target_folder_shows_no_results",
            "this user or host makes no bind mounts",
        );
    }
    let outputs: Vec<_> = (0..2)
        .map(|_| (sandbox.build(&[], &[]), sandbox.result("seen")))
        .collect();
    assert!(mount("umount", &[&mounted]));
    for (output, seen) in outputs {
        output.expect(0, &[]);
        assert_eq!(seen, "./config.xml\n./mounted\n./script.sh\n");
    }
    sandbox.assert_nothing_left();
}

fn a_target_folder_around_the_description_is_used() {
    let sandbox = Sandbox::new(LIST);
    for _ in 0..2 {
        build_here(&sandbox, "..").expect(0, &[]);
        assert_eq!(seen(&sandbox, ".."), ["./config.xml", "./script.sh"]);
    }
    for name in [
        "image.raw",
        "seen",
        "result.code",
        "result.log",
        ".boxbuild.results",
    ] {
        fs::remove_file(sandbox.path(name)).unwrap();
    }
    sandbox.assert_nothing_left();
}

/// The guest kept what it had once read for a day, and both shares told it that nothing else changes.
fn a_folder_that_is_seen_twice_is_seen_as_it_is() {
    let sandbox = Sandbox::new(
        "there=${0%x}; for word; do case $word in */there) there=${word#*=};; esac; done
         there=${there#dir://}
         cat /description/note >/result/seen; ls /description >/dev/null
         echo new and longer >\"$there/description/note\"; echo x >\"$there/description/made\"
         cat /description/note /description/made >>/result/seen
         ls -A \"$there/out\" >>/result/seen",
    );
    let there = sandbox.path("there");
    fs::create_dir(&there).unwrap();
    fs::rename(sandbox.description(), there.join("description")).unwrap();
    fs::write(there.join("description/note"), "old\n").unwrap();
    std::os::unix::fs::symlink(there.join("description"), sandbox.description()).unwrap();
    let shared = there.to_str().unwrap();
    let mut command = sandbox.build_command_to(
        &there.join("out"),
        &["--shared-path", shared],
        &["--set-type-attr", &format!("there={shared}")],
    );
    ProcessOutput::of(&mut command).expect(0, &[]);
    let seen = fs::read_to_string(there.join("out/seen")).unwrap();
    assert_eq!(
        seen, "old\nnew and longer\nx\n",
        "the folder under way is not seen"
    );
    sandbox.assert_nothing_left();
}

/// What a script does with the values of kiwi's options.
const OPTIONS: &str = "while [ $# -gt 0 ]; do
        case $1 in
            --temp-dir) temp=$2;;
            --shared-cache-dir) cache=$2;;
            --config) config=$2;;
        esac
        shift
    done
    cp \"$config\" $to/config && touch \"$temp/x\" && ls \"$cache\" >$to/cached &&
        echo package >\"$cache/package\"";

/// Cases A4 and A5.
fn folders_and_files_of_kiwis_options_are_there() {
    let sandbox = Sandbox::new(&format!("to=/result\n{OPTIONS}"));
    let cache = sandbox.path("cache");
    fs::create_dir(&cache).unwrap();
    fs::write(sandbox.path("kiwi.yml"), "xz:\n  - options: -0\n").unwrap();
    for cached in ["", "package\n"] {
        let options = [
            "--temp-dir",
            "none/tmp",
            "--shared-cache-dir=cache",
            "--config=./kiwi.yml",
        ];
        let mut command = sandbox.build_command(&options, &[]);
        ProcessOutput::of(command.current_dir(sandbox.path(""))).expect(0, &[]);
        assert_eq!(sandbox.result("cached"), cached);
        assert_eq!(sandbox.result("config"), "xz:\n  - options: -0\n");
    }
    assert!(!sandbox.path("none").exists(), "that one is the box's own");
    fs::remove_file(cache.join("package")).unwrap();
    sandbox.assert_nothing_left();
}

/// Case A14.
fn relative_repositories_are_seen() {
    let sandbox = Sandbox::new(
        "for word; do case $word in dir:*) cat \"${word#dir://}/index\" >>/result/seen;; esac; done",
    );
    for (folder, text) in [("repo", "here\n"), ("description/repo", "there\n")] {
        fs::create_dir_all(sandbox.path(folder)).unwrap();
        fs::write(sandbox.path(folder).join("index"), text).unwrap();
    }
    let mut command = sandbox.build_command(
        &[],
        &["--add-repo", "dir:./repo", "--add-repo=this://./repo"],
    );
    ProcessOutput::of(command.current_dir(sandbox.path(""))).expect(0, &[]);
    assert_eq!(sandbox.result("seen"), "here\nthere\n");
    sandbox.assert_nothing_left();
}

/// Case A15.
fn a_repository_on_this_host_is_reached() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.and_then(|mut stream| stream.write_all(b"hello\n"));
        }
    });
    let sandbox = Sandbox::new(
        "i=0
         while ! ip -4 address show | grep -q 10.0.2.15 && [ $i -lt 100 ]; do sleep 0.1; i=$((i+1)); done
         for word; do case $word in http:*) at=${word#http://};; esac; done
         at=${at%%/*}; nc -w 20 \"${at%:*}\" \"${at#*:}\" </dev/null >/result/seen",
    );
    for host in ["10.0.2.2", "localhost"] {
        let source = format!("http://{host}:{port}/x,apt-deb");
        sandbox.build(&[], &["--set-repo", &source]).expect(0, &[]);
        assert_eq!(sandbox.result("seen"), "hello\n", "{host}");
    }
    // What is named by the description alone is said before the box starts.
    let described = format!(
        "<image><repository><source path=\"http://10.0.2.2:{port}/\"/></repository></image>"
    );
    fs::write(sandbox.description().join("config.xml"), described).unwrap();
    sandbox.script("echo x >/result/x");
    let output = sandbox.build(&[], &[]);
    output.expect(
        0,
        &["config.xml:1", "which a description alone does not open"],
    );
    sandbox.assert_nothing_left();
}

fn a_container_sees_no_results_in_its_description() {
    let sandbox = ContainerSandbox::new();
    let script = "cd /description && find . | sort | tail -n +2 >/bundle/seen
        cat root/own link >>/bundle/seen; echo image >/bundle/image.raw
        ! touch /description/x 2>/dev/null || exit 9";
    for (description, target, own) in [
        ("same", "same", ""),
        ("outer", "outer/out", "./out\n"),
        ("rooted", "rooted/root", ""),
    ] {
        sandbox.describe(description, "tbz", script);
        let folder = sandbox.path(description);
        fs::create_dir(folder.join("root")).unwrap();
        fs::write(folder.join("root/own"), "mine\n").unwrap();
        std::os::unix::fs::symlink("root/own", folder.join("link")).unwrap();
        for _ in 0..2 {
            sandbox.build(description, target).expect(0, &[]);
            let expected =
                format!("./config.xml\n./link\n{own}./root\n./root/own\n./script.sh\nmine\nmine\n");
            assert_eq!(
                sandbox.read(&format!("{target}/seen")),
                expected,
                "{target}"
            );
            assert_eq!(sandbox.read(&format!("{target}/image.raw")), "image\n");
        }
    }
    // What a container writes into the description would be lost where the results are.
    let mut build = sandbox.build_command("same", "same", &["--description-rw"]);
    ProcessOutput::of(&mut build).expect(2, &["choose another one"]);
    sandbox.assert_nothing_left();
}

fn folders_of_kiwis_options_are_there_in_a_container() {
    let sandbox = ContainerSandbox::new();
    sandbox.describe("tbz", "tbz", &format!("to=/bundle\n{OPTIONS}"));
    let cache = sandbox.path("cache");
    fs::create_dir(&cache).unwrap();
    fs::write(sandbox.path("kiwi.yml"), "xz:\n").unwrap();
    let options = [
        "--temp-dir",
        "none/tmp",
        "--shared-cache-dir=cache",
        "--config=kiwi.yml",
    ];
    let mut build = sandbox.build_command("tbz", "out", &options);
    ProcessOutput::of(build.current_dir(sandbox.path("."))).expect(0, &[]);
    assert_eq!(sandbox.read("out/config"), "xz:\n");
    assert_eq!(sandbox.read("cache/package"), "package\n");
    assert!(!sandbox.path("none").exists());
    sandbox.assert_nothing_left();
}
