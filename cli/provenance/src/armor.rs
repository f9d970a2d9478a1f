//! Signatures as text: base 64 between two lines. Only the form in which `gpg` and `ssh-keygen` write
//! them is taken: a byte that could be another one would be a byte that nothing covers.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A kind of armor.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Armor {
    begin: &'static str,
    end: &'static str,
    /// Characters of a line.
    width: usize,
    /// A blank line after the first, and a checksum before the last.
    openpgp: bool,
}

/// A detached OpenPGP signature (RFC 9580, section 6.2).
pub(crate) const OPENPGP: Armor = Armor {
    begin: "-----BEGIN PGP SIGNATURE-----\n",
    end: "-----END PGP SIGNATURE-----\n",
    width: 64,
    openpgp: true,
};

/// An SSH signature (OpenSSH, PROTOCOL.sshsig).
pub(crate) const SSH: Armor = Armor {
    begin: "-----BEGIN SSH SIGNATURE-----\n",
    end: "-----END SSH SIGNATURE-----\n",
    width: 70,
    openpgp: false,
};

/// Generator and first value of the checksum (RFC 9580, section 6.1.1).
const CRC24: (u32, u32) = (0x0086_4cfb, 0x00b7_04ce);

impl Armor {
    /// Whether `text` is in this form.
    pub(crate) fn fits(self, text: &str) -> bool {
        self.decode(text).is_some()
    }

    fn decode(self, text: &str) -> Option<Vec<u8>> {
        let mut body = text.strip_prefix(self.begin)?.strip_suffix(self.end)?;
        let mut checksum = None;
        if self.openpgp {
            body = body.strip_prefix('\n')?;
            // Newer programs write none.
            if let Some((before, sum)) = body.rsplit_once("\n=") {
                let sum = STANDARD.decode(sum.strip_suffix('\n')?).ok()?;
                checksum = Some(<[u8; 3]>::try_from(sum).ok()?);
                // With the newline that ends its last line.
                body = body.get(..=before.len())?;
            }
        }
        let joined: String = body.lines().collect();
        let bytes = STANDARD.decode(&joined).ok()?;
        let again: String = wrapped(&joined, self.width);
        let right = checksum.is_none_or(|sum| crc24(&bytes).to_be_bytes()[1..] == sum);
        (again == body && right && !bytes.is_empty()).then_some(bytes)
    }
}

fn wrapped(text: &str, width: usize) -> String {
    let mut lines = String::new();
    for line in text.as_bytes().chunks(width) {
        lines.push_str(&String::from_utf8_lossy(line));
        lines.push('\n');
    }
    lines
}

fn crc24(bytes: &[u8]) -> u32 {
    let (generator, first) = CRC24;
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte) << 16, |crc, _| {
            let next = crc << 1;
            if next & 0x0100_0000 == 0 {
                next
            } else {
                next ^ (0x0100_0000 | generator)
            }
        })
    };
    bytes.iter().fold(first, step) & 0x00ff_ffff
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(armor: Armor, bytes: &[u8]) -> String {
        let body = wrapped(&STANDARD.encode(bytes), armor.width);
        match armor.openpgp {
            true => {
                let sum = STANDARD.encode(&crc24(bytes).to_be_bytes()[1..]);
                format!("{}\n{body}={sum}\n{}", armor.begin, armor.end)
            }
            false => format!("{}{body}{}", armor.begin, armor.end),
        }
    }

    proptest! {
        #[test]
        fn no_byte_of_the_text_is_free(bytes in proptest::collection::vec(any::<u8>(), 1..200), at: prop::sample::Index, bit in 0_u32..8) {
            for armor in [OPENPGP, SSH] {
                let text = encode(armor, &bytes);
                prop_assert_eq!(armor.decode(&text), Some(bytes.clone()));
                let mut changed = text.clone().into_bytes();
                let at = at.index(changed.len());
                changed[at] ^= 1_u8 << bit;
                if let Ok(changed) = String::from_utf8(changed) {
                    prop_assert_ne!(armor.decode(&changed), Some(bytes.clone()));
                }
                let longer = text + "\n";
                prop_assert!(!armor.fits(&longer));
            }
        }
    }
}
