//! `boxbuild info`: what is in a description.

use boxbuild_core::plan::inspected;
use boxbuild_core::plan::{PlanError, description_folder};
use boxbuild_core::request::BuildRequest;
use boxbuild_description::{Finding, Inspection, Summary};
use serde::Serialize;

use super::text;
use crate::args::InfoArgs;
use crate::commands::look::Look;
use crate::commands::signals;
use crate::exit_code::{ExitCode, Result};
use crate::output::json::print_document;
use crate::output::print::{print_line, print_text};

/// The document of `--json`.
#[derive(Serialize)]
struct Document<'a> {
    /// `null` if the description could not be read.
    description: Option<Summary>,
    findings: &'a [Finding],
}

/// Shows a description.
pub(in crate::commands) fn info(args: &InfoArgs) -> Result<ExitCode> {
    let interrupt = signals::take_over()?;
    let _looking = Look::begin(&interrupt, args.json)?;
    let request = args.request();
    let inspection = inspect(&request)?;
    let target = inspected::target(&request, None);
    let summary = inspection
        .description
        .as_ref()
        .map(|description| description.summary(&target));
    let code = match inspection.errors().next() {
        Some(_) => ExitCode::USAGE,
        None => ExitCode::SUCCESS,
    };
    if args.json {
        print_document(&Document {
            description: summary,
            findings: &inspection.findings,
        })?;
        return Ok(code);
    }
    if let Some(summary) = &summary {
        print_text(&text::summary(summary))?;
    }
    for finding in &inspection.findings {
        print_line(&text::finding(finding));
    }
    Ok(code)
}

/// Inspects the description of a request.
pub(super) fn inspect(request: &BuildRequest) -> Result<Inspection> {
    let typed = &request.build.description;
    let folder = description_folder(typed)?;
    Ok(
        inspected::inspect(request, &folder).map_err(|error| PlanError::Description {
            path: typed.clone(),
            problem: error.to_string(),
        })?,
    )
}
