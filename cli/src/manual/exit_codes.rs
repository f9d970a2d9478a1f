//! `boxbuild help exit-codes`.

use boxbuild_host::exit::Exit;

use super::document::Document;

/// Returns the exit codes; without those that only a run of a box has if `of_runs` is false.
pub(super) fn exit_codes(of_runs: bool) -> Document {
    let codes = Exit::ALL
        .into_iter()
        .filter(|exit| of_runs || !exit.is_of_runs());
    Document::default().items(codes.map(|exit| (exit.number().to_string(), exit.meaning())))
}

/// Returns the text of the topic.
pub(super) fn document() -> Document {
    let runs = exit_codes(true);
    runs.paragraph(
        "A batch ends with 0 if all of its builds did, with 130 if it was interrupted, and else with \
         the first of 3, 2, 124 and 1 that a build ended with.",
    )
    .paragraph("With --json, the last event of a build has the code, too.")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Case E15: one table. The pages have it in their own words.
    #[test]
    fn the_pages_have_every_exit_code() {
        for (name, page) in [
            ("docs/cli.md", include_str!("../../../docs/cli.md")),
            ("README.md", include_str!("../../../README.md")),
        ] {
            let rows: Vec<&str> = page
                .lines()
                .filter(|line| {
                    let cell = line.trim_start_matches("| ").split(" |").next();
                    line.starts_with("| ") && cell.is_some_and(|cell| cell.parse::<u8>().is_ok())
                })
                .collect();
            let found: Vec<u8> = rows
                .iter()
                .filter_map(|row| row.split('|').nth(1)?.trim().parse().ok())
                .collect();
            assert_eq!(found, Exit::ALL.map(Exit::number), "{name}");
        }
        let text = document().text();
        for exit in Exit::ALL {
            let number = exit.number().to_string();
            let starts = |line: &str| line.split_whitespace().next() == Some(number.as_str());
            assert!(text.lines().any(starts), "{number} is not in {text}");
        }
    }
}
