//! Disks that start in a moment: a boot sector that talks over the serial line, as an image does.
//!
//! A guest of this kind says what a whole system would say, so that what a test is about (how
//! boxbuild judges what it sees) takes a second in emulation. Tests with real kernels are beside those.

use std::fs::File;
use std::io::Write;
use std::path::Path;

/// Bytes of a sector, and of the code in a boot sector: the partition table is behind it.
const SECTOR: usize = 512;
const CODE: usize = 440;
/// Where a BIOS loads a boot sector.
const ORIGIN: u16 = 0x7c00;

/// What a boot sector does.
#[derive(Debug, Clone, Copy)]
pub enum Does {
    /// Writes a text to the first serial port.
    Says(&'static str),
    /// Reads up to a carriage return, which it does not show.
    Reads,
    /// Writes its own sector over the second one of the first disk.
    WritesToItsDisk,
    /// Stops for ever.
    Hangs,
    /// Resets the machine.
    Restarts,
    /// Switches the machine off (q35).
    PowersOff,
}

/// Makes a raw disk of 1 MiB that does these things.
pub fn disk(path: &Path, program: &[Does]) {
    let mut file = File::create(path).unwrap();
    file.write_all(&sector(program)).unwrap();
    file.set_len(1 << 20).unwrap();
}

/// A boot sector that does these things: 16-bit code for a BIOS.
pub fn sector(program: &[Does]) -> [u8; SECTOR] {
    // cli; ax = ds = ss = 0; sp = 0x7c00; cld. SeaBIOS would read the serial line with each interrupt.
    let mut code = vec![
        0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xd0, 0xbc, 0x00, 0x7c, 0xfc,
    ];
    let print = subroutine(&mut code);
    let mut texts = Vec::new();
    for step in program {
        match step {
            Does::Says(text) => {
                // mov si, text; call print
                code.extend([0xbe, 0, 0, 0xe8]);
                texts.push((code.len() - 3, *text));
                let back = i16::try_from(print as isize - (code.len() as isize + 2)).unwrap();
                code.extend(back.to_le_bytes());
            }
            // wait for a byte (0x3fd, bit 0), read it (0x3f8), until it is a carriage return
            Does::Reads => code.extend([
                0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xf8, 0xba, 0xf8, 0x03, 0xec, 0x3c, 0x0d,
                0x75, 0xf0,
            ]),
            // int 0x13: write (ah 3) one sector at 0x7c00 to sector 2 of disk 0x80
            Does::WritesToItsDisk => code.extend([
                0xb8, 0x01, 0x03, 0xbb, 0x00, 0x7c, 0xb9, 0x02, 0x00, 0xba, 0x80, 0x00, 0xcd, 0x13,
            ]),
            // hlt; jmp to it
            Does::Hangs => code.extend([0xf4, 0xeb, 0xfd]),
            // the keyboard controller's reset line; hlt
            Does::Restarts => code.extend([0xb0, 0xfe, 0xe6, 0x64, 0xf4]),
            // ACPI's register PM1a: SLP_EN; hlt
            Does::PowersOff => code.extend([0xb8, 0x00, 0x20, 0xba, 0x04, 0x06, 0xef, 0xf4]),
        }
    }
    for (place, text) in texts {
        let address = ORIGIN + u16::try_from(code.len()).unwrap();
        code[place..place + 2].copy_from_slice(&address.to_le_bytes());
        code.extend(text.bytes());
        code.push(0);
    }
    assert!(
        code.len() <= CODE,
        "{} bytes are too many for a boot sector",
        code.len()
    );
    let mut sector = [0; SECTOR];
    sector[..code.len()].copy_from_slice(&code);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

/// Puts the subroutine that prints the text at `si` behind a jump over it. Returns where it is.
fn subroutine(code: &mut Vec<u8>) -> usize {
    let body = [
        0xac, 0x84, 0xc0, 0x74, 0x12, // next: lodsb; test al, al; jz end
        0x88, 0xc3, // mov bl, al
        0xba, 0xfd, 0x03, 0xec, 0xa8, 0x20, 0x74, 0xf8, // wait: until 0x3fd has bit 5
        0x88, 0xd8, 0xba, 0xf8, 0x03, 0xee, // out 0x3f8, bl
        0xeb, 0xe9, // jmp next
        0xc3, // end: ret
    ];
    code.extend([0xeb, u8::try_from(body.len()).unwrap()]);
    let place = code.len();
    code.extend(body);
    place
}
