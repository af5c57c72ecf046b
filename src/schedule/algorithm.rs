//! The algorithms by name, their options, and their comparison.

use std::fmt;
use std::str::FromStr;

use super::ios::Pruning;
use super::longest_path::Validity;
use super::{Problem, Schedule, Timeline, baseline, best, evaluate, heft, ios, longest_path, recording, verify, window};
use crate::error::{Error, Result};

/// A scheduling algorithm, as `--algorithm` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    /// `hios-lp`: HIOS-LP, inter-GPU mapping by longest paths and the sliding window on each GPU.
    HiosLp,
    /// `sequential`: all operators one after the other on the fastest GPU.
    Sequential,
    /// `scatter`: each operator on the next GPU. Slow on purpose: tests use it to have many transfers.
    Scatter,
    /// `greedy`: everything that is ready in one stage, on the fastest GPU (IOS's baseline).
    Greedy,
    /// `ios`: IOS, the best stages on the fastest GPU by dynamic programming.
    Ios,
    /// `intra-gpu`: the sliding window alone, on the fastest GPU (the paper's ablation).
    IntraGpu,
    /// `inter-lp`: HIOS-LP's mapping alone, one operator a stage (the paper's ablation).
    InterLp,
    /// `inter-mr`: HIOS-MR's mapping alone, one operator a stage (the paper's ablation).
    InterMr,
    /// `hios-mr`: HIOS-MR, its mapping and the sliding window.
    HiosMr,
    /// `heft`: HEFT, earliest finish with insertion, one operator a stage.
    Heft,
    /// `best`: the best of all these, improved within a budget.
    Best,
}

impl Algorithm {
    /// All algorithms.
    pub const ALL: [Algorithm; 11] = [
        Algorithm::HiosLp,
        Algorithm::Sequential,
        Algorithm::Scatter,
        Algorithm::Greedy,
        Algorithm::Ios,
        Algorithm::IntraGpu,
        Algorithm::InterLp,
        Algorithm::InterMr,
        Algorithm::HiosMr,
        Algorithm::Heft,
        Algorithm::Best,
    ];

    /// Whether it uses one GPU only, which must have room for the whole model.
    pub fn one_gpu(self) -> bool {
        matches!(self, Algorithm::Sequential | Algorithm::Greedy | Algorithm::Ios | Algorithm::IntraGpu)
    }

    /// Its name: `hios-lp`.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::HiosLp => "hios-lp",
            Algorithm::Sequential => "sequential",
            Algorithm::Scatter => "scatter",
            Algorithm::Greedy => "greedy",
            Algorithm::Ios => "ios",
            Algorithm::IntraGpu => "intra-gpu",
            Algorithm::InterLp => "inter-lp",
            Algorithm::InterMr => "inter-mr",
            Algorithm::HiosMr => "hios-mr",
            Algorithm::Heft => "heft",
            Algorithm::Best => "best",
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

/// How much `best` may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// A tenth of the default.
    Low,
    /// A million evaluations for up to 200 operators (an eighth with serial links), fewer for more.
    Default,
    /// Exactly ten times the default.
    High,
    /// So many evaluations.
    Evaluations(u64),
}

impl Effort {
    /// The number of evaluations for this problem.
    pub fn evaluations(self, problem: &Problem) -> u64 {
        let default = best::default_evaluations(problem);
        match self {
            Effort::Low => default / 10,
            Effort::Default => default,
            Effort::High => default * 10,
            Effort::Evaluations(count) => count,
        }
    }
}

impl FromStr for Effort {
    type Err = Error;

    fn from_str(text: &str) -> Result<Effort> {
        match text {
            "low" => Ok(Effort::Low),
            "default" => Ok(Effort::Default),
            "high" => Ok(Effort::High),
            number => number
                .parse()
                .map(Effort::Evaluations)
                .map_err(|_| Error::Usage(format!("unknown effort `{number}`; known: low, default, high, or a number of evaluations"))),
        }
    }
}

/// What algorithms may be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// w: how many operators of a GPU the sliding window spans.
    pub window: usize,
    /// s: the most operators in a stage. 1: no grouping.
    pub max_streams: usize,
    /// r of `ios`: the most operators that depend on each other in a stage. Other algorithms' stages have none.
    pub max_chain: usize,
    /// Whether HIOS-LP takes any path of unmapped operators, not only those of which no operator between the ends touches a mapped one.
    pub relaxed_paths: bool,
    /// The budget of `best`.
    pub effort: Effort,
    /// The seed of `best`.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { window: 4, max_streams: 2, max_chain: 1, relaxed_paths: false, effort: Effort::Default, seed: 0 }
    }
}

/// What an algorithm found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its schedule.
    pub schedule: Schedule,
    /// Evaluations used, for algorithms that search; else 0.
    pub evaluations: u64,
    /// What a reader of the result should know: that it is optimal, or that the graph was cut into blocks. Empty: nothing.
    pub note: String,
}

/// The schedule that `algorithm` finds with default options. It has one list of stages for each GPU offered.
pub fn schedule(problem: &Problem, algorithm: Algorithm) -> Result<Schedule> {
    Ok(schedule_with(problem, algorithm, &Options::default())?.schedule)
}

/// The schedule that `algorithm` finds, and how.
///
/// # Errors
///
/// [`Error::Usage`] if the model does not fit into the memory of the GPUs (or of one GPU, for an algorithm of one GPU), with what is missing where.
pub fn schedule_with(problem: &Problem, algorithm: Algorithm, options: &Options) -> Result<Found> {
    problem.check()?;
    let grouped = |schedule| window::group(problem, schedule, options.window, options.max_streams);
    let validity = if options.relaxed_paths { Validity::Relaxed } else { Validity::Ends };
    let mut schedule = match algorithm {
        Algorithm::HiosLp => grouped(longest_path::inter_lp(problem, validity)?)?,
        Algorithm::InterLp => longest_path::inter_lp(problem, validity)?,
        Algorithm::HiosMr => grouped(recording::inter_mr(problem)?)?,
        Algorithm::InterMr => recording::inter_mr(problem)?,
        Algorithm::Sequential => baseline::sequential(problem)?,
        Algorithm::IntraGpu => grouped(baseline::sequential(problem)?)?,
        Algorithm::Scatter => baseline::scatter(problem)?,
        Algorithm::Greedy => ios::greedy(problem, options.max_streams)?,
        Algorithm::Heft => heft::heft(problem)?,
        Algorithm::Ios => return ios::ios(problem, Pruning { r: options.max_chain.max(1), s: options.max_streams.max(1) }),
        Algorithm::Best => return best::best(problem, options),
    };
    schedule.algorithm = algorithm.name().into();
    Ok(Found { schedule, evaluations: 0, note: String::new() })
}

/// The schedules that `algorithms` find with default options, in that order, each evaluated and verified: the rows of a summary table.
pub fn compare(problem: &Problem, algorithms: &[Algorithm]) -> Result<Vec<(Schedule, Timeline)>> {
    algorithms.iter().map(|&algorithm| judged(problem, schedule(problem, algorithm)?)).collect()
}

/// As [`compare`], with options.
pub fn compare_with(problem: &Problem, algorithms: &[Algorithm], options: &Options) -> Result<Vec<(Schedule, Timeline)>> {
    algorithms.iter().map(|&algorithm| judged(problem, schedule_with(problem, algorithm, options)?.schedule)).collect()
}

fn judged(problem: &Problem, schedule: Schedule) -> Result<(Schedule, Timeline)> {
    let timeline = evaluate(problem, &schedule)?;
    verify(problem, &schedule, &timeline)?;
    Ok((schedule, timeline))
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
        let expected = "unknown scheduling algorithm `hios`; known: hios-lp, sequential, scatter, greedy, ios, intra-gpu, inter-lp, inter-mr, hios-mr, heft, best";
        assert_eq!(error, expected);
        assert_eq!("7".parse::<Effort>().unwrap(), Effort::Evaluations(7));
        assert!("much".parse::<Effort>().is_err());
    }
}
