//! Boxes in the cache of kiwi's own boxbuild.

use std::fs;
use std::os::unix::fs::MetadataExt;

use boxbuild_host::arch::Arch;

use crate::sandbox::{Sandbox, names};
use crate::sets::{Set, disk_name, disk_path, sha256};

/// Fills a folder as kiwi's own boxbuild does: files as published, checksums beside them, and
/// what it has unpacked.
fn fill_as_kiwi_does(sandbox: &Sandbox, set: &Set) -> std::path::PathBuf {
    let dir = sandbox.root().join("test");
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
    let sandbox = Sandbox::new();
    let (old, new) = (Set::new(1, 50_000), Set::new(2, 50_000));
    let dir = fill_as_kiwi_does(&sandbox, &old);
    let before = names(&dir);
    sandbox
        .run(&["box", "pull", "test", "--offline"])
        .expect(0, &[]);
    assert!(sandbox.has(&old));
    assert!(sandbox.server.take_requests().is_empty());
    // The disk is there once.
    let installed = sandbox.installed();
    let inode = |path| fs::metadata(path).unwrap().ino();
    assert_eq!(
        inode(installed.path(&installed.info.disk)),
        inode(dir.join(disk_name()))
    );
    old.publish(&sandbox.server);
    sandbox.run(&["box", "pull", "test"]).expect(0, &[]);
    assert_eq!(sandbox.server.take_served(&disk_path()), 0);
    // A newer one is fetched, and kiwi's cache stays kiwi's.
    new.publish(&sandbox.server);
    sandbox.run(&["box", "pull", "test"]).expect(0, &[]);
    assert!(sandbox.has(&new));
    assert_eq!(names(&dir), before);
    assert_eq!(fs::read(dir.join(disk_name())).unwrap(), old.disk);
}

#[test]
fn a_spoilt_cache_of_kiwi_is_not_used() {
    let sandbox = Sandbox::new();
    let set = Set::new(1, 50_000);
    let dir = fill_as_kiwi_does(&sandbox, &set);
    fs::write(dir.join(disk_name()), "<html>404</html>").unwrap();
    sandbox
        .run(&["box", "pull", "test", "--offline"])
        .expect(3, &["kiwi's cache is left as it is", "--offline"]);
    set.publish(&sandbox.server);
    sandbox.run(&["box", "pull", "test"]).expect(0, &[]);
    assert!(sandbox.has(&set));
}
