//! `boxbuild check`: what is wrong with a description, told by this host and by a box.

use std::path::Path;

use boxbuild_core::plan::look_at_repositories;
use boxbuild_description::Finding;
use serde::Serialize;

use super::{deep, info, text};
use crate::args::CheckArgs;
use crate::commands::look::Look;
use crate::commands::signals;
use crate::exit_code::{ExitCode, HostContext, Result};
use crate::output::github::{Annotation, Level, annotate};
use crate::output::json::print_document;
use crate::output::print::{print_line, print_text};

/// Findings that are annotations on GitHub at most: it shows ten of each kind of a step.
const ANNOTATIONS: usize = 20;

/// The document of `--json`.
#[derive(Serialize)]
struct Document<'a> {
    /// Whether a box has looked at it, too.
    checked_in_box: bool,
    findings: &'a [Finding],
}

/// Checks a description. Words after the separator are build arguments.
pub(in crate::commands) fn check(
    args: &CheckArgs,
    build_args: &[std::ffi::OsString],
) -> Result<ExitCode> {
    let interrupt = signals::take_over()?;
    let looking = Look::begin(&interrupt, args.json)?;
    let scratch = tempfile::Builder::new()
        .prefix("boxbuild-check-")
        .tempdir()
        .host_context(|| "cannot make a folder for temporary files")?;
    let target = scratch.path().join("found");
    let request = args.request(build_args, &target)?;
    let inspection = info::inspect(&request)?;
    drop(looking);
    let mut findings = inspection.findings;
    let description = inspection.description;
    let mut code = ExitCode::USAGE;
    let mut checked_in_box = false;
    // What the host refuses, no box has to start for.
    if !findings.iter().any(Finding::is_error) {
        match &args.box_name {
            Some(_) => {
                let found = deep::look(args, &request, &interrupt, description.as_ref())?;
                checked_in_box = found.came_to_an_end;
                findings.extend(found.findings);
                code = ExitCode::BUILD_FAILED;
            }
            None => {
                if let Some(description) = &description {
                    findings.extend(description.check_schema(None));
                    findings.extend(look_at_repositories(&request, description)?);
                }
            }
        }
    }
    if !findings.iter().any(Finding::is_error) {
        code = ExitCode::SUCCESS;
    }
    if args.json {
        print_document(&Document {
            checked_in_box,
            findings: &findings,
        })?;
        return Ok(code);
    }
    for finding in &findings {
        print_line(&text::finding(finding));
    }
    for finding in findings.iter().take(ANNOTATIONS) {
        annotate(&Annotation {
            level: if finding.is_error() {
                Level::Error
            } else {
                Level::Notice
            },
            file: Some(Path::new(&finding.file)),
            line: finding.line.map(|line| line as usize),
            title: "boxbuild check",
            text: &finding.text,
        });
    }
    if code == ExitCode::SUCCESS {
        let text = match &args.box_name {
            Some(name) => format!("no problem found on this host and in the box {name}\n"),
            None => String::from(
                "no problem found on this host; --box NAME also checks packages, repositories and the \
                 schema\n",
            ),
        };
        print_text(&text)?;
    }
    Ok(code)
}
