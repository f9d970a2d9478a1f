//! Pages lead to what is there: links, paths in backticks, and tests that tables name.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// Folders that a path in backticks begins with.
const TOP: &[&str] = &[
    "benches/",
    "cli/",
    "docs/",
    "firmware/",
    "tests/",
    "virtiofs/",
    "vmm/",
];

/// Pages about the past: their paths need not be there any more.
const HISTORY: &[&str] = &["CHANGELOG.md", "docs/adr/"];

/// Pages whose tables name tests in their last column.
const TABLES_OF_TESTS: &[&str] = &[
    "docs/SPECIFICATION.md",
    "docs/compatibility.md",
    "docs/threat-model.md",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// Paths of all pages, relative to the root.
fn pages() -> Vec<PathBuf> {
    let root = root();
    let mut folders = vec![root.join("docs")];
    let mut found = Vec::new();
    let mut add = |folder: &Path, folders: Option<&mut Vec<PathBuf>>| {
        let mut below = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                below.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path.strip_prefix(&root).unwrap().to_owned());
            }
        }
        if let Some(folders) = folders {
            folders.extend(below);
        }
    };
    add(&root, None);
    while let Some(folder) = folders.pop() {
        add(&folder, Some(&mut folders));
    }
    found
}

/// Targets of links to files: `](target)`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'));
    targets
        .map(|(target, _)| target.split('#').next().unwrap_or_default())
        .filter(|target| !target.is_empty() && !target.contains(':'))
}

/// Paths in backticks that stand for one file or folder of the tree.
fn paths(text: &str) -> impl Iterator<Item = &str> {
    let in_backticks = text
        .lines()
        .filter(|line| !line.starts_with("    "))
        .flat_map(|line| {
            line.split('`')
                .enumerate()
                .filter(|(position, _)| position % 2 == 1)
                .map(|(_, word)| word)
        });
    in_backticks
        .map(|words| words.split(' ').next().unwrap_or_default())
        .filter(|path| {
            TOP.iter().any(|top| path.starts_with(top))
                && !path.contains(|c: char| c.is_uppercase() || "*{<…".contains(c))
        })
}

#[test]
fn links_and_paths_lead_to_files() {
    let root = root();
    let mut dead = Vec::new();
    let pages = pages();
    assert!(pages.len() > 20, "{pages:?}");
    for page in &pages {
        let text = fs::read_to_string(root.join(page)).unwrap();
        let folder = root.join(page).parent().unwrap().to_owned();
        let name = page.display().to_string();
        dead.extend(
            links(&text)
                .filter(|link| !folder.join(link).exists())
                .map(|link| format!("{name}: link to {link}")),
        );
        if !HISTORY.iter().any(|history| name.starts_with(history)) {
            dead.extend(
                paths(&text)
                    .filter(|path| !root.join(path).exists())
                    .map(|path| format!("{name}: path `{path}`")),
            );
        }
    }
    assert_eq!(
        dead,
        Vec::<String>::new(),
        "pages name files that are not there"
    );
}

/// Names of tests: the words in backticks in the last cells of a page's tables that can be names.
fn tests(text: &str) -> impl Iterator<Item = &str> {
    let cells = text
        .lines()
        .filter_map(|line| line.strip_prefix('|')?.trim_end().strip_suffix('|'))
        .filter_map(|row| row.rsplit('|').next());
    let in_backticks = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    in_backticks.filter(|word| {
        word.contains('_')
            && word
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    })
}

/// Returns the text of all Rust files in the tree.
fn sources() -> String {
    let mut folders: Vec<PathBuf> = TOP.iter().map(|top| root().join(top)).collect();
    let mut text = String::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text += &fs::read_to_string(path).unwrap();
            }
        }
    }
    text
}

#[test]
fn tests_that_tables_name_exist() {
    let sources = sources();
    let mut missing = Vec::new();
    for page in TABLES_OF_TESTS {
        let text = fs::read_to_string(root().join(page)).unwrap();
        assert!(tests(&text).count() > 20, "{page} names hardly any test");
        missing.extend(
            tests(&text)
                // Programs that list their tests themselves have names as strings.
                .filter(|test| {
                    let function = format!("fn {test}()");
                    !sources.contains(&function) && !sources.contains(&format!("\"{test}\""))
                })
                .map(|test| format!("{page}: {test}")),
        );
    }
    assert_eq!(
        missing,
        Vec::<String>::new(),
        "tables name tests that are not there"
    );
}

#[test]
fn tests_are_found_in_tables() {
    let page =
        "Not `one_of_these`.\n| `nor_this` | `a_full_disk`, `b_2` (`tests/e2e`, `make full`) |\n";
    assert_eq!(tests(page).collect::<Vec<_>>(), ["a_full_disk", "b_2"]);
}

#[test]
fn links_and_paths_are_found_in_a_page() {
    let page = "See [a](x/a.md#part), [the web](https://example.org) and [here](#below).\n\
                `vmm/src/lib.rs`, `make lint`, `tests/e2e/boots all`, `cli/{a,b}`, `docs/NAME.md`\n\
                \n    `vmm/in/a/block.rs`\n";
    assert_eq!(links(page).collect::<Vec<_>>(), ["x/a.md"]);
    assert_eq!(
        paths(page).collect::<Vec<_>>(),
        ["vmm/src/lib.rs", "tests/e2e/boots"]
    );
}
