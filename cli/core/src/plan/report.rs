//! The plan for programs, for `--dry-run --json` (docs/json.md).

use std::borrow::Cow;

use boxbuild_engine::Share;
use boxbuild_host::secret;
use serde::Serialize;

use super::Plan;
use super::json::lossy;

/// What runs the box, and why.
#[derive(Debug, Clone)]
pub struct ResolvedEngine {
    /// Name of the engine.
    pub engine: String,
    /// Why this one.
    pub why: String,
    /// What it tells the guest's kernel; a container has none.
    pub cmdline: Option<String>,
}

/// A plan, and what it is carried out with.
#[derive(Debug, Serialize)]
pub struct PlanReport<'a> {
    #[serde(flatten)]
    plan: &'a Plan,
    engine: EngineEntry<'a>,
    cmdline: Option<Cow<'a, str>>,
    shares: Vec<SharedFolder>,
}

#[derive(Debug, Serialize)]
struct EngineEntry<'a> {
    name: &'a str,
    why: &'a str,
    asked: &'static str,
}

#[derive(Debug, Serialize)]
struct SharedFolder {
    tag: String,
    path: String,
    read_only: bool,
}

impl<'a> PlanReport<'a> {
    /// The report on `plan`.
    pub fn new(plan: &'a Plan, resolved: &'a ResolvedEngine) -> PlanReport<'a> {
        let shared = |share: Share| SharedFolder {
            path: lossy(&share.root),
            tag: share.tag.to_string(),
            read_only: share.read_only,
        };
        PlanReport {
            plan,
            engine: EngineEntry {
                name: &resolved.engine,
                why: &resolved.why,
                asked: plan.engine.name(),
            },
            cmdline: resolved.cmdline.as_deref().map(secret::redact),
            shares: plan
                .shares(&plan.target_dir)
                .into_iter()
                .map(shared)
                .collect(),
        }
    }
}
