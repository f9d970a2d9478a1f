//! Times every workload: `cargo bench --package boxbuild-workloads [-- FILTER]`.

#![allow(
    clippy::expect_used,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a program for the terminal"
)]

use boxbuild_workloads::workloads;
use criterion::{Criterion, Throughput};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for workload in workloads() {
        let (group, name) = workload.name.split_once('/').unwrap_or(("", workload.name));
        let mut group = criterion.benchmark_group(group);
        group.throughput(match workload.bytes {
            Some(bytes) => Throughput::Bytes(bytes),
            None => Throughput::Elements(workload.count),
        });
        group.bench_function(name, |bencher| {
            let mut running = (workload.make)().expect(workload.name);
            bencher.iter(|| running.round().expect(workload.name));
        });
        group.finish();
    }
    criterion.final_summary();
}
