//! Programs of other architectures, as the kernel runs them (binfmt_misc).

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use crate::arch::Arch;
use crate::digest::hex;

/// The folder in which the kernel lists interpreters for foreign programs
/// (Documentation/admin-guide/binfmt-misc.rst).
pub const FOLDER: &str = "/proc/sys/fs/binfmt_misc";

/// Whether this host's kernel runs programs for `arch`, itself or with an interpreter for all.
pub fn runs_programs_of(arch: Arch) -> bool {
    arch == Arch::host() || runs(Path::new(FOLDER), arch)
}

/// Whether the kernel runs programs for `arch` with an interpreter that it holds open (flag F), so
/// that it works in any root folder.
fn runs(binfmt: &Path, arch: Arch) -> bool {
    let header = header(arch);
    let (ident, machine) = (hex(&header[..6]), hex(&header[18..]));
    let Ok(entries) = fs::read_dir(binfmt) else {
        return false;
    };
    entries.filter_map(Result::ok).any(|entry| {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        let field = |name| text.lines().find_map(|line| line.strip_prefix(name));
        text.lines().next() == Some("enabled")
            && field("flags: ").is_some_and(|flags| flags.contains('F'))
            && field("magic ").is_some_and(|magic| {
                magic.starts_with(&ident) && magic.get(2 * 18..2 * 20) == Some(machine.as_str())
            })
    })
}

/// The first 20 bytes of a program for `arch` (gABI, "ELF Header"): e_ident, e_type ET_EXEC and
/// e_machine.
fn header(arch: Arch) -> [u8; 20] {
    let big_endian = arch == Arch::S390x;
    let machine: u16 = match arch {
        Arch::X86_64 => 62,
        Arch::Aarch64 => 183,
        Arch::Ppc64le => 21,
        Arch::S390x => 22,
    };
    let half = |value: u16| {
        if big_endian {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        }
    };
    let mut header = [0; 20];
    // EI_MAG, EI_CLASS: 64 bits, EI_DATA, EI_VERSION.
    header[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    header[5] += u8::from(big_endian);
    header[16..18].copy_from_slice(&half(2));
    header[18..].copy_from_slice(&half(machine));
    header
}

/// The bits of a header that select a program: all but EI_OSABI and the lowest bit of e_type, which
/// distinguishes ET_EXEC from ET_DYN.
fn mask(arch: Arch) -> [u8; 20] {
    let mut mask = [0xff; 20];
    mask[7] = 0;
    mask[if arch == Arch::S390x { 17 } else { 16 }] = 0xfe;
    mask
}

/// Returns a line for binfmt_misc's `register`. Flags: the interpreter is opened now (F), gets the
/// program as an open file (O), with its credentials (C), and its name as it was called (P).
pub fn registration(arch: Arch, interpreter: &Path) -> OsString {
    let text =
        |bytes: [u8; 20]| -> String { bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect() };
    let mut line = OsString::from(format!(
        ":qemu-{arch}:M::{}:{}:",
        text(header(arch)),
        text(mask(arch))
    ));
    line.push(interpreter);
    line.push(":POCF");
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_enabled_interpreters_that_are_held_open_count() {
        let binfmt = tempfile::tempdir().unwrap();
        let entry = |state: &str, flags: &str| {
            let text = format!(
                "{state}\ninterpreter /usr/bin/any\nflags: {flags}\noffset 0\n\
                 magic 7f454c460201010000000000000000000200b700\n\
                 mask ffffffffffffff00fffffffffffffffffeffffff\n"
            );
            fs::write(binfmt.path().join("qemu-aarch64"), text).unwrap();
            runs(binfmt.path(), Arch::Aarch64)
        };
        assert!(entry("enabled", "OCF"));
        assert!(!entry("disabled", "OCF"));
        assert!(!entry("enabled", "OC"));
        assert!(!runs(binfmt.path(), Arch::Ppc64le));
        assert!(!runs(Path::new("/nowhere"), Arch::Aarch64));
    }

    /// QEMU's own script registers the same patterns (scripts/qemu-binfmt-conf.sh).
    #[test]
    fn registrations_select_what_qemus_do() {
        let line = |arch| {
            registration(arch, Path::new("/q"))
                .into_string()
                .unwrap()
                .replace("\\x", "")
        };
        assert_eq!(
            line(Arch::Aarch64),
            ":qemu-aarch64:M::7f454c460201010000000000000000000200b700:\
             ffffffffffffff00fffffffffffffffffeffffff:/q:POCF"
        );
        assert_eq!(
            line(Arch::S390x),
            ":qemu-s390x:M::7f454c460202010000000000000000000002\
             0016:ffffffffffffff00fffffffffffffffffffeffff:/q:POCF"
        );
        assert!(line(Arch::Ppc64le).contains("02001500:"));
    }
}
