//! Measures costs, with progress on standard error.

use std::io::IsTerminal;

use crate::cost::Profile;
use crate::graph::Graph;
use crate::measure::profile::{self, ProfileOptions, Progress};

/// Measures the operators of `graphs`. On a terminal, one line is updated; otherwise a line is
/// printed for each tenth.
pub fn profile(graphs: &[&Graph], options: &ProfileOptions) -> crate::Result<Profile> {
    let terminal = std::io::stderr().is_terminal();
    let mut shown = (0, "");
    let measured = profile::profile(graphs, options, &mut |Progress { what, done, of, left }| {
        let tenth = (done * 10 / of.max(1), what);
        if terminal {
            eprint!("\rprofile    {done} of {of} {what}, {:.0} s left   ", left.as_secs_f64());
        } else if tenth != shown {
            shown = tenth;
            eprintln!("profile    {done} of {of} {what}, {:.0} s left", left.as_secs_f64());
        }
    });
    if terminal {
        eprintln!();
    }
    measured
}
