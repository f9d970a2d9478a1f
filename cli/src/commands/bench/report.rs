//! The figures of `boxbuild bench`, and how they are printed.

use std::time::Duration;

use serde::Serialize;

/// A measurement.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Figure {
    /// `boot`, `share`, `disk` or `network`.
    pub(super) part: &'static str,
    /// The operation.
    pub(super) name: String,
    /// The median.
    pub(super) median: f64,
    /// The lowest and the highest value; both are the median of a single measurement.
    pub(super) range: [f64; 2],
    /// The unit of the values: `MiB/s`, `1/s` or `s`.
    pub(super) unit: &'static str,
}

/// All measurements.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Report {
    /// Version of boxbuild.
    pub(super) version: &'static str,
    /// Processors that this process may use.
    pub(super) processors: usize,
    /// The engine of the boot, if there was one.
    pub(super) engine: Option<String>,
    /// The measurements, by part.
    pub(super) figures: Vec<Figure>,
    /// What was not measured, and why.
    pub(super) skipped: Vec<String>,
}

impl Report {
    /// A report without measurements.
    pub(super) fn new() -> Report {
        Report {
            version: env!("CARGO_PKG_VERSION"),
            processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            ..Report::default()
        }
    }

    /// Returns the report for people.
    pub(super) fn table(&self) -> String {
        let engine = self.engine.as_deref();
        let mut text = format!(
            "boxbuild {} on {} CPUs{}\n",
            self.version,
            self.processors,
            engine.map_or(String::new(), |engine| format!(", engine {engine}"))
        );
        let mut part = "";
        for figure in &self.figures {
            let shown = if figure.part == part { "" } else { figure.part };
            part = figure.part;
            let [low, high] = figure.range;
            let range = if low == high {
                String::new()
            } else {
                format!("  ({} to {})", number(low), number(high))
            };
            text += &format!(
                "  {shown:<8} {:<34} {:>10} {}{range}\n",
                figure.name,
                number(figure.median),
                figure.unit
            );
        }
        for skipped in &self.skipped {
            text += &format!("  not measured: {skipped}\n");
        }
        text += "  share, disk and network: boxbuild's devices in this process, one thread, \
                 without a guest\n";
        text
    }
}

/// Returns a number with three significant digits.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A single measurement of a time.
pub(super) fn single(part: &'static str, name: &str, time: Duration) -> Figure {
    let seconds = time.as_secs_f64();
    Figure {
        part,
        name: name.to_owned(),
        median: seconds,
        range: [seconds; 2],
        unit: "s",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_figures_and_what_is_missing() {
        let mut report = Report::new();
        report.engine = Some(String::from("qemu"));
        report.figures.push(single(
            "boot",
            "to kiwi's first line",
            Duration::from_millis(7120),
        ));
        report.figures.push(Figure {
            part: "disk",
            name: String::from("read 4 KiB"),
            median: 912.4,
            range: [800.0, 1000.0],
            unit: "MiB/s",
        });
        report.skipped.push(String::from("something: a reason"));
        let text = report.table();
        assert!(text.contains("engine qemu"), "{text}");
        assert!(text.contains("7.12 s\n"), "{text}");
        assert!(text.contains("912 MiB/s  (800 to 1000)"), "{text}");
        assert!(text.contains("not measured: something: a reason"), "{text}");
    }
}
