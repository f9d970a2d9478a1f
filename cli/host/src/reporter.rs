//! Where a run reports what it does.

use std::net::SocketAddr;

/// Takes reports of a run, for a terminal, a log or a program.
pub trait Reporter {
    /// Begins a step; the one before is done.
    fn begin(&mut self, step: &str);

    /// Ends the current step, if there is one.
    fn finish(&mut self, good: bool);

    /// Tells what the current step works on.
    fn detail(&mut self, text: &str);

    /// Tells how far the current step has come.
    fn report(&mut self, text: &str);

    /// Passes on a line of a log or a console.
    fn line(&mut self, text: &str);

    /// Passes on a line of KIWI's log.
    fn log_line(&mut self, text: &str) {
        self.line(text);
    }

    /// Tells the user something that must be seen.
    fn note(&mut self, text: &str);

    /// Tells which address of this host leads to the sshd of the box.
    fn listening(&mut self, address: SocketAddr);

    /// Suppresses everything but notes while something else has the terminal.
    fn mute(&mut self, muted: bool);
}
