//! `guest/take_over.py` in a real Python, with a stand-in for kiwi: what `system create` reads is brought up to date,
//! and nothing else of a build is done.

#![allow(clippy::expect_used, clippy::print_stderr, reason = "a test")]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/guest/take_over.py");

/// Modules of the stand-in, with kiwi's names.
const KIWI: [(&str, &str); 8] = [
    ("__init__.py", ""),
    ("tasks/__init__.py", ""),
    ("system/__init__.py", ""),
    (
        "kiwi.py",
        "import sys\ndef main():\n    import kiwi.tasks.system_build as task\n    \
         if 'refuse' in sys.argv: sys.exit(3)\n    if 'help' in sys.argv: return\n    \
         with task.SystemPrepare(State(sys.argv), sys.argv[-1], False) as system:\n        \
         print('installed')\n\nclass State:\n    def __init__(self, words): self.words = words\n    \
         def get_repositories_signing_keys(self): return ['/a key', '/b']\n    \
         def get_repository_sections(self): return [REPOSITORY]\n\n\
         class Repository: pass\nREPOSITORY = Repository()\n\
         REPOSITORY.alias, REPOSITORY.package_gpgcheck = 'x', ''\n",
    ),
    ("tasks/system_build.py", "class SystemPrepare:\n    pass\n"),
    (
        "defaults.py",
        "class Defaults:\n    def to_profile(self, profile): profile.lines.append('defaults')\n    \
         @staticmethod\n    def get_profile_file(root): return root + '/.profile'\n",
    ),
    (
        "system/profile.py",
        "class Profile:\n    def __init__(self, state): self.lines = []\n    \
         def create(self, path): open(path, 'w').write(','.join(self.lines))\n",
    ),
    (
        "system/setup.py",
        "class SystemSetup:\n    def __init__(self, state, root): self.state, self.root = state, root\n    \
         def import_description(self):\n        \
         words = self.state.words[1:-1] + [str(sorted(vars(one).items())) for one in \
         self.state.get_repository_sections()]\n        \
         open(self.root + '/config.xml', 'w').write(' '.join(words))\n",
    ),
];

fn run(folder: &Path, words: &[&str]) -> Output {
    Command::new("python3")
        .arg(PROGRAM)
        .args(words)
        .env("PYTHONPATH", folder)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("BOXBUILD_CREATE_ARGS", folder.join("create-args"))
        .output()
        .expect("python3 starts")
}

#[test]
fn the_description_is_taken_over_and_nothing_is_installed() {
    if Command::new("python3").arg("--version").output().is_err() {
        let name = "the_description_is_taken_over_and_nothing_is_installed";
        let _ = writeln!(std::io::stderr(), "skipped: {name}: no python3");
        return;
    }
    let name = format!("boxbuild-test-take-over-{}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    let root = folder.join("root");
    fs::create_dir_all(&root).expect("a folder can be made");
    let no_kiwi = run(&folder, &["system", "build"]);
    let errors = String::from_utf8_lossy(&no_kiwi.stderr).into_owned();
    assert!(
        !no_kiwi.status.success() && errors.contains("cannot go on with a build"),
        "{errors}"
    );
    for (name, text) in KIWI {
        let path = folder.join("kiwi").join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder can be made");
        fs::write(path, text).expect("a file can be written");
    }
    let read = |name: &str| fs::read_to_string(folder.join(name)).expect("a file");
    let text = root.to_str().expect("text");
    // What the description had, and has no more; and what is not its own.
    let old = [
        "images.sh",
        "edit_boot_config.sh",
        "config-cdroot.tar.xz",
        "config.sh",
    ];
    fs::create_dir(root.join("image")).expect("a folder can be made");
    for name in old {
        fs::write(root.join("image").join(name), "exit 1").expect("a file can be written");
    }
    let output = run(&folder, &["--type", "oem", "system", "build", text]);
    assert!(output.status.success(), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    // kiwi gives --set-repo URL,TYPE,,, empty values, which its own schema refuses.
    assert_eq!(
        read("root/config.xml"),
        "--type oem system build [('alias', 'x'), ('package_gpgcheck', None)]"
    );
    assert_eq!(read("root/.profile"), "defaults");
    let left = old.map(|name| root.join("image").join(name).exists());
    assert_eq!(left, [false, false, false, true]);
    assert_eq!(
        read("create-args"),
        "--signing-key\n/a key\n--signing-key\n/b\n"
    );

    // What kiwi refuses, a build that is none, and a root tree that is gone.
    assert_eq!(run(&folder, &["refuse", text]).status.code(), Some(3));
    assert_eq!(run(&folder, &["help", text]).status.code(), Some(1));
    let gone = run(&folder, &["system", "build", "/nowhere/root"]);
    let errors = String::from_utf8_lossy(&gone.stderr).into_owned();
    assert!(
        !gone.status.success() && errors.contains("there is no root tree"),
        "{errors}"
    );
    fs::remove_dir_all(&folder).expect("a folder can be removed");
}
