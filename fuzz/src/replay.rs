//! Runs inputs through their targets without libFuzzer. `replay [TARGET]` runs all inputs in
//! `seeds/`, `corpus/` and `artifacts/`, of one target if given; `replay TARGET FILE...` runs these
//! files.
//!
//! It needs no nightly toolchain, so CI runs it. A finding ends it with a panic, after a line that
//! names the input.

use std::fs;
use std::path::{Path, PathBuf};

use hiosc_fuzz::{FuzzTarget, TARGETS};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (wanted, files) = (arguments.next(), arguments.map(PathBuf::from).collect::<Vec<_>>());
    if let Some(wanted) = &wanted
        && !TARGETS.iter().any(|(name, _)| name == wanted)
    {
        let known = TARGETS.map(|(name, _)| name);
        eprintln!("unknown target {wanted}; known: {}", known.join(", "));
        std::process::exit(2);
    }
    for target in TARGETS.iter().filter(|(name, _)| wanted.as_deref().is_none_or(|wanted| wanted == *name)) {
        let inputs = if files.is_empty() { kept(target.0) } else { files.clone() };
        play(target, &inputs);
    }
}

/// The saved inputs of a target.
fn kept(target: &str) -> Vec<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["seeds", "corpus", "artifacts"] {
        let Ok(entries) = fs::read_dir(here.join(folder).join(target)) else { continue };
        files.extend(entries.map(|entry| entry.expect("a readable folder").path()).filter(|path| path.is_file()));
    }
    files.sort();
    files
}

fn play((name, run): &FuzzTarget, inputs: &[PathBuf]) {
    let started = std::time::Instant::now();
    for input in inputs {
        let data = match fs::read(input) {
            Ok(data) => data,
            // a libFuzzer that is running may have removed it from corpus/
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && input.parent().is_some_and(Path::is_dir) => {
                println!("{name}: there is no {}", input.display());
                continue;
            }
            Err(e) => panic!("{}: {e}", input.display()),
        };
        if let Err(panic) = std::panic::catch_unwind(|| run(&data)) {
            eprintln!("FINDING of {name}: {}", input.display());
            std::panic::resume_unwind(panic);
        }
    }
    println!("{name}: {} inputs in {:.1} s", inputs.len(), started.elapsed().as_secs_f64());
}
