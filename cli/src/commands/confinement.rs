//! `--require-confinement`.

use boxbuild_jail::Confinement;

use crate::exit_code::{ExitCode, Failure, Result};

/// Refuses a host that cannot confine processes.
pub(super) fn require() -> Result<()> {
    match Confinement::of_host().weakness() {
        None => Ok(()),
        Some(weakness) => Err(Failure::new(
            ExitCode::HOST,
            anyhow::anyhow!(
                "the kernel of this host cannot confine boxbuild's processes \
                 (--require-confinement): {weakness}"
            ),
        )),
    }
}
