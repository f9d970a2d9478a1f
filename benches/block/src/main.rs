//! Measures disks against QEMU's block layer, with the same client in the same run.
//!
//! The client is a driver: it fills a virtqueue, notifies and waits for interrupts, with as many
//! requests in flight as the workload says. Ours is the virtio device with its threads in this
//! process; QEMU's is qemu-storage-daemon over vhost-user. Both have the same image below, and
//! a fresh overlay for each measurement; they take turns, round by round and in alternating
//! order.

#![allow(
    clippy::expect_used,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a program for the terminal"
)]

mod ours;
mod qemu;
mod ring;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Parser;
use serde::Serialize;
use vm_memory::GuestMemory;

use ours::Ours;
use qemu::Qemu;
use ring::{Action, Job, Ring};

/// Measures disks against QEMU's block layer.
#[derive(Debug, Parser)]
struct Options {
    /// How often each workload is measured.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Size of the disk in MiB.
    #[arg(long, default_value_t = 512)]
    mib: u64,
    /// Where the images are made, about four times that size.
    #[arg(long, default_value = "/dev/shm")]
    dir: PathBuf,
    /// A box's image (qcow2) to read from as well.
    #[arg(long)]
    image: Option<PathBuf>,
    /// How QEMU does input and output: threads or io_uring.
    #[arg(long, default_value = "threads")]
    aio: String,
    /// Measures only workloads whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// File for the results.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// One side of a workload, in MB/s.
#[derive(Debug, Serialize)]
struct Side {
    median: f64,
    /// Distance of the lowest and the highest in percent of the median.
    spread_percent: f64,
}

impl Side {
    /// From values in order.
    fn new(values: &[f64]) -> Side {
        let median = values[values.len() / 2];
        Side {
            median,
            spread_percent: (values[values.len() - 1] - values[0]) / median * 100.0,
        }
    }
}

#[derive(Debug, Serialize)]
struct Row {
    workload: String,
    boxbuild: Side,
    qemu: Side,
    /// Median of the rounds' ratios.
    ratio: f64,
    /// The lowest and the highest of them.
    ratio_range: [f64; 2],
}

/// The image below a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Base {
    Plain,
    Compressed,
    /// Plain, written in place.
    InPlace,
    /// [`Options::image`].
    Box,
}

struct Workload {
    name: &'static str,
    job: Job,
    random: bool,
    queues: u16,
}

const fn workload(name: &'static str, action: Action, size: u32, depth: u16) -> Workload {
    Workload {
        name,
        job: Job {
            action,
            size,
            depth,
        },
        random: size == PAGE,
        queues: 1,
    }
}

const PAGE: u32 = 4096;
const WORKLOADS: [Workload; 6] = [
    workload("read 256K sequential", Action::Read, 256 << 10, 4),
    workload("read 4K random", Action::Read, PAGE, 32),
    workload("read 4K random, one at a time", Action::Read, PAGE, 1),
    Workload {
        queues: 2,
        ..workload("read 4K random, 2 queues", Action::Read, PAGE, 32)
    },
    workload("write 256K sequential", Action::Write, 256 << 10, 4),
    workload("write 4K random", Action::Write, PAGE, 32),
];

fn main() -> Result<()> {
    let options = Options::parse();
    let work = tempfile::Builder::new()
        .prefix("boxbuild-bench-")
        .tempdir_in(&options.dir)?;
    let raw = work.path().join("raw");
    fill(&raw, options.mib)?;
    let plain = convert(&raw, work.path(), "plain", &[])?;
    let packed = convert(&raw, work.path(), "compressed", &["-c"])?;
    println!(
        "{:<48} {:>12} {:>12} {:>7} {:>15}",
        "workload", "ours MB/s", "QEMU MB/s", "ratio", "in the rounds"
    );
    let mut bases = vec![
        (Base::Plain, "plain + overlay", plain.as_path()),
        (Base::Compressed, "compressed + overlay", packed.as_path()),
        (Base::InPlace, "in place", plain.as_path()),
    ];
    if let Some(image) = &options.image {
        bases.push((Base::Box, "box + overlay", image));
    }
    let mut rows = Vec::new();
    for (base, label, image) in bases {
        for workload in &WORKLOADS {
            let write = workload.job.action == Action::Write;
            let name = format!("{label}: {}", workload.name);
            let wanted = match base {
                Base::Plain => true,
                Base::Compressed | Base::Box => !write && workload.queues == 1,
                Base::InPlace => write,
            };
            if wanted && name.contains(&options.only) {
                let row = measure(&options, work.path(), (base, image), workload, &name)?;
                rows.push(row);
            }
        }
    }
    if let Some(path) = &options.json {
        let file =
            File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        serde_json::to_writer_pretty(file, &rows)?;
    }
    Ok(())
}

/// Data of which a quarter is zeros and the rest shrinks to about half, as programs do.
fn fill(path: &Path, mib: u64) -> Result<()> {
    let mut file = std::io::BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for block in 0..mib * 256 {
        let mut page = [0_u8; PAGE as usize];
        if block / 64 % 4 != 3 {
            for word in page.chunks_exact_mut(16) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                word[..8].copy_from_slice(&state.to_le_bytes());
            }
        }
        file.write_all(&page)?;
    }
    file.flush()?;
    Ok(())
}

fn convert(raw: &Path, dir: &Path, name: &str, options: &[&str]) -> Result<PathBuf> {
    let path = dir.join(name);
    let status = Command::new("qemu-img")
        .args(["convert", "-f", "raw", "-O", "qcow2"])
        .args(options)
        .args([raw, &path])
        .status()
        .context("cannot start qemu-img")?;
    if !status.success() {
        bail!("qemu-img cannot make the image {name}");
    }
    Ok(path)
}

/// Where the requests of a queue go: random offsets are the same for both sides.
fn offsets(workload: &Workload, bytes: u64, queue: u64, base: Base) -> Vec<u64> {
    let size = u64::from(workload.job.size);
    let blocks = bytes / size;
    if !workload.random {
        return (0..blocks).map(|block| block * size).collect();
    }
    let count = match base {
        Base::Compressed => 10_000,
        _ => 60_000 / u64::from(workload.queues),
    };
    let mut state = 0x9e37_79b9_7f4a_7c15 ^ (queue + 1);
    let random = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % blocks * size
    });
    random.take(count as usize).collect()
}

/// Runs all queues at once; returns MB/s.
fn run<M>(rings: Vec<Ring<'_, M>>, workload: &Workload, bytes: u64, base: Base) -> Result<f64>
where
    M: GuestMemory + Sync,
{
    let work: Vec<_> = rings
        .into_iter()
        .zip(0..)
        .map(|(ring, queue)| (ring, offsets(workload, bytes, queue, base)))
        .collect();
    let count: usize = work.iter().map(|(_, offsets)| offsets.len()).sum();
    let start = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = work
            .into_iter()
            .map(|(mut ring, offsets)| scope.spawn(move || ring.run(workload.job, &offsets)))
            .collect();
        threads.into_iter().try_for_each(|thread| {
            let joined = thread.join();
            joined.unwrap_or_else(|_| bail!("a client's thread panicked"))
        })
    })?;
    let moved = count as f64 * f64::from(workload.job.size);
    Ok(moved / start.elapsed().as_secs_f64() / 1e6)
}

fn measure(
    options: &Options,
    work: &Path,
    (base, image): (Base, &Path),
    workload: &Workload,
    name: &str,
) -> Result<Row> {
    let bytes = match base {
        // The first part of a disk is where its files are.
        Base::Box => 1 << 30,
        _ => options.mib << 20,
    };
    let fresh = work.join("fresh.qcow2");
    let image = |side: &str| -> Result<PathBuf> {
        if base == Base::InPlace {
            // An image without data, so that clusters are to be found.
            let path = fresh.with_extension(side);
            let status = Command::new("qemu-img")
                .args(["create", "-q", "-f", "qcow2"])
                .arg(&path)
                .arg(bytes.to_string())
                .status()?;
            if !status.success() {
                bail!("qemu-img cannot make an image");
            }
            return Ok(path);
        }
        Ok(image.to_owned())
    };
    let ours = || -> Result<f64> {
        let image = image("ours")?;
        let disk = match base {
            Base::InPlace => Ours::in_place(&image, workload.queues)?,
            _ => Ours::overlay(&image, work, workload.queues)?,
        };
        run(disk.rings()?, workload, bytes, base)
    };
    let qemu = || -> Result<f64> {
        let image = image("qemu")?;
        let disk = match base {
            Base::InPlace => Qemu::start(&image, work, workload.queues, &options.aio)?,
            _ => Qemu::overlay(&image, work, workload.queues, &options.aio)?,
        };
        run(disk.rings()?, workload, bytes, base)
    };
    let (mut all, mut ratios) = ([Vec::new(), Vec::new()], Vec::new());
    for round in 0..=options.rounds {
        let (a, b) = if round % 2 == 0 {
            let a = ours()?;
            (a, qemu()?)
        } else {
            let b = qemu()?;
            (ours()?, b)
        };
        // The first round warms up.
        if round > 0 {
            all[0].push(a);
            all[1].push(b);
            ratios.push(a / b);
        }
    }
    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let [ours, qemu] = &mut all;
    let (a, b, ratio) = (median(ours), median(qemu), median(&mut ratios));
    let (low, high) = (ratios[0], ratios[ratios.len() - 1]);
    println!("{name:<48} {a:>12.1} {b:>12.1} {ratio:>6.2}x {low:>7.2}-{high:.2}");
    Ok(Row {
        workload: name.to_owned(),
        boxbuild: Side::new(ours),
        qemu: Side::new(qemu),
        ratio,
        ratio_range: [low, high],
    })
}
