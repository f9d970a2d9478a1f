//! Commands on descriptions: `boxbuild info` and `boxbuild check`.

mod check;
mod deep;
mod info;
mod text;

pub(super) use check::check;
pub(super) use info::info;
