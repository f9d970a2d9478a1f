//! No guest.

use super::vm;
use crate::smoke::Unusable;

pub fn run() -> Result<(), Unusable> {
    Ok(vm::supported()?)
}
