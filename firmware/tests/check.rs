//! `guest/check.py` in a real Python: what it says of the box and of a description, without kiwi.

#![allow(clippy::expect_used, clippy::print_stderr, reason = "a test")]

use std::fs;
use std::io::Write;
use std::process::Command;

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/guest/check.py");

/// Runs `steps` with the program as the module `check`; returns what they print. `None`: there is no Python.
fn run(test: &str, steps: &str, programs: &str) -> Option<String> {
    if Command::new("python3").arg("--version").output().is_err() {
        let _ = writeln!(std::io::stderr(), "skipped: {test}: no python3");
        return None;
    }
    let folder = tempfile::tempdir().expect("a folder can be made");
    // A stand-in for lxml: files are lists of elements, and a path is the index of one.
    let parser = folder.path().join("lxml");
    fs::create_dir(&parser).expect("a folder can be made");
    fs::write(parser.join("__init__.py"), "").expect("a file can be written");
    fs::write(
        parser.join("etree.py"),
        "class Error(Exception): pass\n\
         class Node:\n    def __init__(self, line, tag, **attrib):\n        \
         self.sourceline, self.tag, self.attrib = line, tag, attrib\n\
         class Tree:\n    def __init__(self, nodes): self.nodes = nodes\n    \
         def xpath(self, path): return self.nodes[path:path + 1]\n\
         FILES = {}\n\
         def parse(name): return Tree(FILES[name])\n",
    )
    .expect("a file can be written");
    let text = format!(
        "import importlib.util, json\n\
         spec = importlib.util.spec_from_file_location('check', {PROGRAM:?})\n\
         check = importlib.util.module_from_spec(spec)\n\
         spec.loader.exec_module(check)\n{steps}"
    );
    let output = Command::new("python3")
        .args(["-c", &text])
        .env("PYTHONPATH", folder.path())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("BOXBUILD_CHECK_PROGRAMS", programs)
        .output()
        .expect("python3 starts");
    assert!(output.status.success(), "{output:?}");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The check had a shorter list of its own, and the host's was for boxes that say what they have.
#[test]
fn programs_that_the_host_names_are_looked_for_in_the_box() {
    let programs = r#"[[["no-such-tool", "sh"], "a", "x"], [["no-such-tool", "nor-this"], "format=\"ova\"", null],
        [["no-such-tool"], "luks", "cryptsetup-bin"]]"#;
    let Some(found) = run(
        "programs_that_the_host_names_are_looked_for_in_the_box",
        "check.check_programs()\nprint('\\n'.join(one['text'] for one in check.found))",
        programs,
    ) else {
        return;
    };
    assert_eq!(
        found,
        "format=\"ova\": kiwi calls no-such-tool or nor-this, and the box has none (no package of Debian has it)\n\
         luks: kiwi calls no-such-tool, and the box has none (package cryptsetup-bin)\n"
    );
}

/// With an included file in its place, the same path led to another element, whose line was told.
#[test]
fn a_line_is_that_of_the_same_element() {
    let Some(lines) = run(
        "a_line_is_that_of_the_same_element",
        "from lxml import etree\n\
         from lxml.etree import Node\n\
         etree.FILES['whole'] = [Node(1, 'type', image='oem'), Node(2, 'type', image='iso')]\n\
         etree.FILES['own'] = [Node(7, 'type', image='oem'), Node(8, 'type', image='tbz')]\n\
         print([check.line_of('own', 'whole', at) for at in (0, 1, 2)])",
        "[]",
    ) else {
        return;
    };
    assert_eq!(lines, "[7, None, None]\n");
}
