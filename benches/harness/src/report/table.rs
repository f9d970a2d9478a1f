//! The report as Markdown.

use std::fmt::Write;

use super::{Report, Row};

/// Tables, one for each suite, with what they depend on.
pub fn table(report: &Report) -> String {
    let mut text = String::from("# Side by side\n\n");
    text += "Each row was measured in turn in one run, on the same kernel, image and files. \
             \"better\" is boxbuild against that peer: above 1, boxbuild is faster or smaller. \
             In parentheses: the lowest and the highest of the rounds. Compare within a row; times of another machine, or of another day on this one, are \
             other times.\n";
    let mut suite = "";
    for row in &report.rows {
        if row.suite != suite {
            suite = &row.suite;
            let _ = write!(
                text,
                "\n## {suite}\n\n| what | who | median | spread | better |\n|---|---|---:|---:|---:|\n"
            );
        }
        rows(&mut text, row);
    }
    if !report.absent.is_empty() {
        text += "\n## Not measured\n\n| what | why |\n|---|---|\n";
        for absent in &report.absent {
            let _ = writeln!(text, "| {} | {} |", absent.what, cell(&absent.reason));
        }
    }
    text += "\n## Where\n\n| | |\n|---|---|\n";
    for (name, version) in &report.environment {
        let _ = writeln!(text, "| {name} | {} |", cell(version));
    }
    let [before, after] = report.load;
    let _ = writeln!(
        text,
        "| load | {before:.2} before, {after:.2} after |\n| time | {} s since 1970 |",
        report.time
    );
    text
}

fn rows(text: &mut String, row: &Row) {
    for (number, figure) in row.figures.iter().enumerate() {
        let spread = figure
            .spread_percent
            .map_or(String::new(), |spread| format!("± {:.1} %", spread / 2.0));
        let ratio = match (number, figure.ratio_range) {
            (0, _) => String::new(),
            (_, None) => format!("{:.2}x", figure.ratio),
            (_, Some([low, high])) => format!("{:.2}x ({low:.2}-{high:.2})", figure.ratio),
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} {} | {spread} | {ratio} |",
            if number == 0 { row.name.as_str() } else { "" },
            figure.who,
            number_of(figure.median),
            row.unit,
        );
    }
}

/// Four digits that matter.
pub(super) fn number_of(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

pub(super) fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::super::tests::example;
    use super::*;

    #[test]
    fn a_table_has_all_figures() {
        let text = table(&example());
        assert!(
            text.contains("| vmlinux | boxbuild | 100.0 ms |  |  |"),
            "{text}"
        );
        assert!(text.contains("|  | QEMU microvm | 150.0 ms |  | 1.50x |"));
        assert!(text.contains("|  | virtiofsd | 6000 1/s | ± 1.2 % | 0.50x (0.25-1.50) |"));
        assert!(text.contains("| firecracker | not installed |"));
    }
}
