//! A guest of another architecture, from one flag.

use std::fs;

use boxbuild_tests::{Bench, bed, finish, names};

pub(crate) const TESTS: &[(&str, fn())] = &[(
    "a_guest_of_another_architecture",
    a_guest_of_another_architecture,
)];

const BOX: &str = "small.aarch64";

fn a_guest_of_another_architecture() {
    let (_, store) = bed().expect("checked before the tests ran");
    if !store.join(BOX).exists() {
        println!("skipped: a_guest_of_another_architecture: there is no box {BOX}");
        return;
    }
    let bench = Bench::new(
        "uname -m >/result/machine
         touch /description/written 2>/dev/null && echo writable >>/result/machine
         wc -c </description/large >/result/size; echo 'a line of the log' >>$log",
    );
    fs::write(bench.description().join("large"), vec![7; 1 << 20]).unwrap();
    let folder = bench.store().join(BOX);
    fs::create_dir(&folder).unwrap();
    for entry in fs::read_dir(store.join(BOX)).unwrap() {
        let from = entry.unwrap().path();
        fs::copy(&from, folder.join(from.file_name().unwrap())).unwrap();
    }
    let mut command = bench.command(["--box", "small", "--arch", "arm64", "--verbose", "--"]);
    command.arg("--description").arg(bench.description());
    command.arg("--target-dir").arg(bench.target());
    let said = finish(command.spawn().unwrap());
    said.expect(0, &["a line of the log"]);
    assert_eq!(
        names(&bench.target()),
        ["machine", "result.code", "result.log", "size"]
    );
    let read = |name: &str| fs::read_to_string(bench.target().join(name)).unwrap();
    assert_eq!(read("machine"), "aarch64\n");
    assert_eq!(read("size").trim(), "1048576");
    fs::remove_dir_all(folder).unwrap();
    bench.assert_nothing_left();
}
