//! Options on what may be fetched: boxes and container images before a build, and packages in it.

use boxbuild_core::request::Fetch;
use clap::Args;

/// Options on what may be fetched.
#[derive(Debug, Default, Args)]
pub(crate) struct FetchOptions {
    /// Use what is on this host without checking for updates; fetch what is missing.
    #[arg(long)]
    pub(crate) no_update_check: bool,
    /// Fetch nothing, before the build or in it: boxes are those on this host, packages come from the
    /// cache alone.
    #[arg(long)]
    pub(crate) offline: bool,
}

impl FetchOptions {
    /// Returns what may be fetched.
    pub(crate) fn policy(&self) -> Fetch {
        match (self.offline, self.no_update_check) {
            (true, _) => Fetch::Nothing,
            (_, true) => Fetch::Missing,
            _ => Fetch::Newer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stricter_option_counts() {
        let policy = |no_update_check, offline| {
            let options = FetchOptions {
                no_update_check,
                offline,
            };
            options.policy()
        };
        assert_eq!(policy(false, false), Fetch::Newer);
        assert_eq!(policy(true, false), Fetch::Missing);
        assert_eq!(policy(true, true), Fetch::Nothing);
        assert_eq!(policy(false, true), Fetch::Nothing);
    }
}
