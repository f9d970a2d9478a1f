//! The network of a machine, from what it may reach.

use boxbuild_vmm::net::{self, HostNetwork, NetworkConfig, Policy};

use crate::machine::Forward;

/// Returns the configuration of a network that reaches what `policy` says. The host's own is read now.
pub(crate) fn network(policy: Policy, forward: Option<Forward>) -> NetworkConfig {
    NetworkConfig {
        policy,
        host: HostNetwork::read(),
        forward: forward.map(|forward| net::Forward {
            listener: forward.listener,
            port: forward.port,
        }),
    }
}
