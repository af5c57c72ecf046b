//! Panics of other people's code, caught and told as text.
//!
//! Libraries that read models can panic on odd ones. hiosc catches that, says nothing of it on the
//! terminal, and reports it as an error.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// The beginning of the names of threads on which panics are not printed either.
pub const QUIET_THREADS: &str = "rten-";

/// Runs `f` with no panic message on the terminal.
pub fn silently<T>(f: impl FnOnce() -> T) -> T {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let worker = std::thread::current().name().is_some_and(|name| name.starts_with(QUIET_THREADS));
            if !QUIET.get() && !worker {
                usual(info);
            }
        }));
    });
    let before = QUIET.replace(true);
    let result = f();
    QUIET.set(before);
    result
}

/// The result of `f`, or the message of its panic.
pub fn caught<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    silently(|| catch_unwind(AssertUnwindSafe(f))).map_err(|panic| text(&*panic))
}

/// The message of a panic, on one line.
pub fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    one_line(text.unwrap_or("no message"))
}

/// At most 400 characters, on one line.
pub fn one_line(text: &str) -> String {
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ").replace(char::is_control, "?");
    if let Some((end, _)) = line.char_indices().nth(400) {
        line.truncate(end);
        line.push_str("...");
    }
    line
}
