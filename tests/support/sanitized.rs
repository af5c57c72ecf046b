//! Runs tests of this program again, with the kernels compiled with the C++ compiler's address and
//! undefined-behaviour sanitizers.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::{scenario, skipped};

/// Set in the second run. Buffers then end exactly at their last element, so that the address
/// sanitizer sees reads beyond it.
pub const VARIABLE: &str = "HIOSC_TEST_SANITIZED";

/// The compiler of the second run, a script. It runs g++ itself without the sanitizer, which would
/// double its time, and with less optimisation than hiosc asks for: most of the second run is spent
/// compiling.
const COMPILER: &str = "#!/bin/sh
unset LD_PRELOAD
exec g++ -fsanitize=address,undefined -fno-sanitize-recover=all -g1 \"$@\" -O1
";

/// Whether this is the second run.
pub fn is_on() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

/// Runs the tests whose names contain `part`, except those that match `left_out`, in a second
/// process with sanitized kernels. Fails with its output. This takes minutes, so it needs
/// `HIOSC_SLOW_TESTS=1`, and a compiler that comes with the sanitizers' libraries.
pub fn run_all_but(part: &str, left_out: &[&str]) {
    if is_on() {
        return;
    }
    if std::env::var_os("HIOSC_SLOW_TESTS").is_none_or(|value| value != "1") {
        skipped!("SKIPPED: kernels under sanitizers take minutes; set HIOSC_SLOW_TESTS=1");
        return;
    }
    let Some(library) = library() else {
        skipped!("SKIPPED: g++ does not run here, or comes without libasan: kernels were not run under sanitizers");
        return;
    };
    let mut again = scenario::again();
    again.arg(part).args(left_out.iter().flat_map(|name| ["--skip", name]));
    again.env(VARIABLE, "1").env("LD_PRELOAD", library).env("CXX", "sanitized-g++").env("PATH", path_to_compiler());
    // the first option does not know the stacks of fibers, and Rust's test harness never frees some
    // memory
    again.env("ASAN_OPTIONS", "detect_stack_use_after_return=0:detect_leaks=0").env("UBSAN_OPTIONS", "print_stacktrace=1");
    let output = again.output().expect("it starts");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let errors: Vec<&str> = said.lines().filter(|line| line.contains("runtime error") || line.contains("ERROR: ")).collect();
    assert!(output.status.success() && errors.is_empty(), "{}\n{said}", errors.join("\n"));
    println!("{}", said.lines().filter(|line| line.starts_with("test result")).collect::<String>());
}

/// Writes the script, and returns `PATH` with its folder first.
fn path_to_compiler() -> OsString {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sanitized");
    fs::create_dir_all(&folder).expect("a folder");
    let script = folder.join("sanitized-g++");
    fs::write(&script, COMPILER).expect("a script");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("one that can be run");
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths([folder].into_iter().chain(std::env::split_paths(&path))).expect("a path")
}

/// GCC's address sanitizer, which must be loaded before anything else.
fn library() -> Option<String> {
    let output = Command::new("g++").arg("-print-file-name=libasan.so").output().ok()?;
    let path = String::from_utf8(output.stdout).ok()?.trim().to_string();
    Path::new(&path).is_absolute().then_some(path)
}
