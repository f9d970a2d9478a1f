//! What is decided and checked about a build before anything is fetched, changed or started: the same
//! for a build, for `--dry-run`, and for the builds of a batch.

use boxbuild_boxes::box_lock::{BoxLock, DiskAccess};
use boxbuild_boxes::fetch::Key;
use boxbuild_boxes::lock_file::Locked;
use boxbuild_boxes::source::published;
use boxbuild_boxes::store::Store;
use boxbuild_core::boot::{Boot, RunsAs};
use boxbuild_core::boot_history::{BootHistory, BootOutcome};
use boxbuild_core::failed_builds::check_scratch;
use boxbuild_core::host_facts::HostFacts;
use boxbuild_core::output_dir::TargetDir;
use boxbuild_core::plan::{BootChoice, Plan, ResolvedEngine};
use boxbuild_core::request::BuildRequest;
use boxbuild_core::resolve::{Resolved, container_image};
use boxbuild_core::run;
use boxbuild_core::ssh::Ssh;
use boxbuild_engine::podman::{Mode, Podman};
use boxbuild_engine::{EngineChoice, Selected, Unusable};
use boxbuild_host::arch::Arch;
use boxbuild_host::startup::{self, Step};
use boxbuild_host::{descriptors, system_calls};

use super::confinement;
use crate::args::BuildOptions;
use crate::exit_code::{ExitCode, Failure, HostContext, Result};

/// What must be so of a published box, as files say.
#[derive(Debug)]
pub(super) struct Requirements {
    pub(super) locked: Option<Locked>,
    pub(super) key: Option<Key>,
}

/// What carries out a plan.
#[derive(Debug)]
pub(super) enum Carrier {
    /// An engine, as a machine.
    Machine(Selected),
    /// podman, as a container.
    Container(Podman),
    /// What another host has.
    Elsewhere,
}

/// Where builds run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Where {
    /// On this host.
    #[default]
    Here,
    /// On others, which look for themselves what they have.
    Elsewhere,
}

/// What was found already to carry out plans: a host is probed once.
#[derive(Debug, Default)]
pub(super) struct Carriers {
    at: Where,
    known: Vec<(Wanted, Carrier)>,
}

/// What decides about what carries out a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wanted {
    engine: EngineChoice,
    arch: Arch,
    container: Option<Mode>,
    loop_devices: bool,
}

/// A build that can be carried out, as far as that can be told.
#[derive(Debug)]
pub(super) struct Preflight {
    /// Its notes are all that the build has for its user before it runs.
    pub(super) plan: Plan,
    pub(super) carrier: Carrier,
    /// How the box was brought up by this engine, if it runs as a machine.
    pub(super) history: Option<BootHistory>,
}

impl Requirements {
    /// Reads the files that `options` name.
    pub(super) fn read(options: &BuildOptions) -> Result<Requirements> {
        Ok(Requirements {
            locked: options.source.locked()?,
            key: options.source.key()?,
        })
    }

    /// The request for the box of a build.
    pub(super) fn pull<'a>(&'a self, request: &'a BuildRequest) -> published::PullRequest<'a> {
        published::PullRequest {
            name: &request.box_name,
            arch: request.arch,
            freshness: request.fetch.into(),
            locked: self.locked.as_ref(),
            config: request.kiwi.config.as_deref(),
            key: self.key.clone(),
        }
    }
}

/// Checks a build with the box as it is on this host, or as it would be fetched.
///
/// # Errors
/// Fails if the build would be refused.
pub(super) fn check(
    options: &BuildOptions,
    requirements: &Requirements,
    request: &BuildRequest,
    host: &HostFacts,
    carriers: &mut Carriers,
) -> Result<Preflight> {
    if !carriers.elsewhere() {
        check_host(options)?;
    }
    let resolved = Resolved::preview(request, host)?;
    let of_box = published::check(&Store::of_user()?, &requirements.pull(request))?;
    let mut preflight = Preflight::of(options, &resolved, carriers)?;
    preflight.plan.notes.extend(of_box);
    if carriers.elsewhere() {
        TargetDir::check(&preflight.plan.target_dir)?;
    } else {
        look(&preflight.plan, request, host)?;
    }
    Ok(preflight)
}

/// Checks what a build needs of the host, whatever it builds.
///
/// # Errors
/// Fails if something is missing.
pub(super) fn check_host(options: &BuildOptions) -> Result<()> {
    if let Some(problem) = system_calls::problem().or_else(descriptors::problem) {
        return Err(Failure::new(ExitCode::HOST, anyhow::Error::msg(problem)));
    }
    if options.require_confinement {
        confinement::require()?;
    }
    Ok(())
}

/// Looks whether a build has what it takes for itself. It takes all of these again.
///
/// # Errors
/// Fails if it has not.
pub(super) fn look(plan: &Plan, request: &BuildRequest, host: &HostFacts) -> Result<()> {
    if let Some(ssh) = Ssh::wanted(request, host).map_err(boxbuild_core::plan::PlanError::Option)? {
        ssh.listen()?;
    }
    if !plan.runs_as.is_container() && !plan.disk.in_place {
        check_scratch(&plan.store())
            .map_err(|problem| Failure::new(ExitCode::HOST, anyhow::Error::msg(problem)))?;
    }
    if !plan.runs_as.is_container() && plan.installed.to_fetch.is_empty() {
        let access = if plan.disk.in_place {
            DiskAccess::Write
        } else {
            DiskAccess::Read
        };
        BoxLock::take(&plan.installed, access)?;
    }
    TargetDir::check(&plan.target_dir)?;
    Ok(())
}

/// Checks the box of a build alone.
///
/// # Errors
/// Fails if a build in it would be refused.
pub(super) fn check_box(options: &BuildOptions, request: &BuildRequest) -> Result<()> {
    let requirements = Requirements::read(options)?;
    published::check(&Store::of_user()?, &requirements.pull(request))?;
    Ok(())
}

impl Preflight {
    /// Decides on how `resolved` is carried out.
    ///
    /// # Errors
    /// Fails if it cannot be.
    pub(super) fn of(
        options: &BuildOptions,
        resolved: &Resolved<'_>,
        carriers: &mut Carriers,
    ) -> Result<Preflight> {
        let plan = resolved.plan(resolved.choice().first())?;
        let carrier = match carriers.take(&plan) {
            Some(carrier) => carrier,
            None if carriers.elsewhere() => Carrier::Elsewhere,
            None => Carrier::of(options, &plan)?,
        };
        let (mut plan, history) = match &carrier {
            Carrier::Machine(selected) => {
                let history = BootHistory::of(&plan.installed.info, selected.engine.name());
                let mut plan = remembered(resolved, &history)
                    .unwrap_or(plan)
                    .with_processor(selected.engine.processor());
                plan.cpu_level = history.cpu_level();
                (plan, Some(history))
            }
            Carrier::Container(_) => {
                plan.kernel_needs.check()?;
                container_image(&plan)?;
                (plan, None)
            }
            Carrier::Elsewhere => (plan, None),
        };
        plan.notes.extend(carrier.note(options));
        Ok(Preflight {
            plan,
            carrier,
            history,
        })
    }

    /// What carries it out, for `--dry-run`.
    ///
    /// # Errors
    /// Fails if the box cannot be told what to build.
    pub(super) fn engine(&self) -> Result<ResolvedEngine> {
        Ok(match &self.carrier {
            Carrier::Container(podman) => ResolvedEngine {
                engine: podman.describe(),
                why: String::from("asked for (--container)"),
                cmdline: None,
            },
            Carrier::Elsewhere => ResolvedEngine {
                engine: match self.plan.runs_as {
                    RunsAs::Container(_) => String::from("podman"),
                    RunsAs::Machine(_) => self.plan.engine.name().to_owned(),
                },
                why: String::from("its host decides"),
                cmdline: None,
            },
            Carrier::Machine(selected) => ResolvedEngine {
                engine: selected.engine.name().to_owned(),
                why: selected.why.clone(),
                cmdline: Some(
                    run::guest_cmdline(&self.plan, selected.engine.processor())
                        .host_context(|| "the box cannot be told what to build")?,
                ),
            },
        })
    }
}

impl Wanted {
    fn by(plan: &Plan) -> Wanted {
        let container = match plan.runs_as {
            RunsAs::Container(mode) => Some(mode),
            RunsAs::Machine(_) => None,
        };
        Wanted {
            engine: plan.engine,
            arch: plan.installed.info.arch,
            container,
            loop_devices: container.is_some() && plan.image_types.with_loop_devices().is_some(),
        }
    }
}

impl Carriers {
    /// Looks for what carries out plans, where builds run here.
    pub(super) fn at(at: Where) -> Carriers {
        Carriers {
            at,
            known: Vec::new(),
        }
    }

    /// Whether builds run on other hosts.
    pub(super) fn elsewhere(&self) -> bool {
        self.at == Where::Elsewhere
    }

    /// Keeps what carries out a plan for the next one.
    pub(super) fn put(&mut self, preflight: Preflight) {
        let wanted = Wanted::by(&preflight.plan);
        self.known.push((wanted, preflight.carrier));
    }

    fn take(&mut self, plan: &Plan) -> Option<Carrier> {
        let wanted = Wanted::by(plan);
        let at = self.known.iter().position(|(known, _)| *known == wanted)?;
        Some(self.known.swap_remove(at).1)
    }
}

impl Carrier {
    /// Finds what carries out `plan`.
    fn of(options: &BuildOptions, plan: &Plan) -> Result<Carrier> {
        let arch = plan.installed.info.arch;
        if let RunsAs::Container(mode) = plan.runs_as {
            let podman = Podman::find(mode, arch, plan.image_types.with_loop_devices().as_deref())?;
            return Ok(Carrier::Container(podman));
        }
        startup::reach(Step::Engine);
        let selected =
            boxbuild_engine::select(plan.engine, arch).map_err(|Unusable(reasons)| {
                let text = if plan.engine == EngineChoice::Auto {
                    format!(
                        "{reasons}\n  a container needs none of them, but is hardly isolated: {}",
                        container_command(options)
                    )
                } else {
                    reasons
                };
                Unusable(text)
            })?;
        startup::reach(Step::Prepare);
        Ok(Carrier::Machine(selected))
    }

    /// What the user should know about it.
    fn note(&self, options: &BuildOptions) -> Option<String> {
        let Carrier::Machine(selected) = self else {
            return None;
        };
        let reason = selected.passed_over.as_ref()?;
        Some(format!(
            "using {}, which is slower ({reason})\n  a container is faster here, but hardly \
             isolated: {}",
            selected.engine.name(),
            container_command(options)
        ))
    }
}

/// Returns the command line for this build in a container.
fn container_command(options: &BuildOptions) -> String {
    let name = options.box_name.as_deref().unwrap_or_default();
    format!("boxbuild --container --box {name} -- …")
}

/// Returns the plan for a compat boot if the box is known not to boot fast.
fn remembered(resolved: &Resolved<'_>, history: &BootHistory) -> Option<Plan> {
    if resolved.choice() != BootChoice::FastFirst {
        return None;
    }
    let Some(BootOutcome::Unfit(reason)) = history.recall() else {
        return None;
    };
    // A build that a compat boot cannot do is worth another try.
    let mut plan = resolved.plan(Boot::Compat).ok()?;
    plan.notes.push(format!(
        "booting the box {} by its own init: {reason} (remembered from an earlier build; --boot \
         fast tries again)",
        resolved.box_name()
    ));
    Some(plan)
}
