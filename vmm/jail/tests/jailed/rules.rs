//! For every rule: the right arguments pass, and wrong ones end the process.

use boxbuild_jail::Role;

use crate::Test;

pub const ROLES: &[Role] = &[];
pub const TESTS: &[Test] = &[];
