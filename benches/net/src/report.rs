//! Medians, spreads and ratios.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::traffic::{Measurement, Workload};

/// All results, and what was skipped.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    /// Each server's version.
    pub(crate) versions: BTreeMap<&'static str, String>,
    pub(crate) rows: Vec<Row>,
    pub(crate) skipped: Vec<Skipped>,
}

impl Report {
    pub(crate) fn skip(&mut self, what: &'static str, reason: String) {
        self.skipped.push(Skipped { what, reason });
    }
}

/// A server that could not be measured, and why.
#[derive(Debug, Serialize)]
pub(crate) struct Skipped {
    pub(crate) what: &'static str,
    pub(crate) reason: String,
}

/// A workload; the first entry is boxbuild's.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    workload: String,
    /// Of the rates.
    unit: &'static str,
    /// What processor time is counted for.
    piece: &'static str,
    entries: Vec<Entry>,
}

/// The results of one server.
#[derive(Debug, Serialize)]
struct Entry {
    server: &'static str,
    rate: Figure,
    /// Processor time of the serving process per piece, in microseconds.
    processor_us: Figure,
    /// How many times as fast boxbuild is: median of the rounds' ratios.
    ratio_rate: f64,
    /// The lowest and the highest of them.
    ratio_range: [f64; 2],
    /// boxbuild's processor time to this server's, of the medians.
    ratio_processor: f64,
}

/// A median, and the distance of the quartiles in percent of it.
#[derive(Debug, Serialize)]
struct Figure {
    median: f64,
    spread_percent: f64,
}

impl Figure {
    fn new(values: impl Iterator<Item = f64>) -> Figure {
        let values = sorted(values);
        let median = at(&values, 0.5);
        Figure {
            median,
            spread_percent: (at(&values, 0.75) - at(&values, 0.25)) / median * 100.0,
        }
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// Returns the quantile `part` (0 to 1); NaN without values.
fn at(sorted: &[f64], part: f64) -> f64 {
    let index = (sorted.len().saturating_sub(1) as f64 * part).round() as usize;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

impl Row {
    /// Builds the row; `rounds` has the measurements of each of `servers`, by round.
    pub(crate) fn new(
        workload: Workload,
        servers: &[&'static str],
        rounds: &[Vec<Measurement>],
    ) -> Row {
        let rates = |index: usize| rounds.iter().map(move |round| round[index].rate);
        let costs = |index: usize| rounds.iter().map(move |round| round[index].cost());
        let own_cost = Figure::new(costs(0)).median;
        let entries = servers.iter().enumerate().map(|(index, server)| {
            let ratios = sorted(rates(0).zip(rates(index)).map(|(ours, rate)| ours / rate));
            let processor_us = Figure::new(costs(index));
            Entry {
                server,
                rate: Figure::new(rates(index)),
                ratio_rate: at(&ratios, 0.5),
                ratio_range: [at(&ratios, 0.0), at(&ratios, 1.0)],
                ratio_processor: own_cost / processor_us.median,
                processor_us,
            }
        });
        Row {
            workload: workload.name(),
            unit: workload.unit(),
            piece: workload.piece(),
            entries: entries.collect(),
        }
    }

    pub(crate) fn print(&self) {
        println!("\n{}", self.workload);
        for (index, entry) in self.entries.iter().enumerate() {
            let line = format!(
                "  {:<18} {:>9.2} {}, processor {:>6.0} us a {}",
                entry.server, entry.rate.median, self.unit, entry.processor_us.median, self.piece
            );
            let [low, high] = entry.ratio_range;
            match index {
                0 => println!("{line}"),
                _ => println!(
                    "{line}; boxbuild is {:.2} times as fast ({low:.2}-{high:.2}), and takes \
                     {:.2} times the processor",
                    entry.ratio_rate, entry.ratio_processor
                ),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_the_same_round() {
        let measured = |rate| {
            let mut measured = Measurement::default();
            measured.rate = rate;
            measured
        };
        let rounds: Vec<Vec<Measurement>> = [(10.0, 5.0), (4.0, 8.0), (9.0, 3.0)]
            .map(|(ours, peer)| vec![measured(ours), measured(peer)])
            .into();
        let row = Row::new(Workload::Short(1), &["boxbuild", "peer"], &rounds);
        let peer = &row.entries[1];
        assert_eq!((peer.rate.median, peer.ratio_rate), (5.0, 2.0));
        assert_eq!(peer.ratio_range, [0.5, 3.0]);
        assert_eq!(row.entries[0].ratio_range, [1.0, 1.0]);
    }
}
