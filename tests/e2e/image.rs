//! `boxbuild test` and `boxbuild run`: a built image is started and judged. Most guests are boot sectors
//! that say what a system would (`tests/support/boot_sector.rs`); some are real kernels.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use boxbuild_tests::boot_sector::{Does, disk, sector};
use boxbuild_tests::command::{command, find, output};
use boxbuild_tests::pty::Terminal;
use boxbuild_tests::sandbox::small_boxes;
use boxbuild_tests::tree::Tree;
use boxbuild_tests::{ProcessOutput, Running, Sandbox, engine, skip};
use flate2::Compression;
use flate2::write::GzEncoder;
use nix::sys::signal::Signal;
use serde_json::Value;

crate::tests! {
    Qemu:
        an_image_boots_to_its_login_prompt_and_is_not_written,
        what_keeps_an_image_from_coming_up_is_said,
        a_pass_phrase_is_typed_and_not_shown,
        a_script_logs_in_and_its_failure_is_told_with_the_line,
        wrong_options_of_a_test_are_refused_before_anything_starts,
        an_image_that_names_other_files_is_refused,
        every_format_of_a_disk_boots,
        archives_with_a_disk_boot,
        what_a_test_is_told_to_stop_leaves_nothing,
        the_image_in_a_target_folder_is_found,
        a_batch_tests_what_it_has_built,
        a_user_leaves_the_console_of_an_image,
        a_real_kernel_with_its_ramdisk_boots,
        a_kernel_of_another_architecture_is_started_and_judged,
        a_disc_starts_as_cd_and_as_stick_by_bios_and_uefi;
    Podman:
        a_root_archive_runs_in_a_container;
}

/// Says what a system says, writes to its disk, and lets a user log in.
const SYSTEM: &[Does] = &[
    Does::WritesToItsDisk,
    Does::Says("Hello\r\nhost login: "),
    Does::Reads,
    Does::Says("Password: "),
    Does::Reads,
    Does::Says("\r\n# "),
    Does::Reads,
    Does::Says("uid=0(root)\r\n# "),
    Does::Hangs,
];

fn image(sandbox: &Sandbox, name: &str, program: &[Does]) -> PathBuf {
    let path = sandbox.path(name);
    disk(&path, program);
    path
}

/// `boxbuild test` without a network, which is not what these tests are about.
fn test_command(sandbox: &Sandbox, image: &Path, options: &[&str]) -> Command {
    let mut command = sandbox.command(["test", "--network", "none", "--engine", "qemu"]);
    command.args(options).arg(image);
    command
}

fn test(sandbox: &Sandbox, image: &Path, options: &[&str]) -> ProcessOutput {
    ProcessOutput::of(&mut test_command(sandbox, image, options))
}

/// Checks that an image passed; the line on standard output has `words`.
#[track_caller]
fn passed(output: &ProcessOutput, words: &str) {
    output.expect(0, &[]);
    assert!(
        output.stdout.contains(words),
        "'{words}' is not in:\n{}",
        output.stdout
    );
}

/// The event `test` of a run with `--json`.
fn report(output: &ProcessOutput) -> Value {
    let events = output
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let events: Vec<Value> = events.collect();
    assert_eq!(events[0]["event"], "image", "{}", output.stdout);
    assert_eq!(events.last().unwrap()["event"], "exit");
    events
        .into_iter()
        .find(|event| event["event"] == "test")
        .unwrap()
}

fn an_image_boots_to_its_login_prompt_and_is_not_written() {
    let sandbox = Sandbox::new("");
    let image = image(&sandbox, "disk.raw", SYSTEM);
    let before = fs::read(&image).unwrap();
    let log = sandbox.path("serial.log");
    let options = ["--log", log.to_str().unwrap()];
    passed(
        &test(&sandbox, &image, &options),
        "passed (raw, bios, x86_64, emulated)",
    );
    assert!(
        fs::read(&image).unwrap() == before,
        "the guest wrote into the image"
    );
    assert!(fs::read_to_string(&log).unwrap().contains("host login: "));
    let output = test(&sandbox, &image, &["--json"]);
    output.expect(0, &[]);
    assert_eq!(report(&output)["status"], "passed");
    sandbox.assert_nothing_left();
}

fn what_keeps_an_image_from_coming_up_is_said() {
    let sandbox = Sandbox::new("");
    let says = |text| [Does::Says(text), Does::Hangs];
    let cases: &[(&str, &[Does], &str, &str)] = &[
        (
            "panic",
            // The firmware has not ended its line on a busy host.
            &says("\r\n[ 1.0] Kernel panic - not syncing: no init\r\n"),
            "panic",
            "the kernel of the image panicked: [ 1.0] Kernel panic - not syncing: no init",
        ),
        (
            "emergency",
            &says("You are in emergency mode. After logging in, type\r\n"),
            "emergency-shell",
            "to an emergency shell only",
        ),
        (
            "initramfs",
            &says("\r\n(initramfs) "),
            "emergency-shell",
            "to an emergency shell only: (initramfs)",
        ),
        (
            "grub",
            &says("error: no such partition.\r\ngrub rescue> "),
            "boot-loader",
            "boot loader of the image cannot go on: grub rescue>",
        ),
        (
            "asks",
            &says("\r\nPlease enter passphrase for disk x (luks): "),
            "passphrase",
            "asks for a pass phrase",
        ),
        ("hangs", &says("Booting\r\n"), "hung", "the image hangs"),
        (
            "wrong",
            &says("\x1b]0;x\x07odd login\r\n"),
            "hung",
            "the image hangs",
        ),
        // The first is not emulated, the second is what the machine has by then.
        (
            "v4",
            &says("Fatal glibc error: CPU does not support x86-64-v4\r\n"),
            "old-processor",
            "need a newer processor (x86-64-v4)",
        ),
        (
            "v3",
            &says("Fatal glibc error: CPU does not support x86-64-v3\r\n"),
            "old-processor",
            "need a newer processor (x86-64-v3)",
        ),
        (
            "off",
            &[Does::Says("Bye\r\n"), Does::PowersOff],
            "power-off",
            "switched itself off",
        ),
        (
            "again",
            &[Does::Says("Again\r\n"), Does::Restarts],
            "restarts",
            "again and again",
        ),
    ];
    for (name, program, reason, words) in cases {
        let image = image(&sandbox, &format!("{name}.raw"), program);
        let output = test(&sandbox, &image, &["--json", "--timeout-idle", "8"]);
        output.expect(1, &[]);
        let report = report(&output);
        assert_eq!(report["reason"], *reason, "{name}: {report}");
        let message = report["message"].as_str().unwrap();
        assert!(message.contains(words), "{name}: {message}");
        assert!(!output.stdout.contains('\x1b'), "{name}: {}", output.stdout);
    }
    // A disk on which there is nothing to start.
    let empty = sandbox.path("empty.raw");
    fs::write(
        &empty,
        [vec![0; 510], vec![0x55, 0xaa], vec![0; 1 << 20]].concat(),
    )
    .unwrap();
    let output = test(&sandbox, &empty, &["--timeout-idle", "8"]);
    output.expect(
        1,
        &["neither a boot sector with a program nor an EFI system partition"],
    );
    sandbox.assert_nothing_left();
}

fn a_pass_phrase_is_typed_and_not_shown() {
    let sandbox = Sandbox::new("");
    let program = [
        Does::Says("\r\nPlease enter passphrase for disk x (luks): "),
        Does::Reads,
        Does::Says("open sesame\r\nhost login: "),
        Does::Hangs,
    ];
    let image = image(&sandbox, "disk.raw", &program);
    let log = sandbox.path("log");
    let file = sandbox.path("secret");
    fs::write(&file, "open sesame\nanother line\n").unwrap();
    for options in [
        ["--passphrase-file", file.to_str().unwrap()],
        ["--passphrase-env", "SECRET"],
    ] {
        let mut command = test_command(&sandbox, &image, &options);
        command
            .args(["--verbose", "--log"])
            .arg(&log)
            .env("SECRET", "open sesame");
        let output = ProcessOutput::of(&mut command);
        output.expect(0, &[]);
        assert!(fs::read_to_string(&log).unwrap().contains("***"));
        for text in [
            &output.stdout,
            &output.stderr,
            &fs::read_to_string(&log).unwrap(),
        ] {
            assert!(!text.contains("sesame"), "{text}");
        }
    }
    let missing = test(&sandbox, &image, &["--passphrase-env", "NO_SUCH_VARIABLE"]);
    missing.expect(2, &["'NO_SUCH_VARIABLE' is not set"]);
    sandbox.assert_nothing_left();
}

fn a_script_logs_in_and_its_failure_is_told_with_the_line() {
    let sandbox = Sandbox::new("");
    let image = image(&sandbox, "disk.raw", SYSTEM);
    let script = sandbox.path("script");
    let run = |text: &str| {
        fs::write(&script, text).unwrap();
        let options = ["--script", script.to_str().unwrap()];
        let mut command = test_command(&sandbox, &image, &options);
        ProcessOutput::of(command.env("PASSWORD", "s3cret"))
    };
    let script_of_a_login =
        "send root\nexpect Password:\nsend-env PASSWORD\nexpect ^# $\nsend id\nexpect uid=\\d+\n";
    passed(&run(script_of_a_login), "passed");
    run("timeout 3\nsend root\nexpect Passwort:\n")
        .expect(1, &["'Passwort:' (line 3 of the script)"]);
    run("send root\nsned x\n").expect(2, &["line 2: 'sned' is no command"]);
    sandbox.assert_nothing_left();
}

fn wrong_options_of_a_test_are_refused_before_anything_starts() {
    let sandbox = Sandbox::new("");
    let image = image(&sandbox, "disk.raw", SYSTEM);
    let own = image.to_str().unwrap();
    let text = sandbox.path("text");
    fs::write(&text, "nothing that starts\n").unwrap();
    for (options, image, words) in [
        (vec!["--expect", "("], &image, "not a regular expression"),
        (vec!["--append", "quiet"], &image, "--append is for kernels"),
        (
            vec!["--command", "id"],
            &image,
            "--command is for container images",
        ),
        (
            vec!["--command", "id", "--script", "/nowhere/script"],
            &image,
            "--script with --command needs --expect",
        ),
        (vec!["--initrd", own], &image, "--initrd needs the kernel"),
        (vec!["--log", own], &image, "is the image itself"),
        (
            vec!["--script", "/nowhere/script"],
            &image,
            "/nowhere/script",
        ),
        (
            vec!["--arch", "aarch64", "--firmware", "bios"],
            &image,
            "have UEFI only",
        ),
        (vec![], &text, "it is no image that is known"),
        (vec![], &sandbox.path("none"), "none"),
        (
            vec![],
            &sandbox.path("home"),
            "no file with the name of an image",
        ),
    ] {
        test(&sandbox, image, &options).expect(2, &[words]);
    }
    assert_eq!(&fs::read(&image).unwrap()[..512], &sector(SYSTEM));
    sandbox.assert_nothing_left();
}

/// A hostile image has a file of the host as its backing file, and QEMU would show it to the guest.
fn an_image_that_names_other_files_is_refused() {
    let sandbox = Sandbox::new("");
    let base = image(&sandbox, "base.raw", SYSTEM);
    let hostile = sandbox.path("hostile.qcow2");
    let mut img = command("qemu-img");
    img.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
        .arg(&base)
        .arg(&hostile);
    output(&mut img).unwrap();
    test(&sandbox, &hostile, &[]).expect(2, &["names another file", "base.raw"]);
    let hostile = sandbox.path("hostile.vmdk");
    let text = format!(
        "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n\
         createType=\"monolithicFlat\"\n\nRW 2048 FLAT \"{}\" 0\n",
        base.display()
    );
    fs::write(&hostile, text).unwrap();
    test(&sandbox, &hostile, &[]).expect(2, &["whose data is in other files"]);
    // One that says it is another format than it is: nothing is guessed from a raw disk's content.
    let raw = sandbox.path("disk.raw");
    let mut bytes = fs::read(&base).unwrap();
    bytes[512..516].copy_from_slice(b"QFI\xfb");
    fs::write(&raw, bytes).unwrap();
    passed(&test(&sandbox, &raw, &[]), "passed (raw");
    sandbox.assert_nothing_left();
}

fn every_format_of_a_disk_boots() {
    let sandbox = Sandbox::new("");
    let raw = image(&sandbox, "disk.raw", SYSTEM);
    for (format, options, name, kind) in [
        ("qcow2", "", "disk.qcow2", "qcow2"),
        ("vmdk", "subformat=streamOptimized", "disk.vmdk", "vmdk"),
        (
            "vpc",
            "subformat=fixed,force_size=on",
            "disk.vhdfixed",
            "vhd",
        ),
        ("vhdx", "", "disk.vhdx", "vhdx"),
        ("vdi", "", "disk.vdi", "vdi"),
    ] {
        let path = sandbox.path(name);
        let mut img = command("qemu-img");
        img.args(["convert", "-O", format]);
        if !options.is_empty() {
            img.args(["-o", options]);
        }
        output(img.arg(&raw).arg(&path)).unwrap();
        let before = fs::read(&path).unwrap();
        passed(
            &test(&sandbox, &path, &[]),
            &format!("passed ({kind}, bios"),
        );
        assert!(fs::read(&path).unwrap() == before, "{name} was written");
    }
    for bus in [["--bus", "sata"], ["--usb", "--verbose"]] {
        passed(&test(&sandbox, &raw, &bus), "passed (raw, bios");
    }
    sandbox.assert_nothing_left();
}

fn archives_with_a_disk_boot() {
    let sandbox = Sandbox::new("");
    image(&sandbox, "disk.raw", SYSTEM);
    let folder = sandbox.path("");
    for (script, name, kind) in [
        ("xz -0 -c disk.raw >packed.raw.xz", "packed.raw.xz", "raw"),
        ("gzip -c disk.raw >packed.raw.gz", "packed.raw.gz", "raw"),
        // As Google's image import wants it: with holes.
        (
            "tar --format=gnu -cSzf gce.tar.gz disk.raw",
            "gce.tar.gz",
            "raw",
        ),
        (
            "qemu-img convert -O vmdk -o subformat=streamOptimized disk.raw a.vmdk; echo x >a.ovf; \
             tar -cf a.ova a.ovf a.vmdk",
            "a.ova",
            "vmdk",
        ),
        (
            "qemu-img convert -O qcow2 disk.raw box.img; echo '{}' >metadata.json; echo >Vagrantfile; \
             tar -czf v.box metadata.json Vagrantfile box.img",
            "v.box",
            "qcow2",
        ),
        // KIWI's oci:qcow2, KubeVirt's containerDisk: it was taken for a root tree without a shell.
        (
            "rm -rf c && mkdir -p c/blobs/sha256 l/disk && qemu-img convert -O qcow2 disk.raw l/disk/a.qcow2 && \
             echo '{\"imageLayoutVersion\": \"1.0.0\"}' >c/oci-layout && echo '{}' >c/index.json && \
             tar -czf c/blobs/sha256/1 -C l disk && tar -cJf c.oci.tar.xz -C c .",
            "c.oci.tar.xz",
            "qcow2",
        ),
        (
            "mkdir -p d && tar -cf d/layer.tar -C l disk && echo '[]' >d/manifest.json && \
             tar -cf d.docker.tar -C d .",
            "d.docker.tar",
            "qcow2",
        ),
    ] {
        output(command("sh").args(["-ec", script]).current_dir(&folder)).unwrap();
        passed(
            &test(&sandbox, &sandbox.path(name), &[]),
            &format!("passed ({kind}, bios"),
        );
    }
    // KIWI's installpxe was started with the address of its example.
    let script = "mkdir p && touch p/a.append p/a.xz p/pxeboot.a.initrd p/pxeboot.a.kernel p/a.initrd && \
                  tar -cf a.install.tar -C p .";
    output(command("sh").args(["-ec", script]).current_dir(&folder)).unwrap();
    test(&sandbox, &sandbox.path("a.install.tar"), &[]).expect(2, &["over the network"]);
    fs::write(sandbox.path("bad.raw.xz"), b"\xfd7zXZ\0 and nothing else").unwrap();
    test(&sandbox, &sandbox.path("bad.raw.xz"), &[]).expect(2, &["bad.raw.xz cannot be used"]);
    sandbox.assert_nothing_left();
}

fn what_a_test_is_told_to_stop_leaves_nothing() {
    let sandbox = Sandbox::new("");
    let image = image(
        &sandbox,
        "disk.raw",
        &[Does::Says("Started\r\n"), Does::Hangs],
    );
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGKILL] {
        let mut command = test_command(&sandbox, &image, &["--verbose"]);
        let mut running = Running::start(&mut command);
        running.wait_for("Started");
        running.signal(signal);
        let output = running.finish();
        if signal != Signal::SIGKILL {
            output.expect(130, &["interrupted"]);
        }
        sandbox.assert_nothing_left();
    }
}

fn the_image_in_a_target_folder_is_found() {
    let sandbox =
        Sandbox::new("cp /description/disk.raw /result/x.x86_64-1.0.raw; echo >/result/x.packages");
    disk(&sandbox.description().join("disk.raw"), SYSTEM);
    sandbox.build(&[], &[]).expect(0, &[]);
    let target = sandbox.target();
    passed(&test(&sandbox, &target, &[]), "passed (raw");
    disk(&target.join("y.x86_64-1.0.raw"), SYSTEM);
    test(&sandbox, &target, &[]).expect(2, &["has several images"]);
    sandbox.assert_nothing_left();
}

fn a_batch_tests_what_it_has_built() {
    let sandbox = Sandbox::new("");
    for (name, program) in [
        ("good", SYSTEM),
        (
            "bad",
            &[Does::Says("Kernel panic - not syncing: x\r\n"), Does::Hangs][..],
        ),
    ] {
        let folder = sandbox.describe(name, "cp /description/disk.raw /result/disk.raw");
        disk(&folder.join("disk.raw"), program);
    }
    let file = sandbox.path("batch.toml");
    let batch = |text: &str| {
        let defaults = format!(
            "[defaults]\nbox = 'small'\ntarget-dir = 'out/{{name}}'\noptions = {{ engine = '{}', \
             keep-failed = 'no' }}\ntest = {{ network = 'none', engine = 'qemu' }}\n",
            engine()
        );
        fs::write(&file, defaults + text).unwrap();
        sandbox.run([Path::new("batch"), &file])
    };
    let output = batch(
        "[[build]]\nname = 'good'\ndescription = 'good'\ntest = { expect = 'login:' }\n\
         [[build]]\nname = 'bad'\ndescription = 'bad'\n\
         [[build]]\nname = 'untested'\ndescription = 'bad'\ntest = false\n",
    );
    output.expect(1, &["the kernel of the image panicked"]);
    for (name, result) in [("good", "built"), ("bad", "failed"), ("untested", "built")] {
        let line = output
            .stdout
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap();
        assert!(line.contains(result), "{line}");
    }
    let log = fs::read_to_string(sandbox.path("batch.logs/good.log")).unwrap();
    assert!(log.contains("passed (raw"), "{log}");
    let output = batch("[[build]]\nname = 'x'\ndescription = 'good'\ntest = { expcet = 'x' }\n");
    output.expect(2, &["did you mean expect?"]);
    let output = batch("[[build]]\nname = 'x'\ndescription = 'good'\ntest = { expect = '(' }\n");
    output.expect(2, &["batch.toml:9:", "not a regular expression"]);
    sandbox.assert_nothing_left();
}

fn a_user_leaves_the_console_of_an_image() {
    let sandbox = Sandbox::new("");
    let image = image(&sandbox, "disk.raw", SYSTEM);
    let before = fs::read(&image).unwrap();
    let mut run = sandbox.command(["run", "--network", "none", "--engine", "qemu"]);
    run.arg(&image);
    let mut terminal = Terminal::start(run);
    terminal.expect("host login: ");
    terminal.send("root\r");
    terminal.expect("Password: ");
    terminal.send("\x1d\x1d\x1d");
    assert_eq!(terminal.wait(), 0);
    assert!(terminal.is_restored());
    assert!(fs::read(&image).unwrap() == before);
    // Without a terminal there is nothing to type on.
    let mut run = sandbox.command(["run"]);
    ProcessOutput::of(run.arg(&image)).expect(2, &["needs a terminal", "boxbuild test"]);
    sandbox.assert_nothing_left();
}

/// A ramdisk with busybox that lets root log in on the serial line.
fn login_ramdisk(path: &Path) {
    let busybox = find("busybox").unwrap();
    let applets = output(command(&busybox).arg("--list")).unwrap();
    let applets: Vec<String> = applets.lines().map(str::to_owned).collect();
    let mut tree = Tree::default();
    tree.busybox(&busybox, &applets);
    tree.link("/sbin", "bin");
    tree.directories(&["/dev", "/proc", "/sys", "/etc"]);
    tree.file("/etc/passwd", 0o644, "root::0:0:root:/:/bin/sh\n");
    let init = "#!/bin/sh\nmount -t proc proc /proc\nmount -t devtmpfs dev /dev\n\
                grep -q panics /proc/cmdline && exit 1\n\
                while :; do getty -L ttyS0 115200 vt100 </dev/ttyS0; sleep 1; done\n";
    tree.file("/init", 0o755, init);
    let mut packed = GzEncoder::new(File::create(path).unwrap(), Compression::fast());
    tree.write(&mut packed).unwrap();
    packed.finish().unwrap().flush().unwrap();
}

fn a_real_kernel_with_its_ramdisk_boots() {
    let sandbox = Sandbox::new("");
    let folder = sandbox.path("kis");
    fs::create_dir(&folder).unwrap();
    let name = |end: &str| folder.join(format!("k.x86_64-1.0{end}"));
    fs::copy(small_boxes().join("small/kernel"), name("-6.1.kernel")).unwrap();
    login_ramdisk(&name(".initrd"));
    fs::write(name(""), vec![0; 1 << 20]).unwrap();
    fs::write(name(".append"), "root=UUID=1 quiet").unwrap();
    passed(&test(&sandbox, &folder, &[]), "passed (kis, kernel");
    output(
        command("tar")
            .args(["-cJf", "../kis.tar.xz", "."])
            .current_dir(&folder),
    )
    .unwrap();
    let archive = sandbox.path("kis.tar.xz");
    let script = sandbox.path("script");
    fs::write(&script, "send root\nexpect [~/] #\nsend id\nexpect uid=0\n").unwrap();
    let options = ["--script", script.to_str().unwrap()];
    passed(&test(&sandbox, &archive, &options), "passed (kis, kernel");
    let kernel = name("-6.1.kernel");
    let initrd = name(".initrd");
    let options = [
        "--kernel",
        kernel.to_str().unwrap(),
        "--initrd",
        &initrd.to_string_lossy(),
        "--append",
        "panics",
    ];
    let panicked = "Attempted to kill init";
    test(&sandbox, &name(""), &options).expect(1, &["the kernel of the image panicked", panicked]);
    sandbox.assert_nothing_left();
}

fn a_kernel_of_another_architecture_is_started_and_judged() {
    let made = small_boxes().join("small.aarch64");
    if !made.exists() {
        let what = "a_kernel_of_another_architecture_is_started_and_judged";
        return skip(what, "there is no box small.aarch64");
    }
    let sandbox = Sandbox::new("");
    let image = image(&sandbox, "disk.aarch64-1.0.raw", SYSTEM);
    let path = |name: &str| made.join(name).to_str().unwrap().to_owned();
    let (kernel, initrd) = (path("kernel"), path("initrd"));
    // Its ramdisk finds no root file system on that disk.
    let options = [
        "--kernel",
        &kernel,
        "--initrd",
        &initrd,
        "--append",
        "root=/dev/vda1",
    ];
    let output = test(&sandbox, &image, &options);
    output.expect(
        1,
        &["kis, kernel, aarch64", "the kernel of the image panicked"],
    );
    sandbox.assert_nothing_left();
}

fn a_disc_starts_as_cd_and_as_stick_by_bios_and_uefi() {
    let what = "a_disc_starts_as_cd_and_as_stick_by_bios_and_uefi";
    for program in ["grub-mkrescue", "xorriso", "mformat"] {
        if find(program).is_err() {
            return skip(what, &format!("there is no {program}"));
        }
    }
    for part in [
        "/usr/lib/grub/i386-pc",
        "/usr/lib/grub/x86_64-efi",
        "/usr/share/OVMF",
    ] {
        if !Path::new(part).exists() {
            return skip(what, &format!("there is no {part}"));
        }
    }
    let sandbox = Sandbox::new("");
    let tree = sandbox.path("tree");
    fs::create_dir_all(tree.join("boot/grub")).unwrap();
    fs::copy(
        small_boxes().join("small/kernel"),
        tree.join("boot/vmlinuz"),
    )
    .unwrap();
    login_ramdisk(&tree.join("boot/initrd"));
    let menu = "serial\nterminal_output serial\nlinux /boot/vmlinuz console=ttyS0\ninitrd /boot/initrd\nboot\n";
    fs::write(tree.join("boot/grub/grub.cfg"), menu).unwrap();
    let disc = sandbox.path("live.iso");
    output(command("grub-mkrescue").arg("-o").arg(&disc).arg(&tree)).unwrap();
    for (options, words) in [
        (vec!["--firmware", "bios"], "passed (iso, bios, x86_64"),
        (vec![], "passed (iso, uefi, x86_64"),
        (
            vec!["--usb", "--firmware", "bios"],
            "passed (iso, bios, usb",
        ),
        (vec!["--usb"], "passed (iso, uefi, usb"),
    ] {
        passed(&test(&sandbox, &disc, &options), words);
    }
    sandbox.assert_nothing_left();
}

fn a_root_archive_runs_in_a_container() {
    let sandbox = Sandbox::new("");
    let archive = small_boxes().join("root.tar");
    let options = |options: &[&str]| test(&sandbox, &archive, options);
    passed(&options(&[]), "passed (root archive");
    passed(
        &options(&["--command", "sh -c 'echo >/written; cat /written'"]),
        "passed",
    );
    options(&["--command", "false"]).expect(1, &["ended with 1"]);
    let script = sandbox.path("script");
    fs::write(&script, "send id\nexpect uid=0\n").unwrap();
    passed(&options(&["--script", script.to_str().unwrap()]), "passed");
    let options = ["--verbose", "--command", "sh -c 'echo Started; sleep 1000'"];
    let mut running = Running::start(&mut test_command(&sandbox, &archive, &options));
    running.wait_for("Started");
    running.signal(Signal::SIGINT);
    running.finish().expect(130, &["interrupted"]);
    sandbox.assert_nothing_left();
}
