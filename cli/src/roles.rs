//! What this program does as a jailed process of itself.

use boxbuild_jail::Role;

/// All roles. Each is defined beside what starts it.
pub(crate) const ROLES: &[Role] = &[
    boxbuild_engine::kvm::ROLE,
    boxbuild_engine::qemu::shares::ROLE,
    boxbuild_package_cache::ROLE,
    boxbuild_parsers::ROLE,
];
