use super::*;

fn leaf(function: u32) -> kvm_cpuid_entry2 {
    kvm_cpuid_entry2 {
        function,
        ..Default::default()
    }
}

fn find(cpuid: &CpuId, function: u32, index: u32) -> kvm_cpuid_entry2 {
    *cpuid
        .as_slice()
        .iter()
        .find(|entry| entry.function == function && entry.index == index)
        .unwrap()
}

fn sample() -> CpuId {
    CpuId::from_entries(&[
        leaf(FEATURES),
        leaf(TOPOLOGY),
        leaf(KVM_SIGNATURE),
        leaf(AMD_CORES),
        leaf(AMD_TOPOLOGY),
    ])
    .unwrap()
}

#[test]
fn each_cpu_knows_its_own_id() {
    let cpuid = for_cpu(&sample(), 2, 3, None);
    assert_eq!(find(&cpuid, FEATURES, 0).ebx, 2 << 24 | 3 << 16);
    assert_eq!(find(&cpuid, TOPOLOGY, 0).edx, 2);
    assert_eq!(find(&cpuid, TOPOLOGY, 1).eax, 2);
    assert_eq!(find(&cpuid, TOPOLOGY, 1).ebx, 3);
    assert_eq!(find(&cpuid, AMD_CORES, 0).ecx, 2 << 12 | 2);
    assert_eq!(find(&cpuid, AMD_TOPOLOGY, 0).eax, 2);
}

#[test]
fn one_cpu_needs_no_bits() {
    let cpuid = for_cpu(&sample(), 0, 1, Some(2_000_000));
    assert_eq!(find(&cpuid, TOPOLOGY, 1).eax, 0);
    assert_eq!(find(&cpuid, FEATURES, 0).edx & MULTI_THREADING, 0);
    assert_eq!(find(&cpuid, TIMING, 0).eax, 2_000_000);
    assert_eq!(find(&cpuid, KVM_SIGNATURE, 0).eax, TIMING);
}

#[test]
fn leaves_that_a_host_lacks_are_not_invented() {
    let cpuid = for_cpu(&CpuId::from_entries(&[leaf(FEATURES)]).unwrap(), 0, 4, None);
    assert_eq!(cpuid.as_slice().len(), 1);
}

/// What KVM lists on a host, as `cpuid -r` prints it. The lines are made up after processors of these
/// kinds; the leaves that nothing looks at are left out.
fn listed(lines: &str) -> CpuId {
    let entries: Vec<_> = lines
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            let hex = |text: &str| u32::from_str_radix(text.trim_start_matches("0x"), 16).unwrap();
            let value = |name: &str| {
                let word = line
                    .split_whitespace()
                    .find_map(|word| word.strip_prefix(name));
                hex(word.unwrap())
            };
            let mut words = line.split_whitespace();
            let function = hex(words.next().unwrap());
            let index = hex(words.next().unwrap().trim_end_matches(':'));
            kvm_cpuid_entry2 {
                function,
                index,
                eax: value("eax="),
                ebx: value("ebx="),
                ecx: value("ecx="),
                edx: value("edx="),
                ..Default::default()
            }
        })
        .collect();
    CpuId::from_entries(&entries).unwrap()
}

/// A server of 2023 (Sapphire Rapids) with Linux 6.1: configuration of tiles without their data.
const TILE_CONFIG_ONLY: &str = "
    0x00000000 0x00: eax=0x00000020 ebx=0x756e6547 ecx=0x6c65746e edx=0x49656e69
    0x00000001 0x00: eax=0x000806f8 ebx=0x00400800 ecx=0xf7fab227 edx=0x0fabfbff
    0x00000004 0x03: eax=0xfc1fc163 ebx=0x03800fff ecx=0x0000000f edx=0x00000000
    0x00000007 0x00: eax=0x00000002 ebx=0xf3bfb7ef ecx=0x5b417f7e edx=0xffd94432
    0x00000007 0x01: eax=0x00201d30 ebx=0x00000000 ecx=0x00000000 edx=0x00004110
    0x0000000a 0x00: eax=0x07300605 ebx=0x00000000 ecx=0x00000007 edx=0x00008603
    0x0000000b 0x00: eax=0x00000001 ebx=0x00000002 ecx=0x00000100 edx=0x00000000
    0x0000000d 0x00: eax=0x000202e7 ebx=0x00000a88 ecx=0x00002b00 edx=0x00000000
    0x0000000d 0x01: eax=0x0000001f ebx=0x00000a88 ecx=0x00000000 edx=0x00000000
    0x0000000d 0x02: eax=0x00000100 ebx=0x00000240 ecx=0x00000000 edx=0x00000000
    0x0000000d 0x05: eax=0x00000040 ebx=0x00000440 ecx=0x00000000 edx=0x00000000
    0x0000000d 0x06: eax=0x00000200 ebx=0x00000480 ecx=0x00000000 edx=0x00000000
    0x0000000d 0x07: eax=0x00000400 ebx=0x00000680 ecx=0x00000000 edx=0x00000000
    0x0000000d 0x09: eax=0x00000008 ebx=0x00000a80 ecx=0x00000000 edx=0x00000000
    0x0000000d 0x11: eax=0x00000040 ebx=0x00000ac0 ecx=0x00000002 edx=0x00000000
    0x00000012 0x00: eax=0x00000403 ebx=0x00000001 ecx=0x00000000 edx=0x0000381f
    0x00000014 0x00: eax=0x00000001 ebx=0x0000005f ecx=0x00000007 edx=0x00000000
    0x0000001d 0x00: eax=0x00000001 ebx=0x00000000 ecx=0x00000000 edx=0x00000000
    0x0000001d 0x01: eax=0x04002000 ebx=0x00080040 ecx=0x00000010 edx=0x00000000
    0x0000001e 0x00: eax=0x00000000 ebx=0x00004010 ecx=0x00000000 edx=0x00000000
    0x80000001 0x00: eax=0x00000000 ebx=0x00000000 ecx=0x00000121 edx=0x2c100800
    0x80000008 0x00: eax=0x00303934 ebx=0x0100d200 ecx=0x00000000 edx=0x00000000
";

/// The same in a process that may use tiles.
fn tiles() -> String {
    TILE_CONFIG_ONLY.replace("eax=0x000202e7", "eax=0x000602e7")
        + "    0x0000000d 0x12: eax=0x00002000 ebx=0x00000b00 ecx=0x00000006 edx=0x00000000\n"
}

/// A server of 2021 (Zen 3).
const ZEN: &str = "
    0x00000000 0x00: eax=0x00000010 ebx=0x68747541 ecx=0x444d4163 edx=0x69746e65
    0x00000001 0x00: eax=0x00a00f11 ebx=0x01400800 ecx=0xfef83203 edx=0x178bfbff
    0x00000007 0x00: eax=0x00000000 ebx=0x219c95a9 ecx=0x0040069c edx=0x00000010
    0x0000000d 0x00: eax=0x00000207 ebx=0x00000988 ecx=0x00000988 edx=0x00000000
    0x0000000d 0x01: eax=0x0000000f ebx=0x00000348 ecx=0x00001800 edx=0x00000000
    0x0000000d 0x02: eax=0x00000100 ebx=0x00000240 ecx=0x00000000 edx=0x00000000
    0x0000000d 0x09: eax=0x00000008 ebx=0x00000980 ecx=0x00000000 edx=0x00000000
    0x80000001 0x00: eax=0x00a00f11 ebx=0x40000000 ecx=0x75c237ff edx=0x2fd3fbff
    0x80000008 0x00: eax=0x00003030 ebx=0x111ef657 ecx=0x0000707f edx=0x00010000
    0x8000000a 0x00: eax=0x00000001 ebx=0x00008000 ecx=0x00000000 edx=0x119b9cff
    0x8000001f 0x00: eax=0x0101fd3f ebx=0x00004173 ecx=0x000001fd edx=0x00000080
    0x80000022 0x00: eax=0x00000001 ebx=0x00000006 ecx=0x00000000 edx=0x00000000
    0x80000026 0x00: eax=0x00000001 ebx=0x00000002 ecx=0x00000100 edx=0x00000005
";

/// A desktop of 2014 (Haswell): 39 bits of address, no leaf beyond 0xd.
const HASWELL: &str = "
    0x00000000 0x00: eax=0x0000000d ebx=0x756e6547 ecx=0x6c65746e edx=0x49656e69
    0x00000001 0x00: eax=0x000306c3 ebx=0x00100800 ecx=0xf7fab227 edx=0x0fabfbff
    0x00000007 0x00: eax=0x00000000 ebx=0x000027ab ecx=0x00000000 edx=0x9c000600
    0x0000000a 0x00: eax=0x07300403 ebx=0x00000000 ecx=0x00000000 edx=0x00000603
    0x0000000d 0x00: eax=0x00000007 ebx=0x00000340 ecx=0x00000340 edx=0x00000000
    0x0000000d 0x01: eax=0x00000001 ebx=0x00000000 ecx=0x00000000 edx=0x00000000
    0x0000000d 0x02: eax=0x00000100 ebx=0x00000240 ecx=0x00000000 edx=0x00000000
    0x80000001 0x00: eax=0x00000000 ebx=0x00000000 ecx=0x00000021 edx=0x2c100800
    0x80000008 0x00: eax=0x00003027 ebx=0x00000000 ecx=0x00000000 edx=0x00000000
";

fn has_leaf(cpuid: &CpuId, function: u32) -> bool {
    let mut entries = cpuid.as_slice().iter();
    entries.any(|entry| entry.function == function)
}

/// The leaf's registers of the first CPU of a guest on a host that lists `lines`.
fn given(lines: &str, nested: bool) -> CpuId {
    for_cpu(&restricted(&listed(lines), nested), 0, 1, None)
}

#[test]
fn a_guest_runs_virtual_machines_only_if_it_is_asked_for() {
    const VMX: u32 = 1 << 5;
    const SVM: u32 = 1 << 2;
    let tiles = tiles();
    for lines in [TILE_CONFIG_ONLY, &tiles, ZEN, HASWELL] {
        let cpuid = given(lines, false);
        assert_eq!(find(&cpuid, 1, 0).ecx & VMX, 0);
        assert_eq!(find(&cpuid, 0x8000_0001, 0).ecx & SVM, 0);
        assert!(!has_leaf(&cpuid, 0x8000_000a));
    }
    assert_ne!(find(&given(HASWELL, true), 1, 0).ecx & VMX, 0);
    let nested = given(ZEN, true);
    assert_ne!(find(&nested, 0x8000_0001, 0).ecx & SVM, 0);
    assert!(has_leaf(&nested, 0x8000_000a));
}

#[test]
fn tiles_are_there_with_their_data_or_not_at_all() {
    const TILES: u32 = 3 << 17;
    const AMX: u32 = 1 << 22 | 1 << 24 | 1 << 25;
    let cpuid = given(TILE_CONFIG_ONLY, false);
    assert_eq!(find(&cpuid, 0xd, 0).eax, 0x2e7);
    // Up to the end of PKRU, the last part that is left.
    assert_eq!(find(&cpuid, 0xd, 0).ecx, 0xa88);
    assert!(
        !cpuid
            .as_slice()
            .iter()
            .any(|e| (e.function, e.index) == (0xd, 0x11))
    );
    assert_eq!(find(&cpuid, 7, 0).edx & AMX, 0);
    assert_eq!(find(&cpuid, 7, 1).eax & 1 << 21, 0);
    assert_eq!(find(&cpuid, 7, 1).edx & 1 << 8, 0);
    assert!(!has_leaf(&cpuid, 0x1d) && !has_leaf(&cpuid, 0x1e));
    // The vector extensions stay.
    assert_ne!(find(&cpuid, 7, 0).ebx & 1 << 16, 0);

    let tiles = given(&tiles(), false);
    assert_eq!(find(&tiles, 0xd, 0).eax & TILES, TILES);
    assert_eq!(find(&tiles, 0xd, 0).ecx, 0x2b00);
    assert_eq!(find(&tiles, 7, 0).edx & AMX, AMX);
    assert!(has_leaf(&tiles, 0x1d) && has_leaf(&tiles, 0x1e));
}

/// A kernel sets all bits of XCR0 that are listed; the processor takes some only together.
#[test]
fn whatever_a_host_lists_can_be_switched_on_at_once() {
    // Bits of XCR0: those of them that are left.
    for (offered, left) in [
        (0x7, 0x7),
        (0xe7, 0xe7),
        (0x2ff, 0x2ff),
        (0x6_02e7, 0x6_02e7),
        (0x2_02e7, 0x2e7),
        (0x4_02e7, 0x2e7),
        (0x7 | 1 << 3, 0x7),
        (0x67, 0x7),
        (0xe3, 0x3),
        (0x5, 0x1),
        (0x201, 0x201),
    ] {
        let mut entries = listed(TILE_CONFIG_ONLY).as_slice().to_vec();
        for entry in entries
            .iter_mut()
            .filter(|entry| (entry.function, entry.index) == (0xd, 0))
        {
            entry.eax = offered;
        }
        let cpuid = restricted(&CpuId::from_entries(&entries).unwrap(), false);
        assert_eq!(find(&cpuid, 0xd, 0).eax, left, "{offered:#x}");
    }
}

#[test]
fn counters_enclaves_and_traces_are_not_for_guests() {
    for lines in [TILE_CONFIG_ONLY, ZEN, HASWELL] {
        let cpuid = given(lines, true);
        for leaf in [0xa, 0x12, 0x14, 0x8000_001f, 0x8000_0022, 0x8000_0026] {
            assert!(!has_leaf(&cpuid, leaf), "{leaf:#x}");
        }
        let seven = find(&cpuid, 7, 0);
        assert_eq!(
            (seven.ebx & (1 << 2 | 1 << 25), seven.ecx & 1 << 30),
            (0, 0)
        );
        assert_eq!(find(&cpuid, 1, 0).ecx & 1 << 15, 0);
        assert_eq!(find(&cpuid, 0x8000_0001, 0).ecx & 0x1180_1400, 0);
    }
}

#[test]
fn the_rest_is_the_hosts() {
    let cpuid = given(HASWELL, true);
    let host = listed(HASWELL);
    for leaf in [0, 7, 0xd, 0x8000_0008] {
        let (ours, listed) = (find(&cpuid, leaf, 0), find(&host, leaf, 0));
        if leaf == 0x8000_0008 {
            assert_eq!(ours.eax, listed.eax);
        } else {
            assert_eq!(ours, listed, "{leaf:#x}");
        }
    }
}

#[test]
fn the_width_of_addresses_is_what_processor_and_page_tables_reach() {
    let bits = |lines| policy::address_bits(listed(lines).as_slice());
    assert_eq!(bits(HASWELL), 39);
    assert_eq!(bits(ZEN), 48);
    // 52 bits, of which KVM's page tables reach 48.
    assert_eq!(bits(TILE_CONFIG_ONLY), 48);
    assert_eq!(policy::address_bits(&[]), 36);
}
