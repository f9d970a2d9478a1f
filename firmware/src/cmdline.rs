//! Kernel command lines.

use std::ffi::{OsStr, OsString};

use boxbuild_protocol::kernel_args::{FIPS, NO_CRYPTO_TESTS, NO_INITCALLS};
use boxbuild_protocol::paths::INITRD_INIT;

/// A command line that cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CmdlineError {
    /// The kernel would truncate it.
    #[error(
        "the kernel command line has {length} bytes, but a {arch} kernel takes at most {limit}: \
         give fewer or shorter build options, or put them into the description"
    )]
    TooLong {
        /// Its length in bytes.
        length: usize,
        /// Bytes that the kernel takes, without the final NUL.
        limit: usize,
        /// The kernel's architecture.
        arch: String,
    },
    /// An argument of kiwi that the guest side of a published box would split or evaluate.
    #[error(
        "the build option {0:?} cannot reach this box: its guest side takes no spaces, quotes, \
         control or non-ASCII characters, and no '=_' (a box made by 'boxbuild box create' has no such limit)"
    )]
    Unsafe(OsString),
}

/// The processor that runs the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Processor {
    /// The host's own, through KVM.
    Virtualized,
    /// An emulated one.
    Emulated,
}

/// How the guest's kernel treats its cryptographic algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crypto {
    /// Without self-tests.
    Untested,
    /// In FIPS mode, which takes the self-tests.
    Fips,
}

/// The command line of a guest that boxbuild's own init brings up (see
/// [`crate::guest::FastBoot`]).
#[derive(Debug, Clone, Copy)]
pub struct FastCmdline<'a> {
    /// The guest's architecture, as `uname -m` prints it.
    pub arch: &'a str,
    /// The processor that runs it.
    pub processor: Processor,
    /// Its kernel's mode.
    pub crypto: Crypto,
    /// Its console, e.g. `hvc0`.
    pub console: &'a str,
    /// More words, e.g. the box's own `root=`.
    pub words: &'a [String],
}

/// `COMMAND_LINE_SIZE` of the kernel, with the final NUL: arch/{x86,arm64,powerpc}/include/…/setup.h
/// have 2048, arch/s390 has 4096 (the default of `CONFIG_COMMAND_LINE_SIZE`).
fn limit(arch: &str) -> usize {
    if arch == "s390x" { 4096 } else { 2048 }
}

/// For every boot: a kernel that panics reboots at once, which ends the machine (the engines do not
/// let it reboot). One that oopses would go on without the task that it killed, and with its locks: what
/// needs one of them waits for ever.
const COMMON: &[&str] = &["panic=-1", "oops=panic"];

/// For every fast boot: leaves out what a throw-away guest that runs one command does not need.
const FAST: &[&str] = &[
    // Errors and panics still reach the console; boxbuild's init prints the log's last lines after
    // an error.
    "quiet",
    // The guest runs one user's build once: there is nothing to protect in it from itself.
    "mitigations=off",
    "nokaslr",
    "apparmor=0",
    "selinux=0",
    "audit=0",
    // Hardening of the kernel against its own users: costs instructions in each system call.
    "init_on_alloc=0",
    "hardened_usercopy=off",
    "randomize_kstack_offset=off",
    "kfence.sample_interval=0",
    // The watchdog tells of a CPU that is stuck, after twice this time in seconds: an emulated
    // processor on a busy host is slow. The one of NMIs needs a counter of the processor.
    "nmi_watchdog=0",
    "watchdog_thresh=30",
    "random.trust_cpu=on",
    // udev's names need udev rules at the right time; there is one interface.
    "net.ifnames=0",
    // Shortens the kernel's many waits for RCU grace periods.
    "rcupdate.rcu_expedited=1",
];

/// For fast boots of x86 guests.
const FAST_X86: &[&str] = &[
    "nopti",
    "no_timer_check",
    // There is no PS/2 mouse to wait for.
    "i8042.noaux",
    "8250.nr_uarts=1",
];

/// For x86 guests on the host's own processor, whose machine has a serial port: the kernel's
/// messages before there is a driver for the console, above all a panic.
const FAST_X86_VIRTUALIZED: &[&str] = &["earlycon=uart8250,io,0x3f8"];

/// For x86 guests on an emulated processor: its time stamp counter does not stop, and every other
/// clock costs more. On a host's own processor KVM's clock decides. QEMU's machine has a keyboard
/// controller at the usual address; ours has none and says so by ACPI, which `i8042.nopnp` would
/// have the kernel ignore: it would busy-wait for one for half a second (Linux,
/// drivers/input/serio/i8042-acpipnpio.h, i8042_pnp_init).
const FAST_X86_EMULATED: &[&str] = &["tsc=reliable", "clocksource=tsc", "i8042.nopnp"];

/// The same for guests of 64-bit Arm: the machine's device tree says where the port is.
const FAST_AARCH64_VIRTUALIZED: &[&str] = &["earlycon"];

impl FastCmdline<'_> {
    /// The command line.
    ///
    /// # Errors
    /// [`CmdlineError::TooLong`].
    pub fn build(&self) -> Result<String, CmdlineError> {
        let mut line = start(self.console, self.words);
        line.push(format!("rdinit={INITRD_INIT}"));
        let mut add = |words: &[&str]| line.extend(words.iter().copied().map(String::from));
        add(FAST);
        match self.crypto {
            Crypto::Untested => add(&[NO_CRYPTO_TESTS, NO_INITCALLS]),
            Crypto::Fips => add(&[FIPS]),
        }
        match (self.arch, self.processor) {
            ("x86_64", Processor::Virtualized) => add(&[FAST_X86, FAST_X86_VIRTUALIZED].concat()),
            ("x86_64", Processor::Emulated) => add(&[FAST_X86, FAST_X86_EMULATED].concat()),
            ("aarch64", Processor::Virtualized) => add(FAST_AARCH64_VIRTUALIZED),
            _ => {}
        }
        checked(self.arch, line.join(" "))
    }
}

/// The command line of a guest whose own init system starts the guest side: the contract of the
/// published boxes. `args` are the words after `kiwi-ng`; without any, nothing is built.
///
/// # Errors
/// [`CmdlineError`].
pub fn compat(
    arch: &str,
    console: &str,
    words: &[String],
    args: &[OsString],
) -> Result<String, CmdlineError> {
    let args: Vec<&str> = args
        .iter()
        .map(|arg| carried(arg))
        .collect::<Result<_, _>>()?;
    let mut line = start(console, words);
    if !args.is_empty() {
        line.push(format!("kiwi=\"{}\"", args.join(" ")));
    }
    line.push(String::from("sharing_backend=_virtiofs_"));
    checked(arch, line.join(" "))
}

/// The words that both kinds of boot begin with.
fn start(console: &str, words: &[String]) -> Vec<String> {
    let mut line = vec![format!("console={console}")];
    line.extend_from_slice(words);
    line.extend(COMMON.iter().copied().map(String::from));
    line
}

/// `arg`, if it survives the kernel's quoting and the guest's word splitting.
fn carried(arg: &OsStr) -> Result<&str, CmdlineError> {
    arg.to_str()
        // The guest evaluates each NAME=_VALUE_ on the line in a shell.
        .filter(|text| !text.is_empty() && !text.contains("=_"))
        .filter(|text| {
            text.bytes()
                .all(|byte| byte.is_ascii_graphic() && !b"\"'\\`$*?[".contains(&byte))
        })
        .ok_or_else(|| CmdlineError::Unsafe(arg.to_owned()))
}

/// `line`, if the kernel does not truncate it.
fn checked(arch: &str, line: String) -> Result<String, CmdlineError> {
    let limit = limit(arch) - 1;
    if line.len() > limit {
        return Err(CmdlineError::TooLong {
            length: line.len(),
            limit,
            arch: arch.to_owned(),
        });
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compat_contract() {
        let line = compat(
            "x86_64",
            "hvc0",
            &["root=/dev/vda1".into()],
            &[
                "--type".into(),
                "oem".into(),
                "system".into(),
                "build".into(),
            ],
        )
        .unwrap();
        assert_eq!(
            line,
            "console=hvc0 root=/dev/vda1 panic=-1 oops=panic kiwi=\"--type oem system build\" \
             sharing_backend=_virtiofs_"
        );
    }

    #[test]
    fn an_argument_that_cannot_be_carried_is_refused_by_name() {
        for word in ["a b", "", "a\"b", "ä", "$basearch", "a\nb", "A=_b"] {
            let error = compat("x86_64", "hvc0", &[], &[word.into()]).unwrap_err();
            assert_eq!(error, CmdlineError::Unsafe(word.into()));
        }
    }

    #[test]
    fn b15_a_line_that_does_not_fit_is_refused_with_its_length() {
        let long: Vec<OsString> = vec!["x".repeat(2100).into()];
        let error = compat("x86_64", "hvc0", &[], &long).unwrap_err();
        assert!(
            matches!(error, CmdlineError::TooLong { limit: 2047, .. }),
            "{error}"
        );
        assert!(compat("s390x", "hvc0", &[], &long).is_ok());
    }

    fn fast(arch: &str, processor: Processor, crypto: Crypto) -> String {
        let cmdline = FastCmdline {
            arch,
            processor,
            crypto,
            console: "hvc0",
            words: &["root=/dev/vda1".into()],
        };
        cmdline.build().unwrap()
    }

    #[test]
    fn the_levers_of_one_architecture_stay_there() {
        let emulated = fast("x86_64", Processor::Emulated, Crypto::Untested);
        assert!(emulated.contains("tsc=reliable"));
        assert!(
            emulated.starts_with(
                "console=hvc0 root=/dev/vda1 panic=-1 oops=panic rdinit=/boxbuild/init "
            )
        );
        // Our own machine says by ACPI that it has no keyboard controller; the kernel has to read it.
        assert!(!fast("x86_64", Processor::Virtualized, Crypto::Untested).contains("i8042.nopnp"));
        let arm = fast("aarch64", Processor::Emulated, Crypto::Untested);
        assert!(!arm.contains("tsc") && arm.contains("cryptomgr.notests=1"));
        assert!(!arm.contains("earlycon"), "QEMU has no such port: {arm}");
        let arm = fast("aarch64", Processor::Virtualized, Crypto::Untested);
        assert!(arm.ends_with(" earlycon"), "{arm}");
    }

    #[test]
    fn fips_mode_keeps_the_self_tests() {
        let line = fast("x86_64", Processor::Virtualized, Crypto::Fips);
        assert!(
            line.contains("fips=1") && !line.contains("notests"),
            "{line}"
        );
        assert!(
            !line.contains("jent"),
            "the jitter RNG is part of it: {line}"
        );
    }
}
