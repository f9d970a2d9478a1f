//! The lab: runs commands on an emulated machine that has a true /dev/kvm, and makes kernels and
//! guests for it (docs/lab.md).

#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a program for the terminal"
)]

mod arch;
mod emulator;
mod guests;
mod kernel;
mod machine;
mod options;
mod pack;
mod packages;
mod relay;
mod selftest;
mod tools;

use std::path::PathBuf;
use std::process::ExitCode;

use boxbuild_tests::{
    small_box::{self, Boxes},
    sshd,
};
use clap::Parser;

/// The exit code where the lab itself failed: the machine died, hung or never came up.
const LAB_FAILED: u8 = 125;

/// Runs a command on an emulated machine that has a true /dev/kvm.
///
/// COMMAND is an applet of busybox, a program of the host's PATH or a path of the host; it is put
/// into the machine with its shared libraries. It runs in /tmp, which is the machine's own. Its
/// output goes where that of this program goes, and its exit code is this program's; 125 if the lab
/// itself failed: the machine died, hung or never came up. Needs no root. More: docs/lab.md.
#[derive(Debug, Parser)]
#[command(
    name = "lab",
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    override_usage = "lab [OPTION]... -- COMMAND [ARGUMENT]...\n       lab kernel|guest|selftest|small-box|sshd ..."
)]
struct Arguments {
    #[command(flatten)]
    run: options::Options,
    #[command(subcommand)]
    task: Option<Task>,
}

#[derive(Debug, clap::Subcommand)]
enum Task {
    /// Print the folder of an unpacked kernel package of Debian
    Kernel(kernel::Options),
    /// Print the folder of a guest made of a Debian release's own packages
    Guest(guests::Options),
    /// Test the lab: says what it measured
    Selftest(selftest::Options),
    /// Make the small boxes of the end-to-end tests in a box store
    SmallBox {
        store: PathBuf,
        /// Only the box `small.ARCH` of this architecture
        arch: Option<arch::Arch>,
    },
    /// Make a folder with the distribution's sshd, for the boxroot/ of a description
    Sshd { folder: PathBuf },
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            let code = if error.use_stderr() { LAB_FAILED } else { 0 };
            return code.into();
        }
    };
    let result = match arguments.task {
        None => {
            return machine::run(arguments.run).unwrap_or_else(|error| {
                eprintln!("lab: {error:#}");
                LAB_FAILED.into()
            });
        }
        Some(Task::Kernel(options)) => kernel::run(&options).map(|path| print_path(&path)),
        Some(Task::Guest(options)) => guests::run(&options).map(|path| print_path(&path)),
        Some(Task::Selftest(options)) => selftest::run(&options),
        Some(Task::SmallBox { store, arch }) => {
            let which = arch.map_or(Boxes::All, |_| Boxes::OneMore);
            let arch = arch.unwrap_or(arch::Arch::HOST);
            small_box::make(&store, arch.name(), None, which)
        }
        Some(Task::Sshd { folder }) => sshd::make(&folder).map(|why_not| {
            if let Some(reason) = why_not {
                eprintln!("no sshd for the tests: {reason}");
            }
        }),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print_path(path: &std::path::Path) {
    println!("{}", path.display());
}
