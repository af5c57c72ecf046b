//! How a change affects a schedule's latency, without evaluating the whole schedule again.
//!
//! Algorithms that search ask this millions of times. The answers are those of `evaluate.rs`, which
//! tests check.
//!
//! | file | what it does |
//! |---|---|
//! | `flat_problem.rs` | a problem in flat arrays |
//! | `stage_costs.rs` | lookup tables of measured stages and operator merges |
//! | `sequence.rs` | a complete schedule as a sequence of operators |
//! | `evaluator.rs` | the incremental evaluator: a sequence with its times, ready to be changed |
//! | `free_links.rs`, `serial_links.rs` | its times for either kind of links |
//! | `stage_join.rs` | the change that the sliding window makes |
//! | `list_scheduler.rs` | list scheduling of a partial mapping |

mod evaluator;
mod flat_problem;
mod free_links;
mod list_scheduler;
mod sequence;
mod serial_links;
mod stage_costs;
mod stage_join;

pub(super) use evaluator::{Evaluation, FULL_MEAN_WEIGHT, IncrementalEvaluator};
pub(super) use flat_problem::FlatProblem;
pub(super) use list_scheduler::{ListScheduler, SERIAL_OPERATORS};
pub(super) use sequence::StageSequence;
