//! The hot paths of devices and file formats, as workloads that do the same in each run.
//!
//! Each has a driver-side mock of its queue and calls the device on the calling thread. The
//! criterion benches time them; the regression guard counts their instructions (in the lab);
//! `boxbuild bench` has longer ones of its own.

mod block;
pub mod driver;
mod formats;
mod fuse;
mod net;
mod qcow2;
mod queue;

use anyhow::Result;

/// Work that can be repeated.
pub trait Workload {
    /// Does it once.
    ///
    /// # Errors
    /// If a device does not answer as it should: the measurement is worth nothing then.
    fn round(&mut self) -> Result<()>;
}

/// A workload that can be made.
#[derive(Debug, Clone, Copy)]
pub struct Path {
    /// Its name: group and what is done.
    pub name: &'static str,
    /// What one round consists of: how many, of what.
    pub count: u64,
    /// See `count`.
    pub unit: &'static str,
    /// Bytes that one round moves, if that is what it does.
    pub bytes: Option<u64>,
    /// Makes it.
    pub make: fn() -> Result<Box<dyn Workload>>,
}

/// All of them.
pub fn paths() -> Vec<Path> {
    [
        queue::PATHS,
        fuse::PATHS,
        block::PATHS,
        net::PATHS,
        formats::PATHS,
    ]
    .concat()
}

/// One of them.
pub fn find(name: &str) -> Option<Path> {
    paths().into_iter().find(|path| path.name == name)
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_path_works() {
        let mut names = Vec::new();
        for path in super::paths() {
            names.push(path.name);
            let mut workload = (path.make)().expect(path.name);
            for _ in 0..100 {
                workload.round().expect(path.name);
            }
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), super::paths().len(), "two have one name");
    }
}
