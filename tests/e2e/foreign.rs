//! A guest of another architecture, from one flag.

use std::fs;

use boxbuild_tests::sandbox::{copy_box, small_boxes};
use boxbuild_tests::{ProcessOutput, Sandbox, names, skip};

crate::tests! {
    Qemu:
        a_guest_of_another_architecture;
}

const BOX: &str = "small.aarch64";

fn a_guest_of_another_architecture() {
    let made = small_boxes().join(BOX);
    if !made.exists() {
        let reason = format!("there is no box {BOX}");
        return skip("a_guest_of_another_architecture", &reason);
    }
    let sandbox = Sandbox::new(
        "uname -m >/result/machine
         touch /description/written 2>/dev/null && echo writable >>/result/machine
         wc -c </description/large >/result/size; echo 'a line of the log' >>$log",
    );
    fs::write(sandbox.description().join("large"), vec![7; 1 << 20]).unwrap();
    let folder = sandbox.store().join(BOX);
    copy_box(&made, &folder);
    let mut command = sandbox.command(["--box", "small", "--arch", "arm64", "--verbose"]);
    sandbox.behind_separator(&mut command, &sandbox.target());
    let output = ProcessOutput::of(&mut command);
    output.expect(0, &["a line of the log"]);
    assert_eq!(
        names(&sandbox.target()),
        ["machine", "result.code", "result.log", "size"]
    );
    assert_eq!(sandbox.result("machine"), "aarch64\n");
    assert_eq!(sandbox.result("size").trim(), "1048576");
    fs::remove_dir_all(folder).unwrap();
    sandbox.assert_nothing_left();
}
