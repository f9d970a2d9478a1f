//! Medians, spreads and ratios.

use std::time::Instant;

use anyhow::{Result, anyhow};
use serde::Serialize;

use crate::servers::Running;
use crate::workloads::Workload;

/// One measurement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Units of work in a second.
    rate: f64,
    /// The server's processor time for one unit, in microseconds.
    processor: f64,
}

impl Sample {
    pub(crate) fn take(server: &mut Running, workload: &Workload) -> Result<Self> {
        (workload.prepare)(server)?;
        let before = server.processor_time()?;
        let start = Instant::now();
        let result = (workload.work)(&mut server.client);
        let elapsed = start.elapsed().as_secs_f64();
        let used = server.processor_time()?.saturating_sub(before);
        let result = result.and_then(|count| (workload.finish)(&mut server.client).map(|_| count));
        let failed = |error| {
            let error = std::io::Error::from_raw_os_error(error);
            anyhow!("{} with {}: {error}", workload.name, server.kind.name())
        };
        let count = result.map_err(failed)? as f64;
        Ok(Self {
            rate: count / elapsed,
            processor: used.as_secs_f64() * 1e6 / count,
        })
    }
}

/// A median and how far the measurements spread around it.
#[derive(Debug, Clone, Copy, Serialize)]
struct Figure {
    median: f64,
    /// Distance of the quartiles in percent of the median.
    spread_percent: f64,
}

impl Figure {
    fn new(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<_> = values.collect();
        values.sort_by(f64::total_cmp);
        let at = |part: f64| {
            let place = part * (values.len().saturating_sub(1)) as f64;
            let (low, high) = (place.floor() as usize, place.ceil() as usize);
            let value = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
            value(low) + (value(high) - value(low)) * place.fract()
        };
        let median = at(0.5);
        Self {
            median,
            spread_percent: (at(0.75) - at(0.25)) / median * 100.0,
        }
    }
}

/// The results of one server.
#[derive(Debug, Serialize)]
struct Entry {
    server: &'static str,
    /// Units of work in a second.
    rate: Figure,
    /// The server's processor time for one unit, in microseconds.
    processor_us: Figure,
    /// How many times as fast boxbuild's server is.
    ratio_rate: f64,
    /// This server's processor time divided by that of boxbuild's.
    ratio_processor: f64,
}

#[derive(Debug, Serialize)]
struct Row {
    workload: &'static str,
    unit: &'static str,
    entries: Vec<Entry>,
}

/// All results; the first server is boxbuild's.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    servers: Vec<&'static str>,
    rows: Vec<Row>,
}

impl Report {
    pub(crate) fn new(servers: impl Iterator<Item = &'static str>) -> Self {
        Self {
            servers: servers.collect(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, workload: &Workload, samples: &[Vec<Sample>]) {
        let figures: Vec<_> = samples
            .iter()
            .map(|samples| {
                let rate = Figure::new(samples.iter().map(|sample| sample.rate));
                let processor = Figure::new(samples.iter().map(|sample| sample.processor));
                (rate, processor)
            })
            .collect();
        let Some((own_rate, own_processor)) = figures.first().copied() else {
            return;
        };
        let entries = self
            .servers
            .iter()
            .zip(&figures)
            .map(|(server, (rate, processor))| Entry {
                server,
                rate: *rate,
                processor_us: *processor,
                ratio_rate: own_rate.median / rate.median,
                ratio_processor: processor.median / own_processor.median,
            })
            .collect();
        self.rows.push(Row {
            workload: workload.name,
            unit: workload.unit,
            entries,
        });
    }

    pub(crate) fn print_last(&self) {
        let Some(row) = self.rows.last() else { return };
        if self.rows.len() == 1 {
            println!(
                "{:<30} {:<18} {:>21}  {:>19}  {:>6} {:>6}",
                "workload", "server", "rate in 1/s", "server us per unit", "faster", "cpu"
            );
        }
        for entry in &row.entries {
            println!(
                "{:<30} {:<18} {:>12.0} ± {:>4.1} %  {:>10.2} ± {:>4.1} %  {:>5.2}x {:>5.2}x",
                format!("{} ({})", row.workload, row.unit),
                entry.server,
                entry.rate.median,
                entry.rate.spread_percent / 2.0,
                entry.processor_us.median,
                entry.processor_us.spread_percent / 2.0,
                entry.ratio_rate,
                entry.ratio_processor,
            );
        }
    }
}
