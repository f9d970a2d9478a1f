//! Two reports side by side.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::table::{cell, number_of};
use super::{Figure, Report, Row};

/// Returns what has changed between two reports, as Markdown. Rates and times of two runs compare only on the
/// same idle machine; the ratios to a peer, each of one run, compare on any. What differs about the two machines
/// is said first.
pub fn compare(before: &Report, now: &Report) -> String {
    let mut text = String::from("# Two reports\n");
    let names: BTreeSet<_> = before
        .environment
        .keys()
        .chain(now.environment.keys())
        .collect();
    let of = |report: &Report, name: &String| {
        let version = report.environment.get(name).map_or("-", String::as_str);
        cell(version)
    };
    let different: Vec<_> = names
        .into_iter()
        .filter(|name| before.environment.get(*name) != now.environment.get(*name))
        .collect();
    if !different.is_empty() {
        text += "\n| differs | before | now |\n|---|---|---|\n";
    }
    for name in different {
        let _ = writeln!(
            text,
            "| {name} | {} | {} |",
            of(before, name),
            of(now, name)
        );
    }
    text += "\n| what | who | before | now | change | better than this peer |\n|---|---|---:|---:|---:|---|\n";
    for row in &now.rows {
        let earlier = before
            .rows
            .iter()
            .find(|other| (&other.suite, &other.name) == (&row.suite, &row.name));
        match earlier {
            Some(earlier) => rows(&mut text, earlier, row),
            None => {
                let _ = writeln!(text, "| {}: {} | | | only now | | |", row.suite, row.name);
            }
        }
    }
    for row in &before.rows {
        let gone = !now
            .rows
            .iter()
            .any(|other| (&other.suite, &other.name) == (&row.suite, &row.name));
        if gone {
            let _ = writeln!(
                text,
                "| {}: {} | | only before | | | |",
                row.suite, row.name
            );
        }
    }
    text
}

fn rows(text: &mut String, before: &Row, now: &Row) {
    for (number, figure) in now.figures.iter().enumerate() {
        let name = match number {
            0 => format!("{}: {}", now.suite, now.name),
            _ => String::new(),
        };
        let earlier = before.figures.iter().find(|other| other.who == figure.who);
        let (was, change) = earlier.map_or((String::from("-"), String::new()), |earlier| {
            let percent = (figure.median / earlier.median - 1.0) * 100.0;
            (number_of(earlier.median), format!("{percent:+.1} %"))
        });
        let ratio = |figure: &Figure| format!("{:.2}x", figure.ratio);
        let ratios = match (number, earlier) {
            (0, _) => String::new(),
            (_, Some(earlier)) => format!("{} → {}", ratio(earlier), ratio(figure)),
            (_, None) => ratio(figure),
        };
        let _ = writeln!(
            text,
            "| {name} | {} | {was} | {} {} | {change} | {ratios} |",
            figure.who,
            number_of(figure.median),
            now.unit,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::example;
    use super::*;

    #[test]
    fn changes_and_ratios_of_two_runs_are_told() {
        let before = example();
        let mut now: Report =
            serde_json::from_str(&serde_json::to_string(&before).unwrap()).unwrap();
        assert_eq!(now, before);
        now.environment
            .insert(String::from("kernel"), String::from("a|b"));
        now.rows[0].figures[0].median = 90.0;
        now.rows[0].figures[1].ratio = 1.75;
        now.rows[1].name = String::from("getattr");
        let text = compare(&before, &now);
        for line in [
            "| kernel | Linux <6.12> | a\\|b |",
            "| boot: vmlinux | boxbuild | 100.0 | 90.0 ms | -10.0 % |  |",
            "|  | QEMU microvm | 150.0 | 150.0 ms | +0.0 % | 1.50x → 1.75x |",
            "| share: getattr | | | only now | | |",
            "| share: lookup & forget | | only before | | | |",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }
}
