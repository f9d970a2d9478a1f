//! Times every path: `cargo bench --package boxbuild-bench-paths [-- FILTER]`.

use boxbuild_bench_paths::paths;
use criterion::{Criterion, Throughput};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for path in paths() {
        let (group, name) = path.name.split_once('/').unwrap_or(("", path.name));
        let mut group = criterion.benchmark_group(group);
        group.throughput(match path.bytes {
            Some(bytes) => Throughput::Bytes(bytes),
            None => Throughput::Elements(path.count),
        });
        group.bench_function(name, |bencher| {
            let mut workload = (path.make)().expect(path.name);
            bencher.iter(|| workload.round().expect(path.name));
        });
        group.finish();
    }
    criterion.final_summary();
}
