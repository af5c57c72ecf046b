//! The fuzz targets, as plain functions. libFuzzer calls them (`fuzz_targets/`), and so does the
//! replay (`replay.rs`), which needs no nightly toolchain.
//!
//! A target takes bytes and returns nothing. An input that hiosc refuses is not a finding. A panic
//! is a finding, and so is [`Error::Internal`]: a verifier rejected what hiosc itself made.
//!
//! | target | its bytes are | what is done with them |
//! |---|---|---|
//! | [`import`] | a model file | decoded, typed, lowered, fused; a small one goes on to the plan |
//! | [`graph`] | choices | a small graph with some damage is verified; if accepted, fused |
//! | [`costs`] | a file for `--costs` | read, written, read again; a graph is scheduled with it |
//! | [`texts`] | another text or file | topologies, devices, schedules, scheduling graphs, `.npy` files |
//! | [`plan`] | choices | a small sound graph goes through every pass, with every verifier |

mod costs;
mod damage;
mod generate;
mod graph;
mod import;
mod pipeline;
mod plan;
mod texts;

pub use costs::{COSTED, costs};
pub use graph::graph;
pub use import::import;
pub use plan::plan;
pub use texts::texts;

use hiosc::Error;

/// A target: its name, and what it does with an input.
pub type FuzzTarget = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [FuzzTarget; 5] = [("import", import), ("graph", graph), ("costs", costs), ("texts", texts), ("plan", plan)];

/// Restores Rust's own panic hook. libFuzzer's hook ends the process at every panic, even one of
/// tract that hiosc catches. An uncaught panic still ends the process.
pub fn let_panics_be_caught() {
    let _ = std::panic::take_hook();
}

/// The value, or `None` if hiosc refused the input. A failed verifier is a finding: it panics.
fn accepted<T>(result: hiosc::Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error @ Error::Internal { .. }) => panic!("{error}"),
        Err(error) => {
            // Formatting the message must not panic either.
            let _ = error.to_string();
            None
        }
    }
}
