//! The algorithms: a table with a row for each, their options, and their comparison.
//!
//! **In**: a [`Problem`] and [`Options`]. **Out**: a [`Schedule`], and how it was [`Found`]. A new
//! algorithm is a file here and a row of the table.
//!
//! | file | algorithms |
//! |---|---|
//! | `hios_lp.rs` | HIOS-LP's mapping |
//! | `hios_mr.rs` | HIOS-MR's mapping |
//! | `window.rs` | the sliding window that groups operators into stages, for both |
//! | `heft.rs` | HEFT |
//! | `ios.rs` | IOS, and its greedy companion |
//! | `baselines.rs` | sequential, and scatter for tests |
//! | `best.rs` | the best of all, improved by `anneal.rs` (annealing) or `branch_and_bound.rs` |
//! | `placing.rs` | what those share that place operators one after the other |

mod anneal;
mod baselines;
mod best;
mod branch_and_bound;
mod heft;
mod hios_lp;
mod hios_mr;
mod ios;
mod placing;
mod window;

use std::fmt;
use std::str::FromStr;

use super::{Problem, Schedule, Timeline, evaluate, verify};
use crate::error::{Error, Result};

/// Makes [`Algorithm`] and its [`Row`]s of the table below.
macro_rules! algorithms {
    ($($(#[$doc:meta])* $algorithm:ident = $name:literal, $gpus:ident, $find:expr;)*) => {
        /// A scheduling algorithm, as `--algorithm` names it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Algorithm {
            $($(#[$doc])* $algorithm,)*
        }

        impl Algorithm {
            /// All algorithms.
            pub const ALL: [Algorithm; [$($name),*].len()] = [$(Algorithm::$algorithm),*];

            fn row(self) -> Row {
                match self {
                    $(Self::$algorithm => Row { name: $name, gpus: Gpus::$gpus, find: $find },)*
                }
            }
        }
    };
}

// A row an algorithm: what it is, and whose; its variant and its name; how many GPUs it uses; the
// function. `best` takes the first row of those that are equally good.
algorithms! {
    /// `hios-lp`: HIOS-LP (Kundu and Shu, CLUSTER 2023), inter-GPU mapping by longest paths and the
    /// sliding window on each GPU.
    HiosLp = "hios-lp", Many, |p, o| grouped(p, o, hios_lp::inter_lp(p, validity(o))?);
    /// `sequential`: all operators one after the other on the fastest GPU.
    Sequential = "sequential", One, |p, _| at_once(baselines::sequential(p)?);
    /// `scatter`: each operator on the next GPU. Slow on purpose: tests use it to have many transfers.
    Scatter = "scatter", Many, |p, _| at_once(baselines::scatter(p)?);
    /// `greedy`: everything that is ready in one stage, on the fastest GPU (IOS's baseline).
    Greedy = "greedy", One, |p, o| at_once(ios::greedy(p, o.max_streams)?);
    /// `ios`: IOS (Ding et al., MLSys 2021), the best stages on the fastest GPU by dynamic
    /// programming.
    Ios = "ios", One, |p, o| ios::ios(p, pruning(o));
    /// `intra-gpu`: the sliding window alone, on the fastest GPU (the paper's ablation).
    IntraGpu = "intra-gpu", One, |p, o| grouped(p, o, baselines::sequential(p)?);
    /// `inter-lp`: HIOS-LP's mapping alone, one operator a stage (the paper's ablation).
    InterLp = "inter-lp", Many, |p, o| at_once(hios_lp::inter_lp(p, validity(o))?);
    /// `inter-mr`: HIOS-MR's mapping alone, one operator a stage (the paper's ablation).
    InterMr = "inter-mr", Many, |p, _| at_once(hios_mr::inter_mr(p)?);
    /// `hios-mr`: HIOS-MR (of HIOS-LP's paper), its mapping and the sliding window.
    HiosMr = "hios-mr", Many, |p, o| grouped(p, o, hios_mr::inter_mr(p)?);
    /// `heft`: HEFT (Topcuoglu et al., TPDS 2002), earliest finish with insertion, one operator a
    /// stage.
    Heft = "heft", Many, |p, _| at_once(heft::heft(p)?);
    /// `best`: the best of all these, improved within a budget.
    Best = "best", Many, best::best;
}

/// What is known of an algorithm.
struct Row {
    name: &'static str,
    gpus: Gpus,
    find: fn(&Problem, &Options) -> Result<Found>,
}

/// How many GPUs an algorithm uses.
#[derive(PartialEq)]
enum Gpus {
    One,
    Many,
}

/// A schedule that was found without a search.
fn at_once(schedule: Schedule) -> Result<Found> {
    Ok(Found { schedule, evaluations: 0, note: String::new() })
}

/// `schedule` after the sliding window.
fn grouped(problem: &Problem, options: &Options, schedule: Schedule) -> Result<Found> {
    at_once(window::group(problem, schedule, options.window, options.max_streams)?)
}

/// The paths that HIOS-LP may take.
fn validity(options: &Options) -> hios_lp::Validity {
    if options.relaxed_paths { hios_lp::Validity::Relaxed } else { hios_lp::Validity::Ends }
}

/// The stages that IOS may make.
fn pruning(options: &Options) -> ios::Pruning {
    ios::Pruning { r: options.max_chain.max(1), s: options.max_streams.max(1) }
}

impl Algorithm {
    /// Whether it uses one GPU only, which must have room for the whole model.
    pub fn one_gpu(self) -> bool {
        self.row().gpus == Gpus::One
    }

    /// Its name: `hios-lp`.
    pub fn name(self) -> &'static str {
        self.row().name
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
    let row = algorithm.row();
    let mut found = (row.find)(problem, options)?;
    found.schedule.algorithm = row.name.into();
    Ok(found)
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
