//! Holds the two rules of the tree's layout: packages depend downward only, and nothing inside a
//! package goes in a circle.
//!
//! **Packages.** [`table::LAYERS`] is the order, from the bottom to the top. A package depends on
//! packages of lower rows only, which also separates those of one row from each other.
//!
//! **Inside a package** no files import each other in a circle: none of them could be read, tested or
//! moved alone. There is an arrow from one file to another where its code names something that the
//! other defines, by a `use` or by a path (`crate::`, `super::`, `self::`, or a module in scope).
//!
//! - A module may call its children by their names (`params::write(…)`) while they use what it
//!   defines, which is how Rust is written: such a path is no arrow. A module may not import from its
//!   children what imports from it.
//! - An arrow goes to the file that *defines* the name. Re-exports are followed, globs too.
//! - `mod child;` and a re-export (`pub use`, `pub(crate) use`) are no arrows: they are a module's
//!   table of contents. Where the code of the same file uses what it re-exports, that is one.
//! - To import a module (`use super::packet`) is no arrow, only what is taken out of it
//!   (`packet::parse`). A private `use … ::*` is an arrow to the module's own file.
//! - What stands under `#[cfg(test)]` or `#[test]` does not count.
//! - Calls of methods and uses of fields are not resolved, which would take a compiler. In macro
//!   calls, paths of two or more words count.

pub mod circles;
mod items;
pub mod modules;
pub mod packages;
mod resolve;
pub mod table;
