//! The few devices of an old PC that a kernel expects to find or to be able to ask for.

mod cmos;
mod debug_port;
pub(crate) mod i8042;
pub(crate) mod power;
mod serial;

pub use cmos::Cmos;
pub use debug_port::{DebugPort, Mark};
pub use i8042::I8042;
pub use power::Power;
pub use serial::{Serial, SerialInterrupt};
