//! The algorithms: a table with one row per algorithm, their options, and their comparison.
//!
//! **In**: a [`Problem`] and [`ScheduleOptions`]. **Out**: a [`Solution`]: a [`Schedule`], and how
//! it was found. A new algorithm is a file here and a row of the table.
//!
//! | file | algorithms |
//! |---|---|
//! | `hios_lp.rs` | HIOS-LP's mapping |
//! | `hios_mr.rs` | HIOS-MR's mapping |
//! | `sliding_window.rs` | the sliding window that groups operators into stages, for both |
//! | `heft.rs` | HEFT |
//! | `ios.rs` | IOS, and its greedy baseline |
//! | `baselines.rs` | sequential, and scatter for tests |
//! | `best.rs` | the best of all, improved by `annealing.rs` or `branch_and_bound.rs` |
//! | `placement.rs` | shared by the algorithms that place operators one after the other |

mod annealing;
mod baselines;
mod best;
mod branch_and_bound;
mod heft;
mod hios_lp;
mod hios_mr;
mod ios;
mod placement;
mod sliding_window;

use std::fmt;
use std::str::FromStr;

use super::{Problem, Schedule, Timeline, evaluate, verify};
use crate::error::{Error, Result};

/// Makes [`Algorithm`] and its [`AlgorithmInfo`]s from the table below.
macro_rules! algorithms {
    ($($(#[$doc:meta])* $algorithm:ident = $name:literal, $gpus:ident, $find:expr;)*) => {
        /// A scheduling algorithm, as `--algorithm` names it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Algorithm {
            $($(#[$doc])* $algorithm,)*
        }

        impl Algorithm {
            /// All algorithms.
            pub const ALL: [Algorithm; [$($name),*].len()] = [$(Algorithm::$algorithm),*];

            fn info(self) -> AlgorithmInfo {
                match self {
                    $(Self::$algorithm => AlgorithmInfo { name: $name, gpus: Gpus::$gpus, find: $find },)*
                }
            }
        }
    };
}

// One row per algorithm: what it is and where it is from; its variant and its name; how many GPUs
// it uses; its function. Of equally good rows, `best` takes the first.
algorithms! {
    /// `hios-lp`: HIOS-LP (Kundu and Shu, CLUSTER 2023), inter-GPU mapping by longest paths, then
    /// the sliding window on each GPU.
    HiosLp = "hios-lp", Many, |p, o| grouped(p, o, hios_lp::inter_lp(p, validity(o))?);
    /// `sequential`: all operators one after the other on the fastest GPU.
    Sequential = "sequential", One, |p, _| without_search(baselines::sequential(p)?);
    /// `scatter`: each operator on the next GPU. Slow on purpose: tests use it to get many
    /// transfers.
    Scatter = "scatter", Many, |p, _| without_search(baselines::scatter(p)?);
    /// `greedy`: everything that is ready in one stage, on the fastest GPU (IOS's baseline).
    Greedy = "greedy", One, |p, o| without_search(ios::greedy(p, o.max_streams)?);
    /// `ios`: IOS (Ding et al., MLSys 2021), the best stages on the fastest GPU by dynamic
    /// programming.
    Ios = "ios", One, |p, o| ios::ios(p, pruning(o));
    /// `intra-gpu`: the sliding window alone, on the fastest GPU (the paper's ablation).
    IntraGpu = "intra-gpu", One, |p, o| grouped(p, o, baselines::sequential(p)?);
    /// `inter-lp`: HIOS-LP's mapping alone, one operator per stage (the paper's ablation).
    InterLp = "inter-lp", Many, |p, o| without_search(hios_lp::inter_lp(p, validity(o))?);
    /// `inter-mr`: HIOS-MR's mapping alone, one operator per stage (the paper's ablation).
    InterMr = "inter-mr", Many, |p, _| without_search(hios_mr::inter_mr(p)?);
    /// `hios-mr`: HIOS-MR (from the HIOS paper), its mapping and the sliding window.
    HiosMr = "hios-mr", Many, |p, o| grouped(p, o, hios_mr::inter_mr(p)?);
    /// `heft`: HEFT (Topcuoglu et al., TPDS 2002), earliest finish time with insertion, one
    /// operator per stage.
    Heft = "heft", Many, |p, _| without_search(heft::heft(p)?);
    /// `best`: the best of all these, improved by a search within a budget.
    Best = "best", Many, best::best;
}

/// An algorithm's row of the table.
struct AlgorithmInfo {
    name: &'static str,
    gpus: Gpus,
    find: fn(&Problem, &ScheduleOptions) -> Result<Solution>,
}

/// How many GPUs an algorithm uses.
#[derive(PartialEq)]
enum Gpus {
    One,
    Many,
}

/// The solution of an algorithm that does not search.
fn without_search(schedule: Schedule) -> Result<Solution> {
    Ok(Solution { schedule, evaluations: 0, note: String::new() })
}

/// `schedule` after the sliding window.
fn grouped(problem: &Problem, options: &ScheduleOptions, schedule: Schedule) -> Result<Solution> {
    without_search(sliding_window::group_operators(problem, schedule, options.window, options.max_streams)?)
}

/// The paths that HIOS-LP may take.
fn validity(options: &ScheduleOptions) -> hios_lp::Validity {
    if options.relaxed_paths { hios_lp::Validity::Relaxed } else { hios_lp::Validity::Ends }
}

/// The stages that IOS may make.
fn pruning(options: &ScheduleOptions) -> ios::Pruning {
    ios::Pruning { r: options.max_chain.max(1), s: options.max_streams.max(1) }
}

impl Algorithm {
    /// Whether it uses one GPU only. Then all weights must fit on that GPU.
    pub fn one_gpu(self) -> bool {
        self.info().gpus == Gpus::One
    }

    /// Its name: `hios-lp`.
    pub fn name(self) -> &'static str {
        self.info().name
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
        let found = Algorithm::ALL.into_iter().find(|a| a.name().eq_ignore_ascii_case(name));
        found.ok_or_else(|| Error::unknown("scheduling algorithm", name, Algorithm::ALL.iter().map(|a| a.name())))
    }
}

/// How long `best` may search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effort {
    /// A tenth of the default.
    Low,
    /// A million evaluations for up to 200 operators (an eighth of that with serial links), fewer
    /// for more.
    Default,
    /// Exactly ten times the default.
    High,
    /// This many evaluations.
    Evaluations(u64),
}

impl Effort {
    /// The number of evaluations for this problem.
    fn evaluations(self, problem: &Problem) -> u64 {
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

/// Options of the algorithms.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScheduleOptions {
    /// w: how many operators of a GPU the sliding window spans.
    pub window: usize,
    /// s: the most operators in a stage, or, for `ios`, the most chains. With 1, there is no
    /// grouping.
    pub max_streams: usize,
    /// r of `ios`: the greatest length of a chain: operators of a stage that depend on each other
    /// and run one after the other. Other algorithms put only independent operators into a stage.
    pub max_chain: usize,
    /// Whether HIOS-LP may take any path of unmapped operators. Otherwise, only the ends of a path
    /// may have edges from or to mapped operators.
    pub relaxed_paths: bool,
    /// How long `best` may search.
    pub effort: Effort,
    /// The seed of `best`.
    pub seed: u64,
}

impl Default for ScheduleOptions {
    fn default() -> ScheduleOptions {
        ScheduleOptions { window: 4, max_streams: 2, max_chain: 1, relaxed_paths: false, effort: Effort::Default, seed: 0 }
    }
}

impl ScheduleOptions {
    /// Sets [`window`](Self::window).
    pub fn window(mut self, operators: usize) -> Self {
        self.window = operators;
        self
    }

    /// Sets [`max_streams`](Self::max_streams).
    pub fn max_streams(mut self, most: usize) -> Self {
        self.max_streams = most;
        self
    }

    /// Sets [`max_chain`](Self::max_chain).
    pub fn max_chain(mut self, operators: usize) -> Self {
        self.max_chain = operators;
        self
    }

    /// Sets [`relaxed_paths`](Self::relaxed_paths).
    pub fn relaxed_paths(mut self, relaxed: bool) -> Self {
        self.relaxed_paths = relaxed;
        self
    }

    /// Sets [`effort`](Self::effort).
    pub fn effort(mut self, effort: Effort) -> Self {
        self.effort = effort;
        self
    }

    /// Sets [`seed`](Self::seed).
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }
}

/// The schedule that an algorithm found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Solution {
    /// Its schedule.
    pub schedule: Schedule,
    /// The evaluations used, for algorithms that search; else 0.
    pub evaluations: u64,
    /// What a reader of the result should know: that it is optimal, or that the graph was cut into
    /// blocks. Empty if there is nothing to say.
    pub note: String,
}

/// The schedule that `algorithm` finds with default options. It has one list of stages for each GPU
/// offered.
pub fn schedule(problem: &Problem, algorithm: Algorithm) -> Result<Schedule> {
    Ok(schedule_with(problem, algorithm, &ScheduleOptions::default())?.schedule)
}

/// The schedule that `algorithm` finds with `options`, and how it was found.
///
/// # Errors
///
/// [`Error::Usage`] if the model does not fit in the memory of the GPUs (of one GPU, for an
/// algorithm that uses one). The message says how many bytes are missing where.
pub fn schedule_with(problem: &Problem, algorithm: Algorithm, options: &ScheduleOptions) -> Result<Solution> {
    problem.check()?;
    let info = algorithm.info();
    let mut found = (info.find)(problem, options)?;
    found.schedule.algorithm = info.name.into();
    Ok(found)
}

/// The schedules that `algorithms` find with default options, in that order, each evaluated and
/// verified: the rows of a summary table.
pub fn compare(problem: &Problem, algorithms: &[Algorithm]) -> Result<Vec<(Schedule, Timeline)>> {
    algorithms.iter().map(|&algorithm| evaluate_and_verify(problem, schedule(problem, algorithm)?)).collect()
}

/// Like [`compare`], with options.
pub fn compare_with(problem: &Problem, algorithms: &[Algorithm], options: &ScheduleOptions) -> Result<Vec<(Schedule, Timeline)>> {
    algorithms.iter().map(|&algorithm| evaluate_and_verify(problem, schedule_with(problem, algorithm, options)?.schedule)).collect()
}

fn evaluate_and_verify(problem: &Problem, schedule: Schedule) -> Result<(Schedule, Timeline)> {
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
        let expected = "unknown scheduling algorithm `hios` (did you mean `hios-lp`?); known: hios-lp, sequential, scatter, greedy, ios, intra-gpu, inter-lp, inter-mr, hios-mr, heft, best";
        assert_eq!(error, expected);
        assert_eq!("7".parse::<Effort>().unwrap(), Effort::Evaluations(7));
        assert!("much".parse::<Effort>().is_err());
    }
}
