//! What a plan has to know of the host.

use std::ffi::OsString;
use std::path::PathBuf;

use boxbuild_engine::podman;
use boxbuild_host::memory::HostMemory;

use crate::terminal;

/// What a plan has to know of the host and of this process.
#[derive(Debug, Clone)]
pub struct HostFacts {
    /// Environment variables.
    pub environment: Vec<(OsString, OsString)>,
    /// Processors that this process may use.
    pub cpus: u32,
    /// Memory of the host in MiB, if it is known.
    pub memory_mib: Option<u64>,
    /// Why there is no terminal to type on, if so, in words that complete the name of an option.
    pub no_terminal: Option<&'static str>,
    /// The folder of the user's ssh keys.
    pub ssh_keys: Option<PathBuf>,
    /// Memory of the host, and limits over this process.
    pub memory: HostMemory,
    /// Says why a container cannot have a network of its own here, if so.
    pub no_container_network: fn() -> Option<String>,
}

impl HostFacts {
    /// Those of this process.
    pub fn of_process() -> HostFacts {
        let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
        HostFacts {
            environment: std::env::vars_os().collect(),
            cpus: std::thread::available_parallelism()
                .map_or(1, |count| u32::try_from(count.get()).unwrap_or(1)),
            memory_mib: nix::sys::sysinfo::sysinfo()
                .ok()
                .map(|info| info.ram_total() >> 20),
            no_terminal: terminal::needed().err(),
            ssh_keys: home.map(|home| PathBuf::from(home).join(".ssh")),
            memory: HostMemory::now(),
            no_container_network: || {
                let found = podman::check_private_network();
                found.err().map(|error| error.to_string())
            },
        }
    }
}
