//! A qcow2 image, made without QEMU (QEMU, docs/interop/qcow2.txt).

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::Result;

use crate::driver::Random;

/// Bytes of a cluster.
const CLUSTER: u64 = 64 << 10;
/// An entry of a table whose cluster has one reference.
const COPIED: u64 = 1 << 63;
/// Clusters of metadata: header, reference count table and block, first-level table.
const HEAD: u64 = 4;

/// Writes an image of `clusters` clusters of data, which lie in the file in random order.
pub(crate) fn write(path: &Path, clusters: u64) -> Result<()> {
    let tables = clusters.div_ceil(CLUSTER / 8);
    let first = HEAD + tables;
    let mut places: Vec<u64> = (0..clusters).map(|number| first + number).collect();
    let mut random = Random::default();
    for index in (1..places.len()).rev() {
        places.swap(index, random.below(index as u64 + 1) as usize);
    }
    let file = File::create(path)?;
    let mut header = Vec::new();
    header.write_all(b"QFI\xfb")?;
    for word in [3_u32, 0, 0, 0, CLUSTER.trailing_zeros()] {
        header.write_all(&word.to_be_bytes())?;
    }
    header.write_all(&(clusters * CLUSTER).to_be_bytes())?;
    for word in [0, tables as u32] {
        header.write_all(&word.to_be_bytes())?;
    }
    // First-level table; reference count table of one cluster; no snapshots.
    header.write_all(&(3 * CLUSTER).to_be_bytes())?;
    header.write_all(&CLUSTER.to_be_bytes())?;
    header.write_all(&1_u32.to_be_bytes())?;
    header.write_all(&[0; 12])?;
    // Features: none. Reference counts of 2^4 bits; 104 bytes of header.
    header.write_all(&[0; 24])?;
    header.write_all(&4_u32.to_be_bytes())?;
    header.write_all(&104_u32.to_be_bytes())?;
    file.write_all_at(&header, 0)?;
    file.write_all_at(&(2 * CLUSTER).to_be_bytes(), CLUSTER)?;
    let used = (first + clusters) as usize;
    file.write_all_at(&[0, 1].repeat(used), 2 * CLUSTER)?;
    let entries = |places: &mut dyn Iterator<Item = u64>| -> Vec<u8> {
        places
            .flat_map(|place| ((place * CLUSTER) | COPIED).to_be_bytes())
            .collect()
    };
    file.write_all_at(&entries(&mut (HEAD..first)), 3 * CLUSTER)?;
    file.write_all_at(&entries(&mut places.iter().copied()), HEAD * CLUSTER)?;
    let data: Vec<u8> = (0..CLUSTER).map(|byte| byte as u8).collect();
    for place in places {
        file.write_all_at(&data, place * CLUSTER)?;
    }
    Ok(())
}
