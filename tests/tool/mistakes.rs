//! The commonest mistakes of somebody who uses hiosc for the first time, and what is printed: word
//! for word, in `testdata/mistakes.txt`, once with standard error piped and once on a terminal of
//! 60 columns. No line may be wider there, unless it is one word.
//!
//! `HIOSC_BLESS=1 cargo test --release --test tool mistakes` rewrites the file.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::cli::Bench;
use crate::support::onnx::Model;
use crate::support::{networks, skipped};

/// The width of the terminal.
const COLUMNS: usize = 60;

/// What a newcomer types.
const MISTAKES: [(&str, &str); 12] = [
    ("a command is mistyped", "hiosc verfy out"),
    ("an option is mistyped", "hiosc model.onnx -o out --devcie a40"),
    ("a device is mistyped", "hiosc model.onnx -o out --device a4000"),
    ("the file does not exist", "hiosc modle.onnx -o out"),
    ("the file is not ONNX", "hiosc weights.pt -o out"),
    ("no output is named", "hiosc model.onnx"),
    ("the output is another folder", "hiosc model.onnx -o ."),
    ("a shape is needed", "hiosc dynamic.onnx -o out"),
    ("a shape does not fit", "hiosc model.onnx -o out --shapes image:1x4x32x32"),
    ("operators are not supported", "hiosc unsupported.onnx -o out"),
    ("there is no GPU", "hiosc profile model.onnx -o costs.txt"),
    ("verify gets the model instead of the folder", "hiosc verify model.onnx"),
];

fn bench() -> Bench {
    let bench = Bench::new();
    networks::fire().save(bench.path(), "model");
    bench.write("weights.pt", b"PK\x03\x04 this is a zip file");
    let shape: &[i64] = &[-1, 3, 32, 32];
    Model::new().input("image", shape).output("y", shape).node("Relu", &["image"], "y", &[]).save(bench.path(), "dynamic");
    let shape: &[i64] = &[1, 8];
    let unsupported = Model::new().input("x", shape).output("y", shape).output("z", shape);
    unsupported.node("Det", &["x"], "y", &[]).node("StringNormalizer", &["x"], "z", &[]).save(bench.path(), "unsupported");
    bench
}

/// The exit code, and what is printed on a terminal.
fn on_a_terminal(bench: &Bench, line: &str) -> (i32, String) {
    let hiosc = env!("CARGO_BIN_EXE_hiosc");
    let call = format!("stty cols {COLUMNS} rows 24 && {}", line.replacen("hiosc", hiosc, 1));
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &call, "/dev/null"]).current_dir(bench.path());
    command.env_remove("COLUMNS").env("TERM", "xterm").env("NO_COLOR", "1").env("CUDA_VISIBLE_DEVICES", "");
    let output = command.stdin(Stdio::null()).output().expect("script starts");
    let text = String::from_utf8(output.stdout).expect("UTF-8").replace('\r', "");
    (output.status.code().expect("an exit code"), text)
}

#[test]
fn each_gets_a_clear_answer() {
    let bench = bench();
    let before = bench.listing();
    let mut said = String::new();
    for (mistake, line) in MISTAKES {
        let words: Vec<&str> = line.split(' ').skip(1).collect();
        let run = bench.run(&words);
        assert_eq!(run.stdout, "", "{line}");
        let code = run.code.expect("an exit code");
        assert_ne!(code, 0, "{line}");
        write!(said, "## {mistake}\n\n$ {line}\n{}exit code {code}\n\n", run.stderr).expect("writes");
        if Command::new("script").arg("--version").output().is_err() {
            skipped!("SKIPPED: no program `script`, so no terminal to test with");
            return;
        }
        let (on_terminal, text) = on_a_terminal(&bench, line);
        assert_eq!(on_terminal, code, "{line}: {text}");
        for wide in text.lines().filter(|line| line.chars().count() > COLUMNS) {
            assert!(!wide.trim().contains(' '), "{line}: wider than {COLUMNS} columns: {wide}");
        }
        let unwrapped = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(unwrapped(&text), unwrapped(&run.stderr), "{line}: the same words");
        write!(said, "on {COLUMNS} columns:\n\n{text}\n").expect("writes");
    }
    assert_eq!(bench.listing(), before, "nothing is written");
    let expected = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/mistakes.txt");
    if std::env::var_os("HIOSC_BLESS").is_some() {
        fs::write(&expected, &said).expect("written");
    }
    assert_eq!(said, fs::read_to_string(&expected).expect("the expected answers"));
}

/// A wait of a few seconds: on a terminal one line that says how long it will take, and nothing
/// where standard error is piped.
#[test]
fn a_long_wait_shows_the_time_left() {
    let bench = Bench::new();
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/squeezenet1_1.onnx"), bench.at("net.onnx")).expect("a copy");
    let line = "hiosc net.onnx --emit costs --algorithm best --effort 3000000";
    assert_eq!(bench.run(&line.split(' ').skip(1).collect::<Vec<_>>()).stderr, "");
    if Command::new("script").arg("--version").output().is_err() {
        skipped!("SKIPPED: no program `script`, so no terminal to test with");
        return;
    }
    let (code, text) = on_a_terminal(&bench, &format!("{line} > costs.txt"));
    let shown: Vec<&str> = text.split("\u{1b}[2K").map(str::trim_end).collect();
    let counted =
        |line: &&str| line.starts_with("searching for a schedule: ") && line.contains(" of 3000000, ") && line.ends_with(" s left");
    assert!(code == 0 && shown.iter().any(counted), "{text:?}");
    assert!(shown.iter().all(|line| line.chars().count() < COLUMNS) && shown.last() == Some(&""), "the line is cleared: {text:?}");
    let (code, text) = on_a_terminal(&bench, &format!("{line} -q > costs.txt"));
    assert_eq!((code, text.as_str()), (0, ""));
}
