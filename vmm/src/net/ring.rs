//! Bytes of a connection that wait, in a ring that grows with what it has to hold.

use std::io::{self, IoSlice, IoSliceMut};

use super::limits;

/// A ring begins with this many bytes, and grows by this factor: to [`limits::BUFFER`], not beyond.
const LEAST: usize = limits::FLOOR;
const FACTOR: usize = 4;

const _: () = assert!(LEAST * FACTOR * FACTOR * FACTOR == limits::FAIR_BUFFER);

/// The memory of a ring behind one of `bytes`.
fn larger(bytes: usize) -> usize {
    (bytes * FACTOR).clamp(LEAST, limits::BUFFER)
}

/// A queue of bytes.
#[derive(Debug, Default)]
pub(super) struct Ring {
    /// Its memory.
    bytes: Box<[u8]>,
    start: usize,
    len: usize,
}

impl Ring {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns its memory in bytes.
    pub(super) fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// Returns how much memory it may have where all rings together may take `room` bytes more.
    pub(super) fn most_with(&self, room: usize) -> usize {
        let mut most = self.capacity();
        while most < limits::BUFFER {
            let next = larger(most);
            let left = room.checked_sub(next - self.capacity());
            // A few that do not move leave the others what they need.
            let fair = next <= limits::FAIR_BUFFER;
            if left.is_none_or(|left| !fair && left < limits::BUFFERS / 2) {
                break;
            }
            most = next;
        }
        most
    }

    /// `len` bytes from `from` on, in two pieces; less if there are less.
    pub(super) fn range(&self, from: usize, len: usize) -> (&[u8], &[u8]) {
        let from = from.min(self.len);
        let len = len.min(self.len - from);
        let (back, front) = self.bytes.split_at(self.start);
        // Offsets from `start`, around the end of the memory.
        let end = from + len;
        (
            &front[from.min(front.len())..end.min(front.len())],
            &back[from.saturating_sub(front.len())..end.saturating_sub(front.len())],
        )
    }

    /// Returns all bytes, to be written.
    pub(super) fn parts(&self) -> [IoSlice<'_>; 2] {
        let (first, second) = self.range(0, self.len);
        [IoSlice::new(first), IoSlice::new(second)]
    }

    /// Removes the first `count` bytes.
    pub(super) fn consume(&mut self, count: usize) {
        let count = count.min(self.len);
        self.len -= count;
        self.start = match self.start + count {
            // The next bytes lie together again.
            _ if self.len == 0 => 0,
            start if start >= self.bytes.len() => start - self.bytes.len(),
            start => start,
        };
    }

    /// Adds `bytes` at the end.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        if self.len + bytes.len() > self.bytes.len() {
            self.grow(self.len + bytes.len());
        }
        let (first, second) = self.room(bytes.len());
        let (a, b) = bytes.split_at(first.len());
        first.copy_from_slice(a);
        second.copy_from_slice(b);
        self.len += bytes.len();
    }

    /// Lets `read` fill free memory, so that there are `most` bytes afterwards at most. Returns
    /// what it returned, and whether there was room for more than that.
    ///
    /// # Errors
    /// If `read` fails.
    pub(super) fn read_from(
        &mut self,
        most: usize,
        read: impl FnOnce(&mut [IoSliceMut<'_>]) -> io::Result<usize>,
    ) -> io::Result<(usize, bool)> {
        if self.len == self.bytes.len() {
            self.grow(self.len + 1);
        }
        let free = (self.bytes.len() - self.len).min(most.saturating_sub(self.len));
        let (first, second) = self.room(free);
        let count = read(&mut [IoSliceMut::new(first), IoSliceMut::new(second)])?.min(free);
        self.len += count;
        Ok((count, count < free))
    }

    /// Frees the memory of an empty ring.
    pub(super) fn shrink(&mut self) {
        if self.is_empty() && self.capacity() > 0 {
            *self = Ring::default();
        }
    }

    /// The first `len` free bytes, in two pieces. There must be as many.
    fn room(&mut self, len: usize) -> (&mut [u8], &mut [u8]) {
        let used = self.start + self.len;
        if let Some(from) = used.checked_sub(self.bytes.len()) {
            // What waits goes around the end; what is free does not.
            return (&mut self.bytes[from..from + len], &mut []);
        }
        let (back, front) = self.bytes.split_at_mut(used);
        let first = len.min(front.len());
        (&mut front[..first], &mut back[..len - first])
    }

    /// Takes memory for at least `least` bytes.
    fn grow(&mut self, least: usize) {
        let mut capacity = self.bytes.len().max(LEAST);
        while capacity < least {
            capacity = larger(capacity).max(capacity * 2);
        }
        let mut bytes = vec![0; capacity].into_boxed_slice();
        let (first, second) = self.range(0, self.len);
        bytes[..first.len()].copy_from_slice(first);
        bytes[first.len()..self.len].copy_from_slice(second);
        self.bytes = bytes;
        self.start = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_ring_takes_no_memory_before_and_after() {
        let mut ring = Ring::default();
        assert_eq!((ring.capacity(), ring.range(3, 4)), (0, (&[][..], &[][..])));
        ring.extend(&[1; 5000]);
        assert_eq!(ring.capacity(), 8 << 10);
        ring.shrink();
        assert_eq!(ring.len(), 5000);
        ring.consume(6000);
        ring.shrink();
        assert_eq!((ring.len(), ring.capacity()), (0, 0));
    }

    #[test]
    fn a_ring_grows_as_far_as_there_is_room() {
        let mut ring = Ring::default();
        assert_eq!(ring.most_with(8191), 0);
        assert_eq!(ring.most_with(8192), 8 << 10);
        assert_eq!(ring.most_with(usize::MAX), limits::BUFFER);
        // Beyond the fair share, only while half of all is left.
        let half = limits::BUFFERS / 2;
        assert_eq!(ring.most_with(half), limits::FAIR_BUFFER);
        assert_eq!(ring.most_with(half + (2 << 20) - 1), limits::FAIR_BUFFER);
        assert_eq!(ring.most_with(half + (2 << 20)), 2 << 20);
        assert_eq!(ring.most_with(half + (4 << 20)), limits::BUFFER);
        ring.extend(&[1; 9000]);
        assert_eq!(ring.capacity(), 32 << 10);
        assert_eq!(ring.most_with(0), 32 << 10);
        assert_eq!(ring.most_with(96 << 10), 128 << 10);
        assert_eq!(ring.most_with((96 << 10) - 1), 32 << 10);
    }

    #[test]
    fn no_more_is_read_than_shall_wait() {
        let mut ring = Ring::default();
        let (count, more) = ring
            .read_from(100, |parts| Ok(parts.iter().map(|part| part.len()).sum()))
            .unwrap();
        assert_eq!((count, more), (100, false));
        let (count, more) = ring.read_from(200, |_| Ok(3)).unwrap();
        assert_eq!((count, more, ring.len()), (3, true, 103));
        assert!(
            ring.read_from(50, |_| Ok(7))
                .is_ok_and(|(count, _)| count == 0)
        );
        assert_eq!(ring.len(), 103);
        let error = ring.read_from(200, |_| Err(io::ErrorKind::WouldBlock.into()));
        assert!(error.is_err() && ring.len() == 103);
    }

    /// The first byte's place, the number of bytes, and what is looked at, added or taken: each of
    /// them next to each end of the memory.
    #[test]
    fn a_ring_is_right_at_all_of_its_ends() {
        let edges = [0, 1, 2, LEAST / 2, LEAST - 2, LEAST - 1, LEAST];
        let byte = |index: usize| (index % 251) as u8;
        for start in &edges[..edges.len() - 1] {
            for len in edges {
                for count in edges {
                    let mut ring = Ring::default();
                    ring.extend(&vec![0; *start]);
                    ring.extend(&[0]);
                    ring.consume(*start);
                    // What is left is a byte before the first one.
                    let bytes: Vec<u8> = (0..len).map(byte).collect();
                    ring.extend(&bytes);
                    ring.consume(1);
                    for from in edges {
                        let (a, b) = ring.range(from, count);
                        let seen: Vec<u8> = a.iter().chain(b).copied().collect();
                        let end = (from + count).min(len);
                        assert_eq!(seen, bytes.get(from..end).unwrap_or_default());
                    }
                    ring.consume(count);
                    let more: Vec<u8> = (len..len + count).map(byte).collect();
                    ring.extend(&more);
                    let left = len - count.min(len) + count;
                    let (a, b) = ring.range(0, left);
                    let seen: Vec<u8> = a.iter().chain(b).copied().collect();
                    let expected = [bytes.get(count..).unwrap_or_default(), &more].concat();
                    assert_eq!((seen, ring.len()), (expected, left));
                }
            }
        }
    }

    proptest! {
        /// It behaves as a queue.
        #[test]
        fn it_is_a_queue(steps in prop::collection::vec((0_u8..3, 0_usize..9000), 1..60)) {
            let (mut ring, mut queue) = (Ring::default(), VecDeque::new());
            let mut next = 0_u8;
            let mut fresh = |count: usize| -> Vec<u8> {
                (0..count).map(|_| { next = next.wrapping_add(1); next }).collect()
            };
            for (kind, count) in steps {
                match kind {
                    0 => {
                        let bytes = fresh(count);
                        ring.extend(&bytes);
                        queue.extend(bytes);
                    }
                    1 => {
                        ring.consume(count);
                        queue.drain(..count.min(queue.len()));
                    }
                    _ => {
                        let most = ring.len() + count;
                        ring.read_from(most, |parts| {
                            let mut all = 0;
                            for part in parts {
                                let bytes = fresh(part.len());
                                part.copy_from_slice(&bytes);
                                queue.extend(bytes);
                                all += part.len();
                            }
                            Ok(all)
                        }).unwrap();
                    }
                }
                let (from, len) = (count / 3, count / 2);
                let (a, b) = ring.range(from, len);
                let seen: Vec<u8> = a.iter().chain(b).copied().collect();
                let expected: Vec<u8> = queue.iter().skip(from).take(len).copied().collect();
                prop_assert_eq!(seen, expected);
                prop_assert_eq!(ring.len(), queue.len());
            }
        }
    }
}
