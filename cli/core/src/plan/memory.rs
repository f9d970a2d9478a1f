//! Memory of the guest: what was asked for, or the box's default as far as this host has it.

use boxbuild_host::memory::HostMemory;

/// Memory in MiB that an engine takes besides the guest's: QEMU's translated code (256 MiB by default),
/// page tables, buffers, and what else runs on a small host.
const BESIDES: u64 = 384;

/// A guest never gets less by default, in MiB: with less, no box builds anything.
const LEAST: u64 = 512;

/// The guest's memory in MiB: `asked` for, or `default` where this host has that. With a note if it is not
/// what the user would expect, or more than the host can give.
pub(super) fn settle(asked: Option<u64>, default: u64, host: &HostMemory) -> (u64, Option<String>) {
    let limit = host.limit.map(|bytes| bytes >> 20);
    let Some(most) = host.most().map(|bytes| bytes >> 20) else {
        return (asked.unwrap_or(default), None);
    };
    let Some(asked) = asked else {
        let room = (most.saturating_sub(BESIDES) & !63).max(LEAST);
        if default <= room {
            return (default, None);
        }
        let whose = match limit {
            Some(limit) if limit == most => "a control group gives this process",
            _ => "this host has",
        };
        let note = format!(
            "the box gets {room} MiB of memory instead of {default} MiB, because {whose} {most} MiB \
             (--box-memory gives it another amount)"
        );
        return (room, Some(note));
    };
    let note = limit.filter(|limit| asked > *limit).map(|limit| {
        format!(
            "--box-memory: the box gets {asked} MiB, and a control group gives this process {limit} MiB: a \
             build that needs more than that is ended by the host"
        )
    });
    (asked, note)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(total: u64, limit: Option<u64>) -> HostMemory {
        HostMemory {
            total: Some(total << 20),
            limit: limit.map(|mib| mib << 20),
            available: None,
        }
    }

    #[test]
    fn a_box_gets_what_a_small_host_has() {
        let (mib, note) = settle(None, 4096, &host(1990, None));
        assert_eq!(mib, 1600);
        let note = note.unwrap();
        assert!(
            note.contains("1600 MiB of memory instead of 4096 MiB"),
            "{note}"
        );
        assert!(note.contains("this host has 1990 MiB"), "{note}");
        let (mib, note) = settle(None, 4096, &host(64 << 10, Some(2048)));
        assert_eq!(mib, 1664);
        assert!(
            note.unwrap()
                .contains("a control group gives this process 2048 MiB")
        );
        assert_eq!(settle(None, 4096, &host(256, None)).0, LEAST);
        assert_eq!(
            settle(None, 4096, &host(64 << 10, Some(8192))),
            (4096, None)
        );
        assert_eq!(settle(None, 4096, &HostMemory::default()), (4096, None));
    }

    #[test]
    fn what_was_asked_for_is_given_with_a_note() {
        assert_eq!(settle(Some(1024), 4096, &host(1990, None)), (1024, None));
        let (mib, note) = settle(Some(8192), 4096, &host(64 << 10, Some(4096)));
        assert_eq!(mib, 8192);
        assert!(
            note.unwrap()
                .contains("a control group gives this process 4096 MiB")
        );
    }
}
