//! How a device ends the machine.

use std::fmt;
use std::sync::Arc;

use super::fault::Fault;

/// Where a device reports that the machine cannot go on. Clones report to the same place.
#[derive(Clone)]
pub struct FailureSink(Arc<dyn Fn(String) + Send + Sync>);

impl FailureSink {
    /// Calls `report` with what happened, from any thread.
    pub fn new(report: impl Fn(String) + Send + Sync + 'static) -> FailureSink {
        FailureSink(Arc::new(report))
    }

    /// Reports that the machine cannot go on.
    pub(super) fn report(&self, text: String) {
        (self.0)(text);
    }

    /// Reports a device that needs a reset because of the host. A driver has nothing that it could
    /// do better the next time, and waits for its requests for ever. What the driver did wrong ends
    /// no machine.
    pub(super) fn report_if_hosts(&self, device: &str, fault: &Fault) {
        if let Fault::Host(reason) = fault {
            self.report(format!(
                "the device {device} cannot go on: {reason}; the host may have no room for its \
                 threads or descriptors: see ulimit -u and ulimit -n"
            ));
        }
    }
}

impl fmt::Debug for FailureSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FailureSink")
    }
}
