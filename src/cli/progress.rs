//! Measuring costs while a progress line on standard error says how far it is.

use std::io::IsTerminal;

use hiosc::cost::Profile;
use hiosc::graph::Graph;
use hiosc::measure::profile::{self, Progress};

/// Measures the operators of `graphs`. On a terminal one line changes; elsewhere there is a line a
/// tenth.
pub fn profile(graphs: &[&Graph], options: &profile::Options) -> hiosc::Result<Profile> {
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
