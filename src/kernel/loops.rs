//! Iterations of the compiled main loop, which a family's file writes into `Kernel::trips`.
//!
//! Before each loop that may stay a loop, the headers give the factor by which a GPU unrolls it
//! (`HIOSC_UNROLL_BY`), and its rule. This file has the same rules: a change there needs a change
//! here. What the compiler does with such loops, as ptxas shows for sm_80 to sm_90:
//!
//! * A loop with a known number of iterations is completely unrolled, or followed by its left-over
//!   iterations as straight-line code.
//! * Otherwise the left-over iterations run one at a time, in a short loop before it. The short
//!   loop counts as a loop of its own if it has a tenth of the other's multiply-adds, that is, if
//!   the other is unrolled by 10 or less.

/// Iterations of the compiled loop if `count` iterations are completely unrolled up to `all`, else
/// by `part`: `unrolled` of `hiosc.cuh`. 0 if no loop is left.
pub(super) fn counted(count: usize, all: usize, part: usize) -> u64 {
    if count <= all || count == part { 0 } else { (count / part) as u64 }
}

/// [`Kernel::trips`](super::Kernel::trips) of loops, some of which may be completely unrolled (0).
pub(super) fn trips(loops: &[u64]) -> Vec<u64> {
    loops.iter().copied().filter(|&iterations| iterations > 0).collect()
}

/// A loop over elements in which each thread has a fixed stride: the iterations of its two compiled
/// loops, if they exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Strided {
    /// Those of the loop that runs the left-over iterations, one at a time.
    rest: Option<u64>,
    /// Those of the unrolled loop.
    main: Option<u64>,
    /// The unroll factor of that loop.
    by: usize,
}

impl Strided {
    /// A warp shares `count` elements in steps of `step`, unrolled by `unrolled_strided`. The
    /// compiler knows that there are 32 lanes.
    pub fn warp(count: usize, step: usize) -> Strided {
        let (most, by, even) = (count.div_ceil(step), unrolled_strided(count, step), count.is_multiple_of(step));
        let (rest, main) = (Some((most % by) as u64), Some((most / by) as u64));
        let (rest, main) = match rest {
            _ if most == 1 || (even && most <= by) => (None, None),
            // the number of iterations is known
            _ if even => (None, main),
            // no lane reaches the unrolled loop
            _ if most < by => (Some(most as u64), None),
            // lanes with one iteration less have the most left-over iterations
            Some(0) => (Some(by as u64 - 1), main),
            _ => (rest, main),
        };
        Strided { rest, main, by }
    }

    /// A block of `threads` shares `count` elements, unrolled by `unrolled_strided`. The compiler
    /// does not know how many threads there are, so both loops stay.
    pub fn block(count: usize, threads: u32) -> Strided {
        Strided::unrolled(count.div_ceil(threads as usize), unrolled_strided(count, threads as usize))
    }

    /// `most` iterations, unrolled by `by`.
    pub fn unrolled(most: usize, by: usize) -> Strided {
        // a remainder of at most one iteration is not a loop
        Strided { rest: (by > 2).then_some((most % by) as u64), main: Some((most / by) as u64), by }
    }

    /// For loops that multiply: the iterations that count, in the order of the machine code.
    pub fn both(self) -> Vec<u64> {
        let rest = self.rest.filter(|_| self.main.is_none() || self.by <= 10);
        rest.into_iter().chain(self.main).collect()
    }

    /// For loops that do not: the iterations of the one with the most memory operations.
    pub fn main(self) -> Vec<u64> {
        self.main.or(self.rest).into_iter().collect()
    }
}

/// The unroll factor: `unrolled_strided` of `hiosc.cuh`.
fn unrolled_strided(count: usize, step: usize) -> usize {
    match count.div_ceil(step) {
        most if count.is_multiple_of(step) => most.min(16),
        ..16 => 4,
        16..64 => 8,
        _ => 16,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_loops_are_gone() {
        assert_eq!([64, 65, 1000].map(|count| counted(count, 64, 16)), [0, 4, 62]);
        assert_eq!([20, 16].map(|count| counted(count, 8, 16)), [1, 0], "one iteration and nothing left over is no loop");
        assert_eq!(trips(&[3, 0, 5]), [3, 5]);
    }

    #[test]
    fn lanes_share_a_row() {
        let both = |count| Strided::warp(count, 32).both();
        assert!([32, 20, 128].map(both).iter().all(Vec::is_empty));
        assert_eq!(both(33), [2], "too short for the unrolled loop");
        assert_eq!(both(32 * 40), [2], "left-over iterations are straight code");
        assert_eq!(both(330), [3, 2]);
        assert_eq!(both(380), [3, 3], "some lanes have 11");
        assert_eq!(both(32 * 160 + 1), [10], "a sixteenth does not count");
    }

    #[test]
    fn threads_of_a_block_share_a_row() {
        assert_eq!(Strided::block(1000, 256).both(), [0, 1]);
        assert_eq!(Strided::block(2000, 256).main(), [2]);
        assert_eq!(Strided::block(768, 256).both(), [0, 1]);
        assert_eq!(Strided::block(256, 256).both(), [1]);
    }
}
