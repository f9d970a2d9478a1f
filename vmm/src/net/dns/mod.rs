//! The name server of a guest's network: it answers as this host's own resolver would.
//!
//! A question goes to the host's name servers, one after the other (`relay`); names of the host's
//! `/etc/hosts` and of its search list are known too. `message` reads and writes the messages.

mod asker;
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

/// A body for fuzzers: any bytes as a message of the guest's, as one of a name server's, and as files of
/// the host, which others may have written in part.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(bytes: &[u8]) {
    message::fuzz(bytes);
    let text = String::from_utf8_lossy(bytes);
    let resolver = Resolver::parse(&text, |_| Some(7));
    assert!(resolver.servers.len() <= 3 && resolver.search.len() <= resolv_conf::SEARCHES);
    let names = parse_hosts(&text);
    assert!(names.iter().map(HostName::cost).sum::<usize>() <= hosts::MOST);
}

#[cfg(test)]
pub(super) use message::tests as test_messages;
