//! `--machine` and `--cpu`: words for QEMU. Scripts for kiwi-ng have them with KVM as well, where the kvm
//! engine has one machine and the host's processor.

use std::ffi::{OsStr, OsString};

use boxbuild_engine::Processor;

/// The options, as they are used.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Settled {
    pub(super) machine_type: Option<OsString>,
    pub(super) cpu_model: Option<OsString>,
    /// What the user should know.
    pub(super) notes: Vec<String>,
}

/// Settles both options for a guest with `processor`.
pub(super) fn settle(
    processor: Processor,
    machine_type: Option<OsString>,
    cpu_model: Option<OsString>,
) -> Settled {
    match processor {
        Processor::Virtualized => virtualized(machine_type.as_deref(), cpu_model.as_deref()),
        Processor::Emulated => emulated(machine_type, cpu_model),
    }
}

fn virtualized(machine_type: Option<&OsStr>, cpu_model: Option<&OsStr>) -> Settled {
    let machine = machine_type.map(|kind| {
        format!(
            "--machine {}: no effect: the kvm engine has one machine of its own",
            kind.display()
        )
    });
    // The host's processor is what the guest gets.
    let cpu = cpu_model.filter(|model| *model != "host").map(|model| {
        format!(
            "--cpu {}: no effect: the kvm engine has the host's processor",
            model.display()
        )
    });
    Settled {
        notes: machine.into_iter().chain(cpu).collect(),
        ..Settled::default()
    }
}

fn emulated(machine_type: Option<OsString>, cpu_model: Option<OsString>) -> Settled {
    let mut settled = Settled {
        machine_type,
        cpu_model,
        notes: Vec::new(),
    };
    // QEMU has the model only with KVM.
    let is_host = |model: &str| model.split(',').next() == Some("host");
    let named = settled.cpu_model.as_ref().and_then(|model| model.to_str());
    if let Some(model) = named.filter(|model| is_host(model)) {
        settled.notes.push(format!(
            "--cpu {model}: no effect: the processor is emulated"
        ));
        settled.cpu_model = None;
    }
    // Options of the accelerator, which boxbuild chooses.
    let named = settled.machine_type.as_ref().and_then(|kind| kind.to_str());
    if let Some(kind) = named {
        let (dropped, kept): (Vec<&str>, Vec<&str>) = kind
            .split(',')
            .partition(|word| word.starts_with("accel=") || word.starts_with("kernel_irqchip="));
        if !dropped.is_empty() {
            let note = format!(
                "--machine {kind}: {} has no effect: --engine selects what runs the box",
                dropped.join(",")
            );
            let kept = (!kept.is_empty()).then(|| kept.join(",").into());
            settled.notes.push(note);
            settled.machine_type = kept;
        }
    }
    settled
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(processor: Processor, machine: &str, cpu: &str) -> (String, String, usize) {
        let given = |text: &str| (!text.is_empty()).then(|| OsString::from(text));
        let settled = settle(processor, given(machine), given(cpu));
        let text = |word: Option<OsString>| word.unwrap_or_default().into_string().unwrap();
        (
            text(settled.machine_type),
            text(settled.cpu_model),
            settled.notes.len(),
        )
    }

    #[test]
    fn words_for_qemu_have_no_effect_under_kvm() {
        let kvm = |machine, cpu| of(Processor::Virtualized, machine, cpu);
        let none = |notes| (String::new(), String::new(), notes);
        assert_eq!(kvm("", ""), none(0));
        assert_eq!(kvm("", "host"), none(0));
        assert_eq!(kvm("q35", "host"), none(1));
        assert_eq!(kvm("virt", "max"), none(2));
    }

    #[test]
    fn the_hosts_processor_is_not_asked_of_an_emulator() {
        let qemu = |machine, cpu| of(Processor::Emulated, machine, cpu);
        let with = |machine: &str, cpu: &str, notes| (machine.to_owned(), cpu.to_owned(), notes);
        assert_eq!(qemu("q35", "max"), with("q35", "max", 0));
        assert_eq!(qemu("q35", "host"), with("q35", "", 1));
        assert_eq!(qemu("", "host,-vmx"), with("", "", 1));
        assert_eq!(
            qemu("q35,accel=kvm,usb=off", ""),
            with("q35,usb=off", "", 1)
        );
        assert_eq!(qemu("accel=tcg", "EPYC"), with("", "EPYC", 1));
    }
}
