//! Where the devices beside the PCI bus report what the guest says.

use std::fmt;

use super::mark::Mark;

/// Where the devices beside the PCI bus report what the guest says.
pub struct Outputs {
    /// Gets what the guest writes to its serial port, mostly whole lines.
    pub serial: Box<dyn FnMut(Vec<u8>) + Send>,
    /// Gets the moments that the guest marks, as far as the architecture has a way to.
    pub mark: Box<dyn Fn(Mark) + Send + Sync>,
}

impl fmt::Debug for Outputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outputs")
    }
}
