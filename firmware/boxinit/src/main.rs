//! Process 1 of a guest that is booted fast: brings up what a build needs, runs kiwi, and powers off.
//! No init system, no udev rules, no DHCP (docs/fast-boot.md, docs/guest-contract.md).
//!
//! It starts in the initial ramdisk, loads this machine's drivers, mounts the root file system,
//! switches to it, and stays process 1.

#![allow(clippy::print_stderr, reason = "standard error is the guest's console")]

mod guest;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    // The kernel calls its module helper as: PATH -q -- NAME (kernel/module/kmod.c).
    if arguments.len() == 4 && arguments[1] == "-q" && arguments[2] == "--" {
        return guest::modprobe(&arguments[3].to_string_lossy());
    }
    // In a container, which has no network yet: SOCKET [PORT…].
    if let [_, role, socket, ports @ ..] = arguments.as_slice()
        && role == boxbuild_protocol::container_network::ROLE
    {
        return guest::connect(socket, ports);
    }
    if std::process::id() != 1 {
        eprintln!("boxinit: this is process 1 of a box that boxbuild boots");
        return ExitCode::FAILURE;
    }
    guest::run()
}
