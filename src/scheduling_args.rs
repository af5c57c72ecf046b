//! The flags that say what scheduling algorithms may do, the same wherever something is scheduled.

use clap::Args;
use hiosc::schedule::{Effort, Options};

/// Flags for [`Options`].
#[derive(Args)]
#[command(next_help_heading = "Scheduling")]
pub struct Scheduling {
    /// Operators that the sliding window spans.
    #[arg(long, value_name = "W", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    window: u32,
    /// The most operators in a stage.
    #[arg(long, value_name = "S", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    max_streams: u32,
    /// The most operators that depend on each other in a stage of `ios` (its pruning parameter r).
    #[arg(long, value_name = "R", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    max_chain: u32,
    /// HIOS-LP takes any path of unmapped operators, not only valid ones.
    #[arg(long)]
    relaxed_paths: bool,
    /// One operator a stage; the same as --max-streams 1.
    #[arg(long, conflicts_with_all = ["max_streams", "max_chain"])]
    no_grouping: bool,
    /// The budget of `best`: low, default, high (ten times the default) or a number of evaluations.
    #[arg(long, value_name = "LEVEL", default_value = "default")]
    effort: String,
    /// The seed of `best`.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

impl Scheduling {
    /// What they say.
    pub fn options(&self) -> hiosc::Result<Options> {
        Ok(Options {
            window: self.window as usize,
            max_streams: if self.no_grouping { 1 } else { self.max_streams as usize },
            max_chain: if self.no_grouping { 1 } else { self.max_chain as usize },
            relaxed_paths: self.relaxed_paths,
            effort: self.effort.parse::<Effort>()?,
            seed: self.seed,
        })
    }
}
