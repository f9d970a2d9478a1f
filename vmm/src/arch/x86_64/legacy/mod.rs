//! The few devices of an old PC that a kernel expects to find or to be able to ask for.

pub mod cmos;
pub mod i8042;
pub mod power;
