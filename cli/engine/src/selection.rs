//! The engines that run machines, and the choice among them.

use boxbuild_host::arch::Arch;

use crate::engine::Engine;
use crate::kvm::Kvm;
use crate::qemu::Qemu;
use crate::unusable::Unusable;

/// The engine that is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EngineChoice {
    /// The first of the others that works.
    #[default]
    Auto,
    /// [`Kvm`].
    Kvm,
    /// [`Qemu`].
    Qemu,
}

impl EngineChoice {
    /// Every choice, in the order of the help.
    pub const ALL: [EngineChoice; 3] = [EngineChoice::Auto, EngineChoice::Kvm, EngineChoice::Qemu];

    /// The name users select it by.
    pub const fn name(self) -> &'static str {
        match self {
            EngineChoice::Auto => "auto",
            EngineChoice::Kvm => "kvm",
            EngineChoice::Qemu => "qemu",
        }
    }

    /// The choice of this name.
    pub fn named(name: &str) -> Option<EngineChoice> {
        EngineChoice::ALL
            .into_iter()
            .find(|choice| choice.name() == name)
    }
}

/// An engine that works on this host.
#[derive(Debug)]
pub struct Selected {
    /// The engine.
    pub engine: Box<dyn Engine>,
    /// Why a better one was passed over, for the user.
    pub passed_over: Option<String>,
    /// Why it is this one, in any case.
    pub why: String,
}

/// The engine that the user asked for, or the best one that works here.
///
/// # Errors
/// Fails if it does not work here, or none does; with the reason of each.
pub fn select(choice: EngineChoice, arch: Arch) -> Result<Selected, Unusable> {
    let mut reasons: Vec<String> = Vec::new();
    for engine in all() {
        if choice != EngineChoice::Auto && choice.name() != engine.name() {
            continue;
        }
        match engine.probe(arch) {
            Ok(()) => {
                return Ok(Selected {
                    why: match (choice, reasons.last()) {
                        (EngineChoice::Auto, None) => {
                            String::from("the fastest engine, and it works on this host")
                        }
                        (EngineChoice::Auto, Some(reason)) => reason.clone(),
                        _ => String::from("asked for"),
                    },
                    engine,
                    // Users know that KVM runs no foreign guests.
                    passed_over: reasons.pop().filter(|_| arch == Arch::host()),
                });
            }
            Err(Unusable(reason)) => reasons.push(format!("{}: {reason}", engine.name())),
        }
    }
    Err(Unusable(format!(
        "no engine can run this box on this host\n  {}",
        reasons.join("\n  ")
    )))
}

/// All engines that run machines, the best first.
pub fn all() -> Vec<Box<dyn Engine>> {
    vec![Box::new(Kvm::default()), Box::new(Qemu)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kvm_runs_no_foreign_guests() {
        let Unusable(text) = select(EngineChoice::Kvm, Arch::S390x).unwrap_err();
        assert!(text.contains("kvm:") && text.contains("s390x"), "{text}");
        assert!(!text.contains("qemu:"), "{text}");
    }
}
