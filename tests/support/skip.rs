//! Skips that are seen: `println!` is captured in a run that passes.

/// Says on standard error that something is skipped.
macro_rules! skipped {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}
pub(crate) use skipped;
