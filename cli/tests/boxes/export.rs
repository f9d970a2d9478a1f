//! Boxes as one file.

use std::fs;
use std::io::Write;
use std::path::Path;

use boxbuild_boxes::store::{InstalledBox, Store};
use serde_json::Value;

use crate::sandbox::{Sandbox, names};
use crate::sets::{Set, sha256};

/// A store with a box `mine`, made of a disk and a kernel.
fn with_box() -> Sandbox {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("work/disk"), Set::new(1, 50_000).disk).unwrap();
    fs::write(sandbox.path("work/kernel"), "a kernel").unwrap();
    let words = "box import mine --disk disk --kernel kernel --memory 2G --cmdline root=/dev/vda";
    let words: Vec<&str> = words.split(' ').collect();
    sandbox.run(&words).expect(0, &[]);
    sandbox
}

fn get(sandbox: &Sandbox, name: &str) -> InstalledBox {
    Store::at(sandbox.root()).get(name).unwrap()
}

#[test]
fn a_box_goes_to_another_host_and_is_the_same() {
    let sandbox = with_box();
    let result = sandbox.run(&["box", "export", "mine", "mine.box"]);
    let archive = fs::read(sandbox.path("work/mine.box")).unwrap();
    result.expect(0, &[&sha256(&archive)]);
    sandbox
        .run(&["box", "export", "mine", "mine.box"])
        .expect(2, &["--force"]);
    // The same bytes, on every host and at every time.
    sandbox
        .run(&["box", "export", "mine", "again.box", "--json"])
        .expect(0, &[]);
    assert!(fs::read(sandbox.path("work/again.box")).unwrap() == archive);
    assert_eq!(
        names(&sandbox.path("work"))
            .iter()
            .filter(|name| name.starts_with(".boxbuild"))
            .count(),
        0
    );
    let other = Sandbox::new();
    let from = sandbox.path("work/mine.box").display().to_string();
    let words = ["box", "import", "theirs", "--archive", &from];
    other.run(&words).expect(0, &["export:"]);
    other.run(&words).expect(2, &["--force"]);
    let (mine, theirs) = (get(&sandbox, "mine"), get(&other, "theirs"));
    for (one, two) in mine.info.files().iter().zip(theirs.info.files()) {
        assert_eq!((one.size, &one.sha256), (two.size, &two.sha256));
        assert_eq!(sha256(&fs::read(theirs.path(two)).unwrap()), two.sha256);
    }
    let same = |of: &InstalledBox| {
        let info = of.info.clone();
        (
            info.cmdline,
            info.console,
            info.memory_mib,
            info.cpus,
            info.disk_size,
            info.guest,
        )
    };
    assert_eq!(same(&mine), same(&theirs));
    other.run(&["box", "verify", "theirs"]).expect(0, &["good"]);
    other
        .run(&["box", "import", "x", "--archive", &from, "--memory", "8G"])
        .expect(2, &["--memory"]);
    other
        .run(&["box", "import", "x", "--archive", &from, "--arch", "s390x"])
        .expect(2, &["--arch"]);
}

#[test]
fn a_damaged_box_is_not_exported() {
    let sandbox = with_box();
    let installed = get(&sandbox, "mine");
    let kernel = installed.path(&installed.info.kernel);
    fs::write(&kernel, "a kernal").unwrap();
    let words = ["box", "export", "mine", "mine.box"];
    sandbox.run(&words).expect(3, &["damaged", "box verify"]);
    assert!(!sandbox.path("work/mine.box").exists());
    sandbox
        .run(&["box", "export", "none", "x"])
        .expect(2, &["none"]);
    let result = sandbox.run(&["box", "export", "mine", "no/folder/x"]);
    assert_ne!(result.code, 0);
}

/// An archive with these members.
fn archive(path: &Path, members: &[(&str, &[u8])]) {
    let mut tar = tar::Builder::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
    for (name, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        tar.append(&header, *content).unwrap();
    }
    let bytes = tar.into_inner().unwrap().finish().unwrap();
    fs::write(path, bytes).unwrap();
}

/// Members of an archive, with their names.
type Members = Vec<(String, Vec<u8>)>;

/// What a stranger calls a box.
#[test]
fn a_hostile_archive_makes_no_box() {
    let sandbox = with_box();
    sandbox
        .run(&["box", "export", "mine", "mine.box"])
        .expect(0, &[]);
    let packed = fs::File::open(sandbox.path("work/mine.box")).unwrap();
    let mut tar = tar::Archive::new(zstd::Decoder::new(packed).unwrap());
    let mut members = Members::new();
    for entry in tar.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
        members.push((name, content));
    }
    let good: Value = serde_json::from_slice(&members[0].1).unwrap();
    let import = |what: &str, info: &Value, change: &dyn Fn(&mut Members)| {
        let mut members = members.clone();
        members[0].1 = serde_json::to_vec(info).unwrap();
        change(&mut members);
        let members: Vec<(&str, &[u8])> = members
            .iter()
            .map(|(name, content)| (name.as_str(), content.as_slice()))
            .collect();
        archive(&sandbox.path("work/x.box"), &members);
        let result = sandbox.run(&["box", "import", "x", "--archive", "x.box", "--force"]);
        println!("{what}: {} {}", result.code, result.stderr.trim());
        result
    };
    import("as it is", &good, &|_| {}).expect(0, &[]);
    sandbox.run(&["box", "rm", "x"]).expect(0, &[]);
    let with = |key: &str, value: Value| {
        let mut info = good.clone();
        info[key] = value;
        info
    };
    let mut wrong = vec![
        with("console", "hvc0 init=/bin/sh".into()),
        with("cmdline", vec!["root=/dev/vda\" x"].into()),
        with("cmdline", vec!["a b"].into()),
        with("memory_mib", 0.into()),
        with("memory_mib", u64::MAX.into()),
        with("cpus", 10_000.into()),
        with("kiwi", "1; rm -rf /".into()),
        with(
            "inventory",
            serde_json::json!({ "repository": { "path": "x y", "packages": [] } }),
        ),
        with("format", 99.into()),
        with("more", 1.into()),
        Value::from("x"),
    ];
    // A file of the host in the place of the box's.
    let mut elsewhere = good.clone();
    elsewhere["kernel"]["name"] = "../../../etc/passwd".into();
    elsewhere["kernel"]["sha256"] = "00".into();
    wrong.push(elsewhere);
    for info in &wrong {
        import(&info.to_string(), info, &|_| {}).expect(3, &["x.box"]);
    }
    let other_content = |members: &mut Members| members[1].1 = b"a kernal".to_vec();
    import("content", &good, &other_content).expect(3, &["damaged"]);
    import("name", &good, &|members| {
        members[1].0 = "../../kernel".into();
    })
    .expect(3, &["../../kernel"]);
    import("missing", &good, &|members| members.truncate(3)).expect(3, &["disk.qcow2"]);
    // A disk that reads a file of the host.
    let backed = |members: &mut Members| {
        let disk = &mut members[3].1;
        // qcow2: offset and length of the name of the backing file (docs/interop/qcow2.txt).
        disk[8..16].copy_from_slice(&512_u64.to_be_bytes());
        disk[16..20].copy_from_slice(&11_u32.to_be_bytes());
        disk[512..523].copy_from_slice(b"/etc/shadow");
        let hash = sha256(disk);
        let mut info = good.clone();
        info["disk"]["sha256"] = hash.into();
        members[0].1 = serde_json::to_vec(&info).unwrap();
    };
    import("backing file", &good, &backed).expect(3, &[]);
    // 1 TiB of nothing in a small file.
    let mut bomb = zstd::Encoder::new(Vec::new(), 19).unwrap();
    bomb.write_all(&vec![0; 64 << 20]).unwrap();
    fs::write(sandbox.path("work/bomb.box"), bomb.finish().unwrap()).unwrap();
    sandbox
        .run(&["box", "import", "x", "--archive", "bomb.box"])
        .expect(3, &["bomb.box"]);
    let store = Store::at(sandbox.root());
    assert_eq!(store.names().unwrap(), ["mine"]);
    assert_eq!(sandbox.leftovers(), [] as [&str; 0]);
}
