//! The keyboard controller, of which only the reset line is left, and port B among its ports.

use crate::bus::{Effect, Registers};

/// Ports 0x60 to 0x64.
pub(crate) const LEN: u64 = 5;
/// Offset of port B.
const PORT_B: u64 = 1;
/// Offset of the command and status register.
const COMMAND: u64 = 4;
/// Pulse the reset line.
const PULSE_RESET: u8 = 0xfe;
/// Port B: the output of timer 2 is high, so that a loop which waits for it ends.
const TIMER_2_OUT: u8 = 1 << 5;

/// A keyboard controller without a keyboard: always ready for a command, and the only one
/// that does something is reset.
#[derive(Debug, Default)]
pub struct I8042;

impl Registers for I8042 {
    fn read(&self, offset: u64, data: &mut [u8]) {
        // Status: neither buffer is full.
        data.fill(if offset == PORT_B { TIMER_2_OUT } else { 0 });
    }

    fn write(&self, offset: u64, data: &[u8]) -> Effect {
        if offset == COMMAND && data == [PULSE_RESET] {
            Effect::Reset
        } else {
            Effect::None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_reset_command_does_something() {
        assert_eq!(I8042.write(COMMAND, &[0xfe]), Effect::Reset);
        assert_eq!(I8042.write(0, &[0xfe]), Effect::None);
        assert_eq!(I8042.write(COMMAND, &[0xd1]), Effect::None);
        let mut data = [0xff];
        I8042.read(COMMAND, &mut data);
        assert_eq!(data, [0]);
    }
}
