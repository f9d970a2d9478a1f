//! What a build is told so that it comes to the same results each time.

use std::ffi::OsString;

use boxbuild_firmware::guest::Init;
use boxbuild_host::arch::Arch;

use super::error::PlanError;
use crate::boot::{Boot, RunsAs, boxinit_is_missing};
use crate::request::BuildRequest;

/// What programs take for the time (reproducible-builds.org, "SOURCE_DATE_EPOCH"): kiwi seeds its ids from
/// it, and mksquashfs, mke2fs, mkfs.fat, xorriso and the programs of shadow know it.
const EPOCH: &str = "SOURCE_DATE_EPOCH";
/// Options of GNU tar, which kiwi calls without any about order and time (tar(1), "ENVIRONMENT").
const TAR: &str = "TAR_OPTIONS";

/// Adds to the environment of kiwi what makes it build the same again.
///
/// # Errors
/// Fails if the box cannot be told.
pub(super) fn settle(
    request: &BuildRequest,
    runs_as: RunsAs,
    arch: Arch,
    environment: &mut Vec<(String, OsString)>,
) -> Result<Option<String>, PlanError> {
    let Some(time) = request.reproducible else {
        return Ok(None);
    };
    if runs_as == RunsAs::Machine(Boot::Compat) {
        return Err(PlanError::Option(String::from(
            "--reproducible: a box that is booted by its own init cannot be told the time: boot it fast \
             (--boot fast)",
        )));
    }
    environment.push((EPOCH.to_owned(), time.to_string().into()));
    let tar = format!("--sort=name --mtime=@{time} --clamp-mtime");
    environment.push((TAR.to_owned(), tar.into()));
    // Scripts leave the clock alone.
    let clock = if runs_as.is_container() {
        String::from("a container has the clock of this host")
    } else if !Init::of(arch.name()).is_program() {
        let why =
            boxinit_is_missing(arch).map_or_else(String::new, |why| format!(", because {why}"));
        format!("a box of {arch} has a clock that goes on{why}")
    } else {
        return Ok(None);
    };
    Ok(Some(format!(
        "--reproducible: {clock}: what writes the time into files writes another one each time; a virtual \
         machine of x86_64 or aarch64 has the build's own"
    )))
}

#[cfg(test)]
mod tests {
    use boxbuild_engine::podman::Mode;

    use super::*;
    use crate::plan::tests::plan;

    #[test]
    fn a_build_is_told_its_time_where_that_can_be() {
        let asked = |change: fn(&mut BuildRequest)| {
            plan(|request| {
                request.reproducible = Some(7);
                change(request);
            })
        };
        let machine = asked(|_| {}).unwrap();
        let value = |name: &str| {
            let mut all = machine.environment.iter();
            all.find(|(known, _)| known == name)
                .map(|(_, value)| value.clone())
        };
        assert_eq!(value(EPOCH), Some("7".into()));
        assert!(value(TAR).unwrap().to_str().unwrap().contains("@7 "));
        let container = asked(|request| request.container = Some(Mode::Rootless)).unwrap();
        assert!(container.notes.iter().any(|note| note.contains("clock")));
        let plain = plan(|_| {}).unwrap();
        assert!(!plain.environment.iter().any(|(name, _)| name == EPOCH));
    }
}
