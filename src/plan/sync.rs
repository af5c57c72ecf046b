//! The fewest events and waits that keep every order a plan needs.
//!
//! Operations (uploads, launches, copies, downloads) are numbered in host issue order. Two kinds of
//! edges order them:
//!
//! * *program order*: each operation after the previous one of its stream. It costs nothing.
//! * *required*: a read after the write of its data; with barriers, a stage after the previous one;
//!   the **fork**, from the start of the origin stream to the first operation of each other stream;
//!   the **join**, from the last operation of each stream to the end of the origin stream. Across
//!   streams, such an edge costs an event.
//!
//! Memory reuse needs no edges: `memory.rs` lets buffers share bytes only if the edges above
//! already order them.
//!
//! The rule is the transitive reduction: a required edge is kept only if no other path orders its
//! ends. It becomes a record right after its source (one event per source, shared by all waits) and
//! a wait right before its target. The reduction of a DAG is unique and every kept edge is
//! required, so removing any wait makes the plan wrong.
//!
//! With `u -> v` required, every other path into `v` comes through another direct predecessor `p`
//! of `v`. So the edge is dropped iff `u` is an ancestor of such a `p`. The fork edge is kept iff
//! the first operation of the stream waits for nothing else; whatever else it waits for comes after
//! the start of the origin stream. The join edge is kept iff nothing waits for the last operation
//! of the stream.
//!
//! Cost: one bit for each pair of operations, and one row of bits for each edge.

use crate::ids::StreamId;

/// Which operations are ordered before which, as one row of bits per operation.
pub(super) struct Ancestors {
    words: usize,
    bits: Vec<u64>,
}

impl Ancestors {
    fn new(operations: usize) -> Self {
        let words = operations.div_ceil(64);
        Ancestors { words, bits: vec![0; words * operations] }
    }

    /// Whether `before` is ordered before `after`.
    pub fn ordered(&self, before: usize, after: usize) -> bool {
        self.bits[after * self.words + before / 64] >> (before % 64) & 1 == 1
    }

    /// Orders `before`, and all its ancestors, before `after`.
    fn add(&mut self, before: usize, after: usize) {
        let (low, high) = self.bits.split_at_mut(after * self.words);
        let from = &low[before * self.words..(before + 1) * self.words];
        for (to, from) in high.iter_mut().zip(from) {
            *to |= from;
        }
        high[before / 64] |= 1 << (before % 64);
    }
}

/// The waits of a plan.
pub(super) struct Synchronisation {
    /// `waits[v]`: the operations that the stream of `v` waits for right before `v`, ascending.
    pub waits: Vec<Vec<usize>>,
    /// `fork[v]`: the stream of `v` waits right before `v` for the start of the origin stream.
    pub fork: Vec<bool>,
    /// The operations that the origin stream waits for at its end, ascending.
    pub join: Vec<usize>,
}

/// Orders all operations: `streams[v]` is the stream of operation `v`, `required[v]` what must come
/// before it (smaller numbers, any order).
pub(super) fn synchronise(streams: &[StreamId], origin_stream: StreamId, required: &[Vec<usize>]) -> (Ancestors, Synchronisation) {
    let count = streams.len();
    let mut ancestors = Ancestors::new(count);
    let mut sync = Synchronisation { waits: vec![Vec::new(); count], fork: vec![false; count], join: Vec::new() };
    let mut awaited = vec![false; count];
    let mut latest: Vec<Option<usize>> = vec![None; streams.iter().map(|s| s.index() + 1).max().unwrap_or(0)];
    for v in 0..count {
        let previous = latest[streams[v].index()].replace(v);
        let mut across: Vec<usize> = required[v].iter().copied().filter(|&u| streams[u] != streams[v]).collect();
        across.sort_unstable();
        across.dedup();
        across.iter().for_each(|&u| awaited[u] = true);
        sync.fork[v] = previous.is_none() && across.is_empty() && streams[v] != origin_stream;
        let others = |u| across.iter().copied().chain(previous).filter(move |&p| p != u);
        sync.waits[v] = across.iter().copied().filter(|&u| !others(u).any(|p| ancestors.ordered(u, p))).collect();
        for p in across.into_iter().chain(previous) {
            ancestors.add(p, v);
        }
    }
    sync.join = latest.into_iter().flatten().filter(|&u| streams[u] != origin_stream && !awaited[u]).collect();
    sync.join.sort_unstable();
    (ancestors, sync)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three streams; 0 is the origin stream.
    ///
    /// ```text
    /// s0: 0 ─────▶ 3      required: 1 after 0, 2 after 0 and 1, 3 after 0, 1 and 2
    /// s1:   1             kept: 0->1, 1->2, 2->3
    /// s2:      2
    /// ```
    #[test]
    fn keeps_only_edges_that_no_path_replaces() {
        let streams = [0, 1, 2, 0].map(StreamId);
        let (ancestors, sync) = synchronise(&streams, StreamId(0), &[vec![], vec![0], vec![1, 0, 1], vec![2, 0, 1]]);
        assert_eq!(sync.waits, [vec![], vec![0], vec![1], vec![2]]);
        assert_eq!((sync.fork, sync.join), (vec![false; 4], vec![]));
        assert!(ancestors.ordered(0, 3) && ancestors.ordered(1, 3) && !ancestors.ordered(3, 0) && !ancestors.ordered(2, 2));
    }

    /// Two unrelated streams: the second forks from the start of the origin stream and joins its
    /// end.
    #[test]
    fn forks_and_joins_what_nothing_else_orders() {
        let (ancestors, sync) = synchronise(&[0, 1, 1].map(StreamId), StreamId(0), &[vec![], vec![], vec![]]);
        assert_eq!((sync.fork, sync.join), (vec![false, true, false], vec![2]));
        assert!(!ancestors.ordered(0, 1) && ancestors.ordered(1, 2));
    }
}
