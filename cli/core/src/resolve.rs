//! From a request to a plan: the box is looked up and the way to boot it chosen. Nothing is
//! fetched or changed.

use boxbuild_boxes::source::published::{self, PullError};
use boxbuild_boxes::store::{InstalledBox, Store};
use boxbuild_engine::podman::{Image, ImageSource};
use boxbuild_host::error::{Classify, ErrorClass};

use crate::boot::Boot;
use crate::host_facts::HostFacts;
use crate::plan::{BootChoice, Folders, Plan, PlanError};
use crate::request::BuildRequest;
use boxbuild_boxes::store::{ContainerImage, StoreError};

/// A request whose folders and box are found, for a box that may be booted in more than one way.
#[derive(Debug)]
pub struct Resolved<'a> {
    request: &'a BuildRequest,
    host: &'a HostFacts,
    folders: Folders,
    installed: InstalledBox,
    choice: BootChoice,
}

/// A request cannot become a plan.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The request is wrong, or cannot be had on this host.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The box in the store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The box is not there, and is not published either.
    #[error(transparent)]
    Pull(#[from] PullError),
}

impl Classify for ResolveError {
    fn class(&self) -> ErrorClass {
        match self {
            ResolveError::Plan(error) => error.class(),
            ResolveError::Store(error) => error.class(),
            ResolveError::Pull(error) => error.class(),
        }
    }
}

impl<'a> Resolved<'a> {
    /// Resolves `request` with the box as it is on this host, or as it would be fetched.
    ///
    /// # Errors
    /// Fails if a folder cannot be used, or there is no such box.
    pub fn preview(
        request: &'a BuildRequest,
        host: &'a HostFacts,
    ) -> Result<Resolved<'a>, ResolveError> {
        let folders = Folders::check(request)?;
        let store = Store::of_user()?;
        let name = &request.box_name;
        let installed =
            match published::preview(&store, name, request.arch, request.kiwi.config.as_deref())? {
                Some(preview) => preview,
                None => store.get_for(name, request.arch)?,
            };
        Ok(Resolved::with_box(request, host, folders, installed)?)
    }

    /// Resolves `request` with a box that is there.
    ///
    /// # Errors
    /// Fails if the box cannot be booted as asked for.
    pub fn with_box(
        request: &'a BuildRequest,
        host: &'a HostFacts,
        folders: Folders,
        installed: InstalledBox,
    ) -> Result<Resolved<'a>, PlanError> {
        let choice = BootChoice::new(request.boot, &installed.info)?;
        Ok(Resolved {
            request,
            host,
            folders,
            installed,
            choice,
        })
    }

    /// Returns the name of the box as it was asked for; in the store it has its architecture, too.
    pub fn box_name(&self) -> &str {
        &self.request.box_name
    }

    /// Returns the ways in which the box may be booted.
    pub fn choice(&self) -> BootChoice {
        self.choice
    }

    /// The plan for a box that is booted like this.
    ///
    /// # Errors
    /// Fails if an option cannot be had with this box or on this host.
    pub fn plan(&self, boot: Boot) -> Result<Plan, PlanError> {
        Plan::new(
            self.request,
            self.host,
            self.folders.clone(),
            self.installed.clone(),
            boot,
        )
    }
}

/// The box has no container image.
#[derive(Debug, thiserror::Error)]
#[error(
    "the box '{name}' has no container image: create it again with 'boxbuild box create {name} \
     --from {origin} --force'"
)]
pub struct NoImage {
    name: String,
    origin: String,
}

impl Classify for NoImage {
    fn class(&self) -> ErrorClass {
        ErrorClass::Host
    }
}

/// The image that a container for `plan` is made from.
///
/// # Errors
/// Fails if the box has none.
pub fn container_image(plan: &Plan) -> Result<Image, NoImage> {
    let installed = &plan.installed;
    let info = &installed.info;
    let source = match &info.container {
        None => {
            return Err(NoImage {
                name: info.name.clone(),
                origin: info.origin.clone(),
            });
        }
        Some(ContainerImage::Archive(file)) => ImageSource::Archive {
            path: installed.path(file),
            sha256: file.sha256.clone(),
            store: installed.dir.clone(),
        },
        Some(ContainerImage::Registry { registry }) => ImageSource::Registry(registry.clone()),
    };
    Ok(Image {
        name: info.name.clone(),
        arch: info.arch,
        source,
        pull: plan.fetch.into(),
    })
}
