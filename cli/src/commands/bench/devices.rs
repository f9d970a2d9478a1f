//! Share, disk and network in this process.

use std::time::{Duration, Instant};

use boxbuild_workloads::{Workload, find};

use super::report::{Figure, Report};
use boxbuild_host::interrupt::Interrupt;

/// The measurements: part, name, workload of package boxbuild-workloads.
const MEASURED: [(&str, &str, &str); 10] = [
    ("share", "look a name up", "fuse/lookup-forget"),
    ("share", "create and remove a file", "fuse/create-unlink"),
    ("share", "read 4 KiB", "fuse/read-4k"),
    ("share", "write 4 KiB", "fuse/write-4k"),
    ("share", "read 256 KiB", "fuse/read-256k"),
    ("disk", "read 4 KiB at random", "block/read-4k"),
    ("disk", "write 4 KiB at random", "block/write-4k"),
    ("disk", "read 256 KiB", "block/read-256k"),
    ("network", "send 32 KiB segments", "net/send-32k"),
    ("network", "receive 32 KiB segments", "net/receive-32k"),
];

/// Slices of a measurement; the result is their median.
const SLICES: u32 = 9;

/// The warm-up takes this fraction (1/n) of the time of a measurement.
const WARM_UP: u32 = 10;

/// Measures each for `time`. One that fails is reported as skipped.
pub(super) fn measure_all(
    report: &mut Report,
    time: Duration,
    interrupt: &Interrupt,
    mut step: impl FnMut(&'static str),
) {
    for (part, name, workload) in MEASURED {
        if interrupt.count() > 0 {
            return;
        }
        step(part);
        let Some(workload) = find(workload) else {
            continue;
        };
        match measure(workload, time) {
            Ok((unit, rates)) => report.figures.push(figure(part, name, unit, rates)),
            Err(error) => report.skipped.push(format!("{part}, {name}: {error:#}")),
        }
    }
}

/// Returns the rate of each slice, and its unit.
fn measure(workload: Workload, time: Duration) -> anyhow::Result<(&'static str, Vec<f64>)> {
    let mut running = (workload.make)()?;
    let warm = Instant::now();
    while warm.elapsed() < time / WARM_UP {
        running.round()?;
    }
    let (unit, each) = match workload.bytes {
        Some(bytes) => ("MiB/s", bytes as f64 / f64::from(1 << 20)),
        None => ("1/s", workload.count as f64),
    };
    let mut rates = Vec::new();
    for _ in 0..SLICES {
        let (start, mut rounds) = (Instant::now(), 0_u32);
        while rounds == 0 || start.elapsed() < time / SLICES {
            running.round()?;
            rounds += 1;
        }
        rates.push(f64::from(rounds) * each / start.elapsed().as_secs_f64());
    }
    Ok((unit, rates))
}

fn figure(part: &'static str, name: &str, unit: &'static str, mut rates: Vec<f64>) -> Figure {
    rates.sort_by(f64::total_cmp);
    let at = |index: usize| rates.get(index).copied().unwrap_or(f64::NAN);
    Figure {
        part,
        name: name.to_owned(),
        median: at(rates.len() / 2),
        range: [at(0), at(rates.len().saturating_sub(1))],
        unit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_devices_are_measured() {
        let mut report = Report::new();
        let interrupt = Interrupt::install().unwrap();
        measure_all(&mut report, Duration::from_millis(20), &interrupt, |_| {});
        assert_eq!(report.skipped, Vec::<String>::new());
        assert_eq!(report.figures.len(), MEASURED.len());
        for figure in &report.figures {
            let [low, high] = figure.range;
            assert!(
                low > 0.0 && low <= figure.median && figure.median <= high,
                "{figure:?}"
            );
        }
    }
}
