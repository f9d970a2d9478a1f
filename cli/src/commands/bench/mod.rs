//! `boxbuild bench`: what matters to a build, on this machine, in about a minute.
//!
//! Share, disk and network are boxbuild's own devices in this process, driven as a guest's driver
//! drives them, so they can be measured where nothing can run a guest. The boot is a real one,
//! of an installed box by the engine that builds would use.

mod boot;
mod devices;

use std::time::Duration;

use serde::Serialize;

use boxbuild_boxes::store::Store;
use boxbuild_host::interrupt::Interrupt;
use boxbuild_host::reporter::Reporter;

use crate::args::BenchArgs;
use crate::exit_code::{ExitCode, HostContext, Result};
use crate::output::print::print_text;
use crate::output::progress::Progress;

/// Measures, and prints the figures.
pub(crate) fn run(args: &BenchArgs) -> Result<ExitCode> {
    let interrupt = Interrupt::install().host_context(|| "cannot take over signals")?;
    let mut progress = Progress::new(false);
    let mut report = Report::new();
    let installed = Store::of_user()?.names()?.into_iter().next();
    match args.boot_box.clone().or(installed) {
        Some(name) => {
            let boot = boot::boot(
                &mut report,
                &name,
                args.boot_engine,
                &interrupt,
                &mut progress,
            );
            match boot {
                // A box that was not asked for must not take the other figures away.
                Err(error) if args.boot_box.is_none() => {
                    report
                        .skipped
                        .push(format!("boot of the box {name}: {error}"));
                }
                boot => boot?,
            }
        }
        None => report.skipped.push(String::from(
            "boot: no box is installed (boxbuild box create debian --from debian:trixie)",
        )),
    }
    let mut shown = "";
    devices::devices(&mut report, args.time, &interrupt, |part| {
        if part != shown {
            shown = part;
            progress.begin(part);
        }
    });
    progress.finish(interrupt.count() == 0);
    if interrupt.count() > 0 {
        return Ok(ExitCode::INTERRUPTED);
    }
    if args.json {
        let json = serde_json::to_string_pretty(&report).host_context(|| "cannot write JSON")?;
        print_text(&format!("{json}\n"))?;
    } else {
        print_text(&report.table())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Figure {
    /// boot, share, disk, network.
    pub(crate) part: &'static str,
    /// What was done.
    pub(crate) name: String,
    /// The median.
    pub(crate) median: f64,
    /// The best and the worst of what the median is of; the same as it if it is one.
    pub(crate) range: [f64; 2],
    /// What the figures count: "MiB/s", "1/s", "s".
    pub(crate) unit: &'static str,
}

/// All figures.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Report {
    /// What they were measured with.
    pub(crate) version: &'static str,
    /// Processors that this process may use.
    pub(crate) processors: usize,
    /// The engine of the boot, if there was one.
    pub(crate) engine: Option<String>,
    /// Figures, by part.
    pub(crate) figures: Vec<Figure>,
    /// What was not measured, and why.
    pub(crate) skipped: Vec<String>,
}

impl Report {
    /// A report without figures.
    pub(crate) fn new() -> Report {
        Report {
            version: env!("CARGO_PKG_VERSION"),
            processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            ..Report::default()
        }
    }

    /// A small table.
    pub(crate) fn table(&self) -> String {
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

/// Three digits that matter.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A figure of one measurement.
fn single(part: &'static str, name: &str, time: Duration) -> Figure {
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
