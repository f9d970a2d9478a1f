//! What a build may fetch over the network before it starts: boxes and container images.

use clap::Args;

/// See the module.
#[derive(Debug, Default, Args)]
pub struct FetchOptions {
    /// Use what is on this machine, without a look for something newer; fetch what is missing.
    #[arg(long)]
    pub no_update_check: bool,
    /// Fetch nothing: use what is on this machine. The build itself has a network (see
    /// --network).
    #[arg(long)]
    pub offline: bool,
}

/// What may be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetch {
    /// Whatever is newer than what is here. What is here will do if nothing can be reached.
    Newer,
    /// What is not here.
    Missing,
    /// Nothing.
    Nothing,
}

impl FetchOptions {
    /// What the options come to.
    pub fn policy(&self) -> Fetch {
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
