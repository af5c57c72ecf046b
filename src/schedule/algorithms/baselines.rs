//! Baselines that HIOS-LP is compared with: one GPU for everything, and its opposite.

use super::placement::{largest_first, linked_gpus, one_operator_stages};
use crate::error::Result;
use crate::schedule::memory::{WeightBudget, fastest_fitting_gpu};
use crate::schedule::{Problem, Schedule};

/// All operators in topological order on the fastest GPU on which all weights fit (ties: the
/// lowest).
pub(super) fn sequential(problem: &Problem) -> Result<Schedule> {
    let gpu = fastest_fitting_gpu(problem)?;
    Ok(one_operator_stages("sequential", problem.gpus, problem.order.iter().map(|&op| (op, gpu))))
}

/// Each operator, in topological order, on the next GPU on which it fits.
pub(super) fn scatter(problem: &Problem) -> Result<Schedule> {
    let gpus = linked_gpus(problem);
    let mut budget = WeightBudget::new(problem);
    let mut placed = Vec::new();
    for (i, &op) in problem.order.iter().enumerate() {
        let next = (0..gpus.len()).map(|k| gpus[(i + k) % gpus.len()]).find(|&gpu| budget.fits(&[op.index()], gpu));
        let Some(gpu) = next else { return largest_first(problem, "scatter") };
        budget.add(op.index(), gpu);
        placed.push((op, gpu));
    }
    Ok(one_operator_stages("scatter", problem.gpus, placed.into_iter()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::LinkMode;

    fn chain(gpus: usize) -> Problem {
        Problem::from_dag_text("3\n0 1 1\n1 1 1\n2 1 1\n2\n0 1 1\n1 2 1\n", gpus, LinkMode::Free).unwrap()
    }

    #[test]
    fn sequential_takes_the_fastest_gpu() {
        let mut p = chain(3);
        p.time[0] = vec![5, 5, 1];
        p.time[1] = vec![1, 1, 4];
        let s = sequential(&p).unwrap();
        assert_eq!(s.gpus.iter().map(Vec::len).collect::<Vec<_>>(), [0, 0, 3]);
        p.time[1] = vec![1, 1, 5];
        assert_eq!(sequential(&p).unwrap().gpus.iter().map(Vec::len).collect::<Vec<_>>(), [3, 0, 0]);
    }

    #[test]
    fn scatter_goes_round() {
        let s = scatter(&chain(2)).unwrap();
        let ops: Vec<Vec<u32>> = s.gpus.iter().map(|stages| stages.iter().map(|s| s.operators[0].0).collect()).collect();
        assert_eq!(ops, [vec![0, 2], vec![1]]);
    }
}
