//! Sleep control, sleep status and reset register of hardware-reduced ACPI (ACPI 6.5, section
//! 4.8.3.7).

use crate::arch::x86_64::layout;
use crate::bus::{Effect, Registers};

/// Offset of the sleep control register.
const CONTROL: u64 = 0;
/// Offset of the sleep status register.
const STATUS: u64 = 1;
/// Offset of the reset register.
const RESET: u64 = 2;
/// Bytes of registers.
pub(crate) const LEN: u64 = 3;
/// What the guest writes into the reset register.
pub(crate) const RESET_VALUE: u8 = 1;
/// Sleep type of S5, which the DSDT names as `\_S5`.
pub(crate) const SLEEP_TYPE_OFF: u8 = 5;

/// `SLP_EN`: go to sleep now.
const SLEEP_ENABLE: u8 = 1 << 5;
/// Position of `SLP_TYP`, three bits.
const SLEEP_TYPE: u8 = 2;

/// What lies at [`layout::RESET_VECTOR`], in real mode: writes the reset register. Linux without
/// EFI on hardware-reduced ACPI resets through the BIOS and by nothing else (`reboot_init` in
/// arch/x86/kernel/reboot.c wants EFI's reset service, and falls back to that).
pub(crate) const RESET_CODE: [u8; 9] = {
    let [low, high] = (layout::POWER + RESET as u16).to_le_bytes();
    [
        0xba,
        low,
        high, // mov dx, reset register
        0xb0,
        RESET_VALUE, // mov al, value
        0xee,        // out dx, al
        0xf4,        // hlt
        0xeb,
        0xfd, // jmp to the hlt
    ]
};

/// The three registers.
#[derive(Debug, Default)]
pub struct Power;

impl Registers for Power {
    fn read(&self, offset: u64, data: &mut [u8]) {
        // Never woken up; nothing else can be read.
        if matches!(offset, CONTROL | STATUS | RESET) {
            data.fill(0);
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Effect {
        match (offset, data) {
            (CONTROL, &[value]) => {
                let kind = value >> SLEEP_TYPE & 7;
                if value & SLEEP_ENABLE != 0 && kind == SLEEP_TYPE_OFF {
                    Effect::PowerOff
                } else {
                    Effect::None
                }
            }
            (RESET, &[RESET_VALUE]) => Effect::Reset,
            _ => Effect::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_linux_writes() {
        // acpi_hw_extended_sleep: (5 << 2) | (1 << 5).
        assert_eq!(Power.write(CONTROL, &[0x34]), Effect::PowerOff);
        assert_eq!(Power.write(RESET, &[1]), Effect::Reset);
        assert_eq!(Power.write(CONTROL, &[0x14]), Effect::None);
        assert_eq!(Power.write(CONTROL, &[0x34, 0]), Effect::None);
        assert_eq!(Power.write(STATUS, &[0x80]), Effect::None);
    }
}
