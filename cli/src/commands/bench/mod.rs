//! `boxbuild bench`: what matters to a build, measured on this host in about a minute.
//!
//! Share, disk and network are boxbuild's own devices in this process, driven as a guest's driver
//! drives them, so they can be measured where no engine runs. The boot is a real one, of an
//! installed box, by the engine that builds would use.

mod boot;
mod devices;
mod report;

use boxbuild_boxes::store::Store;
use boxbuild_host::interrupt::Interrupt;
use boxbuild_host::reporter::Reporter;

use super::signals;
use crate::args::BenchArgs;
use crate::exit_code::{ExitCode, Result};
use crate::output::json::print_document;
use crate::output::print::print_text;
use crate::output::progress::Progress;
use report::Report;

/// Measures, and prints the figures.
pub(super) fn run(args: &BenchArgs) -> Result<ExitCode> {
    let interrupt = signals::take_over()?;
    let mut progress = Progress::new(false);
    let mut report = Report::new();
    measure_boot(args, &mut report, &interrupt, &mut progress)?;
    let mut shown = "";
    devices::measure_all(&mut report, args.time, &interrupt, |part| {
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
        print_document(&report)?;
    } else {
        print_text(&report.table())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Measures the boot of the box that the options name, or of the first one that is installed.
fn measure_boot(
    args: &BenchArgs,
    report: &mut Report,
    interrupt: &Interrupt,
    progress: &mut Progress,
) -> Result<()> {
    let installed = Store::of_user()?.names()?.into_iter().next();
    let Some(name) = args.boot_box.clone().or(installed) else {
        report.skipped.push(String::from(
            "boot: no box is installed (boxbuild box create debian --from debian:trixie)",
        ));
        return Ok(());
    };
    match boot::measure(report, &name, args.boot_engine, interrupt, progress) {
        // The other figures are worth having if the box was not asked for.
        Err(error) if args.boot_box.is_none() => {
            let skipped = format!("boot of the box {name}: {error}");
            report.skipped.push(skipped);
            Ok(())
        }
        result => Ok(result?),
    }
}
