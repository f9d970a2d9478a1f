//! `boxbuild box verify`.

use std::fs::File;

use boxbuild_boxes::store::{InstalledBox, Store, StoreError};
use boxbuild_host::digest::sha256;
use boxbuild_host::reporter::Reporter;
use boxbuild_host::units::date;
use serde_json::json;

use super::answer::Answer;
use crate::exit_code::{ExitCode, Failure, HostContext, Result};
use crate::output::progress::Progress;

/// Hashes every file of the boxes `names`; of all boxes if there are no names.
///
/// # Errors
/// Fails if a box cannot be read. The answer of one that is damaged or has changed has a failure, which
/// names each of them.
pub(super) fn verify(store: &Store, names: &[String]) -> Result<Answer> {
    let names = if names.is_empty() {
        store.names()?
    } else {
        // An unknown name is a mistake of the user, not a damaged box.
        for name in names {
            if let Err(error @ (StoreError::Unknown { .. } | StoreError::BadName(_))) =
                store.get_for(name, None)
            {
                return Err(error.into());
            }
        }
        names.to_vec()
    };
    let mut progress = Progress::new(false);
    let mut text = String::new();
    let mut bad = Vec::new();
    let mut rows = Vec::new();
    let mut damaged = false;
    for name in &names {
        progress.begin(&format!("verify {name}"));
        let mut written_into = Vec::new();
        let mut problems = match store.get_for(name, None) {
            Err(error) => vec![error.to_string()],
            Ok(installed) => {
                written_into.extend(written(&installed));
                problems(&installed)?
            }
        };
        damaged |= !problems.is_empty();
        problems.splice(0..0, written_into);
        progress.finish(problems.is_empty());
        rows.push(json!({ "name": name, "good": problems.is_empty(), "problems": problems }));
        if problems.is_empty() {
            text += &format!("{name}: good\n");
        } else {
            bad.push(format!("{name}: {}", problems.join("; ")));
        }
    }
    let failure = (!bad.is_empty()).then(|| {
        let mut message = bad.join("\n");
        if damaged {
            message += "\nfetch a published box again with 'boxbuild box pull --force NAME'; create or \
                        import others again";
        }
        Failure::new(ExitCode::HOST, anyhow::anyhow!(message))
    });
    Ok(Answer {
        failure,
        ..Answer::new(text, json!({ "boxes": rows }))
    })
}

/// What is wrong with a box into whose disk builds have written.
fn written(installed: &InstalledBox) -> Option<String> {
    let since = installed.changed?;
    Some(format!(
        "builds with --no-snapshot have written into its disk since {}, which no checksum covers: \
         'boxbuild box reset {}' undoes that",
        date(since),
        installed.info.name
    ))
}

/// Returns what is wrong with the files of a box.
#[expect(clippy::disallowed_methods, reason = "files of the box store")]
fn problems(installed: &InstalledBox) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for file in installed.info.files() {
        let path = installed.path(file);
        let (_, found) = File::open(&path)
            .and_then(|mut file| sha256(&mut file))
            .host_context(|| format!("cannot read {}", path.display()))?;
        if found != file.sha256 {
            problems.push(format!(
                "{} has changed: sha256 {found} instead of {}",
                path.display(),
                file.sha256
            ));
        }
    }
    Ok(problems)
}
