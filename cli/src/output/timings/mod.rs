//! `--timings`: the [`Timeline`](boxbuild_core::timeline::Timeline) of a run as a table and as a page.

mod chart;
mod format;
mod html;
mod show;
mod text;

pub(crate) use format::Format;
pub(crate) use html::Facts;
pub(crate) use show::show;
