//! Builds in containers under the real podman.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use boxbuild_tests::pty::Terminal;
use boxbuild_tests::{ProcessOutput, Running, skip};
use nix::sys::signal::Signal;

use super::fixture::{ContainerSandbox, as_podman, entry, is_root, mode, write_box};
use crate::network::is_an_argument;
use crate::other_user;

crate::tests! {
    Podman:
        a_container_builds_with_any_bytes_in_arguments_and_paths,
        a_failed_container_publishes_nothing,
        boxroot_of_a_container_belongs_to_root,
        a_full_target_of_a_container_is_told,
        the_image_of_an_older_box_goes,
        a_container_sees_what_the_build_names,
        a_published_image_is_fetched_as_the_options_allow,
        a_killed_container_is_a_failure,
        two_containers_at_once,
        a_container_stays_open_for_its_user,
        sigint_ends_a_container,
        sigterm_ends_a_container,
        sigkill_ends_a_container,
        ctrl_c_at_any_moment_changes_nothing_on_the_host,
        containers_of_a_normal_user;
}

/// Fails if a file below `folder` belongs to another user.
#[track_caller]
fn assert_own(folder: &Path) {
    let own = nix::unistd::geteuid().as_raw();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        assert_eq!(fs::metadata(&folder).unwrap().uid(), own, "{folder:?}");
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            assert_eq!(metadata.uid(), own, "{entry:?}");
            if metadata.is_dir() {
                folders.push(entry.path());
            }
        }
    }
}

fn a_container_builds_with_any_bytes_in_arguments_and_paths() {
    let sandbox = ContainerSandbox::new();
    let name = "a:b, \"c\" $x";
    let script = "echo image >/bundle/image.raw; mkdir /bundle/d; id -u >/bundle/d/f";
    sandbox.describe(name, "tbz", script);
    let target = sandbox.path("t:1");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("precious"), "mine\n").unwrap();
    let mut build = sandbox.build_command(name, "t:1", &[]);
    let odd = "it's $(a) b";
    ProcessOutput::of(build.args(["--add-package", odd])).expect(0, &[]);
    assert_eq!(sandbox.read("t:1/image.raw"), "image\n");
    assert_eq!(sandbox.read("t:1/precious"), "mine\n");
    assert_eq!(sandbox.read("t:1/result.code"), "0\n");
    let log = sandbox.read("t:1/result.log");
    assert!(log.contains(&format!("<{odd}>")), "{log}");
    assert_own(&target);
    sandbox.assert_nothing_left();
}

/// As in a machine; in a rootless container, the user of the host is root, and others are nobody.
fn boxroot_of_a_container_belongs_to_root() {
    let sandbox = ContainerSandbox::new();
    let script = "{ probe; readlink /usr/bin; stat -c '%u:%g %a' /bin/probe /etc/mine /etc/own; } >/bundle/seen";
    sandbox.describe("image", "tbz", script);
    let boxroot = sandbox.path("image/boxroot");
    fs::create_dir_all(boxroot.join("usr/bin")).unwrap();
    fs::create_dir(boxroot.join("etc")).unwrap();
    fs::write(boxroot.join("usr/bin/probe"), "#!/bin/sh\necho found\n").unwrap();
    for (name, mode, owner) in [
        ("usr/bin/probe", 0o755, 12345),
        ("etc/mine", 0o644, 1000),
        ("etc/own", 0o600, 0),
    ] {
        let path = boxroot.join(name);
        if name.starts_with("etc") {
            fs::write(&path, "").unwrap();
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::lchown(&path, Some(owner), Some(owner)).unwrap();
        }
    }
    sandbox.build("image", "out").expect(0, &[]);
    assert_eq!(
        sandbox.read("out/seen"),
        "found\n../bin\n0:0 755\n0:0 644\n0:0 600\n"
    );
}

fn a_container_stays_open_for_its_user() {
    let sandbox = ContainerSandbox::new();
    let script = "echo image >/bundle/image.raw; echo left >/root/left";
    sandbox.describe("good", "tbz", script);
    let debug = ["--box-debug"];
    let mut terminal = Terminal::start(sandbox.build_command("good", "out", &debug));
    terminal.expect("the build succeeded");
    terminal.expect("# ");
    terminal.send("stty size; cat /root/left; sleep 100\n");
    terminal.expect("30 100");
    terminal.expect("left");
    // Ctrl-C is for the shell.
    std::thread::sleep(Duration::from_millis(500));
    terminal.send("\x03");
    terminal.send("echo still $((40 + 2)) here\n");
    terminal.expect("still 42 here");
    terminal.send("exit\n");
    terminal.expect("built in");
    assert_eq!(terminal.wait(), 0);
    assert!(terminal.is_restored());
    assert_eq!(sandbox.read("out/image.raw"), "image\n");

    sandbox.describe("bad", "tbz", "exit 7");
    let mut terminal = Terminal::start(sandbox.build_command("bad", "out", &debug));
    terminal.expect("the build failed");
    terminal.expect("# ");
    terminal.send("\x1d\x1d\x1d");
    terminal.expect("exit code 7");
    assert_eq!(terminal.wait(), 1);
    assert!(terminal.is_restored());

    // A published box says nothing of shells: it has one from the start.
    sandbox.import_published();
    sandbox.describe(
        "published",
        "tbz",
        "while [ ! -e /root/go ]; do sleep 0.1; done; echo image >/bundle/image.raw",
    );
    let mut terminal = Terminal::start(sandbox.build_of("published", "published", "out2", &debug));
    terminal.expect("# ");
    terminal.send("grep -c kiwi-no-halt /container.cmdline; touch /root/go\n");
    terminal.expect("1");
    assert_eq!(terminal.wait(), 0);
    assert_eq!(sandbox.read("out2/image.raw"), "image\n");
    sandbox.assert_nothing_left();
}

fn a_failed_container_publishes_nothing() {
    let sandbox = ContainerSandbox::new();
    sandbox.describe("good", "tbz", "echo image >/bundle/image.raw");
    sandbox.build("good", "out").expect(0, &[]);
    fs::write(sandbox.path("out/precious"), "mine\n").unwrap();
    let script = "echo '[ ERROR   ]: 00:00:00 | no luck' >>/bundle/result.log
        echo half >/bundle/image.raw; mkdir /bundle/d; exit 7";
    sandbox.describe("bad", "tbz", script);
    let texts = ["exit code 7", "no luck", "out/result.log"];
    sandbox.build("bad", "out").expect(1, &texts);
    assert_eq!(sandbox.read("out/result.code"), "7\n");
    assert_eq!(sandbox.read("out/image.raw"), "image\n");
    assert_eq!(sandbox.read("out/precious"), "mine\n");
    assert!(!sandbox.path("out/.boxbuild.partial").exists());
    sandbox.assert_nothing_left();
}

/// It was "kiwi's exit code 1", with exit code 1, and no word of what to do.
fn a_full_target_of_a_container_is_told() {
    let name = "a_full_target_of_a_container_is_told";
    if !is_root() {
        return skip(name, "only root can mount a small file system");
    }
    let sandbox = ContainerSandbox::new();
    let script = "dd if=/dev/zero of=/bundle/image.raw bs=1M count=80";
    sandbox.describe("big", "tbz", script);
    let target = sandbox.path("out");
    fs::create_dir(&target).unwrap();
    let build = sandbox.build_command("big", "out", &[]);
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c"])
        .arg("mount -t tmpfs -o size=40m tmpfs \"$1\" && shift && exec \"$@\"")
        .args(["sh".as_ref(), target.as_os_str(), build.get_program()])
        .args(build.get_args());
    for (name, value) in build.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let words = format!("the file system of {} is full", target.display());
    ProcessOutput::of(&mut command).expect(3, &[&words, "free some space"]);
    sandbox.assert_nothing_left();
}

fn the_image_of_an_older_box_goes() {
    let sandbox = ContainerSandbox::new();
    sandbox.describe("tbz", "tbz", ":");
    let start = format!("localhost/boxbuild/{}:", sandbox.box_name());
    let tags = || {
        let images = sandbox.podman_lines(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
        let hexadecimal = |tag: &str| tag.bytes().all(|byte| byte.is_ascii_hexdigit());
        let tags = images.iter().filter_map(|image| image.strip_prefix(&start));
        tags.filter(|tag| hexadecimal(tag)).count()
    };
    sandbox.build("tbz", "first").expect(0, &[]);
    assert_eq!(tags(), 1);
    let name = sandbox.box_name();
    let (store, other) = (sandbox.path("store"), sandbox.path("store2"));
    fs::create_dir(&other).unwrap();
    boxbuild_tests::sandbox::copy_box(&store.join(name), &other.join(name));
    // An empty member of gzip makes another archive of the same contents.
    let mut gzip = Command::new("gzip");
    let member = gzip.arg("-c").stdin(Stdio::null()).output().unwrap().stdout;
    let update_and_build = |store: &Path| {
        let folder = store.join(name);
        let mut archive = fs::read(folder.join("container")).unwrap();
        archive.extend(&member);
        fs::write(folder.join("container"), archive).unwrap();
        write_box(store, name, Some(&entry(&folder, "container")));
        let mut build = sandbox.build_command("tbz", "again", &[]);
        ProcessOutput::of(build.env("KIWI_BOXED_CACHE_DIR", store)).expect(0, &[]);
    };
    update_and_build(&other);
    assert_eq!(tags(), 2, "that of a box in another store stays");
    update_and_build(&store);
    update_and_build(&store);
    assert_eq!(tags(), 2, "that of a box that was updated goes");
    sandbox.assert_nothing_left();
}

fn a_container_sees_what_the_build_names() {
    let sandbox = ContainerSandbox::new();
    for folder in ["sh:a,r e", "sh:are", "sh,are"] {
        fs::create_dir(sandbox.path(folder)).unwrap();
    }
    let key = sandbox.path("k:ey");
    fs::write(&key, "key\n").unwrap();
    let (key, shared) = (key.to_str().unwrap(), sandbox.path("sh:are"));
    let script = format!(
        "cat '{key}' >/bundle/key; echo in >'{}/written'
         ! touch '{key}' 2>/dev/null || exit 9",
        shared.display()
    );
    sandbox.describe("shared", "tbz", &script);
    sandbox.describe("tbz", "tbz", ":");
    let with_folder = |description: &str, folder: &str, target: &str| {
        let folder = sandbox.path(folder);
        let front = ["--shared-path", folder.to_str().unwrap()];
        sandbox.build_command(description, target, &front)
    };
    let mut build = with_folder("shared", "sh:are", "out");
    ProcessOutput::of(build.args(["--signing-key", key])).expect(0, &[]);
    assert_eq!(sandbox.read("out/key"), "key\n");
    assert_eq!(sandbox.read("sh:are/written"), "in\n");
    ProcessOutput::of(&mut with_folder("tbz", "sh,are", "out")).expect(0, &[]);
    // Podman has no way to write a path with all three of them.
    ProcessOutput::of(&mut with_folder("tbz", "sh:a,r e", "never")).expect(2, &[]);
    sandbox.assert_nothing_left();
}

fn a_published_image_is_fetched_as_the_options_allow() {
    // Its container has a network of its own, which a normal user's slirp4netns makes with a tap.
    let tun = OpenOptions::new().write(true).open("/dev/net/tun");
    if let (false, Err(error)) = (mode().is_empty(), tun) {
        let test = "a_published_image_is_fetched_as_the_options_allow";
        return skip(test, &format!("rootless, and /dev/net/tun: {error}"));
    }
    let sandbox = ContainerSandbox::new();
    sandbox.describe("tbz", "tbz", ":");
    let image = |tag: &str| format!("localhost/boxbuild/{}:{tag}", sandbox.box_name());
    let registry = |name: &str| format!("{{\"registry\":\"{name}\"}}");
    sandbox.import_published();
    sandbox.write_box("nowhere", Some(&registry(&image("nowhere"))));
    sandbox.write_box("option", Some(&registry("--volume=/:/host")));

    let build = |name: &str, front: &[&str]| {
        let mut build = sandbox.build_of(name, "tbz", "out", front);
        ProcessOutput::of(build.args(["--add-package", "b;c"]))
    };
    let pulls =
        |output: &ProcessOutput| output.stderr.contains("pull") || output.stdout.contains("pull");
    // Fault 12: the proxy's password is in no command line, and reaches the image as it is.
    let secret = format!("s3cret{}", std::process::id());
    let proxy = format!("http://me:{secret}\"'%20@proxy.invalid:3128/ #x");
    let unchecked = {
        let mut build = sandbox.build_of("published", "tbz", "out", &["--no-update-check"]);
        build
            .args(["--add-package", "b;c"])
            .env("http_proxy", &proxy);
        let mut build = Running::start(&mut build);
        while !build.has_ended() {
            assert!(!is_an_argument(&secret), "a process has it as an argument");
            std::thread::sleep(Duration::from_millis(10));
        }
        build.finish()
    };
    unchecked.expect(0, &[]);
    assert_eq!(sandbox.read("out/proxy"), format!("{proxy}\n"));
    assert!(!pulls(&unchecked), "{unchecked:?}");
    let cmdline = sandbox.read("out/cmdline");
    let expected = "kiwi=\"system build --add-package b;c\"";
    assert!(cmdline.contains(expected), "{cmdline}");
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    let network = sandbox.read("out/network");
    assert_ne!(network.trim(), own.to_str().unwrap(), "the host's network");
    // A device: the numbers of /dev/null stand where the size of a file would.
    let masked = sandbox.read("out/masked");
    let words: Vec<&str> = masked.split_whitespace().collect();
    assert!(words.windows(2).any(|pair| pair == ["1,", "3"]), "{masked}");
    assert_own(&sandbox.path("out"));

    let offline = build("published", &["--offline"]);
    offline.expect(0, &["has no network"]);
    assert!(!pulls(&offline), "{offline:?}");
    let text = "as it is on this host (podman cannot pull it: ";
    build("published", &[]).expect(0, &[text]);
    let advice = format!("podman pull {}'", image("nowhere"));
    let text = "not on this host, and podman cannot pull it";
    build("nowhere", &[]).expect(3, &[text, &advice]);
    build("nowhere", &["--offline"]).expect(3, &["--offline does not allow"]);
    build("option", &[]).expect(3, &["has an invalid name"]);
    sandbox.assert_nothing_left();
}

/// Starts a build and waits until its container runs the script, which makes the file `started`.
fn start(sandbox: &ContainerSandbox, description: &str, target: &str) -> Running {
    let mut command = sandbox.build_command(description, target, &[]);
    let mut build = Running::start(command.process_group(0));
    let started = sandbox
        .path(target)
        .join(".boxbuild.partial/bundle/started");
    build.wait_until("its script", |_| started.exists());
    build
}

fn a_killed_container_is_a_failure() {
    let sandbox = ContainerSandbox::new();
    let script = "echo 0 >/bundle/result.code; touch /bundle/started; sleep 1000";
    sandbox.describe("dead", "tbz", script);
    let build = start(&sandbox, "dead", "out");
    let start = format!("localhost/boxbuild/{}:", sandbox.box_name());
    let containers = sandbox.podman_lines(&["ps", "--format", "{{.Image}} {{.Names}}"]);
    let names = containers
        .iter()
        .filter(|line| line.starts_with(&start))
        .filter_map(|line| line.split_once(' '))
        .map(|(_, name)| name);
    let mut kill = sandbox.podman();
    kill.args(["kill", "--signal", "KILL"]).args(names);
    ProcessOutput::of(&mut kill).expect(0, &[]);
    build.finish().expect(3, &["the container was killed"]);
    assert_ne!(sandbox.read("out/result.code"), "0\n");
    sandbox.assert_nothing_left();
}

fn two_containers_at_once() {
    let sandbox = ContainerSandbox::new();
    let script = "touch /bundle/started; until [ -e /bundle/go ]; do sleep 0.1; done
        rm /bundle/started /bundle/go; echo image >/bundle/image.raw";
    sandbox.describe("slow", "tbz", script);
    let builds = ["one", "two"].map(|target| start(&sandbox, "slow", target));
    let text = "in use by another build";
    sandbox.build("slow", "one").expect(3, &[text]);
    for (target, build) in ["one", "two"].into_iter().zip(builds) {
        let go = sandbox.path(target).join(".boxbuild.partial/bundle/go");
        fs::write(go, "").unwrap();
        build.finish().expect(0, &[]);
    }
    sandbox.assert_nothing_left();
}

fn sigint_ends_a_container() {
    is_ended_by(Signal::SIGINT, "sigint_ends_a_container");
}

fn sigterm_ends_a_container() {
    is_ended_by(Signal::SIGTERM, "sigterm_ends_a_container");
}

fn sigkill_ends_a_container() {
    is_ended_by(Signal::SIGKILL, "sigkill_ends_a_container");
}

/// Whether a loop device can be had by the user who runs podman.
fn has_loop_devices() -> bool {
    let find = as_podman("losetup").arg("--find").output();
    mode().is_empty() && find.is_ok_and(|output| !output.stdout.is_empty())
}

/// Where there are loop devices, one is attached when the end comes, and a mount is there.
fn is_ended_by(signal: Signal, test: &str) {
    let sandbox = ContainerSandbox::new();
    let with_loop = has_loop_devices();
    if with_loop {
        let script = format!(
            "for to; do :; done
             mkdir -p $to; dd if=/dev/zero of=$to/mark-{0} bs=1M count=8 2>/dev/null
             losetup -f $to/mark-{0} && touch /bundle/loop
             mkdir $to/mnt && mount -t tmpfs none $to/mnt
             touch /bundle/started; sleep 1000",
            sandbox.box_name()
        );
        sandbox.describe("hang", "oem", &script);
    } else {
        if mode().is_empty() {
            skip(&format!("{test}, a loop device"), "none can be had here");
        }
        sandbox.describe("hang", "tbz", "touch /bundle/started; sleep 1000");
    }
    let build = start(&sandbox, "hang", "out");
    let attached = sandbox.path("out/.boxbuild.partial/bundle/loop").exists();
    assert_eq!(attached, with_loop, "whether a loop device was attached");
    match signal {
        Signal::SIGINT => build.signal_group(signal),
        _ => build.signal(signal),
    }
    let output = build.finish();
    match signal {
        Signal::SIGKILL => assert_eq!(output.signal, Some(9), "{output:?}"),
        _ => output.expect(130, &[]),
    }
    sandbox.assert_nothing_left();
}

/// What is in /dev: its nodes with their numbers, modes and owners, and its links. Loop devices and
/// terminals come and go with others.
fn devices() -> Vec<String> {
    let mut folders = vec![std::path::PathBuf::from("/dev")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().filter_map(Result::ok) {
            let path = entry.path();
            let name = path.to_string_lossy().into_owned();
            let others = [
                "/dev/loop",
                "/dev/pts/",
                "/dev/shm/",
                "/dev/mqueue/",
                "/dev/fd",
            ];
            if others.iter().any(|start| name.starts_with(start)) {
                continue;
            }
            let Ok(metadata) = fs::symlink_metadata(&path) else {
                continue;
            };
            if metadata.is_dir() {
                folders.push(path);
            }
            found.push(format!(
                "{name} {:o} {}:{} {}",
                metadata.mode(),
                metadata.uid(),
                metadata.gid(),
                metadata.rdev()
            ));
        }
    }
    found.sort();
    found
}

/// Where something is mounted on the host.
fn mounted() -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let mut places: Vec<String> = places.map(str::to_owned).collect();
    places.sort();
    places
}

/// E8: a box that attaches loop devices and mounts the host's /dev into its root tree, as kiwi does for a
/// disk, over and over again; Ctrl-C at ten moments from its first second on.
fn ctrl_c_at_any_moment_changes_nothing_on_the_host() {
    let test = "ctrl_c_at_any_moment_changes_nothing_on_the_host";
    let sandbox = ContainerSandbox::new();
    let image_type = if has_loop_devices() {
        "oem"
    } else {
        skip(&format!("{test}, loop devices"), "none can be had here");
        "tbz"
    };
    let script = format!(
        "for to; do :; done
         mkdir -p $to; disk=$to/mark-{0}; root=$to/build/image-root
         while :; do
             dd if=/dev/zero of=$disk bs=1M count=4 2>/dev/null
             loop=
             [ {image_type} = tbz ] || loop=$(losetup -f) && losetup $loop $disk 2>/dev/null || loop=
             mkdir -p $root && mount -t tmpfs none $root && mkdir -p $root/dev $root/proc &&
                 mount -o bind /dev $root/dev && mount -t proc none $root/proc
             umount $root/proc; umount $root/dev; umount $root
             [ -z \"$loop\" ] || losetup -d $loop
         done",
        sandbox.box_name()
    );
    sandbox.describe("disk", image_type, &script);
    let seed = u64::from(std::process::id());
    let mut random = seed;
    let mut moment = |most: u64| {
        // Knuth's MMIX.
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        Duration::from_millis((random >> 33) % most)
    };
    let devices_before = devices();
    for attempt in 0..10 {
        let places = mounted();
        let mut command = sandbox.build_command("disk", "out", &[]);
        let build = Running::start(command.process_group(0));
        let wait = moment(5000);
        std::thread::sleep(wait);
        build.signal_group(Signal::SIGINT);
        let context = format!("seed {seed}, attempt {attempt}, after {wait:?}");
        let output = build.finish();
        // In its first milliseconds, it has not taken over the signal yet, nor done anything.
        let killed = output.signal == Some(2);
        assert!(output.code == 130 || killed, "{context}: {output:?}");
        sandbox.assert_nothing_left();
        let now = devices();
        let gone: Vec<&String> = devices_before
            .iter()
            .filter(|node| !now.contains(node))
            .collect();
        let new: Vec<&String> = now
            .iter()
            .filter(|node| !devices_before.contains(node))
            .collect();
        assert!(
            gone.is_empty() && new.is_empty(),
            "{context}: gone {gone:?}, new {new:?}"
        );
        let name = sandbox
            .path(".")
            .to_string_lossy()
            .trim_end_matches('.')
            .to_owned();
        let left: Vec<String> = mounted()
            .into_iter()
            .filter(|place| place.starts_with(&name))
            .collect();
        assert!(left.is_empty(), "{context}: {left:?}");
        let places_now = mounted();
        let gone: Vec<&String> = places
            .iter()
            .filter(|place| {
                place.starts_with("/dev") || place.starts_with("/proc") || place.starts_with("/sys")
            })
            .filter(|place| !places_now.contains(place))
            .collect();
        assert!(gone.is_empty(), "{context}: {gone:?}");
    }
}

fn containers_of_a_normal_user() {
    let tests = [crate::container::TESTS, TESTS].concat();
    other_user::run("containers_of_a_normal_user", &tests, &[]);
}
