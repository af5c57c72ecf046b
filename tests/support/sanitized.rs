//! A test program once more, with its kernels compiled under the address and undefined-behaviour
//! sanitizers of the C++ compiler.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::{scenario, skipped};

/// Set in the second run. Buffers end exactly where their last element does then, so that the
/// address sanitizer sees a read beyond it.
pub const VARIABLE: &str = "HIOSC_TEST_SANITIZED";

/// The compiler of the second run, a script. It is not itself under the sanitizer, which would
/// double its time, and it optimises less than hiosc asks for: most of the second run is spent
/// compiling.
const COMPILER: &str = "#!/bin/sh
unset LD_PRELOAD
exec g++ -fsanitize=address,undefined -fno-sanitize-recover=all -g1 \"$@\" -O1
";

/// Whether this is the second run.
pub fn is_on() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

/// Runs the tests whose names have `part` in them, but those that match `left_out`, in a second
/// process, whose kernels are sanitized. Fails with what it said. Minutes: only where
/// `HIOSC_SLOW_TESTS=1` asks for it, and where the compiler brings the sanitizers' libraries.
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
    // the stacks of fibers are not those that the first option means, and Rust's test program keeps
    // some memory to its end
    again.env("ASAN_OPTIONS", "detect_stack_use_after_return=0:detect_leaks=0").env("UBSAN_OPTIONS", "print_stacktrace=1");
    let output = again.output().expect("it starts");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let errors: Vec<&str> = said.lines().filter(|line| line.contains("runtime error") || line.contains("ERROR: ")).collect();
    assert!(output.status.success() && errors.is_empty(), "{}\n{said}", errors.join("\n"));
    println!("{}", said.lines().filter(|line| line.starts_with("test result")).collect::<String>());
}

/// `PATH`, with a folder before all others that holds the script.
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
