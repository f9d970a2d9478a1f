//! What of the host a build sees, and what kiwi is told about it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;

use boxbuild_boxes::store::BoxInfo;
use boxbuild_description::{Description, Finding, Place};
use boxbuild_host::mounts::is_same;

use super::error::PlanError;
use super::folders::Folders;
use super::repositories::{self, Connection, Repositories};
use super::{equipment, inspected, options};
use crate::boot::{Boot, RunsAs};
use crate::host_paths::HostPaths;
use crate::kiwi_paths;
use crate::request::BuildRequest;

/// What of the host a build sees, and what kiwi is told about it.
#[derive(Debug)]
pub(super) struct HostParts {
    pub(super) host_paths: HostPaths,
    /// Complete arguments of kiwi-ng up to `--description`.
    pub(super) kiwi_args: Vec<OsString>,
    /// Addresses of the repositories that packages may come from.
    pub(super) repositories: Vec<String>,
    /// Services on the host's loopback.
    pub(super) services: Vec<SocketAddr>,
    /// What the user should know.
    pub(super) notes: Vec<String>,
}

impl HostParts {
    /// Decides on the files, folders and services that `request` names.
    pub(super) fn of(
        request: &BuildRequest,
        folders: &Folders,
        info: &BoxInfo,
        connection: Connection<'_>,
    ) -> Result<HostParts, PlanError> {
        let runs_as = connection.runs_as;
        one_folder(request, folders, runs_as)?;
        let words = &request.build.rest;
        let description = folders.inspected.description();
        let target = inspected::target(request, Some(info));
        let described = repositories::described(description, &target, words);
        let shared = request.shared_path.as_deref();
        let mut host_paths = HostPaths::new(shared, &request.build.host_paths, runs_as)
            .map_err(PlanError::Option)?;
        let shows = |path: &Path| host_paths.shows(path);
        let mut notes = repositories::folders(&described, words, shows);
        let reach = options::reach(runs_as, info);
        let paths = kiwi_paths::decide(&request.kiwi, &folders.description, reach, &mut host_paths)
            .map_err(PlanError::Option)?;
        if runs_as.is_container() {
            host_paths.fits_container().map_err(PlanError::Option)?;
        }
        notes.extend(paths.notes);
        let mut kiwi_args = options::kiwi_args(request, paths.words);
        let found = Repositories::of(&mut kiwi_args, &described, connection);
        notes.extend(found.notes);
        if let Some(offer) = equipment::offer(description, words, &target, info) {
            kiwi_args.extend(offer.words);
            notes.push(offer.note);
        }
        Ok(HostParts {
            repositories: repositories::used(&described, &kiwi_args),
            host_paths,
            kiwi_args,
            services: found.services,
            notes,
        })
    }
}

/// Returns what a build would say of the repositories of `description`, as far as no box has to be known.
///
/// # Errors
/// Fails if an option names what cannot be had.
pub fn look_at_repositories(
    request: &BuildRequest,
    description: &Description,
) -> Result<Vec<Finding>, PlanError> {
    let runs_as = RunsAs::Machine(Boot::Fast);
    let words = &request.build.rest;
    let shared = request.shared_path.as_deref();
    let host_paths =
        HostPaths::new(shared, &request.build.host_paths, runs_as).map_err(PlanError::Option)?;
    let target = inspected::target(request, None);
    let described = repositories::described(Some(description), &target, words);
    let connection = Connection {
        runs_as,
        is_natted: false,
        is_private: false,
        offline: request.is_offline(),
        network: request.network,
        allow: &request.allow,
    };
    let mut notes = repositories::folders(&described, words, |path| host_paths.shows(path));
    notes.extend(Repositories::of(&mut words.clone(), &described, connection).notes);
    // A finding has its place by itself.
    let places: HashMap<String, &Place> = description
        .repositories(&target)
        .into_iter()
        .map(|(_, place)| (format!("{}:{}", place.file, place.line), place))
        .collect();
    let finding = |note: String| {
        let mut ends = note.match_indices(": ").map(|(at, _)| note.split_at(at));
        let of_place = ends.find_map(|(before, after)| Some((places.get(before)?, after)));
        match of_place {
            Some((place, text)) => Finding::note(place, text.trim_start_matches(": ")),
            None => description.note(&note),
        }
    };
    Ok(notes.into_iter().map(finding).collect())
}

/// Checks that the box can have its description where the results go.
fn one_folder(request: &BuildRequest, folders: &Folders, runs_as: RunsAs) -> Result<(), PlanError> {
    let is_one = || is_same(&folders.description, &folders.target_dir);
    if runs_as.is_container() && request.description_rw && is_one() {
        return Err(PlanError::Target {
            path: request.build.target_dir.clone(),
            problem: String::from(
                "is the description folder, which a container with --description-rw cannot have for its \
                 results as well: choose another one",
            ),
        });
    }
    Ok(())
}
