//! The guest's side of compression by the host ([`boxbuild_protocol::xz`]): a program that stands
//! in for xz.

/// The program `xz`, first in kiwi's search path.
pub const PROGRAM: &str = include_str!("host_xz.py");
/// The interpreter of [`PROGRAM`]. A box without it compresses for itself.
pub const INTERPRETER: &str = "/usr/bin/python3";

#[cfg(test)]
mod tests {
    use boxbuild_protocol::{ports, xz};

    use super::*;

    /// The program is Python and cannot use the protocol's own constants.
    #[test]
    fn the_program_speaks_the_protocol() {
        for line in [
            format!("#!{INTERPRETER} -IS"),
            format!("PORT = \"{}\"", ports::XZ),
            format!("FRAME = {} << 10", xz::FRAME >> 10),
            format!(
                "BEGIN, DATA, END, READY, ERROR = {}, {}, {}, {}, {}",
                xz::BEGIN,
                xz::DATA,
                xz::END,
                xz::READY,
                xz::ERROR
            ),
            String::from("HEAD = struct.Struct(\"<IIQ\")  # kind, length, session"),
        ] {
            assert!(PROGRAM.lines().any(|found| found == line), "{line}");
        }
    }
}
