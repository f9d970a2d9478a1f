//! Boxes as a whole: fetched, updated, used.

use std::fs;

use boxbuild_host::arch::Arch;

use crate::sandbox::{CommandResult, Sandbox, names};
use crate::sets::{Set, disk_name, disk_path, kernel_name, kernel_path, sha256};

#[test]
fn a_box_is_fetched_and_used_as_it_is() {
    let sandbox = Sandbox::new();
    let set = Set::new(1, 200_000);
    set.publish(&sandbox.server);
    let result = sandbox.run(&["box", "pull", "test"]).expect(0, &["test."]);
    assert!(
        result.stderr.contains("not authenticated"),
        "{}",
        result.stderr
    );
    assert!(sandbox.has(&set));
    assert!(sandbox.leftovers().is_empty(), "{:?}", sandbox.leftovers());
    let info = sandbox.installed().info;
    assert_eq!(
        (info.memory_mib, info.cpus, info.console.as_str()),
        (4096, 2, "hvc0")
    );
    assert_eq!(info.cmdline, ["root=/dev/vda1", "rd.plymouth=0"]);
    assert_eq!(
        sandbox.server.take_served(&disk_path()),
        set.disk.len() as u64
    );
    let result = sandbox.run(&["box", "list", "--json"]).expect(0, &[]);
    let list: serde_json::Value = serde_json::from_str(&result.stdout).unwrap();
    assert_eq!(list["boxes"][0]["state"], "installed");
    assert_eq!(
        list["boxes"][0]["published"]["disk"]["sha256"],
        sha256(&set.disk)
    );
    sandbox.run(&["box", "verify"]).expect(0, &["good"]);
    sandbox
        .run(&["box", "info", "test"])
        .expect(0, &[&disk_path()]);
    sandbox.run(&["box", "rm", "test"]).expect(0, &[]);
    sandbox
        .run(&["box", "list"])
        .expect(0, &["not fetched yet"]);
}

#[test]
fn updates_are_found_by_small_files_only() {
    let sandbox = Sandbox::new();
    let (old, new) = (Set::new(1, 50_000), Set::new(2, 50_000));
    old.publish(&sandbox.server);
    sandbox.run(&["box", "pull", "test"]).expect(0, &[]);
    sandbox.server.take_requests();
    sandbox.run(&["box", "pull", "test"]).expect(0, &[]);
    let requests = sandbox.server.take_requests();
    assert_eq!(requests.len(), 2, "{requests:?}");
    assert!(
        requests
            .iter()
            .all(|request| request.target.ends_with(".sha256"))
    );
    // A new disk under an old list of packages is found too.
    new.publish(&sandbox.server);
    sandbox
        .run(&["box", "pull", "test", "--no-update-check"])
        .expect(0, &[]);
    sandbox
        .run(&["box", "pull", "test", "--offline"])
        .expect(0, &[]);
    assert!(sandbox.server.take_requests().is_empty());
    assert!(sandbox.has(&old));
    sandbox.run(&["box", "pull", "test"]).expect(0, &[]);
    assert!(sandbox.has(&new));
    assert_eq!(
        // With the lock file.
        names(&sandbox.installed().dir).len(),
        5,
        "the old files are gone"
    );
    // No server, no new box; the old one is good enough, and the user is told.
    sandbox.server.remove(&format!("{}.sha256", kernel_path()));
    sandbox
        .run(&["box", "pull", "test"])
        .expect(0, &["cannot look for a newer box"]);
    sandbox
        .run(&["box", "pull", "test", "--force"])
        .expect(3, &["404"]);
    assert!(sandbox.has(&new));
}

#[test]
fn errors_name_what_is_missing() {
    let sandbox = Sandbox::new();
    sandbox
        .run(&["box", "pull", "test", "--offline"])
        .expect(3, &["--offline fetches nothing"]);
    assert!(sandbox.server.take_requests().is_empty());
    sandbox
        .run(&["box", "pull", "tset"])
        .expect(2, &["did you mean 'test'?"]);
    sandbox
        .run(&["box", "pull", "x"])
        .expect(2, &["known boxes: test"]);
    let foreign = if Arch::host() == Arch::S390x {
        "x86_64"
    } else {
        "s390x"
    };
    sandbox
        .run(&["box", "pull", "test", "--arch", foreign])
        .expect(2, &["not published for", Arch::host().name()]);
    sandbox
        .run(&["box", "pull", "test"])
        .expect(3, &["404", &kernel_name()]);
    fs::write(
        sandbox.path("boxes.yml"),
        "box:\n  - name: test\n    mem: 4\n",
    )
    .unwrap();
    sandbox
        .run(&["box", "pull", "test"])
        .expect(2, &["boxes.yml", "mem"]);
    sandbox.configure("ftp://somewhere");
    sandbox.run(&["box", "pull", "test"]).expect(2, &["ftp://"]);
    assert!(!sandbox.root().join("test").exists());
}

#[test]
fn the_cache_folder_need_not_be_there() {
    let sandbox = Sandbox::new();
    let set = Set::new(1, 10_000);
    set.publish(&sandbox.server);
    assert!(!sandbox.root().exists());
    sandbox.run(&["box", "pull", "test"]).expect(0, &[]);
    assert!(sandbox.has(&set));
    let mut command = sandbox.command(&["box", "pull", "test"]);
    let result = command
        .env_remove("HOME")
        .env_remove("KIWI_BOXED_CACHE_DIR")
        .output()
        .unwrap();
    CommandResult::from(result).expect(3, &["set HOME"]);
    assert!(!sandbox.path("work/None").exists());
}

#[test]
fn boxes_are_fetched_from_a_folder() {
    let sandbox = Sandbox::new();
    let set = Set::new(1, 50_000);
    let folder = sandbox.path("published here");
    fs::create_dir(&folder).unwrap();
    for (name, bytes) in set.files() {
        fs::write(folder.join(&name), bytes).unwrap();
        fs::write(folder.join(format!("{name}.sha256")), sha256(bytes)).unwrap();
    }
    for scheme in ["dir://", "file://", "dir:"] {
        sandbox.configure(&format!("{scheme}{}", folder.display()));
        sandbox
            .run(&["box", "pull", "test", "--force"])
            .expect(0, &[]);
        assert!(sandbox.has(&set));
    }
    fs::remove_file(folder.join(disk_name())).unwrap();
    sandbox
        .run(&["box", "pull", "test", "--force"])
        .expect(3, &["is not there", &disk_name()]);
}

#[test]
fn a_dry_run_uses_no_network() {
    let sandbox = Sandbox::new();
    let description = sandbox.path("description");
    fs::create_dir(&description).unwrap();
    fs::write(description.join("config.xml"), "<image/>").unwrap();
    let target = sandbox.path("target");
    let result = sandbox.run(&[
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
    if result.stderr.contains("not installed") {
        eprintln!("skipped: a_dry_run_uses_no_network: no QEMU");
        return;
    }
    result.expect(0, &[&kernel_path(), &disk_path(), "4096 MiB"]);
    assert!(sandbox.server.take_requests().is_empty());
    assert!(!sandbox.root().exists() && !target.exists());
}

#[test]
fn a_box_that_cannot_be_booted_as_asked_for_is_not_fetched() {
    let sandbox = Sandbox::new();
    let (host, foreign) = (Arch::host().name(), "s390x");
    let list = fs::read_to_string(sandbox.path("boxes.yml")).unwrap();
    fs::write(sandbox.path("boxes.yml"), list.replace(host, foreign)).unwrap();
    let description = sandbox.path("description");
    fs::create_dir(&description).unwrap();
    fs::write(description.join("config.xml"), "<image/>").unwrap();
    let target = sandbox.path("target");
    let folders = ["--description", description.to_str().unwrap()];
    let mut words = vec!["--boot", "fast", "--arch", foreign, "--box", "test", "--"];
    words.extend(folders);
    words.extend(["--target-dir", target.to_str().unwrap()]);
    sandbox.run(&words).expect(2, &["--boot fast"]);
    assert!(sandbox.server.take_requests().is_empty());
}
