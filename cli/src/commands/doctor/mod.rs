//! `boxbuild doctor`: what builds need of this host, and how to get what it lacks.

mod examine;
mod finding;

use crate::exit_code::{ExitCode, Result};
use crate::output::json::print_document;
use crate::output::print::print_text;
use finding::{Verdict, document, report, verdict};

/// Checks this host, and prints the findings.
pub(super) fn run(json: bool) -> Result<ExitCode> {
    let findings = examine::examine();
    if json {
        print_document(&document(&findings))?;
    } else {
        print_text(&report(&findings))?;
    }
    Ok(match verdict(&findings) {
        Verdict::Yes | Verdict::InContainers => ExitCode::SUCCESS,
        Verdict::No(_) => ExitCode::HOST,
    })
}
