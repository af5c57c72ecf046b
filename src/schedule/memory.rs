//! Memory as a constraint: which operators fit on a GPU together.
//!
//! ## What counts
//!
//! * *Weights.* A GPU holds each constant that one of its operators reads, once for each layout
//!   that the kernels read. (A grouped launch may read yet another layout. The scheduler does not
//!   know it; the planner counts it.)
//! * *Activations* are unknown until streams and the arena are planned. So the caller sets the
//!   capacity for weights of each GPU ([`Memory::capacity`]). The compiler starts with all of a
//!   GPU's memory. Where the plan then shows that weights and arena do not fit together, it
//!   subtracts the arena from that GPU's capacity and schedules again.
//!
//! So weights are a hard constraint of every algorithm, and the final plan counts activations
//! exactly.
//!
//! ## How the algorithms respect it
//!
//! Each asks a [`WeightBudget`] before it places operators on a GPU.
//!
//! * Algorithms for one GPU take the fastest GPU that holds everything, and fail if none does.
//! * List schedulers, HIOS-LP and HEFT among them, choose among the GPUs where the operator fits.
//!   HIOS-LP asks for a whole path. If it fits nowhere, it maps the path's operators one by one.
//! * An algorithm that reaches an operator that fits nowhere falls back to a plain packing
//!   (`algorithms/placement.rs`): operators with the largest weights first, each on the GPU with
//!   the most capacity left. This finds a placement in all but contrived cases. If it finds none,
//!   the error says how many bytes are missing on which GPU.

use super::Problem;
use crate::error::{Error, Result};
use crate::ids::OpId;

/// The weights of a problem, and each GPU's capacity for them. The default has no weights, and so
/// no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Bytes of each constant.
    pub constants: Vec<u64>,
    /// `reads[op]`: the constants that an operator reads, ascending, no repeats. Either empty or
    /// one list per operator.
    pub reads: Vec<Vec<u32>>,
    /// Bytes of weights that fit on each GPU. Either empty or one number per GPU.
    pub capacity: Vec<u64>,
}

impl Memory {
    /// The bytes of weights on each of `gpus` GPUs, where `gpu_of` gives the GPU of each operator.
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

    /// Whether all weights fit on every GPU. Then there is nothing to check.
    fn unlimited(&self) -> bool {
        self.capacity.iter().all(|&capacity| capacity >= self.total())
    }
}

/// The weights that the operators placed so far need on each GPU, checked against its capacity.
#[derive(Clone)]
pub(super) struct WeightBudget<'p> {
    /// `None` if all weights fit on every GPU.
    memory: Option<&'p Memory>,
    /// Bytes of weights on each GPU. All 0 if `memory` is `None`.
    pub used: Vec<u64>,
    /// `readers[gpu * constants + constant]`: how many operators on the GPU read the constant.
    readers: Vec<u32>,
}

impl<'p> WeightBudget<'p> {
    /// A budget with no operator placed.
    pub fn new(problem: &'p Problem) -> WeightBudget<'p> {
        let memory = Some(&problem.memory).filter(|m| !m.unlimited());
        let constants = memory.map_or(0, |m| m.constants.len());
        WeightBudget { memory, used: vec![0; problem.gpus], readers: vec![0; problem.gpus * constants] }
    }

    /// Whether `ops` fit on `gpu` in addition to what it holds.
    pub fn fits(&self, ops: &[usize], gpu: usize) -> bool {
        let Some(memory) = self.memory else { return true };
        let readers = &self.readers[gpu * memory.constants.len()..];
        let mut new: Vec<u32> = ops.iter().flat_map(|&op| &memory.reads[op]).copied().filter(|&c| readers[c as usize] == 0).collect();
        new.sort_unstable();
        new.dedup();
        self.used[gpu] + new.iter().map(|&c| memory.constants[c as usize]).sum::<u64>() <= memory.capacity[gpu]
    }

    /// Those of `gpus` on which `ops` fit.
    pub fn fitting_gpus(&self, ops: &[usize], gpus: &[usize]) -> Vec<usize> {
        gpus.iter().copied().filter(|&gpu| self.fits(ops, gpu)).collect()
    }

    /// Places `op` on `gpu`.
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

    /// Removes `op` from `gpu`.
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

    /// Moves `op` if it fits on `to`. Returns whether it did.
    pub fn try_move(&mut self, op: usize, from: usize, to: usize) -> bool {
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

    /// Exchanges two (operator, GPU) pairs if each operator fits on the other's GPU in its place.
    /// Returns whether it did.
    pub fn try_exchange(&mut self, one: (usize, usize), other: (usize, usize)) -> bool {
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

/// The fastest GPU that holds all weights: the one on which all operators together take the least
/// time (ties: the lowest).
///
/// # Errors
///
/// [`Error::Usage`] if the weights fit on no GPU, with the bytes missing on each.
pub(super) fn fastest_fitting_gpu(problem: &Problem) -> Result<usize> {
    let memory = &problem.memory;
    let total = memory.total();
    let fits = |gpu: &usize| memory.capacity.get(*gpu).is_none_or(|&capacity| total <= capacity);
    let time = |gpu: usize| problem.time.iter().map(|row| row[gpu]).sum::<u64>();
    (0..problem.gpus).filter(fits).min_by_key(|&gpu| time(gpu)).ok_or_else(|| {
        let lacking = memory
            .capacity
            .iter()
            .enumerate()
            .map(|(gpu, capacity)| format!("gpu{gpu} has capacity for {capacity}, {} too few", total - capacity));
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

    /// Three operators; the first two share a constant of 100 bytes, the third reads one of 50
    /// bytes.
    fn problem(capacity: &[u64]) -> Problem {
        let mut problem = Problem::from_dag_text("3\n0 1 1\n1 1 1\n2 1 1\n0\n", capacity.len(), LinkMode::Free).unwrap();
        problem.memory = Memory { constants: vec![100, 50], reads: vec![vec![0], vec![0], vec![1]], capacity: capacity.to_vec() };
        problem.check().unwrap();
        problem
    }

    #[test]
    fn a_shared_constant_counts_once() {
        let problem = problem(&[120, 60]);
        let mut budget = WeightBudget::new(&problem);
        assert!(budget.fits(&[0, 1], 0) && !budget.fits(&[0, 2], 0) && !budget.fits(&[0], 1) && budget.fits(&[2], 1));
        budget.add(0, 0);
        budget.add(1, 0);
        assert_eq!(budget.used, [100, 0]);
        budget.remove(0, 0);
        assert_eq!(budget.used, [100, 0]);
        budget.remove(1, 0);
        assert_eq!(budget.used, [0, 0]);
        assert_eq!(problem.memory.used(2, |op| usize::from(op.0 == 2)), [100, 50]);
    }

    #[test]
    fn what_does_not_fit_says_what_is_missing() {
        assert_eq!(fastest_fitting_gpu(&problem(&[149, 150])).unwrap(), 1);
        let error = fastest_fitting_gpu(&problem(&[149, 60])).unwrap_err().to_string();
        let expected = "the model does not fit on one GPU: its weights take 150 bytes; gpu0 has capacity for 149, 1 too few; gpu1 has capacity for 60, 90 too few";
        assert_eq!(error, expected);
    }
}
