//! One arena per GPU: which buffers may share bytes, and the offset of each.
//!
//! Two buffers *conflict* unless every access of one is ordered before the write of the other. The
//! order is the one that data, program order and (if requested) barriers give. Sharing bytes never
//! adds a wait between streams: that would cost latency to save memory.
//!
//! Counters conflict with everything: they hold zeros before and after their launch, and in the
//! next inference.
//!
//! If something on a GPU reads the whole of a joined tensor, the buffers of its parts there are
//! placed as one, adjacent and in order. What conflicts with one of them conflicts with all.
//!
//! Placement is greedy by size: largest first (ties: lowest id), each at the lowest offset where it
//! overlaps no conflicting buffer that is already placed. Offsets are multiples of 256, and for
//! placement sizes are rounded up to 256. An arena is never smaller than the largest sum of sizes
//! alive at once. Greedy-by-size stays near that bound on networks, and takes a few milliseconds
//! for thousands of buffers.

use super::Buffer;
use super::sync::Ancestors;
use crate::ids::BufferId;

/// Alignment of every buffer and constant.
pub(super) const ALIGNMENT: u64 = 256;

/// `bytes`, rounded up to whole units of [`ALIGNMENT`], and at least one. A size near the maximum
/// stays there and fits no GPU.
pub(super) fn padded(bytes: u64) -> u64 {
    bytes.max(1).saturating_add(ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT
}

/// Buffers of one GPU that must be adjacent, in this order.
pub(super) type Neighbours = Vec<BufferId>;

/// Sets the offset of each buffer; returns the size of the arena of each of `gpus` GPUs.
/// `accesses[b]` are the operations that access buffer `b`; its writer is the first. No buffer is
/// in two `neighbours`.
pub(super) fn assign_offsets(
    buffers: &mut [Buffer],
    accesses: &[Vec<usize>],
    neighbours: &[Neighbours],
    ancestors: &Ancestors,
    gpus: usize,
) -> Vec<u64> {
    // Blocks that are placed as one: neighbours, or a single buffer.
    let mut alone = vec![true; buffers.len()];
    neighbours.iter().flatten().for_each(|b| alone[b.index()] = false);
    let singles = (0..buffers.len()).filter(|&b| alone[b]).map(|b| vec![b]);
    let mut blocks: Vec<Vec<usize>> = neighbours.iter().map(|group| group.iter().map(|b| b.index()).collect()).chain(singles).collect();
    let size = |buffers: &[Buffer], block: &[usize]| padded(block.iter().map(|&b| buffers[b].bytes).fold(0, u64::saturating_add));
    blocks.sort_by_key(|block| (std::cmp::Reverse(size(buffers, block)), block[0]));
    let before = |a: &[usize], b: &[usize]| {
        let touches = || a.iter().flat_map(|&a| &accesses[a]);
        b.iter().all(|&b| touches().all(|&access| ancestors.ordered(access, accesses[b][0])))
    };
    let mut placed: Vec<Vec<Vec<usize>>> = vec![Vec::new(); gpus];
    let mut arenas = vec![0; gpus];
    for block in blocks {
        let gpu = buffers[block[0]].gpu.index();
        let lasting = |block: &[usize]| block.iter().any(|&b| buffers[b].has_counters());
        let ordered = |other: &[usize]| before(other, &block) || before(&block, other);
        let conflicts = placed[gpu].iter().filter(|other| lasting(other) || lasting(&block) || !ordered(other));
        let mut taken: Vec<(u64, u64)> = conflicts.map(|other| (buffers[other[0]].offset, size(buffers, other))).collect();
        taken.sort_unstable();
        let bytes = size(buffers, &block);
        let mut offset = 0u64;
        for (start, length) in taken {
            if offset.saturating_add(bytes) <= start {
                break;
            }
            offset = offset.max(start.saturating_add(length));
        }
        arenas[gpu] = offset.saturating_add(bytes).max(arenas[gpu]);
        for &b in &block {
            buffers[b].offset = offset;
            offset = offset.saturating_add(buffers[b].bytes);
        }
        placed[gpu].push(block);
    }
    arenas
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{GpuId, OpId, StreamId, TensorId};
    use crate::plan::Contents;
    use crate::plan::sync::synchronise;

    #[test]
    fn a_chain_needs_two_buffers() {
        let streams = vec![StreamId(0); 6];
        let (ancestors, _) = synchronise(&streams, StreamId(0), &vec![Vec::new(); 6]);
        let buffer = |i| Buffer { contents: Contents::Tensor(TensorId(i)), gpu: GpuId(0), offset: 0, bytes: 1000 };
        let mut buffers: Vec<Buffer> = (0..5).map(buffer).collect();
        let accesses: Vec<Vec<usize>> = (0..5).map(|i| vec![i, i + 1]).collect();
        assert_eq!(assign_offsets(&mut buffers, &accesses, &[], &ancestors, 1), [2048]);
        assert_eq!(buffers.iter().map(|b| b.offset).collect::<Vec<_>>(), [0, 1024, 0, 1024, 0]);
    }

    #[test]
    fn counters_share_bytes_with_nothing() {
        let streams = vec![StreamId(0); 6];
        let (ancestors, _) = synchronise(&streams, StreamId(0), &vec![Vec::new(); 6]);
        let buffer = |i| Buffer { contents: Contents::Tensor(TensorId(i)), gpu: GpuId(0), offset: 0, bytes: 1000 };
        let mut buffers: Vec<Buffer> = (0..5).map(buffer).collect();
        // The first of these is placed before the tensors, the other after them.
        for (op, bytes) in [(1, 2000), (3, 4)] {
            buffers.push(Buffer { contents: Contents::Counters(OpId(op)), gpu: GpuId(0), offset: 0, bytes });
        }
        let mut accesses: Vec<Vec<usize>> = (0..5).map(|i| vec![i, i + 1]).collect();
        accesses.extend([vec![1], vec![3]]);
        assert_eq!(assign_offsets(&mut buffers, &accesses, &[], &ancestors, 1), [2048 + 2048 + 256]);
        assert_eq!(buffers.iter().map(|b| b.offset).collect::<Vec<_>>(), [2048, 3072, 2048, 3072, 2048, 0, 4096]);
    }

    #[test]
    fn neighbours_are_adjacent() {
        // Buffers 1 and 3 are read together at the end; the others live until the next one is
        // written.
        let streams = vec![StreamId(0); 6];
        let (ancestors, _) = synchronise(&streams, StreamId(0), &vec![Vec::new(); 6]);
        let buffer = |i| Buffer { contents: Contents::Tensor(TensorId(i)), gpu: GpuId(0), offset: 0, bytes: 1008 };
        let mut buffers: Vec<Buffer> = (0..5).map(buffer).collect();
        let mut accesses: Vec<Vec<usize>> = (0..5).map(|i| vec![i, i + 1]).collect();
        (accesses[1], accesses[3]) = (vec![1, 2, 5], vec![3, 4, 5]);
        let neighbours = [vec![BufferId(3), BufferId(1)]];
        assert_eq!(assign_offsets(&mut buffers, &accesses, &neighbours, &ancestors, 1), [2048 + 1024]);
        assert_eq!(buffers.iter().map(|b| b.offset).collect::<Vec<_>>(), [2048, 1008, 2048, 0, 2048]);
    }

    #[test]
    fn padding_never_overflows() {
        assert_eq!([padded(0), padded(1), padded(256), padded(257)], [256, 256, 256, 512]);
        assert_eq!(padded(u64::MAX), u64::MAX - 255);
    }
}
