//! Shows what takes long: on a terminal, one line on standard error with the time that is left;
//! with `--verbose`, a line for each finished step and each command that hiosc runs. Otherwise
//! nothing, so that logs and pipes stay quiet.
//!
//! A step that cannot count what it has done takes as long for each unit of its work as it took
//! before. A file in the cache keeps these times.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::cache;
use crate::error::shell_words;
use crate::progress::{self, Report};

/// The file in the cache with the time that steps take.
pub const KEPT: &str = "durations.json";

/// A step that is shorter is not shown, and its time is not kept.
const SHORT: Duration = Duration::from_millis(1000);

/// Seconds for a unit of a step's work before this machine has done it once: as measured on two
/// cores of a server.
const FIRST: [(&str, f64); 6] = [
    ("reading the model", 4e-6),
    ("building the crate", 25.0),
    ("compiling kernels for the CPU", 0.15),
    ("compiling virtual GPUs", 0.7),
    ("computing the reference", 7e-5),
    ("writing the crate", 2.5e-6),
];

/// How often the line is drawn.
const TICK: Duration = Duration::from_millis(250);

/// The step that is being done.
struct Running {
    what: &'static str,
    since: Instant,
    done: u64,
    of: u64,
    /// Seconds that all of it took before, scaled to this amount of work.
    before: Option<f64>,
}

static RUNNING: Mutex<Option<Running>> = Mutex::new(None);
static DISPLAY: OnceLock<Display> = OnceLock::new();

struct Display {
    /// Hidden where standard error is no terminal.
    line: ProgressBar,
    verbose: bool,
    /// Seconds for a unit of each step's work, as measured by earlier processes.
    pace: BTreeMap<String, f64>,
}

/// Shows all reports from now on.
pub fn show(verbose: bool) {
    let line = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let text = |_: &ProgressState, out: &mut dyn std::fmt::Write| {
        let _ = out.write_str(&running().as_ref().map(Running::text).unwrap_or_default());
    };
    if let Ok(style) = ProgressStyle::with_template("{step}") {
        line.set_style(style.with_key("step", text));
    }
    let mut pace: BTreeMap<String, f64> = FIRST.iter().map(|(what, seconds)| (what.to_string(), *seconds)).collect();
    pace.extend(kept());
    let _ = DISPLAY.set(Display { line, verbose, pace });
    progress::observe(report);
}

/// Ends the step that is being done, and clears the line: before anything else is printed.
pub fn end() {
    let ended = running().take();
    let Some(display) = DISPLAY.get() else { return };
    if let Some(step) = ended {
        display.ended(&step);
    }
    display.line.finish_and_clear();
}

fn running() -> MutexGuard<'static, Option<Running>> {
    RUNNING.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The observer of all reports.
fn report(report: Report) {
    let Some(display) = DISPLAY.get() else { return };
    match report {
        Report::Command(command) => display.say(|| format!("$ {}", words(command))),
        Report::Step { what, done, of } => {
            let mut now = running();
            if let Some(step) = now.as_mut().filter(|step| step.what == what) {
                (step.done, step.of) = (done, of);
                return;
            }
            let before = display.pace.get(what).filter(|_| of > 0).map(|pace| pace * of as f64);
            let ended = now.replace(Running { what, since: Instant::now(), done, of, before });
            drop(now); // drawing the line reads it
            if let Some(step) = ended {
                display.ended(&step);
            }
            if display.line.is_finished() {
                display.line.reset(); // after `end`
            }
            display.line.enable_steady_tick(TICK);
        }
    }
}

impl Display {
    fn ended(&self, step: &Running) {
        let time = step.since.elapsed();
        self.say(|| format!("{:8.2} s  {}", time.as_secs_f64(), step.what));
        if time >= SHORT && step.of > 0 {
            keep(step.what, time.as_secs_f64() / step.of as f64);
        }
    }

    /// Prints a line if `--verbose` is given.
    fn say(&self, text: impl FnOnce() -> String) {
        if self.verbose {
            self.line.suspend(|| eprintln!("{}", text()));
        }
    }
}

impl Running {
    /// `compiling kernels: 12 of 40, 35 s left`, or what of it is known.
    fn text(&self) -> String {
        let elapsed = self.since.elapsed();
        if elapsed < SHORT {
            return String::new();
        }
        let mut text = self.what.to_string();
        let counted = self.done > 0 && self.of > 0;
        if counted {
            let _ = write!(text, ": {} of {}", self.done.min(self.of), self.of);
        }
        let elapsed = elapsed.as_secs_f64();
        let whole = if counted { Some(elapsed * self.of as f64 / self.done as f64) } else { self.before };
        let _ = match whole.map(|whole| whole - elapsed).filter(|left| *left >= 0.5) {
            Some(left) => write!(text, ", {} left", duration(left)),
            None => write!(text, ", {} so far", duration(elapsed)),
        };
        text
    }
}

/// `35 s`, `2 min 5 s`
fn duration(seconds: f64) -> String {
    match seconds.round() as u64 {
        short @ ..60 => format!("{short} s"),
        long => format!("{} min {} s", long / 60, long % 60),
    }
}

/// The command as a shell would read it.
fn words(command: &Command) -> String {
    let words: Vec<String> =
        [command.get_program()].into_iter().chain(command.get_args()).map(|word| word.to_string_lossy().into_owned()).collect();
    shell_words(words.iter().map(String::as_str))
}

fn pace_file() -> PathBuf {
    cache::dir().join(KEPT)
}

/// What [`keep`] has kept.
fn kept() -> BTreeMap<String, f64> {
    fs::read(pace_file()).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

/// Whether `file` is one that [`keep`] wrote.
pub fn is_kept(file: &Path) -> bool {
    fs::read(file).is_ok_and(|text| serde_json::from_slice::<BTreeMap<String, f64>>(&text).is_ok())
}

/// Keeps the seconds for a unit of a step's work. If that fails, the next estimate is worse.
fn keep(what: &str, pace: f64) {
    let mut all = kept();
    all.insert(what.into(), pace);
    if let Ok(text) = serde_json::to_vec_pretty(&all) {
        let _ = fs::create_dir_all(cache::dir()).and_then(|()| fs::write(pace_file(), text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_follows_from_what_is_done_or_from_before() {
        let text = |done, of, before, seconds| {
            let since = Instant::now() - Duration::from_secs(seconds);
            Running { what: "building", since, done, of, before }.text()
        };
        assert_eq!(text(10, 40, Some(1.0), 10), "building: 10 of 40, 30 s left");
        assert_eq!(text(0, 40, Some(100.0), 10), "building, 1 min 30 s left");
        assert_eq!(text(0, 40, Some(5.0), 10), "building, 10 s so far", "longer than before");
        assert_eq!(text(0, 0, None, 61), "building, 1 min 1 s so far");
        assert_eq!(text(1, 2, None, 0), "", "too short to be shown");
    }

    #[test]
    fn commands_can_be_copied() {
        let mut command = Command::new("g++");
        command.args(["-O2", "a b.cpp", "it's"]);
        assert_eq!(words(&command), r"g++ -O2 'a b.cpp' 'it'\''s'");
    }
}
