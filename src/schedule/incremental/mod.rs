//! What a change does to a schedule's latency, without evaluating the whole schedule again.
//!
//! Algorithms that search ask this a million times. The answers are those of `evaluate.rs`, and
//! tests hold them to it.
//!
//! | file | what it does |
//! |---|---|
//! | `flat.rs` | a problem in flat arrays; `known.rs`: measured stages and merges, in tables for it |
//! | `sequence.rs` | a complete schedule as a sequence with its times, ready to be changed |
//! | `free_links.rs`, `serial_links.rs` | time it, with either kind of links |
//! | `merge.rs` | the change that the sliding window makes to it |
//! | `list.rs` | a mapping that grows: the latency of the operators mapped so far |

mod flat;
mod free_links;
mod known;
mod list;
mod merge;
mod sequence;
mod serial_links;

pub(super) use flat::Flat;
pub(super) use list::{ListScheduler, SERIAL_OPERATORS};
pub(super) use sequence::{FULL_GUIDE, Outcome, Sequence, Timed};
