//! A report: what was measured, of whom, where.

mod compare;
mod plot;
mod table;

use serde::{Deserialize, Serialize};

use crate::environment::Versions;

pub use compare::compare;
pub use plot::plot;
pub use table::table;

/// One side's figure in a row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Who: "boxbuild", or a peer's name.
    pub who: String,
    /// The median of the rounds.
    pub median: f64,
    /// Distance of the quartiles (or of the extremes, for fewer than four rounds) in percent of
    /// the median, if there was more than one round.
    pub spread_percent: Option<f64>,
    /// How many times better boxbuild is; above 1 is better for boxbuild. 1 for boxbuild. The
    /// median of the rounds' ratios, where the suite tells them, else the ratio of the medians.
    pub ratio: f64,
    /// The lowest and the highest ratio of a round, where the suite tells them.
    pub ratio_range: Option<[f64; 2]>,
}

/// What a suite says of one side.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// "boxbuild", or a peer's name.
    pub who: &'a str,
    /// The median of the rounds.
    pub median: f64,
    /// See [`Figure::spread_percent`].
    pub spread_percent: Option<f64>,
    /// boxbuild's rate to this one's in the rounds: median, lowest, highest. Only where more is
    /// better.
    pub ratios: Option<[f64; 3]>,
}

impl<'a> Side<'a> {
    /// A side of one round.
    pub fn once(who: &'a str, median: f64) -> Side<'a> {
        Side {
            who,
            median,
            spread_percent: None,
            ratios: None,
        }
    }
}

/// One thing that was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// A row of boxbuild, which is first, and peers.
    pub fn new(
        suite: &str,
        name: &str,
        (unit, more_is_better): (&str, bool),
        sides: &[Side<'_>],
    ) -> Row {
        let ours = sides.first().map_or(f64::NAN, |side| side.median);
        let figures = sides.iter().map(|side| Figure {
            who: side.who.to_owned(),
            median: side.median,
            spread_percent: side.spread_percent,
            ratio: match side.ratios {
                Some([median, _, _]) => median,
                None if more_is_better => ours / side.median,
                None => side.median / ours,
            },
            ratio_range: side.ratios.map(|[_, low, high]| [low, high]),
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absent {
    /// A suite or a peer.
    pub what: String,
    /// Why.
    pub reason: String,
}

/// Everything of one run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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
                    &[
                        Side::once("boxbuild", 100.0),
                        Side::once("QEMU microvm", 150.0),
                    ],
                ),
                Row::new(
                    "share",
                    "lookup & forget",
                    ("1/s", true),
                    &[
                        Side {
                            spread_percent: Some(4.0),
                            ..Side::once("boxbuild", 3000.0)
                        },
                        Side {
                            spread_percent: Some(2.5),
                            ratios: Some([0.5, 0.25, 1.5]),
                            ..Side::once("virtiofsd", 6000.0)
                        },
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
