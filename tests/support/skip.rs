//! Visible messages for skipped tests: the test harness hides the `println!` output of tests that
//! pass.

/// Says on standard error that something is skipped.
macro_rules! skipped {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}
pub(crate) use skipped;
