//! The hot paths of devices and file formats, as workloads that do the same in each run.
//!
//! Each drives its device through queues in memory ([`driver`]) and calls it on the calling
//! thread. The criterion bench times them; the regression guard counts their instructions (in the
//! lab); `boxbuild bench` has longer ones of its own.

mod block;
pub mod driver;
mod formats;
mod fuse;
mod net;
mod qcow2;
mod queue;

use anyhow::Result;

/// A workload that is set up: device, driver and data.
pub trait Rounds {
    /// Does one round.
    ///
    /// # Errors
    /// If a device does not answer as it should: the measurement is worth nothing then.
    fn round(&mut self) -> Result<()>;
}

/// A workload that can be set up.
#[derive(Debug, Clone, Copy)]
pub struct Workload {
    /// Its name: group, slash, what is done.
    pub name: &'static str,
    /// How many [`Self::unit`]s one round does.
    pub count: u64,
    /// What is counted, as a plural: "requests".
    pub unit: &'static str,
    /// Bytes that one round moves, if that is what it does.
    pub bytes: Option<u64>,
    /// Sets it up.
    pub make: fn() -> Result<Box<dyn Rounds>>,
}

/// All workloads, in the order of their groups.
pub fn workloads() -> Vec<Workload> {
    [
        queue::WORKLOADS,
        fuse::WORKLOADS,
        block::WORKLOADS,
        net::WORKLOADS,
        formats::WORKLOADS,
    ]
    .concat()
}

/// Finds a workload by its name.
pub fn find(name: &str) -> Option<Workload> {
    workloads()
        .into_iter()
        .find(|workload| workload.name == name)
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_workload_works() {
        let mut names = Vec::new();
        for workload in super::workloads() {
            names.push(workload.name);
            let mut rounds = (workload.make)().expect(workload.name);
            for _ in 0..100 {
                rounds.round().expect(workload.name);
            }
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), super::workloads().len(), "two have one name");
    }
}
