//! The signature appended to a kernel module.
//!
//! Distributions sign their modules, and the kernel verifies that with its own public key
//! cryptography: some 35 million instructions for each, more than everything else in loading one. A
//! kernel that accepts unsigned modules as well (`sig_enforce` is off) gains nothing by it here: the
//! modules come from the same box as the kernel.

/// The end of each signed module (Linux, include/linux/module_signature.h, `MODULE_SIG_STRING`).
const MAGIC: &[u8] = b"~Module signature appended~\n";

/// Size of `struct module_signature`, which precedes the magic. Its last four bytes are the
/// signature's length, big-endian.
const TRAILER: usize = 12;

/// The module itself, if `image` has a signature appended.
pub fn without_signature(image: &[u8]) -> Option<&[u8]> {
    let rest = image.strip_suffix(MAGIC)?;
    let (rest, trailer) = rest.split_at_checked(rest.len().checked_sub(TRAILER)?)?;
    let length = u32::from_be_bytes(trailer.last_chunk().copied()?);
    let length = usize::try_from(length).ok()?;
    rest.get(..rest.len().checked_sub(length)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(module: &[u8], signature: &[u8], length: u32) -> Vec<u8> {
        [module, signature, &[0; 8], &length.to_be_bytes(), MAGIC].concat()
    }

    #[test]
    fn the_signature_is_cut_off() {
        let image = signed(b"\x7fELF module", b"signature", 9);
        assert_eq!(without_signature(&image), Some(&b"\x7fELF module"[..]));
    }

    #[test]
    fn a_module_without_one_has_none() {
        assert_eq!(without_signature(b"\x7fELF module"), None);
        assert_eq!(without_signature(b""), None);
    }

    #[test]
    fn an_invalid_trailer_is_left_to_the_kernel() {
        assert_eq!(without_signature(MAGIC), None);
        assert_eq!(without_signature(&signed(b"", b"", 1)), None);
        assert_eq!(without_signature(&signed(b"elf", b"sig", u32::MAX)), None);
    }
}
