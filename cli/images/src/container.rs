//! A root tree or container image, run in a container.

use std::ffi::OsString;
use std::io::Write;

use boxbuild_engine::events;
use boxbuild_engine::podman::RootTree;
use boxbuild_host::interrupt::Interrupt;
use boxbuild_parsers::{Output, Parser, TreeOutputs};

use crate::error::RunError;
use crate::image::What;
use crate::outcome::{Outcome, Reason, Verdict};
use crate::plan::Plan;
use crate::watch::{Expectations, Step, pattern};

/// Bytes that a tree may unpack to.
const LARGEST: u64 = 256 << 30;
/// What shows that a shell runs: the end of its prompt, which what it warns of may follow.
const SHELL_PROMPT: &str = r"[#$] ";
/// An expression that nothing matches: a command is judged by its end.
const NEVER: &str = r"\z[^\s\S]";
/// What is run unless the user says otherwise.
const SHELL: &str = "/bin/sh";

/// A root tree that can be run.
pub(crate) struct Container {
    tree: RootTree,
    command: Vec<OsString>,
    /// The user has not named the command.
    is_shell: bool,
}

impl Container {
    /// Unpacks the root tree of `plan`.
    pub(crate) fn prepare(plan: &Plan, interrupt: &Interrupt) -> Result<Container, RunError> {
        let What::Root { archive, source } = &plan.image.what else {
            let text = String::from("this image runs in a machine");
            return Err(RunError::Option(text));
        };
        let tree = RootTree::begin(plan.scratch()).map_err(RunError::Container)?;
        let parser = Parser::new(interrupt.clone());
        let unpack = |out: &mut (dyn Write + Send)| {
            let outputs = TreeOutputs {
                tree: Output::new(out, LARGEST),
                kernel: None,
                initrd: None,
            };
            let none = &mut |_: &str| Err(std::io::ErrorKind::NotFound.into());
            parser
                .tree(
                    *source,
                    plan.arch.debian_name(),
                    Some(archive),
                    outputs,
                    none,
                )
                .map(|_| ())
        };
        tree.unpack(unpack)
            .map_err(RunError::Container)?
            .map_err(|error| RunError::Parse(plan.image.path.clone(), error))?;
        let words = plan.command.as_deref().map(words).transpose()?;
        let is_shell = words.is_none();
        if is_shell && !tree.has(SHELL) {
            return Err(RunError::Option(format!(
                "the image has no {SHELL}: name a program of it with --command"
            )));
        }
        let command = words.unwrap_or_else(|| vec![SHELL.into(), "-i".into()]);
        Ok(Container {
            tree,
            command,
            is_shell,
        })
    }

    /// Whether root runs it, so that it is hardly isolated.
    pub(crate) fn is_rootful(&self) -> bool {
        self.tree.is_rootful()
    }

    /// Starts it.
    pub(crate) fn start(
        &self,
    ) -> Result<
        (
            boxbuild_engine::podman::RootRun,
            boxbuild_engine::EventReceiver,
        ),
        RunError,
    > {
        let (sender, events) = events();
        let run = self
            .tree
            .start(&self.command, sender)
            .map_err(RunError::Container)?;
        Ok((run, events))
    }

    /// Runs it with the user's terminal.
    pub(crate) fn attach(&self) -> Result<(), RunError> {
        self.tree.attach(&self.command).map_err(RunError::Container)
    }

    /// What is expected where the user does not say: the prompt of a shell, or the end of a command.
    pub(crate) fn adapt(
        &self,
        expectations: &mut Expectations,
        asked: bool,
    ) -> Result<(), RunError> {
        if asked {
            return Ok(());
        }
        let own = if self.is_shell { SHELL_PROMPT } else { NEVER };
        let own = pattern(own).map_err(RunError::Option)?;
        if let Some(Step::Expect { pattern, .. }) = expectations.steps.first_mut() {
            *pattern = own;
        }
        Ok(())
    }

    /// Judges a command by what it ended with.
    pub(crate) fn judge(&self, asked: bool, code: Option<i32>, outcome: Outcome) -> Outcome {
        let verdict = match (outcome.verdict, code) {
            (Verdict::Failed(Reason::PoweredOff), Some(0)) if !asked && !self.is_shell => {
                Verdict::Passed
            }
            (Verdict::Failed(Reason::PoweredOff), Some(code)) if code != 0 => {
                Verdict::Failed(Reason::Command(code))
            }
            (verdict, _) => verdict,
        };
        Outcome { verdict, ..outcome }
    }
}

/// The words of a command, as a shell splits them.
fn words(text: &str) -> Result<Vec<OsString>, RunError> {
    let words = shell_words::split(text)
        .map_err(|error| RunError::Option(format!("--command: {error}")))?;
    if words.is_empty() {
        return Err(RunError::Option(String::from("--command: it is empty")));
    }
    Ok(words.into_iter().map(OsString::from).collect())
}
