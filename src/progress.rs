//! Reports of work that takes long, for somebody who waits for it.
//!
//! Passes say what they do and how much of it is done. The program shows that on the terminal
//! (`cli/progress.rs`). Where nobody observes, as in a build script, reports have no effect.

use std::process::Command;
use std::sync::OnceLock;

/// What is reported.
#[derive(Clone, Copy, Debug)]
pub enum Report<'a> {
    /// A step of the work. It begins with its first report and ends with the first report of
    /// another one.
    Step {
        /// What is being done, in a few words. The same words mean the same kind of work.
        what: &'static str,
        /// How much of it is done; stays 0 if that is not known.
        done: u64,
        /// How much there is to do, in the same unit; 0 if that is not known.
        of: u64,
    },
    /// A command that is about to be run.
    Command(&'a Command),
}

static OBSERVER: OnceLock<fn(Report)> = OnceLock::new();

/// Calls `observer` with all reports from now on, from any thread. Only the first call of this
/// function has an effect.
pub fn observe(observer: fn(Report)) {
    let _ = OBSERVER.set(observer);
}

/// Reports the state of a step.
pub fn step(what: &'static str, done: u64, of: u64) {
    if let Some(observer) = OBSERVER.get() {
        observer(Report::Step { what, done, of });
    }
}

/// Reports a command that is about to be run.
pub fn command(command: &Command) {
    if let Some(observer) = OBSERVER.get() {
        observer(Report::Command(command));
    }
}
