//! How a device ends the machine.

use std::fmt;
use std::sync::Arc;

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
}

impl fmt::Debug for FailureSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FailureSink")
    }
}
