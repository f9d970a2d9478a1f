//! What tells that a guest does not come up.

use boxbuild_engine::CpuLevel;

use crate::outcome::Trouble;

/// Something that a guest said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sign {
    /// It does not come up by itself any more.
    Stuck(Trouble, String),
    /// It asks for the pass phrase of an encrypted disk.
    AsksForPassphrase(String),
    /// Its programs need a newer processor.
    NeedsProcessor(CpuLevel),
    /// Its kernel has not seen its timer in time: a busy host does that to an emulated machine.
    LateTimer(String),
}

/// What a line has in it, and what it means. The first that fits counts.
const PHRASES: [(&str, Trouble); 34] = [
    // kernel/panic.c
    ("Kernel panic - not syncing", Trouble::Panic),
    // systemd, src/core/crash-handler.c and main.c
    ("Freezing execution", Trouble::Init),
    ("systemd[1]: Failed to start up manager", Trouble::Init),
    // dracut, modules.d/99base/dracut-lib.sh
    ("dracut: FATAL: ", Trouble::Emergency),
    ("dracut: Refusing to continue", Trouble::Emergency),
    (
        "Generating \"/run/initramfs/rdsosreport.txt\"",
        Trouble::Emergency,
    ),
    // dracut and systemd, units and src/sulogin-shell
    ("Entering emergency mode", Trouble::Emergency),
    ("You are in emergency mode", Trouble::Emergency),
    ("You are in rescue mode", Trouble::Emergency),
    (
        "Cannot open access to console, the root account is locked",
        Trouble::Emergency,
    ),
    ("Press Enter for maintenance", Trouble::Emergency),
    ("Give root password for maintenance", Trouble::Emergency),
    // initramfs-tools, scripts/functions
    ("Dropping to a shell!", Trouble::Emergency),
    // Arch's mkinitcpio, init_functions; Alpine's mkinitfs, initramfs-init
    (
        "You are now being dropped into an emergency shell",
        Trouble::Emergency,
    ),
    (
        "initramfs emergency recovery shell launched",
        Trouble::Emergency,
    ),
    // GRUB, grub-core/normal/main.c and kern/rescue_reader.c
    ("grub rescue>", Trouble::BootLoader),
    ("Entering rescue mode...", Trouble::BootLoader),
    (
        "Minimal BASH-like line editing is supported",
        Trouble::BootLoader,
    ),
    (
        "error: you need to load the kernel first",
        Trouble::BootLoader,
    ),
    (
        "Failed to boot both default and fallback entries",
        Trouble::BootLoader,
    ),
    // syslinux, core
    (
        "No DEFAULT or UI configuration directive found!",
        Trouble::BootLoader,
    ),
    ("Could not find kernel image:", Trouble::BootLoader),
    ("Failed to load ldlinux.c32", Trouble::BootLoader),
    ("Failed to load COM32 file", Trouble::BootLoader),
    // Code in boot sectors of syslinux, parted and others
    ("Missing operating system", Trouble::BootLoader),
    ("Operating system not found", Trouble::BootLoader),
    // shim and EDK II
    ("Security Violation", Trouble::SecureBoot),
    ("Access Denied - Image verification", Trouble::SecureBoot),
    ("bad shim signature", Trouble::SecureBoot),
    // SeaBIOS, src/boot.c
    ("No bootable device.", Trouble::NoBootDevice),
    // EDK II, MdeModulePkg/Universal/BdsDxe
    (
        "No bootable option or device was found",
        Trouble::NoBootDevice,
    ),
    (">>Start PXE over IP", Trouble::NoBootDevice),
    (">>Start HTTP Boot over IP", Trouble::NoBootDevice),
    ("UEFI Interactive Shell v", Trouble::NoBootDevice),
];

/// Prompts, which are lines without an end.
const PROMPTS: [(&str, Trouble); 5] = [
    ("(initramfs)", Trouble::Emergency),
    ("dracut:/#", Trouble::Emergency),
    ("sh-", Trouble::Emergency),
    ("grub>", Trouble::BootLoader),
    ("Shell>", Trouble::NoBootDevice),
];

/// How programs ask for the pass phrase of a disk: cryptsetup, systemd-ask-password, GRUB, Debian's
/// cryptsetup-initramfs, BitLocker's kin. In lower case.
const PASSPHRASE: [&str; 6] = [
    "enter passphrase for",
    "please enter passphrase",
    "please unlock disk",
    "please enter luks",
    "enter luks passphrase",
    "passphrase for disk",
];

/// What glibc says before it runs anything on a processor that is too old, up to the level
/// (sysdeps/x86_64/dl-hwcap-check.h).
const PROCESSOR: &str = "Fatal glibc error: CPU does not support ";

/// How the kernel of x86 gives up where interrupts of the timer are late (arch/x86/kernel/apic/io_apic.c).
const TIMER: &str = "IO-APIC + timer doesn't work!";

/// Whether dracut says which device it has waited for in vain, before its shell for emergencies
/// (modules.d/99base/dracut-dev-lib.sh, `wait_for_dev`; older ones quote the name).
fn is_missing_device(line: &str) -> bool {
    let words = line.split_once("Warning: ").map(|(_, words)| words.trim());
    let name = words.and_then(|words| words.strip_suffix(" does not exist"));
    name.is_some_and(|name| name.trim_start_matches('"').starts_with("/dev/"))
}

/// Returns what a line that has ended tells.
pub(crate) fn of_line(line: &str) -> Option<Sign> {
    if line.contains(TIMER) {
        return Some(Sign::LateTimer(line.trim().to_owned()));
    }
    if let Some((_, level)) = line.split_once(PROCESSOR) {
        return CpuLevel::from_name(level.trim()).map(Sign::NeedsProcessor);
    }
    if is_missing_device(line) {
        return Some(Sign::Stuck(Trouble::Emergency, line.trim().to_owned()));
    }
    let phrase = PHRASES.iter().find(|(phrase, _)| line.contains(phrase));
    phrase.map(|(_, trouble)| Sign::Stuck(*trouble, line.trim().to_owned()))
}

/// Returns what the line tells that the guest has not ended: a prompt.
pub(crate) fn of_prompt(line: &str) -> Option<Sign> {
    let text = line.trim();
    let lower = text.to_lowercase();
    if PASSPHRASE.iter().any(|phrase| lower.contains(phrase)) {
        return Some(Sign::AsksForPassphrase(text.to_owned()));
    }
    let prompt = PROMPTS.iter().find(|(prompt, _)| {
        // With its number, as bash without a name has it.
        text == *prompt || *prompt == "sh-" && text.starts_with("sh-") && text.ends_with('#')
    });
    prompt
        .map(|(_, trouble)| Sign::Stuck(*trouble, text.to_owned()))
        .or_else(|| of_line(line))
}

/// Returns what a line tells that a placed cursor took apart: a prompt for a pass phrase that nothing was written
/// behind.
pub(crate) fn of_drawn(text: &str) -> Option<Sign> {
    let text = text.trim();
    let before = text.strip_suffix(':')?;
    let lower = before.to_lowercase();
    let starts = PASSPHRASE.iter().filter_map(|phrase| lower.rfind(phrase));
    let start = starts.max()?;
    let prompt = lower.get(start..)?;
    (!prompt.contains(':')).then(|| {
        let begin = before.get(start..).unwrap_or(before);
        Sign::AsksForPassphrase(format!("{begin}:"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble(line: &str) -> Option<Trouble> {
        match of_line(line) {
            Some(Sign::Stuck(trouble, _)) => Some(trouble),
            _ => None,
        }
    }

    #[test]
    fn what_goes_wrong_is_known_by_its_words() {
        for (line, wanted) in [
            (
                "[    1.2] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)",
                Trouble::Panic,
            ),
            (
                "[!!!!!!] Failed to start up manager, freezing.: Freezing execution.",
                Trouble::Init,
            ),
            (
                "Generating \"/run/initramfs/rdsosreport.txt\"",
                Trouble::Emergency,
            ),
            (
                "Cannot open access to console, the root account is locked.",
                Trouble::Emergency,
            ),
            (
                "Warning: /dev/disk/by-partuuid/125a42d0-02 does not exist",
                Trouble::Emergency,
            ),
            (
                "[  201.4] dracut-initqueue[441]: Warning: \"/dev/disk/by-uuid/1-2\" does not exist",
                Trouble::Emergency,
            ),
            (
                "ALERT!  UUID=x does not exist.  Dropping to a shell!",
                Trouble::Emergency,
            ),
            (
                "Mounting root: failed. initramfs emergency recovery shell launched. Type 'exit' to continue boot",
                Trouble::Emergency,
            ),
            (
                "You are now being dropped into an emergency shell.",
                Trouble::Emergency,
            ),
            ("grub rescue> ", Trouble::BootLoader),
            ("No bootable device.", Trouble::NoBootDevice),
            (">>Start PXE over IPv4.", Trouble::NoBootDevice),
            (
                "Verification failed: (0x1A) Security Violation",
                Trouble::SecureBoot,
            ),
        ] {
            assert_eq!(trouble(line), Some(wanted), "{line}");
        }
        for line in [
            "Debian GNU/Linux 13 host ttyS0",
            "[  OK  ] Started systemd-ask-password-console.path - Dispatch Password Requests.",
            "Booting from Hard Disk...",
            "Boot failed: not a bootable disk",
            "Welcome to GRUB!",
            "[ 9.1] dracut-initqueue[441]: Warning: dracut-initqueue: starting timeout scripts",
            "Warning: /etc/hostname does not exist",
        ] {
            assert_eq!(of_line(line), None, "{line}");
            assert_eq!(of_prompt(line), None, "{line}");
        }
    }

    #[test]
    fn pass_phrases_are_asked_for_in_many_words() {
        for prompt in [
            "Please enter passphrase for disk QEMU HARDDISK (luks)! ",
            "\u{1F510} Please enter passphrase for disk virtio (cr_root): (press TAB for no echo) ",
            "Enter passphrase for hd0,gpt3 (2a9e): ",
            "Enter passphrase for /dev/vda3: ",
            "Please unlock disk vda3_crypt: ",
        ] {
            assert!(
                matches!(of_prompt(prompt), Some(Sign::AsksForPassphrase(_))),
                "{prompt}"
            );
        }
        for prompt in [
            "(initramfs) ",
            "dracut:/# ",
            "sh-5.2# ",
            "grub> ",
            "Shell> ",
        ] {
            assert!(
                matches!(of_prompt(prompt), Some(Sign::Stuck(..))),
                "{prompt}"
            );
        }
        assert_eq!(of_prompt("host login: "), None);
    }

    /// GRUB places the cursor in the middle of its prompt, and nothing was typed.
    #[test]
    fn a_prompt_that_was_taken_apart_is_one() {
        let asks = |text: &str| of_drawn(text);
        assert_eq!(
            asks("Menu Enter passphrase for hd0,msdos1 (3759): "),
            Some(Sign::AsksForPassphrase(String::from(
                "Enter passphrase for hd0,msdos1 (3759):"
            )))
        );
        for text in [
            "",
            "login: ",
            "Enter passphrase for hd0 (3759)",
            "Enter passphrase for hd0 (3759): Slot 0 opened. Next: ",
            "\u{130}\u{130} Enter passphrase for \u{130}: x: ",
        ] {
            assert_eq!(asks(text), None, "{text}");
        }
        assert!(asks("\u{130} Enter passphrase for hd0: ").is_some());
    }

    #[test]
    fn a_late_timer_is_no_panic_of_the_images() {
        let line = "[ 0.0] Kernel panic - not syncing: IO-APIC + timer doesn't work!  Boot with apic=debug";
        assert_eq!(of_line(line), Some(Sign::LateTimer(line.to_owned())));
    }

    #[test]
    fn the_processor_that_programs_need_is_known() {
        let line = "Fatal glibc error: CPU does not support x86-64-v3";
        assert_eq!(of_line(line), Some(Sign::NeedsProcessor(CpuLevel::V3)));
    }
}
