//! A KIWI description as the host sees it before a box is started: found by kiwi's own rules, read
//! within limits, and checked as far as that can be done without kiwi.
//!
//! What this package calls an error is what every kiwi refuses. What only some kiwi may refuse, and
//! what cannot be seen from the host, is a note: a build is never refused that kiwi would accept.

mod build_type;
mod element;
mod files;
mod find;
mod finding;
mod halves;
mod include;
mod inspect;
mod links;
mod markup;
mod needs;
mod programs;
mod selection;
mod summary;
mod text;
mod view;
mod xml;

pub use build_type::{BuildType, FileSystem, is_packed};
pub use element::{Element, Place};
pub use find::KIWI_FILES;
pub use finding::{Finding, Severity};
pub use halves::{Half, Halves, Section};
pub use include::Included;
pub use inspect::{Description, Format, Inspection, Wanted};
pub use needs::{Need, NeedKind};
pub use programs::{MODULES, PROGRAMS};
pub use selection::{Profile, Selected, Target};
pub use summary::{PackageGroup, Preferences, Repository, Summary, Type, User};
pub use view::{BoxView, Resolved};
