//! The C++ compiler and the cache of its outputs.
//!
//! The name of a cached folder has a hash of everything that went into it. The folder is built
//! under a temporary name and then renamed, so if it exists it is complete. Meanwhile, another
//! process that needs the same folder waits for a lock on a file beside it. If files cannot be
//! locked, both processes build it, and the first rename succeeds.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, thread};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::{cache, progress};

/// The C++ compiler of this machine.
pub(super) struct CxxCompiler {
    /// The command and its arguments: `$CXX` may be `ccache g++`.
    words: Vec<OsString>,
    /// The output of `--version`.
    version: String,
}

impl CxxCompiler {
    /// `$CXX`, otherwise the first of `c++`, `g++`, `clang++` that runs.
    pub(super) fn find() -> Result<CxxCompiler> {
        let chosen = env::var("CXX").ok().filter(|words| !words.trim().is_empty());
        match &chosen {
            Some(words) => CxxCompiler::first_of(&[words]),
            None => CxxCompiler::first_of(&["c++", "g++", "clang++"]),
        }
    }

    fn first_of(commands: &[&str]) -> Result<CxxCompiler> {
        for command in commands {
            let words: Vec<OsString> = command.split_whitespace().map(OsString::from).collect();
            let output = Command::new(&words[0]).args(&words[1..]).arg("--version").stdin(Stdio::null()).output();
            if let Some(output) = output.ok().filter(|output| output.status.success()) {
                return Ok(CxxCompiler { words, version: String::from_utf8_lossy(&output.stdout).into_owned() });
            }
        }
        Err(Error::Tool {
            tool: "C++ compiler".into(),
            message: format!(
                "virtual GPUs need one, but {} does not run: install g++ or clang++ (Debian and Ubuntu: apt install g++), or name one in CXX",
                commands.join(", ")
            ),
        })
    }

    /// A compiler command that runs in `folder`.
    pub(super) fn command(&self, folder: &Path, flags: &[&str]) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).args(flags).current_dir(folder).stdin(Stdio::null());
        command
    }

    /// A key that starts with the compiler, its flags, and the features of the processor, which
    /// `-march=native` depends on.
    pub(super) fn key(&self, flags: &[&str]) -> Key {
        let mut key = Key(Sha256::new());
        key.part(&format!("{:?} {flags:?}", self.words)).part(&self.version).part(&processor());
        key
    }
}

/// The features of the processor, as Linux reports them.
fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let capabilities = text.lines().filter(|line| line.starts_with("flags") || line.starts_with("Features"));
    format!("{} {}", env::consts::ARCH, capabilities.take(1).collect::<String>())
}

/// A hash over texts, each preceded by its length.
pub(super) struct Key(Sha256);

impl Key {
    pub(super) fn part(&mut self, text: &str) -> &mut Key {
        self.0.update((text.len() as u64).to_le_bytes());
        self.0.update(text);
        self
    }

    /// Adds the name and the text of each file.
    pub(super) fn files(&mut self, files: impl IntoIterator<Item = (impl AsRef<str>, impl AsRef<str>)>) -> &mut Key {
        for (name, text) in files {
            self.part(name.as_ref()).part(text.as_ref());
        }
        self.part("end of files")
    }

    /// The hash in hexadecimal, truncated, but long enough to avoid collisions.
    pub(super) fn finish(self) -> String {
        self.0.finalize().iter().take(12).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Returns the folder `name` of the cache. `build` fills it if it does not exist.
pub(super) fn cached_folder(name: &str, build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let cache = std::path::absolute(cache::dir()).map_err(Error::io(cache::dir()))?;
    fs::create_dir_all(&cache).map_err(Error::io(&cache))?;
    let folder = cache.join(name);
    if folder.is_dir() {
        return Ok(folder);
    }
    let lock_path = cache.join(format!(".{name}.lock"));
    let lock = fs::File::create(&lock_path).map_err(Error::io(&lock_path))?;
    let _ = lock.lock(); // held until `lock` is dropped
    if folder.is_dir() {
        return Ok(folder);
    }
    let made = make_folder(&cache, &folder, build);
    let _ = fs::remove_file(&lock_path); // processes that wait for it then check whether the folder exists
    made.map(|()| folder)
}

fn make_folder(cache: &Path, folder: &Path, build: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let building = tempfile::Builder::new().prefix(".building-").tempdir_in(cache).map_err(Error::io(cache))?;
    // A temporary folder has private permissions; the finished one needs ordinary ones.
    let content = building.path().join("content");
    fs::create_dir(&content).map_err(Error::io(&content))?;
    build(&content)?;
    match fs::rename(&content, folder) {
        Err(_) if folder.is_dir() => Ok(()), // another process was faster
        result => result.map_err(Error::io(folder)),
    }
}

/// Writes files (name, text) into `folder`, which is created.
pub(super) fn write_all(folder: &Path, files: impl IntoIterator<Item = (impl AsRef<str>, impl AsRef<str>)>) -> Result<()> {
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    for (name, text) in files {
        let path = folder.join(name.as_ref());
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent).map_err(Error::io(parent))?;
        fs::write(&path, text.as_ref()).map_err(Error::io(&path))?;
    }
    Ok(())
}

/// How many compiler processes may run at a time.
pub(super) fn processors() -> usize {
    thread::available_parallelism().map_or(1, |n| n.get())
}

/// Runs the commands in parallel, one per processor. If several fail, the error is that of the
/// first by name.
pub(super) fn run_all(jobs: Vec<(String, Command)>) -> Result<()> {
    let next = AtomicUsize::new(0);
    let jobs: Vec<_> = jobs.into_iter().map(std::sync::Mutex::new).collect();
    let work = || {
        let mut failures = Vec::new();
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (name, command) = &mut *job.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if let Err(message) = run(command) {
                failures.push((name.clone(), message));
            }
        }
        failures
    };
    let mut failures: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..processors().min(jobs.len())).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect()
    });
    failures.sort();
    match failures.into_iter().next() {
        Some((name, message)) => Err(Error::Tool { tool: "C++ compiler".into(), message: format!("{name}: {message}") }),
        None => Ok(()),
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    progress::command(command);
    let output = command.output().map_err(|e| format!("{}: {e}", command.get_program().to_string_lossy()))?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let first: Vec<&str> = errors.lines().take(30).collect();
    Err(format!("{}\n{}", output.status, first.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_depends_on_where_parts_end() {
        let key = |parts: &[&str]| {
            let mut key = Key(Sha256::new());
            parts.iter().for_each(|part| {
                key.part(part);
            });
            key.finish()
        };
        assert_eq!(key(&["ab", "c"]), key(&["ab", "c"]));
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_eq!(key(&[]).len(), 24);
    }

    #[test]
    fn a_missing_compiler_comes_with_the_remedy() {
        let text = CxxCompiler::first_of(&["hiosc-no-such-program -x"]).map(drop).expect_err("it does not exist").to_string();
        let expected = "C++ compiler: virtual GPUs need one, but hiosc-no-such-program -x does not run: install g++ or clang++";
        assert!(text.starts_with(expected), "{text}");
    }

    #[test]
    fn the_first_failure_is_reported() {
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        };
        let jobs = vec![("a".into(), shell("exit 0")), ("b".into(), shell("echo why >&2; exit 3")), ("c".into(), shell("exit 4"))];
        let text = run_all(jobs).expect_err("b and c fail").to_string();
        assert_eq!(text, "C++ compiler: b: exit status: 3\nwhy");
        assert!(run_all(vec![("a".into(), Command::new("hiosc-no-such-program"))]).is_err());
    }
}
