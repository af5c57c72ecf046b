//! Measures costs while a progress line on standard error shows how far it is.

use std::io::IsTerminal;

use hiosc::cost::Profile;
use hiosc::graph::Graph;
use hiosc::measure::profile::{self, ProfileOptions, Progress};

/// Measures the operators of `graphs`. A terminal shows one line that changes; otherwise one line
/// is printed per tenth.
pub fn profile(graphs: &[&Graph], options: &ProfileOptions) -> hiosc::Result<Profile> {
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
