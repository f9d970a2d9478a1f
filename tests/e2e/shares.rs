//! What a guest can do to the host through its shares, and what runs beside it under QEMU.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use boxbuild_tests::command::with_descriptors;
use boxbuild_tests::{Running, Sandbox, Watch, scaled_timeout};
use nix::sys::signal::Signal;

crate::tests! {
    Engine:
        the_folder_of_the_results_keeps_its_mode,
        a_tree_of_more_files_than_descriptors_is_listed_whole;
    Qemu:
        qemu_and_the_server_of_the_shares_are_confined,
        a_disk_that_names_another_file_is_refused;
}

/// Fault 3: the guest made it 0777, and another user of the host replaced the results in it.
fn the_folder_of_the_results_keeps_its_mode() {
    let sandbox = Sandbox::new(
        "chmod 0777 /bundle && chown 7:7 /bundle && stat -c '%a %u %g' /bundle >>$log
         setfattr -n system.posix_acl_access -v 0sAgAAAAEABwD/////BAAHAP////8gAAcA///// /bundle
         echo changed >>$log; while :; do sleep 1; done",
    );
    let started = sandbox.start_until(&["--verbose"], "changed");
    let mut folders = Vec::new();
    collect(&sandbox.path(""), &mut folders);
    assert!(folders.len() > 2, "{folders:?}");
    for folder in &folders {
        let mode = fs::metadata(folder).unwrap().permissions().mode();
        assert_eq!(mode & 0o022, 0, "{} {mode:o}", folder.display());
    }
    assert!(started.stderr().contains("777 7 7"), "{}", started.stderr());
    started.signal(Signal::SIGINT);
    started.finish().expect(130, &[]);
}

/// A long `ls -lR` over more files than the process may have open: no name is left out, what is not used
/// any more is given back, and the next round is as good as the first.
fn a_tree_of_more_files_than_descriptors_is_listed_whole() {
    const LIMIT: usize = 1024;
    const FOLDERS: usize = 30;
    const FILES: usize = 60;
    const ROUNDS: usize = 6;
    let sandbox = Sandbox::new(&format!(
        "cd /description/tree || return 1
         i=0; while [ $i -lt {ROUNDS} ]; do
             find . | wc -l; ls -lR . | grep -c '^[-d]'; i=$((i + 1))
         done >/result/counts 2>>$log"
    ));
    for folder in 0..FOLDERS {
        let folder = sandbox.description().join(format!("tree/{folder}"));
        fs::create_dir_all(&folder).unwrap();
        for file in 0..FILES {
            fs::write(folder.join(file.to_string()), "").unwrap();
        }
    }
    let mut build = sandbox.build_command(&["--verbose"], &[]);
    // Of all processes, also of the one that a process starts for the shares.
    build = with_descriptors(&build, LIMIT);
    let build = Running::start(&mut build).limit(scaled_timeout(240));
    let watch = Watch::start(build.pid());
    let output = build.finish();
    let files = watch.files();
    output.expect(0, &[]);
    let all = FOLDERS * (FILES + 1);
    let expected = format!("{}\n{all}\n", all + 1).repeat(ROUNDS);
    assert_eq!(sandbox.result("counts"), expected, "{}", output.stderr);
    assert!(
        !output.stderr.contains("Too many open files"),
        "{}",
        output.stderr
    );
    println!("at most {files} of {LIMIT} descriptors");
    assert!(files < LIMIT * 3 / 4, "{files}: {:#?}", watch.processes());
    sandbox.assert_nothing_left();
}

/// All folders at or below `path`.
fn collect(path: &Path, folders: &mut Vec<PathBuf>) {
    folders.push(path.to_owned());
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), folders);
        }
    }
}

/// Fault 26, under QEMU: all children of boxbuild, each thread.
fn qemu_and_the_server_of_the_shares_are_confined() {
    let sandbox = Sandbox::new("echo started >>$log; while :; do sleep 1; done");
    let started = sandbox.start_until(&["--verbose"], "started");
    let mut names = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        if field(&status, "PPid:") != Some(&started.pid().to_string()) {
            continue;
        }
        let name = field(&status, "Name:").unwrap().to_owned();
        // The process that removes what is left has no guest to talk to.
        if !name.starts_with("qemu") && name != "shares" {
            continue;
        }
        for task in fs::read_dir(entry.path().join("task")).unwrap().flatten() {
            let status = fs::read_to_string(task.path().join("status")).unwrap();
            assert_eq!(field(&status, "NoNewPrivs:"), Some("1"), "{status}");
            assert_eq!(field(&status, "Seccomp:"), Some("2"), "{status}");
        }
        let limits = fs::read_to_string(entry.path().join("limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core"));
        assert!(core.is_some_and(|line| line.contains(" 0 ")), "{limits}");
        names.push(name);
    }
    names.sort();
    assert_eq!(names.len(), 2, "{names:?}");
    started.signal(Signal::SIGINT);
    started.finish().expect(130, &[]);
    sandbox.assert_nothing_left();
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim())
}

/// Suspected: QEMU opened what the lowest image names as its backing file.
fn a_disk_that_names_another_file_is_refused() {
    let sandbox = Sandbox::new("echo started >>$log");
    sandbox.own_disk();
    let secret = sandbox.path("secret");
    fs::write(&secret, vec![b's'; 1 << 20]).unwrap();
    let disk = fs::File::options()
        .write(true)
        .open(sandbox.store().join("small/disk.qcow2"))
        .unwrap();
    // Offset and length of the name (QEMU, docs/interop/qcow2.rst); it is behind the header.
    let name = secret.to_str().unwrap().as_bytes();
    disk.write_all_at(&512_u64.to_be_bytes(), 8).unwrap();
    let len = u32::try_from(name.len()).unwrap();
    disk.write_all_at(&len.to_be_bytes(), 16).unwrap();
    disk.write_all_at(name, 512).unwrap();
    for front in [&[][..], &["--no-snapshot"]] {
        sandbox.build(front, &[]).expect(3, &["disk.qcow2"]);
    }
    sandbox.assert_nothing_left();
}
