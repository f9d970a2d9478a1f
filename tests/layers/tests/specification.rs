//! docs/SPECIFICATION.md says what the code and the baseline say, and each of its numbers has a test.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test"
)]

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The cells of a table's rows, without heads.
fn rows(page: &str) -> Vec<Vec<&str>> {
    let lines = page.lines().filter(|line| line.starts_with('|'));
    lines
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .filter(|cells: &Vec<&str>| cells[0] != "what" && !cells[0].starts_with("---"))
        .collect()
}

fn in_backticks(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// A number with its unit: "1,024", "512 KiB", "30 min"; bytes or seconds. None of words.
fn number(cell: &str) -> Option<u64> {
    let (digits, unit) = cell.split_once(' ').unwrap_or((cell, ""));
    let number: u64 = digits.replace(',', "").parse().ok()?;
    let factor = match unit {
        "" | "s" => 1,
        "min" => 60,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        other => panic!("{cell}: the unit {other:?} is not known"),
    };
    Some(number * factor)
}

/// The value of a constant, in bytes or seconds: `8 << 10`, `Duration::from_secs(30 * 60)`, `Rate { burst: 3, …`.
fn constant(source: &str, name: &str) -> Option<u64> {
    let (_, rest) = source.split_once(&format!("const {name}: "))?;
    let (_, value) = rest.split_once('=')?;
    let (value, _) = value.split_once(';')?;
    let mut numbers = value
        .split(|c: char| !c.is_ascii_digit() && c != '_')
        .filter_map(|digits| digits.replace('_', "").parse::<u64>().ok());
    let first = numbers.next()?;
    let value_is = |operator: &str| value.contains(operator);
    let number = match numbers.next() {
        Some(second) if value_is("<<") => first << second,
        Some(second) if value_is("*") => first * second,
        _ => first,
    };
    Some(if name.ends_with("_KIB") {
        number << 10
    } else {
        number
    })
}

#[test]
fn each_number_has_a_test_and_is_the_codes() {
    let page = fs::read_to_string(root().join("docs/SPECIFICATION.md")).unwrap();
    let baseline = fs::read_to_string(root().join("benches/baseline.json")).unwrap();
    let rows = rows(&page);
    assert!(rows.len() > 30, "{} rows", rows.len());
    for cells in rows {
        let [what, value, place, tests] = cells[..] else {
            panic!("{cells:?}: four cells are expected");
        };
        assert!(!in_backticks(tests).is_empty(), "{what}: no test");
        let (found, said) = match in_backticks(place)[..] {
            [] => continue,
            ["make guard", figure] => {
                let line = baseline
                    .lines()
                    .find_map(|line| line.trim().strip_prefix(&format!("\"{figure}\": ")));
                let count = line.and_then(|line| line.trim_end_matches(',').parse().ok());
                (count, number(value))
            }
            [file, name] => {
                let source = fs::read_to_string(root().join(file)).expect(file);
                (constant(&source, name), number(value))
            }
            _ => panic!("{what}: {place}: a file and a constant are expected"),
        };
        assert!(found.is_some(), "{what}: {place} is not there");
        assert_eq!(said, found, "{what}: {place}");
    }
}

/// Numbers outside of tables have no test.
#[test]
fn numbers_are_in_tables() {
    let page = fs::read_to_string(root().join("docs/SPECIFICATION.md")).unwrap();
    let text = page.lines().filter(|line| !line.starts_with('|'));
    // The guest that is counted.
    let known = ["256 MiB"];
    for line in text {
        let line = known
            .iter()
            .fold(line.to_owned(), |line, known| line.replace(known, ""));
        assert!(!line.contains(|c: char| c.is_ascii_digit()), "{line}");
    }
}

#[test]
fn numbers_and_constants_are_read() {
    assert_eq!(number("1,024"), Some(1024));
    assert_eq!(number("30 min"), Some(1800));
    assert_eq!(number("none"), None);
    let source = "const A: u64 = 8 << 10;\npub const B: Duration = Duration::from_secs(30 * 60);\n\
                  const C_KIB: u64 = 100_000;\nconst D: Rate = Rate {\n    burst: 3,\n    x: y(1) };\n";
    let of = |name| constant(source, name);
    assert_eq!(of("A"), Some(8192));
    assert_eq!(of("B"), Some(1800));
    assert_eq!(of("C_KIB"), Some(100_000 << 10));
    assert_eq!(of("D"), Some(3));
    assert_eq!(of("E"), None);
}
