//! The name server of a guest's network: it answers as this host's own resolver would.
//!
//! A question goes to the host's name servers, one after the other (`relay`); names of the host's
//! `/etc/hosts` and of its search list are known too. `message` reads and writes the messages.

mod hosts;
mod message;
mod relay;
mod resolv_conf;
mod servers;
mod upstream;

pub use hosts::HostName;
pub(super) use hosts::{FILE as HOSTS, parse as parse_hosts};
pub(super) use relay::{Relay, Surroundings};
pub use resolv_conf::Resolver;
pub(super) use resolv_conf::{FILE as RESOLV_CONF, interface};

/// Bodies for fuzzers: any bytes as a message of the guest's, of a name server's, and as files.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz {
    pub(crate) use super::message::fuzz as message;

    /// Any bytes as files of the host, which others may have written in part (DHCP).
    pub(crate) fn files(bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        let resolver = super::Resolver::parse(&text, |_| Some(7));
        assert!(
            resolver.servers.len() <= 3 && resolver.search.len() <= super::resolv_conf::SEARCHES
        );
        let names = super::parse_hosts(&text);
        let bytes: usize = names.iter().map(super::HostName::cost).sum();
        assert!(bytes <= super::hosts::MOST);
    }
}

#[cfg(test)]
pub(super) use message::tests as test_messages;
