//! Long requests of a disk, in pieces: between two of them the device can stop.

use std::io;

use super::stop_flag::StopFlag;
use crate::guest_io::Buffers;

/// Bytes after which a long request looks whether the device shall stop: what a slow disk of the
/// host moves in a moment. Zeroing goes on in larger pieces: mostly the host only notes it down.
pub(super) const PIECE: u64 = 4 << 20;
pub(super) const ZERO_PIECE: u64 = 64 << 20;

/// The end of the piece of a disk that `at` is in. Pieces end at the same places for each request,
/// so that none ends inside of a block.
pub(super) fn piece_end(at: u64, piece: u64) -> u64 {
    (at / piece + 1) * piece
}

/// Whether work on a request shall go on.
pub(super) fn go_on(stop: &StopFlag) -> io::Result<()> {
    if stop.is_raised() {
        return Err(io::ErrorKind::Interrupted.into());
    }
    Ok(())
}

/// Calls `act` for each piece of `buffers`, with its offset on the disk: `offset` and following.
pub(super) fn in_pieces(
    offset: u64,
    mut buffers: Buffers<'_>,
    stop: &StopFlag,
    act: impl Fn(u64, &Buffers<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let mut at = offset;
    loop {
        let len = piece_end(at, PIECE) - at;
        if buffers.len() as u64 <= len {
            return act(at, &buffers);
        }
        go_on(stop)?;
        let piece = buffers.take_front(len as usize).map_err(io::Error::other)?;
        act(at, &piece)?;
        at += len;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use vm_memory::{GuestAddress, GuestMemoryBackend};

    use super::*;
    use crate::disk::SECTOR;
    use crate::memory::flat;

    /// A long request is made of pieces, without a gap and in order, that end at the same places for each
    /// request.
    #[test]
    fn pieces_of_a_request_are_all_of_it() {
        for start in [0, SECTOR, PIECE - SECTOR, PIECE, PIECE + SECTOR] {
            for len in [0, SECTOR, PIECE - SECTOR, PIECE, PIECE + SECTOR, 3 * PIECE] {
                for cut in [1, 1000, PIECE / 2] {
                    let ram = flat(64).unwrap();
                    let mut buffers = Buffers::default();
                    let cut = cut.min(len);
                    for (at, len) in [(0, cut), (cut, len - cut)] {
                        let slice = ram.get_slice(GuestAddress(at), len as usize).unwrap();
                        buffers.push(slice);
                    }
                    let seen = Mutex::new(Vec::new());
                    let moved = in_pieces(start, buffers, &StopFlag::new(), |at, part| {
                        seen.lock().unwrap().push((at, part.len() as u64));
                        Ok(())
                    });
                    moved.unwrap();
                    let seen = seen.into_inner().unwrap();
                    let mut next = start;
                    for (at, len) in &seen {
                        assert!(*at == next && *len <= PIECE, "{seen:?}");
                        next = at + len;
                    }
                    assert_eq!(next, start + len, "{seen:?}");
                    let inner = &seen[..seen.len() - 1];
                    assert!(
                        inner
                            .iter()
                            .all(|(at, len)| (at + len).is_multiple_of(PIECE))
                    );
                }
            }
        }
    }
}
