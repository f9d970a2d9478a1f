//! Looks up what a root tree has of what KIWI may call.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use boxbuild_description::{MODULES, PROGRAMS};

use crate::store::Inventory;

/// Folders of programs, as KIWI looks for them (`kiwi/path.py`).
const PROGRAM_FOLDERS: &str = "usr/local/sbin usr/local/bin usr/sbin usr/bin sbin bin";

/// Folders of Python's modules.
const MODULE_FOLDERS: &str = "usr/local/lib/python3*/dist-packages usr/local/lib/python3*/site-packages \
     usr/lib/python3*/dist-packages usr/lib/python3*/site-packages usr/lib64/python3*/site-packages";

/// File of the workshop with what was found.
const FOUND: &str = "found";

/// Returns shell commands that look at the folder `tree`, and write what they find to a file.
pub(super) fn commands() -> String {
    let names = |table: &[(&str, Option<&str>)]| {
        let names: Vec<_> = table.iter().map(|(name, _)| *name).collect();
        names.join(" ")
    };
    // What a link leads to is not on this host.
    format!(
        "there() {{ [ -e \"$1\" ] || [ -L \"$1\" ]; }}; \
         for name in {}; do for folder in {PROGRAM_FOLDERS}; do \
         if there \"tree/$folder/$name\"; then echo \"$name\"; break; fi; done; done >{FOUND}; \
         for name in {}; do for folder in {MODULE_FOLDERS}; do for path in tree/$folder; do \
         if there \"$path/$name\" || there \"$path/$name.py\"; then echo \"$name\"; break 2; fi; \
         done; done; done >{FOUND}-modules; ",
        names(PROGRAMS),
        names(MODULES),
    )
}

/// A program that each KIWI needs: a tree without it has its programs in other places.
const ALWAYS: &str = "tar";

/// Reads what [`commands`] have written in the folder `dir`. Without it, nothing is known.
pub(super) fn inventory(dir: &Path) -> Inventory {
    let read = |name: &str| fs::read_to_string(dir.join(name)).ok();
    let of = |text: Option<String>, table: &[(&'static str, Option<&str>)]| {
        text.map(|text| {
            let found: BTreeSet<&str> = text.lines().collect();
            Inventory::of(table.iter().map(|(name, _)| *name), &found)
        })
        .unwrap_or_default()
    };
    let programs = read(FOUND).filter(|text| text.lines().any(|name| name == ALWAYS));
    Inventory {
        programs: of(programs, PROGRAMS),
        modules: of(read(&format!("{FOUND}-modules")), MODULES),
        ..Inventory::default()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::*;

    #[test]
    fn programs_and_modules_of_a_tree_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        for folder in ["usr/bin", "usr/sbin", "usr/lib/python3/dist-packages/yaml"] {
            fs::create_dir_all(tree.join(folder)).unwrap();
        }
        fs::create_dir_all(tree.join("usr/local/lib/python3.13/dist-packages")).unwrap();
        symlink("usr/bin", tree.join("bin")).unwrap();
        symlink("/etc/alternatives/mcopy", tree.join("usr/bin/mcopy")).unwrap();
        fs::write(tree.join("usr/sbin/mkfs.erofs"), "").unwrap();
        fs::write(tree.join("usr/bin/tar"), "").unwrap();
        let module = "usr/local/lib/python3.13/dist-packages/xmltodict.py";
        fs::write(tree.join(module), "").unwrap();
        let status = Command::new("sh")
            .args(["-ec", &format!("{} :", commands())])
            .current_dir(dir.path())
            .status()
            .unwrap();
        assert!(status.success());
        let found = inventory(dir.path());
        assert_eq!(found.programs.len(), PROGRAMS.len());
        let names = |of: &std::collections::BTreeMap<String, bool>| {
            let there = of.iter().filter(|(_, there)| **there);
            there.map(|(name, _)| name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(&found.programs), ["mcopy", "mkfs.erofs", "tar"]);
        assert_eq!(names(&found.modules), ["xmltodict", "yaml"]);
        assert!(inventory(&tree).programs.is_empty());
        // A tree with its programs in another place, of which nothing is known.
        fs::write(dir.path().join(FOUND), "mcopy\n").unwrap();
        assert!(inventory(dir.path()).programs.is_empty());
    }
}
