//! A report: what was measured, of whom, where.

mod plot;
mod table;

use serde::Serialize;

use crate::environment::Versions;

pub use plot::plot;
pub use table::table;

/// One side's figure in a row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// Who: "boxbuild", or a peer's name.
    pub who: String,
    /// The median of the rounds.
    pub median: f64,
    /// Distance of the quartiles (or of the extremes, for fewer than four rounds) in percent of
    /// the median, if there was more than one round.
    pub spread_percent: Option<f64>,
    /// How many times better boxbuild is; above 1 is better for boxbuild. 1 for boxbuild.
    pub ratio: f64,
}

/// One thing that was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// boot, share, block, net, build.
    pub suite: String,
    /// What was done.
    pub name: String,
    /// What the figures count.
    pub unit: String,
    /// Whether more is better.
    pub more_is_better: bool,
    /// boxbuild first.
    pub figures: Vec<Figure>,
}

impl Row {
    /// A row of `ours` and peers, each a median and its spread.
    pub fn new(
        suite: &str,
        name: &str,
        (unit, more_is_better): (&str, bool),
        figures: &[(&str, f64, Option<f64>)],
    ) -> Row {
        let ours = figures.first().map_or(f64::NAN, |(_, median, _)| *median);
        let figures = figures.iter().map(|(who, median, spread)| Figure {
            who: (*who).to_owned(),
            median: *median,
            spread_percent: *spread,
            ratio: if more_is_better {
                ours / median
            } else {
                median / ours
            },
        });
        Row {
            suite: suite.to_owned(),
            name: name.to_owned(),
            unit: unit.to_owned(),
            more_is_better,
            figures: figures.collect(),
        }
    }
}

/// Something that was not measured, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Absent {
    /// A suite or a peer.
    pub what: String,
    /// Why.
    pub reason: String,
}

/// Everything of one run.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// When, in seconds since 1970.
    pub time: u64,
    /// Programs, kernel, processor, test bed.
    pub environment: Versions,
    /// How many processes wanted a processor, when the run began and when it ended.
    pub load: [f64; 2],
    /// What was measured.
    pub rows: Vec<Row>,
    /// What was not.
    pub absent: Vec<Absent>,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn example() -> Report {
        Report {
            time: 1_795_600_000,
            environment: [(String::from("kernel"), String::from("Linux <6.12>"))].into(),
            load: [0.5, 1.25],
            rows: vec![
                Row::new(
                    "boot",
                    "vmlinux",
                    ("ms", false),
                    &[("boxbuild", 100.0, None), ("QEMU microvm", 150.0, None)],
                ),
                Row::new(
                    "share",
                    "lookup & forget",
                    ("1/s", true),
                    &[
                        ("boxbuild", 3000.0, Some(4.0)),
                        ("virtiofsd", 6000.0, Some(2.5)),
                    ],
                ),
            ],
            absent: vec![Absent {
                what: String::from("firecracker"),
                reason: String::from("not installed"),
            }],
        }
    }

    #[test]
    fn a_ratio_above_one_is_better_for_us() {
        let rows = example().rows;
        assert_eq!(rows[0].figures[1].ratio, 1.5);
        assert_eq!(rows[1].figures[1].ratio, 0.5);
        assert_eq!(rows[1].figures[0].ratio, 1.0);
    }
}
