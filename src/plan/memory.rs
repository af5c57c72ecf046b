//! One arena a GPU: which buffers may share bytes, and where each one lies.
//!
//! Two buffers *conflict* unless every access of one is ordered before the write that opens the other. The order is the one that data, program order
//! and (where asked for) barriers give: sharing bytes never adds a wait between streams, which would cost latency to save memory.
//!
//! Placement is greedy by size: largest buffer first (ties: lowest id), each at the lowest offset where it meets no conflicting buffer already
//! placed. Offsets are multiples of 256, and for placement sizes are rounded up to 256. An arena is never smaller than the largest sum of sizes
//! alive at once; greedy-by-size stays near that bound on networks, and costs a few milliseconds for thousands of buffers.

use super::Buffer;
use super::sync::Ancestors;

/// Alignment of every buffer and constant.
pub(super) const ALIGNMENT: u64 = 256;

/// `bytes`, rounded up to whole units of [`ALIGNMENT`]; at least one. A size near the end of the number range stays there and fits no GPU.
pub(super) fn padded(bytes: u64) -> u64 {
    bytes.max(1).saturating_add(ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT
}

/// Sets the offset of each buffer; gives the size of the arena of each of `gpus` GPUs. `accesses[b]` are the operations that touch buffer `b`, the
/// one that writes it first.
pub(super) fn place(buffers: &mut [Buffer], accesses: &[Vec<usize>], ancestors: &Ancestors, gpus: usize) -> Vec<u64> {
    let before = |a: usize, b: usize| accesses[a].iter().all(|&access| ancestors.ordered(access, accesses[b][0]));
    let mut by_size: Vec<usize> = (0..buffers.len()).collect();
    by_size.sort_by_key(|&b| (std::cmp::Reverse(padded(buffers[b].bytes)), b));
    let mut placed: Vec<Vec<usize>> = vec![Vec::new(); gpus];
    let mut arenas = vec![0; gpus];
    for b in by_size {
        let gpu = buffers[b].gpu.index();
        let conflicts = placed[gpu].iter().filter(|&&a| !before(a, b) && !before(b, a));
        let mut taken: Vec<(u64, u64)> = conflicts.map(|&a| (buffers[a].offset, padded(buffers[a].bytes))).collect();
        taken.sort_unstable();
        let bytes = padded(buffers[b].bytes);
        let mut offset = 0u64;
        for (start, length) in taken {
            if offset.saturating_add(bytes) <= start {
                break;
            }
            offset = offset.max(start.saturating_add(length));
        }
        buffers[b].offset = offset;
        arenas[gpu] = offset.saturating_add(bytes).max(arenas[gpu]);
        placed[gpu].push(b);
    }
    arenas
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{GpuId, StreamId, TensorId};
    use crate::plan::sync::synchronise;

    #[test]
    fn a_chain_needs_two_buffers() {
        let streams = vec![StreamId(0); 6];
        let (ancestors, _) = synchronise(&streams, StreamId(0), &vec![Vec::new(); 6]);
        let buffer = |i| Buffer { tensor: TensorId(i), gpu: GpuId(0), offset: 0, bytes: 1000 };
        let mut buffers: Vec<Buffer> = (0..5).map(buffer).collect();
        let accesses: Vec<Vec<usize>> = (0..5).map(|i| vec![i, i + 1]).collect();
        assert_eq!(place(&mut buffers, &accesses, &ancestors, 1), [2048]);
        assert_eq!(buffers.iter().map(|b| b.offset).collect::<Vec<_>>(), [0, 1024, 0, 1024, 0]);
    }

    #[test]
    fn padding_never_overflows() {
        assert_eq!([padded(0), padded(1), padded(256), padded(257)], [256, 256, 256, 512]);
        assert_eq!(padded(u64::MAX), u64::MAX - 255);
    }
}
