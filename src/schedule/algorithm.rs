//! The algorithms by name, and their comparison.

use std::fmt;
use std::str::FromStr;

use super::{Problem, Schedule, Timeline, baseline, evaluate, longest_path, verify};
use crate::error::{Error, Result};

/// A scheduling algorithm, as `--algorithm` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    /// `hios-lp`: HIOS-LP's inter-GPU mapping by longest paths.
    HiosLp,
    /// `sequential`: all operators one after the other on the fastest GPU.
    Sequential,
    /// `scatter`: each operator on the next GPU. Slow on purpose: tests use it to have many transfers.
    Scatter,
}

impl Algorithm {
    /// All algorithms.
    pub const ALL: [Algorithm; 3] = [Algorithm::HiosLp, Algorithm::Sequential, Algorithm::Scatter];

    /// Its name: `hios-lp`.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::HiosLp => "hios-lp",
            Algorithm::Sequential => "sequential",
            Algorithm::Scatter => "scatter",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Algorithm {
    type Err = Error;

    fn from_str(name: &str) -> Result<Algorithm> {
        Algorithm::ALL.into_iter().find(|a| a.name() == name).ok_or_else(|| {
            let known: Vec<_> = Algorithm::ALL.iter().map(|a| a.name()).collect();
            Error::Usage(format!("unknown scheduling algorithm `{name}`; known: {}", known.join(", ")))
        })
    }
}

/// The schedule that `algorithm` finds. It has one list of stages for each GPU offered, one operator a stage.
pub fn schedule(problem: &Problem, algorithm: Algorithm) -> Result<Schedule> {
    problem.check()?;
    Ok(match algorithm {
        Algorithm::HiosLp => longest_path::hios_lp(problem),
        Algorithm::Sequential => baseline::sequential(problem),
        Algorithm::Scatter => baseline::scatter(problem),
    })
}

/// The schedules that `algorithms` find, in that order, each evaluated and verified: the rows of a summary table.
pub fn compare(problem: &Problem, algorithms: &[Algorithm]) -> Result<Vec<(Schedule, Timeline)>> {
    algorithms
        .iter()
        .map(|&algorithm| {
            let schedule = schedule(problem, algorithm)?;
            let timeline = evaluate(problem, &schedule)?;
            verify(problem, &schedule, &timeline)?;
            Ok((schedule, timeline))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_there_and_back() {
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.to_string().parse::<Algorithm>().unwrap(), algorithm);
        }
        let error = "hios".parse::<Algorithm>().unwrap_err().to_string();
        assert_eq!(error, "unknown scheduling algorithm `hios`; known: hios-lp, sequential, scatter");
    }
}
