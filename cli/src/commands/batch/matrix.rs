//! The builds of a batch as the matrix of a system that runs jobs (`--matrix`): a job for each build.
//!
//! The job that asks for it may be on a host without boxes and without KVM: only the file counts.

use serde::Serialize;

use super::build::Build;
use crate::args::Matrix;

/// Most jobs of a matrix on GitHub ("Workflow syntax", `jobs.<job_id>.strategy.matrix`).
const MOST_ON_GITHUB: usize = 256;

/// `strategy.matrix` of GitHub Actions: `matrix: ${{ fromJSON(…) }}`.
#[derive(Debug, Serialize)]
pub(super) struct GithubMatrix<'a> {
    include: Vec<Job<'a>>,
}

/// What a job gets, as `matrix.NAME`. An expression of GitHub has no missing values: what the file does
/// not say is empty.
#[derive(Debug, Serialize)]
struct Job<'a> {
    name: &'a str,
    description: &'a str,
    profile: String,
    #[serde(rename = "type")]
    image_type: &'a str,
    #[serde(rename = "box")]
    box_name: &'a str,
    arch: &'a str,
}

/// Returns the matrix of the builds.
///
/// # Errors
/// Fails, with a message for the user, if the system does not take so many.
pub(super) fn matrix(builds: &[Build], system: Matrix) -> Result<GithubMatrix<'_>, String> {
    let Matrix::Github = system;
    if builds.len() > MOST_ON_GITHUB {
        return Err(format!(
            "{} builds, but GitHub takes at most {MOST_ON_GITHUB} jobs of one matrix: divide the file, \
             or choose builds with --only",
            builds.len()
        ));
    }
    fn job(build: &Build) -> Job<'_> {
        let fields = build.fields();
        Job {
            name: fields.name,
            description: fields.description,
            profile: fields.profiles.join("+"),
            image_type: fields.image_type.unwrap_or_default(),
            box_name: fields.box_name,
            arch: fields.arch.unwrap_or_default(),
        }
    }
    Ok(GithubMatrix {
        include: builds.iter().map(job).collect(),
    })
}
