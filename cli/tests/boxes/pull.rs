//! Boxes as a whole: fetched, updated, checked, locked.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use boxbuild_host::arch::Arch;

use crate::bench::{Bench, Said, names};
use crate::server::Fault;
use crate::sets::{self, Set, disk_name, kernel_name, sha256, sha512};

fn kernel_path() -> String {
    format!("/r/{}", kernel_name())
}

fn disk_path() -> String {
    format!("/r/{}", disk_name())
}

#[test]
fn a_box_is_fetched_and_used_as_it_is() {
    let bench = Bench::new();
    let set = Set::new(1, 200_000);
    set.publish(&bench.server);
    let said = bench.run(&["box", "pull", "test"]).expect(0, &["test."]);
    assert!(said.stderr.contains("not authenticated"), "{}", said.stderr);
    assert!(bench.has(&set));
    assert!(bench.leftovers().is_empty(), "{:?}", bench.leftovers());
    let info = bench.installed().info;
    assert_eq!(
        (info.memory_mib, info.cpus, info.console.as_str()),
        (4096, 2, "hvc0")
    );
    assert_eq!(info.cmdline, ["root=/dev/vda1", "rd.plymouth=0"]);
    assert_eq!(
        bench.server.take_served(&disk_path()),
        set.disk.len() as u64
    );
    let said = bench.run(&["box", "list", "--json"]).expect(0, &[]);
    let list: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(list["boxes"][0]["state"], "installed");
    assert_eq!(
        list["boxes"][0]["published"]["disk"]["sha256"],
        sha256(&set.disk)
    );
    bench.run(&["box", "verify"]).expect(0, &["good"]);
    bench
        .run(&["box", "info", "test"])
        .expect(0, &[&disk_path()]);
    bench.run(&["box", "rm", "test"]).expect(0, &[]);
    bench.run(&["box", "list"]).expect(0, &["not fetched yet"]);
}

#[test]
fn updates_are_found_by_small_files_only() {
    let bench = Bench::new();
    let (old, new) = (Set::new(1, 50_000), Set::new(2, 50_000));
    old.publish(&bench.server);
    bench.run(&["box", "pull", "test"]).expect(0, &[]);
    bench.server.take_requests();
    bench.run(&["box", "pull", "test"]).expect(0, &[]);
    let requests = bench.server.take_requests();
    assert_eq!(requests.len(), 2, "{requests:?}");
    assert!(
        requests
            .iter()
            .all(|request| request.target.ends_with(".sha256"))
    );
    // A new disk under an old list of packages is found too.
    new.publish(&bench.server);
    bench
        .run(&["box", "pull", "test", "--no-update-check"])
        .expect(0, &[]);
    bench
        .run(&["box", "pull", "test", "--offline"])
        .expect(0, &[]);
    assert!(bench.server.take_requests().is_empty());
    assert!(bench.has(&old));
    bench.run(&["box", "pull", "test"]).expect(0, &[]);
    assert!(bench.has(&new));
    assert_eq!(
        names(&bench.installed().dir).len(),
        4,
        "the old files are gone"
    );
    // No server, no new box; the old one is good enough, and the user is told.
    bench.server.remove(&format!("{}.sha256", kernel_path()));
    bench
        .run(&["box", "pull", "test"])
        .expect(0, &["cannot look for a newer box"]);
    bench
        .run(&["box", "pull", "test", "--force"])
        .expect(3, &["404"]);
    assert!(bench.has(&new));
}

#[test]
fn what_is_missing_is_said() {
    let bench = Bench::new();
    bench
        .run(&["box", "pull", "test", "--offline"])
        .expect(3, &["--offline fetches nothing"]);
    assert!(bench.server.take_requests().is_empty());
    bench
        .run(&["box", "pull", "tset"])
        .expect(2, &["did you mean 'test'?"]);
    bench
        .run(&["box", "pull", "x"])
        .expect(2, &["there are: test"]);
    let foreign = if Arch::host() == Arch::S390x {
        "x86_64"
    } else {
        "s390x"
    };
    bench
        .run(&["box", "pull", "test", "--arch", foreign])
        .expect(2, &["not published for", Arch::host().name()]);
    bench
        .run(&["box", "pull", "test"])
        .expect(3, &["404", &kernel_name()]);
    fs::write(
        bench.path("boxes.yml"),
        "box:\n  - name: test\n    mem: 4\n",
    )
    .unwrap();
    bench
        .run(&["box", "pull", "test"])
        .expect(2, &["boxes.yml", "mem"]);
    bench.configure("ftp://somewhere");
    bench.run(&["box", "pull", "test"]).expect(2, &["ftp://"]);
    assert!(!bench.root().join("test").exists());
}

#[test]
fn the_cache_folder_need_not_be_there() {
    let bench = Bench::new();
    let set = Set::new(1, 10_000);
    set.publish(&bench.server);
    assert!(!bench.root().exists());
    bench.run(&["box", "pull", "test"]).expect(0, &[]);
    assert!(bench.has(&set));
    let mut command = bench.command(&["box", "pull", "test"]);
    let said = command
        .env_remove("HOME")
        .env_remove("KIWI_BOXED_CACHE_DIR")
        .output()
        .unwrap();
    Said::from(said).expect(3, &["set HOME"]);
    assert!(!bench.path("work/None").exists());
}

#[test]
fn a_mirror_that_is_behind_is_passed_by() {
    let bench = Bench::new();
    let (old, new) = (Set::new(1, 50_000), Set::new(2, 50_000));
    old.publish_at(&bench.server, "/mirror");
    new.publish(&bench.server);
    let to = format!("{}/mirror/{}", bench.server.url(), disk_name());
    bench.server.fault(&disk_path(), None, Fault::Redirect(to));
    bench
        .run(&["box", "pull", "test"])
        .expect(0, &["wrong checksum", "past the mirrors"]);
    assert!(bench.has(&new));
    // What was right is not fetched twice.
    assert_eq!(
        bench.server.take_served(&kernel_path()),
        new.kernel_archive.len() as u64
    );
}

#[test]
fn a_file_that_no_mirror_has_yet() {
    let bench = Bench::new();
    let set = Set::new(1, 50_000);
    set.publish(&bench.server);
    for path in [disk_path(), format!("{}.sha256", kernel_path())] {
        bench.server.fault(&path, None, Fault::Status(404));
    }
    bench
        .run(&["box", "pull", "test"])
        .expect(0, &["past the mirrors"]);
    assert!(bench.has(&set));
}

#[test]
fn a_wrong_set_is_never_installed() {
    let bench = Bench::new();
    let (old, new) = (Set::new(1, 50_000), Set::new(2, 50_000));
    old.publish(&bench.server);
    bench.run(&["box", "pull", "test"]).expect(0, &[]);
    new.publish(&bench.server);
    bench.server.put(&disk_path(), "not this");
    for _ in 0..2 {
        bench
            .run(&["box", "pull", "test"])
            .expect(3, &["wrong checksum", &disk_name()]);
        assert!(bench.has(&old));
    }
    // Nobody has to clear anything away by hand.
    new.publish(&bench.server);
    bench.run(&["box", "pull", "test"]).expect(0, &[]);
    assert!(bench.has(&new));
}

#[test]
fn the_checksum_counts_and_not_the_list_of_packages() {
    let bench = Bench::new();
    let mut set = Set::new(1, 20_000);
    set.publish(&bench.server);
    bench.run(&["box", "pull", "test"]).expect(0, &[]);
    set.kernel_archive = sets::archive(b"another kernel");
    set.publish(&bench.server);
    bench.run(&["box", "pull", "test"]).expect(0, &[]);
    assert!(bench.has(&set));
}

#[test]
fn checksums_in_every_form() {
    type Form = fn(&str, &[u8]) -> (&'static str, String);
    let forms: [Form; 4] = [
        |_, bytes| ("sha256", sha256(bytes)),
        |name, bytes| ("sha512", format!("{}  {name}\n", sha512(bytes))),
        |name, bytes| {
            (
                "sha256",
                format!(
                    "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{}  {name}\n\
                     -----BEGIN PGP SIGNATURE-----\n\niQ==\n-----END PGP SIGNATURE-----\n",
                    sha256(bytes)
                ),
            )
        },
        |name, bytes| ("sha256", format!("SHA256 ({name}) = {}\n", sha256(bytes))),
    ];
    for form in forms {
        let bench = Bench::new();
        let set = Set::new(1, 10_000);
        set.publish(&bench.server);
        for (name, bytes) in set.files() {
            bench.server.remove(&format!("/r/{name}.sha256"));
            let (extension, text) = form(&name, bytes);
            bench.server.put(&format!("/r/{name}.{extension}"), text);
        }
        bench.run(&["box", "pull", "test"]).expect(0, &[]);
        bench.server.take_requests();
        bench.run(&["box", "pull", "test"]).expect(0, &[]);
        assert!(bench.has(&set));
        let requests = bench.server.take_requests();
        assert!(
            requests
                .iter()
                .all(|request| request.target.contains(".sha"))
        );
    }
    let bench = Bench::new();
    Set::new(1, 10_000).publish(&bench.server);
    bench
        .server
        .put(&format!("{}.sha256", disk_path()), "<html>sorry</html>");
    bench
        .run(&["box", "pull", "test"])
        .expect(3, &["there is no sha256 in it", "<html>"]);
    assert!(!bench.root().join("test").exists());
}

#[test]
fn checksums_must_be_signed_where_there_is_a_key() {
    let bench = Bench::new();
    let set = Set::new(1, 10_000);
    set.publish(&bench.server);
    let home = tempfile::tempdir().unwrap();
    let gpg = |args: &[&str]| {
        Command::new("gpg")
            .args([
                "--batch",
                "--yes",
                "--quiet",
                "--passphrase",
                "",
                "--homedir",
            ])
            .arg(home.path())
            .args(args)
            .current_dir(bench.path("work"))
            .output()
            .is_ok_and(|output| output.status.success())
    };
    if !gpg(&["--quick-gen-key", "box@example.org", "ed25519", "sign"])
        || !gpg(&[
            "--armor",
            "--output",
            "key.asc",
            "--export",
            "box@example.org",
        ])
        || !gpg(&["--quick-gen-key", "other@example.org", "ed25519", "sign"])
        || !gpg(&["--output", "other.gpg", "--export", "other@example.org"])
    {
        eprintln!("skipped: checksums_must_be_signed_where_there_is_a_key: no gpg");
        return;
    }
    let pull = |key: &str| bench.run(&["box", "pull", "test", "--force", "--signed-by", key]);
    pull("key.asc").expect(3, &["not signed"]);
    for (name, bytes) in set.files() {
        fs::write(
            bench.path("work/sums"),
            format!("{}  {name}\n", sha256(bytes)),
        )
        .unwrap();
        assert!(gpg(&[
            "--local-user",
            "box@example.org",
            "--armor",
            "--output",
            "sums.asc",
            "--detach-sign",
            "sums"
        ]));
        let signature = fs::read(bench.path("work/sums.asc")).unwrap();
        bench
            .server
            .put(&format!("/r/{name}.sha256.asc"), signature);
    }
    // The signature is over other bytes: the names in the published files have a version.
    pull("key.asc").expect(3, &["signature is not that of"]);
    for (name, bytes) in set.files() {
        bench.server.put(
            &format!("/r/{name}.sha256"),
            format!("{}  {name}\n", sha256(bytes)),
        );
    }
    pull("key.asc").expect(0, &[]);
    pull("other.gpg").expect(3, &["signature is not that of"]);
    pull("sums").expect(2, &["no public key"]);
    // Signed in place: what stands outside the signature does not count.
    for (name, bytes) in set.files() {
        bench.server.remove(&format!("/r/{name}.sha256.asc"));
        fs::write(
            bench.path("work/sums"),
            format!("{}  {name}\n", sha256(bytes)),
        )
        .unwrap();
        assert!(gpg(&[
            "--local-user",
            "box@example.org",
            "--output",
            "clear",
            "--clear-sign",
            "sums"
        ]));
        let clear = fs::read_to_string(bench.path("work/clear")).unwrap();
        bench.server.put(&format!("/r/{name}.sha256"), clear);
    }
    pull("key.asc").expect(0, &[]);
    pull("other.gpg").expect(3, &["signature is not that of"]);
    let mut command = bench.command(&["box", "pull", "test", "--force"]);
    let said = command
        .env("BOXBUILD_SIGNED_BY", "other.gpg")
        .output()
        .unwrap();
    Said::from(said).expect(3, &["signature is not that of"]);
    assert!(bench.has(&set));
}

#[test]
fn a_list_in_the_working_folder_does_not_take_over_a_box() {
    let bench = Bench::new();
    let (mine, theirs) = (Set::new(1, 10_000), Set::new(2, 10_000));
    mine.publish(&bench.server);
    theirs.publish_at(&bench.server, "/theirs");
    bench.run(&["box", "pull", "test"]).expect(0, &[]);
    fs::write(
        bench.path("work/kiwi_boxed_plugin.yml"),
        sets::config(&format!("{}/theirs", bench.server.url())),
    )
    .unwrap();
    let there = |args: &[&str]| {
        let mut command = bench.command(args);
        Said::from(
            command
                .env_remove("KIWI_BOXED_PLUGIN_CFG")
                .output()
                .unwrap(),
        )
    };
    for more in [&[][..], &["--force"], &["--no-update-check"]] {
        there(&[&["box", "pull", "test"], more].concat()).expect(2, &["would replace it"]);
    }
    there(&["box", "pull", "test", "--offline"]).expect(3, &["--offline"]);
    assert!(bench.has(&mine));
    there(&["box", "list"]).expect(0, &["kiwi_boxed_plugin.yml of this folder"]);
    // The other way round: what came from there is not used as the user's own.
    bench.run(&["box", "rm", "test"]).expect(0, &[]);
    there(&["box", "pull", "test"]).expect(0, &["kiwi_boxed_plugin.yml of this folder"]);
    assert!(bench.has(&theirs));
    bench
        .run(&["box", "pull", "test", "--offline"])
        .expect(3, &["--offline"]);
    bench
        .run(&["box", "pull", "test", "--no-update-check"])
        .expect(0, &[]);
    assert!(bench.has(&mine));
}

#[test]
fn a_compressed_disk_is_unpacked_at_installation() {
    let bench = Bench::new();
    let mut set = Set::new(1, 10_000);
    let plain = set.disk.clone();
    let Some(packed) = sets::compressed(&plain) else {
        eprintln!("skipped: a_compressed_disk_is_unpacked_at_installation: no qemu-img");
        return;
    };
    set.disk = packed;
    set.publish(&bench.server);
    bench
        .run(&["box", "pull", "test"])
        .expect(0, &["unpack the disk"]);
    assert!(bench.has(&set));
    let installed = bench.installed();
    let disk = fs::read(installed.path(&installed.info.disk)).unwrap();
    assert_eq!(sha256(&disk), sha256(&plain));
    bench.run(&["box", "verify", "test"]).expect(0, &["good"]);
    bench.run(&["box", "pull", "test"]).expect(0, &[]);
    fs::write(
        installed.path(&installed.info.disk),
        disk.iter().map(|b| b ^ 1).collect::<Vec<_>>(),
    )
    .unwrap();
    bench
        .run(&["box", "verify", "test"])
        .expect(3, &["has changed", "box pull --force"]);
    bench
        .run(&["box", "pull", "--force", "test"])
        .expect(0, &[]);
    bench.run(&["box", "verify", "test"]).expect(0, &["good"]);
}

#[test]
fn a_disk_that_is_none_is_not_installed() {
    let bench = Bench::new();
    let mut set = Set::new(1, 10_000);
    set.disk = b"not a disk".to_vec();
    set.publish(&bench.server);
    bench
        .run(&["box", "pull", "test"])
        .expect(3, &["not a qcow2 image"]);
    set = Set::new(1, 10_000);
    set.kernel_archive = b"not an archive".to_vec();
    set.publish(&bench.server);
    bench
        .run(&["box", "pull", "test"])
        .expect(3, &["archive", "damaged"]);
    assert!(!bench.root().join("test").exists());
    assert!(!bench.root().join(format!("test.{}", Arch::host())).exists());
    bench.run(&["box", "prune"]).expect(0, &["freed"]);
    assert!(bench.leftovers().is_empty(), "{:?}", bench.leftovers());
}

#[test]
fn a_damaged_box_is_fetched_again() {
    let bench = Bench::new();
    let set = Set::new(1, 10_000);
    set.publish(&bench.server);
    bench.run(&["box", "pull", "test"]).expect(0, &[]);
    let installed = bench.installed();
    fs::remove_file(installed.path(&installed.info.kernel)).unwrap();
    bench.run(&["box", "pull", "test"]).expect(0, &["damaged"]);
    assert!(bench.has(&set));
}

#[test]
fn a_locked_build_takes_no_other_box() {
    let bench = Bench::new();
    let (old, new) = (Set::new(1, 10_000), Set::new(2, 10_000));
    old.publish(&bench.server);
    let locked = ["box", "pull", "test", "--locked"];
    bench.run(&locked).expect(2, &["boxbuild.lock"]);
    bench.run(&["box", "pull", "test"]).expect(0, &[]);
    bench
        .run(&["box", "lock", "test"])
        .expect(0, &["boxbuild.lock"]);
    let text = fs::read_to_string(bench.path("work/boxbuild.lock")).unwrap();
    assert!(text.contains(&disk_path()) && text.contains(&sha256(&old.disk)));
    new.publish(&bench.server);
    bench.run(&locked).expect(0, &[]);
    assert!(bench.has(&old), "the lock file decides");
    bench.run(&["box", "pull", "test"]).expect(0, &[]);
    bench
        .run(&locked)
        .expect(2, &["published now", &sha256(&new.kernel_archive)]);
    assert!(bench.has(&new));
    old.publish(&bench.server);
    bench.run(&locked).expect(0, &[]);
    assert!(bench.has(&old));
    fs::write(
        bench.path("work/boxbuild.lock"),
        "{\"format\": 1, \"boxes\": []}",
    )
    .unwrap();
    bench.run(&locked).expect(2, &["does not have the box"]);
    fs::write(bench.path("work/boxbuild.lock"), "{").unwrap();
    bench.run(&locked).expect(2, &["no lock file"]);
}

/// Fills a folder as kiwi's own boxbuild does: files as published, checksums beside them, and
/// what it has unpacked.
fn fill_as_kiwi_does(bench: &Bench, set: &Set) -> std::path::PathBuf {
    let dir = bench.root().join("test");
    fs::create_dir_all(&dir).unwrap();
    for (name, bytes) in set.files() {
        fs::write(dir.join(&name), bytes).unwrap();
        let sum = format!("{}  {name}\n", sha256(bytes));
        fs::write(dir.join(format!("{name}.sha256")), sum).unwrap();
    }
    let arch = Arch::host();
    fs::write(dir.join(format!("Test-Box.{arch}-System.json")), "{}").unwrap();
    let sum = dir.join(format!("Test-Box.{arch}-System.json.sha256"));
    fs::write(sum, sha256(b"{}")).unwrap();
    fs::write(dir.join(format!("kernel.{arch}")), "kernel").unwrap();
    fs::write(dir.join(format!("initrd.{arch}")), "the initrd").unwrap();
    // Another architecture in the same folder.
    fs::write(dir.join("Test-Box.vax-System.qcow2"), "other").unwrap();
    dir
}

#[test]
fn a_cache_that_kiwi_filled_is_used_as_it_is() {
    let bench = Bench::new();
    let (old, new) = (Set::new(1, 50_000), Set::new(2, 50_000));
    let dir = fill_as_kiwi_does(&bench, &old);
    let before = names(&dir);
    bench
        .run(&["box", "pull", "test", "--offline"])
        .expect(0, &[]);
    assert!(bench.has(&old));
    assert!(bench.server.take_requests().is_empty());
    // The disk is there once.
    let installed = bench.installed();
    let inode = |path| fs::metadata(path).unwrap().ino();
    assert_eq!(
        inode(installed.path(&installed.info.disk)),
        inode(dir.join(disk_name()))
    );
    old.publish(&bench.server);
    bench.run(&["box", "pull", "test"]).expect(0, &[]);
    assert_eq!(bench.server.take_served(&disk_path()), 0);
    // A newer one is fetched, and kiwi's cache stays kiwi's.
    new.publish(&bench.server);
    bench.run(&["box", "pull", "test"]).expect(0, &[]);
    assert!(bench.has(&new));
    assert_eq!(names(&dir), before);
    assert_eq!(fs::read(dir.join(disk_name())).unwrap(), old.disk);
}

#[test]
fn a_spoilt_cache_of_kiwi_is_not_used() {
    let bench = Bench::new();
    let set = Set::new(1, 50_000);
    let dir = fill_as_kiwi_does(&bench, &set);
    fs::write(dir.join(disk_name()), "<html>404</html>").unwrap();
    bench
        .run(&["box", "pull", "test", "--offline"])
        .expect(3, &["kiwi's cache is left as it is", "--offline"]);
    set.publish(&bench.server);
    bench.run(&["box", "pull", "test"]).expect(0, &[]);
    assert!(bench.has(&set));
}

#[test]
fn boxes_from_a_folder() {
    let bench = Bench::new();
    let set = Set::new(1, 50_000);
    let folder = bench.path("published here");
    fs::create_dir(&folder).unwrap();
    for (name, bytes) in set.files() {
        fs::write(folder.join(&name), bytes).unwrap();
        fs::write(folder.join(format!("{name}.sha256")), sha256(bytes)).unwrap();
    }
    for scheme in ["dir://", "file://", "dir:"] {
        bench.configure(&format!("{scheme}{}", folder.display()));
        bench
            .run(&["box", "pull", "test", "--force"])
            .expect(0, &[]);
        assert!(bench.has(&set));
    }
    fs::remove_file(folder.join(disk_name())).unwrap();
    bench
        .run(&["box", "pull", "test", "--force"])
        .expect(3, &["is not there", &disk_name()]);
}

#[test]
fn a_dry_run_asks_nobody() {
    let bench = Bench::new();
    let description = bench.path("description");
    fs::create_dir(&description).unwrap();
    fs::write(description.join("config.xml"), "<image/>").unwrap();
    let target = bench.path("target");
    let said = bench.run(&[
        "--dry-run",
        "--engine",
        "qemu",
        "--box",
        "test",
        "--",
        "--description",
        description.to_str().unwrap(),
        "--target-dir",
        target.to_str().unwrap(),
    ]);
    if said.stderr.contains("not installed") {
        eprintln!("skipped: a_dry_run_asks_nobody: no QEMU");
        return;
    }
    said.expect(0, &[&kernel_path(), &disk_path(), "4096 MiB"]);
    assert!(bench.server.take_requests().is_empty());
    assert!(!bench.root().exists() && !target.exists());
}

#[test]
fn a_box_that_cannot_be_booted_as_asked_for_is_not_fetched() {
    let bench = Bench::new();
    let (host, foreign) = (Arch::host().name(), "s390x");
    let list = fs::read_to_string(bench.path("boxes.yml")).unwrap();
    fs::write(bench.path("boxes.yml"), list.replace(host, foreign)).unwrap();
    let description = bench.path("description");
    fs::create_dir(&description).unwrap();
    fs::write(description.join("config.xml"), "<image/>").unwrap();
    let target = bench.path("target");
    let folders = ["--description", description.to_str().unwrap()];
    let mut words = vec!["--boot", "fast", "--arch", foreign, "--box", "test", "--"];
    words.extend(folders);
    words.extend(["--target-dir", target.to_str().unwrap()]);
    bench.run(&words).expect(2, &["--boot fast"]);
    assert!(bench.server.take_requests().is_empty());
}
