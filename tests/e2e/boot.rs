//! How boxes are brought up: fast, by their own init, and the one after the other.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use boxbuild_tests::env::{ENGINE, boxes_arch};
use boxbuild_tests::{ProcessOutput, Sandbox, skip};

crate::tests! {
    Engine:
        a_box_boots_either_way,
        a_kernel_that_drives_no_device_is_told,
        a_root_on_the_device_mapper_falls_back,
        boxroot_and_profile_apply,
        boxroot_keeps_the_links_of_the_box_and_belongs_to_root,
        a_box_sees_virtualization_only_if_it_is_asked_for,
        a_larger_disk_gives_more_room;
    Qemu:
        a_box_that_needs_a_newer_processor_gets_one;
    Program:
        many_cpus_and_odd_sizes_of_memory,
        a_control_group_leaves_less_for_the_box,
        a_ramdisk_without_a_driver_falls_back,
        what_the_boxs_init_cannot_be_told_is_reported;
}

/// Leaves the name of the process that brought the box up.
const WHO: &str = "cat /proc/1/comm >/result/who";

fn who(sandbox: &Sandbox) -> String {
    fs::read_to_string(sandbox.target().join("who")).unwrap_or_default()
}

/// Builds without what other sandboxes' boots have left in the cache.
fn build(sandbox: &Sandbox, front: &[&str], back: &[&str]) -> ProcessOutput {
    let mut command = sandbox.build_command(front, back);
    command.env("XDG_CACHE_HOME", sandbox.path("cache"));
    ProcessOutput::of(&mut command)
}

fn a_box_boots_either_way() {
    let sandbox = Sandbox::new(WHO);
    for (style, process) in [("fast", "init\n"), ("compat", "box-init\n")] {
        build(&sandbox, &["--boot", style], &[]).expect(0, &[]);
        assert_eq!(who(&sandbox), process, "{style}");
        sandbox.assert_nothing_left();
    }
}

/// Programs of EL 9 and Leap 16 say this and do nothing. EL 10's want the level after that.
fn a_box_that_needs_a_newer_processor_gets_one() {
    let needs = |flag: &str, level: &str| {
        Sandbox::new(&format!(
            "grep -qw {flag} /proc/cpuinfo || {{
                 echo 'Fatal glibc error: CPU does not support {level}' >&2; return 127; }}
             touch /result/x"
        ))
    };
    for (flag, level) in [("cx16", "x86-64-v2"), ("avx2", "x86-64-v3")] {
        let sandbox = needs(flag, level);
        let first = build(&sandbox, &["--keep-failed=yes"], &[]);
        first.expect(0, &["starting again", level]);
        assert!(
            !sandbox.store().join(".failed-builds").exists(),
            "nothing is kept of it"
        );
        let second = build(&sandbox, &[], &[]);
        second.expect(0, &[]);
        assert!(
            !second.stderr.contains("starting again"),
            "{}",
            second.stderr
        );
    }
    // Nothing emulates this one, and a model that the user named stays.
    needs("no_such_flag", "x86-64-v4")
        .build(&[], &[])
        .expect(3, &["of the level x86-64-v4"]);
    let model = "max,-cx16,-la57,-avx,-avx2,-xsave,-svm";
    needs("cx16", "x86-64-v2")
        .build(&["--cpu", model], &[])
        .expect(3, &["of the level x86-64-v2"]);
}

/// The hole for devices begins at 3 GiB.
fn many_cpus_and_odd_sizes_of_memory() {
    let sandbox = Sandbox::new(
        "grep -c ^processor /proc/cpuinfo >/result/cpus
         sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo >/result/memory",
    );
    for (cpus, mib) in [(1, 3071), (3, 3073), (2, 4095), (1, 4097), (9, 1337)] {
        let (cpus, memory) = (cpus.to_string(), format!("{mib}M"));
        let front = ["--box-smp-cpus", &cpus, "--box-memory", &memory];
        build(&sandbox, &front, &[]).expect(0, &[]);
        assert_eq!(sandbox.result("cpus").trim(), cpus);
        let known: u64 = sandbox.result("memory").trim().parse().unwrap();
        let (least, most) = ((mib - 256) << 10, mib << 10);
        assert!((least..=most).contains(&known), "{known} of {mib} MiB");
    }
    build(&sandbox, &["--box-smp-cpus", "255"], &[]).expect(2, &["255", "from 1 to 254"]);
    sandbox.assert_nothing_left();
}

/// What is more than the limit is killed by the kernel, or was "Bad address" under the kvm engine.
fn a_control_group_leaves_less_for_the_box() {
    let name = "a_control_group_leaves_less_for_the_box";
    let groups = [
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        ("/sys/fs/cgroup", "memory.max"),
    ];
    let id = format!("boxbuild-e2e-{}", std::process::id());
    let group = groups.into_iter().find_map(|(folder, limit)| {
        let group = std::path::Path::new(folder).join(&id);
        fs::create_dir(&group).ok()?;
        let limited = fs::write(group.join(limit), "1073741824").is_ok();
        if !limited {
            let _ = fs::remove_dir(&group);
        }
        limited.then_some(group)
    });
    let Some(group) = group else {
        return skip(name, "this user cannot limit the memory of a control group");
    };
    let sandbox = Sandbox::new("");
    let description = sandbox.store().join("small/box.json");
    let text = fs::read_to_string(&description).unwrap();
    fs::remove_file(&description).unwrap();
    let hungry = text.replace("\"memory_mib\": 256", "\"memory_mib\": 4096");
    fs::write(&description, hungry).unwrap();
    let plan = |front: &[&str]| {
        let build = sandbox.build_command(front, &[]);
        let mut command = std::process::Command::new("sh");
        command
            .args([
                "-c",
                "echo $$ >\"$1/cgroup.procs\" && shift && exec \"$@\"",
                "sh",
            ])
            .arg(&group)
            .arg(build.get_program())
            .args(build.get_args());
        for (name, value) in build.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        let output = ProcessOutput::of(&mut command);
        output.expect(0, &[]);
        output.stdout
    };
    let by_default = plan(&["--dry-run", "--json"]);
    let asked = plan(&["--dry-run", "--json", "--box-memory", "3G"]);
    let _ = fs::remove_dir(&group);
    assert!(by_default.contains("\"memory_mib\": 640,"), "{by_default}");
    assert!(
        by_default.contains("gives this process 1024 MiB"),
        "{by_default}"
    );
    assert!(asked.contains("\"memory_mib\": 3072,"), "{asked}");
    assert!(
        asked.contains("gives this process 1024 MiB: a build that needs more"),
        "{asked}"
    );
}

fn falls_back(name: &'static str, reason: &str) {
    let Some(sandbox) = Sandbox::with_box(name, WHO) else {
        let what = format!("a box that falls back: {name}");
        return skip(&what, "the program dmsetup is not installed");
    };
    build(&sandbox, &["--boot", "fast"], &[]).expect(1, &["cannot be booted fast", reason]);
    let first = build(&sandbox, &[], &[]);
    first.expect(0, &["by its own init", reason]);
    assert!(!first.stderr.contains("remembered"), "{}", first.stderr);
    assert_eq!(who(&sandbox), "box-init\n");
    build(&sandbox, &[], &[]).expect(0, &["by its own init", reason, "remembered"]);
    sandbox.assert_nothing_left();
}

fn a_ramdisk_without_a_driver_falls_back() {
    falls_back("hidden", "no driver virtio-blk");
}

/// Such a kernel has no console either: "the box powered off before the build came to a result".
fn a_kernel_that_drives_no_device_is_told() {
    let sandbox = Sandbox::new(WHO);
    let file = sandbox.store().join("small/box.json");
    let text = fs::read_to_string(&file).unwrap();
    let without_bus = match boxes_arch().as_str() {
        "x86_64" => "pci=off",
        // Its driver of the machine's PCI host bridge.
        _ => "initcall_blacklist=gen_pci_driver_init",
    };
    let without = text.replace(
        "\"root=/dev/vda1\"",
        &format!("\"root=/dev/vda1\", \"{without_bus}\""),
    );
    assert_ne!(text, without);
    // Not into the file that all tests share.
    fs::remove_file(&file).unwrap();
    fs::write(&file, without).unwrap();
    let output = build(&sandbox, &["--boot", "fast"], &[]);
    output.expect(1, &["CONFIG_PCI", "virtio"]);
    sandbox.assert_nothing_left();
}

fn a_root_on_the_device_mapper_falls_back() {
    falls_back("mapped", "device mapper");
}

fn what_the_boxs_init_cannot_be_told_is_reported() {
    let Some(sandbox) = Sandbox::with_box("hidden", WHO) else {
        unreachable!("it is always made");
    };
    let output = build(&sandbox, &[], &["--add-package", "a b"]);
    assert_ne!(output.code, 0);
    // Which driver, and of which kernel.
    let words = [
        "no driver virtio-blk",
        "its kernel ",
        "/lib/modules/",
        "a b",
    ];
    output.expect(output.code, &words);
    sandbox.assert_nothing_left();
}

fn boxroot_and_profile_apply() {
    let sandbox =
        Sandbox::new("cat /etc/overlay >/result/seen; echo \"$FROM_PROFILE\" >>/result/seen");
    let etc = sandbox.description().join("boxroot/etc");
    fs::create_dir_all(&etc).unwrap();
    fs::write(etc.join("overlay"), "laid over\n").unwrap();
    fs::write(etc.join("boxprofile"), "export FROM_PROFILE='two words'\n").unwrap();
    build(&sandbox, &[], &[]).expect(0, &[]);
    assert_eq!(
        fs::read_to_string(sandbox.target().join("seen")).unwrap(),
        "laid over\ntwo words\n"
    );
    fs::write(etc.join("boxprofile"), "exit 3\n").unwrap();
    build(&sandbox, &[], &[]).expect(1, &["boxprofile"]);
}

/// `cp` refused to copy the folder usr/bin over the box's link, and root's files belonged to the user
/// who had checked them out.
fn boxroot_keeps_the_links_of_the_box_and_belongs_to_root() {
    let sandbox = Sandbox::new(
        "probe >/result/seen; readlink /usr/bin >>/result/seen
         stat -c '%u:%g %a' /bin/probe /etc/mine /etc/new /etc >>/result/seen",
    );
    let boxroot = sandbox.description().join("boxroot");
    for folder in ["usr/bin", "etc/new"] {
        fs::create_dir_all(boxroot.join(folder)).unwrap();
    }
    fs::write(boxroot.join("usr/bin/probe"), "#!/bin/sh\necho found\n").unwrap();
    fs::write(boxroot.join("etc/mine"), "").unwrap();
    for (name, mode) in [
        ("usr/bin/probe", 0o755),
        ("etc/mine", 0o640),
        ("etc/new", 0o750),
        ("etc", 0o777),
    ] {
        let path = boxroot.join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::lchown(&path, Some(12345), Some(1000)).unwrap();
        }
    }
    build(&sandbox, &[], &[]).expect(0, &[]);
    assert_eq!(
        sandbox.result("seen"),
        "found\n../bin\n0:0 755\n0:0 640\n0:0 750\n0:0 755\n"
    );
}

fn a_larger_disk_gives_more_room() {
    let sandbox = Sandbox::new("df -m / | tail -n 1 >/result/room");
    build(&sandbox, &["--disk-size", "2G"], &[]).expect(0, &[]);
    let room = fs::read_to_string(sandbox.target().join("room")).unwrap();
    let size = room
        .split_whitespace()
        .nth(1)
        .and_then(|text| text.parse::<u64>().ok());
    assert!(size.is_some_and(|size| size > 1800), "{room}");
}

/// Whether the host's KVM lets guests run virtual machines.
fn kvm_is_nested() -> bool {
    ["kvm_intel", "kvm_amd"].iter().any(|module| {
        let file = format!("/sys/module/{module}/parameters/nested");
        fs::read_to_string(file).is_ok_and(|value| ["Y", "1"].contains(&value.trim()))
    })
}

fn a_box_sees_virtualization_only_if_it_is_asked_for() {
    if boxes_arch() != "x86_64" {
        return skip("virtualization in the box", "its flags are those of x86-64");
    }
    let sandbox = Sandbox::new("grep -m 1 ^flags /proc/cpuinfo >/result/flags");
    let seen = |front: &[&str]| {
        build(&sandbox, front, &[]).expect(0, &[]);
        let flags = fs::read_to_string(sandbox.target().join("flags")).unwrap();
        assert!(flags.contains(" fpu "), "{flags}");
        flags
            .split_whitespace()
            .any(|flag| flag == "vmx" || flag == "svm")
    };
    assert!(!seen(&[]), "a box that did not ask for it");
    let kvm = std::env::var(ENGINE).is_ok_and(|engine| engine == "kvm");
    if kvm && !kvm_is_nested() {
        return skip(
            "virtualization that the box asks for",
            "the host's KVM has none",
        );
    }
    assert!(seen(&["--nested"]), "a box that asked for it");
}
