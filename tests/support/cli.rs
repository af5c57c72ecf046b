//! Runs the hiosc binary in a temporary folder.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The result of one run of hiosc.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Longer than any call in these tests takes, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A folder for one test, removed at its end. hiosc runs in it, so that messages name files as the
/// test does.
pub struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    pub fn new() -> Bench {
        Bench { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The path of `name` in the folder.
    pub fn at(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.at(name), bytes).expect("a writable folder");
    }

    /// All paths in the folder, at any depth.
    pub fn listing(&self) -> Vec<PathBuf> {
        fn collect(folder: &Path, all: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(folder).expect("a readable folder") {
                let path = entry.expect("a readable folder").path();
                all.push(path.clone());
                if path.is_dir() {
                    collect(&path, all);
                }
            }
        }
        let mut all = Vec::new();
        collect(self.path(), &mut all);
        all.sort();
        all
    }

    /// A command that runs hiosc with these arguments, without NVRTC even where it is installed.
    pub fn command(&self, args: &[impl AsRef<OsStr>]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hiosc"));
        command.args(args).current_dir(self.path());
        command.env("HIOSC_NVRTC", self.at("no-nvrtc.so")).env("COLUMNS", "100").env_remove("RUST_BACKTRACE");
        command
    }

    /// Runs hiosc to its end. Fails if it panics, is killed, or takes too long.
    pub fn run(&self, args: &[impl AsRef<OsStr>]) -> Run {
        let mut child = self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("hiosc starts");
        let (out, err) = (reader(child.stdout.take()), reader(child.stderr.take()));
        let code = wait(&mut child);
        let text = |thread: std::thread::JoinHandle<Vec<u8>>| String::from_utf8(thread.join().expect("a reader")).expect("UTF-8");
        let run = Run { code, stdout: text(out), stderr: text(err) };
        assert!(matches!(run.code, Some(0..=3)), "{run:?}");
        assert!(!run.stderr.contains("panicked at") && !run.stderr.contains("backtrace"), "{run:?}");
        run
    }

    /// Runs hiosc, which must succeed and write nothing to standard error. Gives standard output.
    pub fn done(&self, args: &[impl AsRef<OsStr>]) -> String {
        let run = self.run(args);
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{run:?}");
        run.stdout
    }

    /// Runs hiosc, which must fail with `code`, say exactly this line on standard error, and leave
    /// the folder as it was.
    pub fn refused(&self, args: &[impl AsRef<OsStr>], code: i32, message: &str) {
        assert_eq!(self.failure(args, code), format!("hiosc: {message}\n"));
    }

    /// The same, for messages that are only partly hiosc's. Gives the line.
    pub fn failure(&self, args: &[impl AsRef<OsStr>], code: i32) -> String {
        let run = self.usage(args, code);
        assert_eq!(run.lines().count(), 1, "one line: {run}");
        run
    }

    /// Runs hiosc, which must fail with `code` and leave the folder as it was. Gives standard
    /// error.
    pub fn usage(&self, args: &[impl AsRef<OsStr>], code: i32) -> String {
        let before = self.listing();
        let run = self.run(args);
        assert_eq!((run.code, run.stdout.as_str()), (Some(code), ""), "{run:?}");
        assert_eq!(self.listing(), before, "something was written");
        run.stderr
    }
}

fn reader(pipe: Option<impl std::io::Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    let mut pipe = pipe.expect("a pipe");
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("a readable pipe");
        bytes
    })
}

fn wait(child: &mut Child) -> Option<i32> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            return status.code();
        }
        if start.elapsed() > TIMEOUT {
            child.kill().expect("a child that can be stopped");
            child.wait().expect("a child");
            panic!("hiosc did not end within {} s", TIMEOUT.as_secs());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
