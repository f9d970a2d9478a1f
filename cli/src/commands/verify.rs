//! `boxbuild verify`: a result against its record.

use boxbuild_core::output_dir::TIMINGS_PAGE;
use boxbuild_host::stop::StopCheck;
use boxbuild_protocol::paths::CODE_NAME;
use boxbuild_provenance::check::{self, Expected, Report, SignatureFound};
use boxbuild_provenance::trust::Trusted;
use serde::Serialize;

use super::look::Look;
use super::signals;
use crate::args::VerifyArgs;
use crate::exit_code::{ExitCode, Result};
use crate::output::json::print_document;
use crate::output::print::{print_line, print_text};

/// What `result.code` says of a build that succeeded.
const BUILT: &str = "0\n";

/// The document of `--json`.
#[derive(Serialize)]
struct Document<'a> {
    good: bool,
    #[serde(flatten)]
    report: &'a Report,
}

/// Checks a result.
pub(super) fn run(args: &VerifyArgs) -> Result<ExitCode> {
    let interrupt = signals::take_over()?;
    let _looking = Look::begin(&interrupt, args.json)?;
    let trusted = args.signed_by.as_deref().map(Trusted::read).transpose()?;
    let expected = Expected {
        others: args.allow_others,
        ..expected(trusted.as_ref())
    };
    let report = check::check(&args.result, expected, &StopCheck::new(&interrupt, None))?;
    if args.json {
        print_document(&Document {
            good: report.is_good(),
            report: &report,
        })?;
    } else {
        show(&report)?;
    }
    Ok(match report.is_good() {
        true => ExitCode::SUCCESS,
        false => ExitCode::HOST,
    })
}

/// What there is in a folder with results besides what a record names.
pub(super) fn expected(trusted: Option<&Trusted>) -> Expected<'_> {
    Expected {
        beside: &[TIMINGS_PAGE],
        verdict: (CODE_NAME, BUILT),
        trusted,
        others: false,
    }
}

fn show(report: &Report) -> Result<()> {
    for problem in &report.problems {
        print_line(&format!("{}: {}", problem.file, problem.problem));
    }
    if report.more_problems > 0 {
        print_line(&format!("and {} more problems", report.more_problems));
    }
    if !report.is_good() {
        print_line("the result is not what the record says: do not use it");
        return Ok(());
    }
    let files = match report.good_files {
        1 => String::from("1 file is"),
        count => format!("{count} files are"),
    };
    let mut text = format!("good: {files} what the record says\n");
    text += &match &report.signature {
        SignatureFound::Good(by) => format!("signed by {by}\n"),
        SignatureFound::Somebody(by) => format!(
            "signed by the key {by}: whether that is the right one was not asked (--signed-by FILE)\n"
        ),
        SignatureFound::NotChecked => String::from(
            "signed, which was not checked: whose key it should be was not said (--signed-by FILE)\n",
        ),
        SignatureFound::None | SignatureFound::Bad => {
            String::from("not signed: the record can be changed along with the files\n")
        }
    };
    if let (Some(builder), Some(time)) = (&report.builder, &report.finished) {
        text += &format!("made by {builder}, {time}\n");
    }
    print_text(&text)
}
