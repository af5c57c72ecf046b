//! Memory as a constraint: which operators may share a GPU.
//!
//! ## What counts
//!
//! *Weights*: a GPU holds each constant that one of its operators reads, once for each layout that
//! their kernels want. (Of a grouped launch that wants another layout nothing is known here; the
//! planner counts it.) *Activations* are not known before streams and the arena are; so the room
//! that is left for weights on each GPU is the caller's to say ([`Memory::room`]). The compiler
//! begins with all of a GPU's memory; where the plan then finds that weights and arena together do
//! not fit, it takes the arena off that GPU's room and schedules again. So weights are a hard
//! constraint of every algorithm, and activations are exact in the end.
//!
//! ## How the algorithms keep to it
//!
//! Each asks a [`Ledger`] before it puts operators on a GPU. Those of one GPU take the fastest one that holds everything, and fail where none does. The list
//! schedulers, HIOS-LP and HEFT among them, choose among the GPUs where an operator fits (HIOS-LP: a path; where no GPU holds the whole path, its operators one by
//! one). Whoever comes to an operator that fits nowhere falls back on a plain packing
//! (`algorithms/placing.rs`): the operators with the largest weights first, each where most room is left, which
//! finds a placement in all but contrived cases. If it finds none either, the error says what is missing where.

use super::Problem;
use crate::error::{Error, Result};
use crate::ids::OpId;

/// The weights of a problem, and the room for them. The default has no weights, and so no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Bytes of each constant.
    pub constants: Vec<u64>,
    /// `reads[op]`: the constants that an operator reads, ascending, no repeats. Empty, or one list an operator.
    pub reads: Vec<Vec<u32>>,
    /// Bytes of weights that each GPU has room for. Empty, or one number a GPU.
    pub room: Vec<u64>,
}

impl Memory {
    /// The bytes of weights that each of `gpus` GPUs holds when `gpu_of` says where each operator runs.
    pub fn used(&self, gpus: usize, gpu_of: impl Fn(OpId) -> usize) -> Vec<u64> {
        let mut there = vec![vec![false; self.constants.len()]; gpus];
        for (op, constants) in self.reads.iter().enumerate() {
            constants.iter().for_each(|&c| there[gpu_of(OpId::new(op))][c as usize] = true);
        }
        let sum = |there: &Vec<bool>| self.constants.iter().zip(there).filter(|(_, there)| **there).map(|(bytes, _)| bytes).sum();
        there.iter().map(sum).collect()
    }

    /// The bytes of all weights.
    pub fn total(&self) -> u64 {
        self.constants.iter().sum()
    }

    /// Whether every GPU has room for everything: then there is nothing to watch.
    fn ample(&self) -> bool {
        self.room.iter().all(|&room| room >= self.total())
    }
}

/// The weights on each GPU while operators are placed.
#[derive(Clone)]
pub(super) struct Ledger<'p> {
    /// `None`: every GPU has room for everything.
    memory: Option<&'p Memory>,
    /// Bytes of weights on each GPU, as far as `memory` counts them.
    pub used: Vec<u64>,
    /// `readers[gpu * constants + constant]`: how many operators of the GPU read the constant.
    readers: Vec<u32>,
}

impl<'p> Ledger<'p> {
    /// Nothing placed yet.
    pub fn new(problem: &'p Problem) -> Ledger<'p> {
        let memory = Some(&problem.memory).filter(|m| !m.ample());
        let constants = memory.map_or(0, |m| m.constants.len());
        Ledger { memory, used: vec![0; problem.gpus], readers: vec![0; problem.gpus * constants] }
    }

    /// Whether `gpu` has room for `ops` too.
    pub fn fits(&self, ops: &[usize], gpu: usize) -> bool {
        let Some(memory) = self.memory else { return true };
        let readers = &self.readers[gpu * memory.constants.len()..];
        let mut new: Vec<u32> = ops.iter().flat_map(|&op| &memory.reads[op]).copied().filter(|&c| readers[c as usize] == 0).collect();
        new.sort_unstable();
        new.dedup();
        self.used[gpu] + new.iter().map(|&c| memory.constants[c as usize]).sum::<u64>() <= memory.room[gpu]
    }

    /// Those of `gpus` that have room for `ops` too.
    pub fn fitting(&self, ops: &[usize], gpus: &[usize]) -> Vec<usize> {
        gpus.iter().copied().filter(|&gpu| self.fits(ops, gpu)).collect()
    }

    /// Puts `op` on `gpu`.
    pub fn add(&mut self, op: usize, gpu: usize) {
        let Some(memory) = self.memory else { return };
        for &constant in &memory.reads[op] {
            let readers = &mut self.readers[gpu * memory.constants.len() + constant as usize];
            *readers += 1;
            if *readers == 1 {
                self.used[gpu] += memory.constants[constant as usize];
            }
        }
    }

    /// Takes `op` off `gpu`.
    pub fn remove(&mut self, op: usize, gpu: usize) {
        let Some(memory) = self.memory else { return };
        for &constant in &memory.reads[op] {
            let readers = &mut self.readers[gpu * memory.constants.len() + constant as usize];
            *readers -= 1;
            if *readers == 0 {
                self.used[gpu] -= memory.constants[constant as usize];
            }
        }
    }

    /// Moves `op` if `to` has room for it; whether it did.
    pub fn moves(&mut self, op: usize, from: usize, to: usize) -> bool {
        if self.memory.is_none() {
            return true;
        }
        if !self.fits(&[op], to) {
            return false;
        }
        self.remove(op, from);
        self.add(op, to);
        true
    }

    /// Exchanges two operators, each with its GPU, if each GPU has room for the other one in the place of its own; whether it did.
    pub fn exchanges(&mut self, one: (usize, usize), other: (usize, usize)) -> bool {
        if self.memory.is_none() {
            return true;
        }
        self.remove(one.0, one.1);
        self.remove(other.0, other.1);
        let fits = self.fits(&[one.0], other.1) && self.fits(&[other.0], one.1);
        let (first, second) = if fits { (other.1, one.1) } else { (one.1, other.1) };
        self.add(one.0, first);
        self.add(other.0, second);
        fits
    }
}

/// The GPU that holds everything and on which all operators together take the least time (ties: the lowest).
///
/// # Errors
///
/// [`Error::Usage`] if no GPU holds everything, with what is missing on each.
pub(super) fn one_gpu(problem: &Problem) -> Result<usize> {
    let memory = &problem.memory;
    let total = memory.total();
    let fits = |gpu: &usize| memory.room.get(*gpu).is_none_or(|&room| total <= room);
    let time = |gpu: usize| problem.time.iter().map(|row| row[gpu]).sum::<u64>();
    (0..problem.gpus).filter(fits).min_by_key(|&gpu| time(gpu)).ok_or_else(|| {
        let lacking = memory.room.iter().enumerate().map(|(gpu, room)| format!("gpu{gpu} has room for {room}, {} too few", total - room));
        Error::Usage(format!(
            "the model does not fit on one GPU: its weights take {total} bytes; {}",
            lacking.collect::<Vec<_>>().join("; ")
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::LinkMode;

    /// Three operators; the first two share a constant of 100 bytes, the third reads one of 50 bytes.
    fn problem(room: &[u64]) -> Problem {
        let mut problem = Problem::from_dag_text("3\n0 1 1\n1 1 1\n2 1 1\n0\n", room.len(), LinkMode::Free).unwrap();
        problem.memory = Memory { constants: vec![100, 50], reads: vec![vec![0], vec![0], vec![1]], room: room.to_vec() };
        problem.check().unwrap();
        problem
    }

    #[test]
    fn a_shared_constant_counts_once() {
        let problem = problem(&[120, 60]);
        let mut ledger = Ledger::new(&problem);
        assert!(ledger.fits(&[0, 1], 0) && !ledger.fits(&[0, 2], 0) && !ledger.fits(&[0], 1) && ledger.fits(&[2], 1));
        ledger.add(0, 0);
        ledger.add(1, 0);
        assert_eq!(ledger.used, [100, 0]);
        ledger.remove(0, 0);
        assert_eq!(ledger.used, [100, 0]);
        ledger.remove(1, 0);
        assert_eq!(ledger.used, [0, 0]);
        assert_eq!(problem.memory.used(2, |op| usize::from(op.0 == 2)), [100, 50]);
    }

    #[test]
    fn what_does_not_fit_says_what_is_missing() {
        assert_eq!(one_gpu(&problem(&[149, 150])).unwrap(), 1);
        let error = one_gpu(&problem(&[149, 60])).unwrap_err().to_string();
        let expected = "the model does not fit on one GPU: its weights take 150 bytes; gpu0 has room for 149, 1 too few; gpu1 has room for 60, 90 too few";
        assert_eq!(error, expected);
    }
}
