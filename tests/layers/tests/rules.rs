//! The two rules on small trees, each with a deliberate wrong import.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test"
)]

use std::fs;
use std::path::Path;

use boxbuild_layers::circles::{Arrows, Circle};
use boxbuild_layers::modules::Tree;
use boxbuild_layers::packages::{Dependency, Packages};
use boxbuild_layers::table::{EXCEPTIONS, Exception, LAYERS, Layer};

fn circles(files: &[(&str, &str)]) -> Vec<Circle> {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    Arrows::of(&Tree::read(&root.path().join("lib.rs")).unwrap()).circles(root.path())
}

fn assert_none(files: &[(&str, &str)]) {
    assert_eq!(circles(files), []);
}

/// Expects one circle, of these files.
fn assert_circle(files: &[(&str, &str)], members: &[&str]) -> Circle {
    let [circle] = circles(files).try_into().expect("one circle");
    assert_eq!(
        circle.files,
        members.iter().map(Path::new).collect::<Vec<_>>()
    );
    circle
}

#[test]
fn a_wrong_import_is_named_with_its_place() {
    let right = [
        ("lib.rs", "mod disk;\nmod queue;\n"),
        ("queue.rs", "pub struct Queue;\n"),
        (
            "disk.rs",
            "use crate::queue::Queue;\n\npub fn run(_: Queue) {}\n",
        ),
    ];
    assert_none(&right);

    let mut wrong = right;
    wrong[1].1 = "use crate::disk::run;\n\npub struct Queue;\npub fn go() { run(Queue) }\n";
    let circle = assert_circle(&wrong, &["disk.rs", "queue.rs"]);
    assert_eq!(
        circle.arrows,
        ["disk.rs:1 → queue.rs: Queue", "queue.rs:1 → disk.rs: run"]
    );
}

#[test]
fn paths_without_use_count() {
    for path in ["crate::b::go()", "super::b::go()", "self::inner::go()"] {
        let a =
            format!("mod inner {{ pub use crate::b::go; }}\npub struct A;\nfn f() {{ {path} }}\n");
        let files = [
            ("lib.rs", "mod a;\nmod b;\n"),
            ("a.rs", &a),
            ("b.rs", "pub fn go() { let _ = crate::a::A; }\n"),
        ];
        assert_circle(&files, &["a.rs", "b.rs"]);
    }
}

#[test]
fn a_path_in_a_macro_counts() {
    assert_circle(
        &[
            ("lib.rs", "mod a;\nmod b;\n"),
            (
                "a.rs",
                "pub const A: u8 = 1;\nfn f() { println!(\"{}\", [super::b::B]); }\n",
            ),
            ("b.rs", "pub const B: u8 = crate::a::A;\n"),
        ],
        &["a.rs", "b.rs"],
    );
}

#[test]
fn an_arrow_goes_to_the_file_that_defines_the_name() {
    // `b` takes `Name` from a/mod.rs, which has it from a/deep.rs; a/user.rs takes `b`.
    let files = [
        ("lib.rs", "mod a;\nmod b;\n"),
        (
            "a/mod.rs",
            "mod deep;\nmod user;\npub use deep::Name;\npub use user::*;\n",
        ),
        ("a/deep.rs", "pub struct Name;\n"),
        ("a/user.rs", "pub fn user() {}\n"),
        (
            "b.rs",
            "use crate::a::{Name, user};\n\npub fn b(_: Name) { user() }\n",
        ),
    ];
    assert_none(&files);
    let mut wrong = files;
    wrong[2].1 = "pub struct Name;\nimpl Name { fn f(self) { crate::b::b(self) } }\n";
    let circle = assert_circle(&wrong, &["a/deep.rs", "b.rs"]);
    assert_eq!(
        circle.arrows,
        ["a/deep.rs:2 → b.rs: b", "b.rs:1 → a/deep.rs: Name"]
    );
}

#[test]
fn a_module_calls_its_children_by_path_but_does_not_import_what_imports_it() {
    let files = [
        ("lib.rs", "mod boot;\n"),
        (
            "boot/mod.rs",
            "mod params;\npub struct Error;\npub fn boot() { params::write() }\n",
        ),
        (
            "boot/params.rs",
            "use super::Error;\npub fn write() -> Error { Error }\n",
        ),
    ];
    assert_none(&files);
    let mut wrong = files;
    wrong[1].1 = "mod params;\nuse params::write;\npub struct Error;\npub fn boot() { write() }\n";
    assert_circle(&wrong, &["boot/mod.rs", "boot/params.rs"]);
}

#[test]
fn a_glob_counts_and_so_does_what_comes_through_it() {
    let circle = assert_circle(
        &[
            ("lib.rs", "mod a;\nmod b;\n"),
            ("a.rs", "use super::b::*;\npub struct A;\nfn f(_: B) {}\n"),
            ("b.rs", "pub struct B;\nfn f(_: crate::a::A) {}\n"),
        ],
        &["a.rs", "b.rs"],
    );
    assert_eq!(circle.arrows[0], "a.rs:1 → b.rs: B (3), b::*");
}

#[test]
fn tests_and_other_crates_do_not_count() {
    let tests = "#[cfg(test)]\nmod tests { use crate::b::B; }\n#[cfg(all(test, unix))]\nuse crate::b::B as C;\n\
                 pub struct A;\nimpl A {\n    #[cfg(test)]\n    fn t() -> crate::b::B { todo!() }\n}\n";
    let files = [
        ("lib.rs", "mod a;\nmod b;\n#[cfg(test)]\nmod missing;\n"),
        ("a.rs", tests),
        (
            "b.rs",
            "use crate::a::A;\nuse a::Foreign;\npub struct B(A, ::a::Other);\n",
        ),
    ];
    assert_none(&files);
    let mut shipped = files;
    let text = tests.replace("all(test, unix)", "any(test, unix)");
    shipped[1].1 = &text;
    assert_circle(&shipped, &["a.rs", "b.rs"]);
}

#[test]
fn a_local_variable_with_the_name_of_a_module_is_no_arrow() {
    assert_none(&[
        ("lib.rs", "mod a;\nmod b;\n"),
        (
            "a.rs",
            "use super::b;\npub struct A;\nfn f(b: u8) -> u8 { b }\nfn g() { b::go() }\n",
        ),
        ("b.rs", "pub fn go() { let a = 1; drop(a); }\n"),
    ]);
}

#[test]
fn a_module_without_a_file_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    let lib = root.path().join("lib.rs");
    fs::write(&lib, "mod gone;\n").unwrap();
    let error = Tree::read(&lib).unwrap_err().to_string();
    assert!(error.contains("`mod gone` leads to no file"), "{error}");
}

const ORDER: &[Layer] = &[
    Layer {
        name: "ground",
        shipped: true,
        packages: &["host", "protocol"],
    },
    Layer {
        name: "engine",
        shipped: true,
        packages: &["engine"],
    },
];

fn packages(names: &[&str], dependencies: &[(&str, &str, bool)]) -> Packages {
    let dependency = |&(from, to, dev): &(&str, &str, bool)| Dependency {
        from: from.to_owned(),
        to: to.to_owned(),
        dev,
    };
    Packages {
        names: names.iter().map(|&name| name.to_owned()).collect(),
        dependencies: dependencies.iter().map(dependency).collect(),
    }
}

fn check(names: &[&str], dependencies: &[(&str, &str, bool)], exceptions: &[Exception]) -> String {
    packages(names, dependencies)
        .check(ORDER, exceptions)
        .join("\n")
}

#[test]
fn packages_depend_downward_only() {
    let all = ["host", "protocol", "engine"];
    assert_eq!(
        check(
            &all,
            &[("engine", "host", false), ("engine", "protocol", true)],
            &[]
        ),
        ""
    );
    for dev in [false, true] {
        let said = check(&all, &[("host", "engine", dev)], &[]);
        assert!(
            said.contains("host (layer \"ground\")") && said.contains("not below it"),
            "{said}"
        );
        // Nor on those of the same row.
        let said = check(&all, &[("host", "protocol", dev)], &[]);
        assert!(said.contains("protocol (layer \"ground\")"), "{said}");
    }
}

#[test]
fn an_exception_is_for_dev_dependencies_and_must_be_needed() {
    let all = ["host", "protocol", "engine"];
    let exceptions = [Exception {
        from: "host",
        to: "engine",
        reason: "its tests",
    }];
    assert_eq!(check(&all, &[("host", "engine", true)], &exceptions), "");
    let said = check(
        &all,
        &[("host", "engine", true), ("host", "engine", false)],
        &exceptions,
    );
    assert!(
        said.contains("host (layer \"ground\") depends on engine"),
        "{said}"
    );
    let said = check(&all, &[], &exceptions);
    assert!(said.contains("excepts host → engine"), "{said}");
}

#[test]
fn each_package_has_one_place_in_the_table() {
    let said = check(&["host", "protocol", "engine", "new"], &[], &[]);
    assert!(
        said.contains("package new has no layer: enter it in tests/layers/src/table.rs"),
        "{said}"
    );
    let said = check(&["host", "engine"], &[], &[]);
    assert!(
        said.contains("has a package protocol, the workspace has none"),
        "{said}"
    );

    let mut entered: Vec<_> = LAYERS.iter().flat_map(|layer| layer.packages).collect();
    let count = entered.len();
    entered.sort();
    entered.dedup();
    assert_eq!(entered.len(), count, "a package stands twice in the table");
    for exception in EXCEPTIONS {
        assert!(!exception.reason.is_empty());
    }
}
