//! docs/options.md lists the options of the program.

use std::fs;
use std::path::{Path, PathBuf};

use crate::args;
use boxbuild_core::build_args;

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the first and last cells of all rows: an option, and its test.
fn rows() -> Vec<(String, String)> {
    let page = fs::read_to_string(top().join("docs/options.md")).unwrap();
    page.lines()
        .filter(|line| line.starts_with("| `--"))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let plain = |cell: &str| cell.trim_matches('`').to_owned();
            let option = plain(cells[0]);
            let option = option.split(' ').next().unwrap_or_default().to_owned();
            (option, plain(cells.last().unwrap()))
        })
        .collect()
}

#[test]
fn every_option_is_on_the_page_and_in_the_program() {
    let command = args::command();
    let create = command
        .find_subcommand("box")
        .and_then(|command| command.find_subcommand("create"))
        .unwrap();
    let front = command
        .get_arguments()
        .chain(create.get_arguments())
        .filter_map(|arg| arg.get_long())
        .filter(|long| !["help", "version"].contains(long))
        .map(|long| format!("--{long}"));
    let program: Vec<String> = front
        .chain(build_args::names().map(str::to_owned))
        .collect();
    let page: Vec<String> = rows().into_iter().map(|(option, _)| option).collect();
    for option in &program {
        assert!(page.contains(option), "{option} is not in docs/options.md");
    }
    for option in &page {
        assert!(
            program.contains(option),
            "{option} is only in docs/options.md"
        );
    }
}

#[test]
fn every_test_on_the_page_exists() {
    let mut sources = String::new();
    let mut folders: Vec<PathBuf> = ["cli", "tests/e2e", "firmware"]
        .map(|folder| top().join(folder))
        .to_vec();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().filter_map(Result::ok) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources += &fs::read_to_string(path).unwrap();
            }
        }
    }
    for (option, test) in rows() {
        assert!(
            sources.contains(&format!("fn {test}()")),
            "{option}: {test}"
        );
    }
}
