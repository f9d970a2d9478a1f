//! Another attempt on a processor that can do more.
//!
//! An emulated processor lacks what only slows the emulation down (docs/qemu-engine.md), and some
//! distributions' programs need that.

use boxbuild_engine::{CpuLevel, Processor};
use boxbuild_host::arch::Arch;

use super::lack::Lack;
use super::outcome::Reason;
use crate::boot::Boot;
use crate::plan::Plan;

/// The level of the processor with which a build that failed for `reason` is worth another attempt.
/// `silent`: the guest has not said a word.
pub(super) fn level(
    plan: &Plan,
    processor: Option<Processor>,
    reason: &Reason,
    silent: bool,
) -> Option<CpuLevel> {
    let ours = processor == Some(Processor::Emulated)
        && plan.installed.info.arch == Arch::X86_64
        && plan.cpu_model.is_none();
    let wanted = match reason {
        Reason::Lack(Lack::Processor(level)) => *level,
        // The box's own init dies before there is a driver for its console. boxbuild's needs nothing.
        Reason::Reset | Reason::TripleFault(_) if silent && plan.boot() == Some(Boot::Compat) => {
            CpuLevel::EMULATED
        }
        _ => return None,
    };
    (ours && wanted > plan.cpu_level && wanted <= CpuLevel::EMULATED).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::plan;

    #[test]
    fn only_an_emulated_processor_can_become_newer() {
        let mut plan = plan(|_| {}).unwrap();
        let needs = |level| Reason::Lack(Lack::Processor(level));
        let (v2, v3) = (CpuLevel::V2, CpuLevel::V3);
        let emulated = Some(Processor::Emulated);
        assert_eq!(level(&plan, emulated, &needs(v2), false), Some(v2));
        assert_eq!(level(&plan, emulated, &needs(CpuLevel::V4), false), None);
        assert_eq!(level(&plan, emulated, &Reason::Kiwi(1), true), None);
        for processor in [None, Some(Processor::Virtualized)] {
            assert_eq!(level(&plan, processor, &needs(v3), false), None);
        }
        plan.cpu_level = v2;
        assert_eq!(level(&plan, emulated, &needs(v2), false), None);
        assert_eq!(level(&plan, emulated, &needs(v3), false), Some(v3));
        plan.cpu_model = Some("qemu64".into());
        assert_eq!(level(&plan, emulated, &needs(v3), false), None);
    }

    #[test]
    fn a_guest_that_never_spoke_may_need_a_newer_one() {
        let mut plan = plan(|_| {}).unwrap();
        let emulated = Some(Processor::Emulated);
        assert_eq!(level(&plan, emulated, &Reason::Reset, true), None);
        plan.runs_as = crate::boot::RunsAs::Machine(Boot::Compat);
        let raised = level(&plan, emulated, &Reason::Reset, true);
        assert_eq!(raised, Some(CpuLevel::V3));
        assert_eq!(level(&plan, emulated, &Reason::Reset, false), None);
    }
}
