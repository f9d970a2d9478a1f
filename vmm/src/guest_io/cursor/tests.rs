use std::io::{Read, Seek, SeekFrom, Write};

use super::*;

/// Buffers of these lengths, with the bytes 1, 2, … in them.
fn with_slices(lengths: &[usize], test: impl FnOnce(&[VolatileSlice<'_, ()>], usize)) {
    let total: usize = lengths.iter().sum();
    let mut memory: Vec<u8> = (1..=total as u8).collect();
    let mut rest = &mut memory[..];
    let mut slices = Vec::new();
    for len in lengths {
        let (slice, more) = rest.split_at_mut(*len);
        slices.push(VolatileSlice::from(slice));
        rest = more;
    }
    test(&slices, total);
}

fn contents(slices: &[VolatileSlice<'_, ()>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for slice in slices {
        let mut part = vec![0; slice.len()];
        slice.copy_to(&mut part);
        bytes.extend(part);
    }
    bytes
}

/// All buffers of up to three slices of up to three bytes, empty ones included.
fn all_shapes() -> Vec<Vec<usize>> {
    let mut shapes = vec![vec![]];
    for count in 1..=3_u32 {
        for number in 0..4_usize.pow(count) {
            let digit = |place| number / 4_usize.pow(place) % 4;
            shapes.push((0..count).map(digit).collect());
        }
    }
    shapes
}

/// For each shape, each position in it, and each length from there.
fn for_all(test: impl Fn(&[VolatileSlice<'_, ()>], usize, usize)) {
    for shape in all_shapes() {
        let total: usize = shape.iter().sum();
        for from in 0..=total {
            for len in 0..=total - from {
                with_slices(&shape, |slices, _| test(slices, from, len));
            }
        }
    }
}

fn at<'a>(slices: &'a [VolatileSlice<'a, ()>], from: usize) -> Cursor<'a, ()> {
    let mut cursor = Cursor::new(slices);
    cursor.take(&mut vec![0; from]).unwrap();
    cursor
}

#[test]
fn any_part_is_taken_filled_and_cleared() {
    for_all(|slices, from, len| {
        let before = contents(slices);
        let mut cursor = at(slices, from);
        let mut bytes = vec![0; len];
        cursor.take(&mut bytes).unwrap();
        assert_eq!(bytes, before[from..from + len]);
        assert_eq!(cursor.remaining(), (before.len() - from - len) as u64);

        at(slices, from).fill(&vec![0xaa; len]).unwrap();
        let mut expected = before.clone();
        expected[from..from + len].fill(0xaa);
        assert_eq!(contents(slices), expected);

        at(slices, from).zero(len as u64).unwrap();
        expected[from..from + len].fill(0);
        assert_eq!(contents(slices), expected);
    });
}

#[test]
fn nothing_beyond_the_end_is_taken() {
    for shape in all_shapes() {
        with_slices(&shape, |slices, total| {
            assert!(Cursor::new(slices).take(&mut vec![0; total + 1]).is_err());
            assert!(Cursor::new(slices).fill(&vec![0; total + 1]).is_err());
            assert!(Cursor::new(slices).zero(total as u64 + 1).is_err());
        });
    }
}

#[test]
fn any_part_is_read_and_written() {
    const OFFSET: u64 = 5;
    let file = tempfile::tempfile().unwrap();
    for_all(|slices, from, len| {
        let before = contents(slices);
        file.set_len(0).unwrap();
        let mut cursor = at(slices, from);
        cursor.drain_to(&file, OFFSET, len as u64).unwrap();
        assert_eq!(cursor.remaining(), (before.len() - from - len) as u64);
        let mut written = Vec::new();
        (&file).seek(SeekFrom::Start(0)).unwrap();
        (&file).read_to_end(&mut written).unwrap();
        let expected = match len {
            0 => Vec::new(),
            _ => [&[0; OFFSET as usize], &before[from..from + len]].concat(),
        };
        assert_eq!(written, expected);

        // Two bytes, and then the end of the file: zeros.
        file.set_len(0).unwrap();
        (&file).seek(SeekFrom::Start(0)).unwrap();
        (&file).write_all(b"xy").unwrap();
        let mut cursor = at(slices, from);
        cursor.fill_from(&file, 0, len as u64).unwrap();
        let mut expected = before;
        for (at, byte) in expected[from..from + len].iter_mut().enumerate() {
            *byte = *b"xy".get(at).unwrap_or(&0);
        }
        assert_eq!(contents(slices), expected);
        assert_eq!(
            cursor.remaining(),
            (contents(slices).len() - from - len) as u64
        );
    });
}

#[test]
fn more_slices_than_one_call_takes_are_moved() {
    let lengths = vec![1; MAX_IOVECS + 7];
    let mut memory = vec![7_u8; lengths.len()];
    let slices: Vec<_> = memory.chunks_mut(1).map(VolatileSlice::from).collect();
    let file = tempfile::tempfile().unwrap();
    let len = slices.len() as u64;
    Cursor::new(&slices).drain_to(&file, 0, len).unwrap();
    assert_eq!(file.metadata().unwrap().len(), len);
    Cursor::new(&slices).fill_from(&file, 0, len).unwrap();
}
