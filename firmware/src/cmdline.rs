//! Kernel command lines.

use std::ffi::{OsStr, OsString};

/// The command line cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CmdlineError {
    /// The kernel would cut it off.
    #[error(
        "the kernel command line has {length} bytes, but a {arch} kernel takes at most {limit}: \
         give fewer or shorter build options, or put them into the description"
    )]
    TooLong {
        /// Bytes it has.
        length: usize,
        /// Bytes that fit, without the final NUL.
        limit: usize,
        /// The architecture.
        arch: String,
    },
    /// The guest side of a published box splits arguments at white space.
    #[error(
        "the build option {0:?} cannot reach this box: its guest side takes no spaces, quotes, \
         control or non-ASCII characters, and no '=_' (a box made by 'boxbuild box create' has no such limit)"
    )]
    Unsafe(OsString),
}

/// COMMAND_LINE_SIZE of the kernel, with the final NUL: arch/{x86,arm64,powerpc}/include/…/
/// setup.h say 2048, arch/s390 says 4096 (CONFIG_COMMAND_LINE_SIZE's default).
fn limit(arch: &str) -> usize {
    if arch == "s390x" { 4096 } else { 2048 }
}

/// What both ways to boot say: a kernel that panics ends the machine (the engine does not
/// let it reboot).
const COMMON: &[&str] = &["panic=-1"];

/// What a throw-away guest that runs one command can do without.
const FAST: &[&str] = &[
    // Ours instead of the initrd's own /init.
    "rdinit=/boxbuild/init",
    // Errors and panics still reach the console; boxbuild's init shows the log's last lines when
    // something goes wrong.
    "quiet",
    // The guest runs one user's build once: there is nothing to protect in it from itself.
    "mitigations=off",
    "nokaslr",
    "apparmor=0",
    "selinux=0",
    "audit=0",
    // Hardening of the kernel against its own users: each costs instructions at each call.
    "init_on_alloc=0",
    "hardened_usercopy=off",
    "randomize_kstack_offset=off",
    "kfence.sample_interval=0",
    "nowatchdog",
    "random.trust_cpu=on",
    // udev's names need udev rules at the right time; there is one interface.
    "net.ifnames=0",
    // Short waits for RCU where the kernel waits for it in series.
    "rcupdate.rcu_expedited=1",
];

/// Leaves out the self-tests of the crypto algorithms: two thirds of a small guest's boot.
const NO_CRYPTO_TESTS: &str = "cryptomgr.notests=1";

/// Start-up functions of the kernel that do work of which a build sees nothing; one that a kernel
/// does not have is no error. Together a third of a small guest's boot:
///
/// - `jent_mod_init` tests the jitter random number generator (crypto/jitterentropy-kcapi.c);
///   there is the processor's, and virtio-rng.
/// - `trace_eval_init` puts numbers for names into the formats of some thousand trace events, and
///   `ftrace_check_for_weak_functions` looks up each function's name (kernel/trace): for people who
///   trace the kernel.
const NO_INITCALLS: &str =
    "initcall_blacklist=jent_mod_init,trace_eval_init,ftrace_check_for_weak_functions";

/// For a kernel in FIPS mode (Linux, crypto/fips.c). Its self-tests cannot be left out.
pub const FIPS: &str = "fips=1";

/// The same for x86 guests.
const FAST_X86: &[&str] = &[
    "nopti",
    "no_timer_check",
    // There is no PS/2 mouse to wait for.
    "i8042.noaux",
    "8250.nr_uarts=1",
];

/// For x86 guests on the host's own processor, whose machine has a serial port: what the kernel
/// says before there is a driver for the console, above all its last words.
const FAST_X86_VIRTUALIZED: &[&str] = &["earlycon=uart8250,io,0x3f8"];

/// For x86 guests whose processor is emulated: its time stamp counter does not stop, and every
/// other clock costs more. On a host's own processor KVM's clock tells which to use. QEMU's
/// machine has a keyboard controller where it always was; ours has none and says so by ACPI, which
/// `i8042.nopnp` would have the kernel not believe: it would wait for one for half a second, busy
/// (Linux, drivers/input/serio/i8042-acpipnpio.h, i8042_pnp_init).
const FAST_X86_EMULATED: &[&str] = &["tsc=reliable", "clocksource=tsc", "i8042.nopnp"];

/// For a box that is booted by boxbuild's own init (see [`crate::guest::FastBoot`]) on a
/// processor that is `emulated` or the host's own, with its kernel in FIPS mode or not.
pub fn fast(
    arch: &str,
    emulated: bool,
    fips: bool,
    console: &str,
    box_items: &[String],
) -> Result<String, CmdlineError> {
    let mut items = vec![format!("console={console}")];
    items.extend(box_items.iter().cloned());
    let policy: &[&str] = if fips {
        &[FIPS]
    } else {
        &[NO_CRYPTO_TESTS, NO_INITCALLS]
    };
    items.extend(
        [COMMON, FAST, policy]
            .concat()
            .into_iter()
            .map(String::from),
    );
    if arch == "x86_64" {
        items.extend(FAST_X86.iter().copied().map(String::from));
        let more = if emulated {
            FAST_X86_EMULATED
        } else {
            FAST_X86_VIRTUALIZED
        };
        items.extend(more.iter().copied().map(String::from));
    }
    checked(arch, &items.join(" "))
}

/// For a box whose own init system starts the guest side: the contract of the published
/// boxes. `args` are the words after `kiwi-ng`; without any, nothing is built.
pub fn compat(
    arch: &str,
    console: &str,
    box_items: &[String],
    args: &[OsString],
) -> Result<String, CmdlineError> {
    let words: Vec<&str> = args
        .iter()
        .map(|word| harmless(word))
        .collect::<Result<_, _>>()?;
    let mut items = vec![format!("console={console}")];
    items.extend(box_items.iter().cloned());
    items.extend(COMMON.iter().copied().map(String::from));
    if !words.is_empty() {
        items.push(format!("kiwi=\"{}\"", words.join(" ")));
    }
    items.push(String::from("sharing_backend=_virtiofs_"));
    checked(arch, &items.join(" "))
}

/// A word that survives the kernel's quoting and the guest's word splitting.
fn harmless(word: &OsStr) -> Result<&str, CmdlineError> {
    word.to_str()
        // The guest evaluates each NAME=_VALUE_ on the line in a shell.
        .filter(|text| !text.is_empty() && !text.contains("=_"))
        .filter(|text| {
            text.bytes()
                .all(|byte| byte.is_ascii_graphic() && !b"\"'\\`$*?[".contains(&byte))
        })
        .ok_or_else(|| CmdlineError::Unsafe(word.to_owned()))
}

fn checked(arch: &str, line: &str) -> Result<String, CmdlineError> {
    let limit = limit(arch) - 1;
    if line.len() > limit {
        return Err(CmdlineError::TooLong {
            length: line.len(),
            limit,
            arch: arch.to_owned(),
        });
    }
    Ok(line.to_owned())
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
            "console=hvc0 root=/dev/vda1 panic=-1 kiwi=\"--type oem system build\" \
             sharing_backend=_virtiofs_"
        );
    }

    #[test]
    fn what_cannot_be_carried_is_refused_by_name() {
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

    #[test]
    fn the_levers_of_one_architecture_stay_there() {
        assert!(
            fast("x86_64", true, false, "hvc0", &[])
                .unwrap()
                .contains("tsc=reliable")
        );
        // Our own machine says by ACPI that it has no keyboard controller; the kernel has to read it.
        assert!(
            !fast("x86_64", false, false, "hvc0", &[])
                .unwrap()
                .contains("i8042.nopnp")
        );
        let arm = fast("aarch64", true, false, "hvc0", &[]).unwrap();
        assert!(!arm.contains("tsc") && arm.contains("cryptomgr.notests=1"));
    }

    #[test]
    fn fips_mode_keeps_the_self_tests() {
        let line = fast("x86_64", false, true, "hvc0", &[]).unwrap();
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
