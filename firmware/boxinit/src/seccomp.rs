//! A seccomp filter that turns fsync(2) and its like into successful no-ops.
//!
//! The disk of a build is thrown away after it: synchronizing it is lost time, and package managers
//! do it thousands of times. Data in the shared folders is not at risk: it is written through.

/// One instruction: `code`, `jt`, `jf`, `k` of `struct sock_filter` (linux/filter.h).
pub type Instruction = (u16, u8, u8, u32);

/// `BPF_LD | BPF_W | BPF_ABS`, `BPF_JMP | BPF_JEQ | BPF_K`, `BPF_RET | BPF_K`
/// (linux/bpf_common.h).
const LOAD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
/// `SECCOMP_RET_ALLOW` and `SECCOMP_RET_ERRNO` with an error of 0 (linux/seccomp.h).
const ALLOW: u32 = 0x7fff_0000;
const SUCCESS: u32 = 0x0005_0000;
/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

/// `AUDIT_ARCH_*` of this architecture (linux/audit.h), and its system call numbers of fsync,
/// fdatasync, sync, syncfs, sync_file_range and msync. `None` for architectures that are not listed:
/// programs do synchronize there.
const SYSTEM: Option<(u32, [u32; 6])> = if cfg!(target_arch = "x86_64") {
    Some((0xc000_003e, [74, 75, 162, 306, 277, 26]))
} else if cfg!(target_arch = "aarch64") {
    Some((0xc000_00b7, [82, 83, 81, 267, 84, 227]))
} else {
    None
};

/// The filter for programs of this architecture. Those of others (32-bit ones) do synchronize. Empty
/// if the architecture is not known.
pub fn filter() -> Vec<Instruction> {
    let Some((architecture, numbers)) = SYSTEM else {
        return Vec::new();
    };
    // Distance to the instruction that allows, after the comparisons.
    let to_allow = numbers.len() as u8 + 1;
    let mut code = vec![
        (LOAD, 0, 0, ARCHITECTURE),
        (JUMP_IF_EQUAL, 0, to_allow, architecture),
        (LOAD, 0, 0, NUMBER),
    ];
    for (done, number) in numbers.into_iter().enumerate() {
        code.push((JUMP_IF_EQUAL, (numbers.len() - done) as u8, 0, number));
    }
    code.push((RETURN, 0, 0, ALLOW));
    code.push((RETURN, 0, 0, SUCCESS));
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Interprets the filter.
    fn run(architecture: u32, number: u32) -> u32 {
        let code = filter();
        let (mut at, mut loaded) = (0, 0);
        loop {
            let (what, jt, jf, k) = code[at];
            at += 1;
            match what {
                LOAD => loaded = if k == NUMBER { number } else { architecture },
                JUMP_IF_EQUAL => at += usize::from(if loaded == k { jt } else { jf }),
                _ => return k,
            }
        }
    }

    #[test]
    fn only_synchronization_is_filtered() {
        let Some((architecture, numbers)) = SYSTEM else {
            assert_eq!(filter(), []);
            return;
        };
        for number in 0..500 {
            let wanted = if numbers.contains(&number) {
                SUCCESS
            } else {
                ALLOW
            };
            assert_eq!(run(architecture, number), wanted, "{number}");
            assert_eq!(run(0x4000_0003, number), ALLOW, "{number}");
        }
    }
}
