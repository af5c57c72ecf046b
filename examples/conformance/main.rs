//! Small models with known outputs, end to end, on virtual GPUs: ONNX's node cases, and models in
//! `testdata/models/`.
//!
//! ```text
//! cargo run --release --example conformance -- PATH... [--algorithm NAMES] [--only TEXT] [--among FILE] [--refused FILE] [--bless]
//! ```
//!
//! **In**: folders of cases in ONNX's layout (`test_x/model.onnx` and
//! `test_x/test_data_set_*/{input,output}_*.pb`), as the `onnx` wheel has them in
//! `onnx/backend/test/data/{node,simple,pytorch-operator,pytorch-converted}`; or folders with
//! `m.onnx` and `ref.npz` (keys `in:NAME` and `out:NAME`); or zip files of such folders. **Out**:
//! the outcome of each case, on standard output.
//!
//! Each case takes the same path as every model: import, fuse, cost, schedule over two GPUs
//! (with `scatter`, consecutive operators are on different ones), plan, verification of the
//! plan, kernels compiled for the CPU, and the plan run in-process on virtual GPUs. The kernels of
//! a batch of cases are compiled together.
//!
//! * *passed*: every output of every data set has the expected type and shape, and its values:
//!   integers and truth values exactly, others to
//!   `1e-3 * |expected| + max(1e-7, 1e-5 * max|expected|)`, or `1e-2` instead of both factors where
//!   a tensor of the model is of type f16 or bf16.
//! * *refused*: [`hiosc::Error::Unsupported`], or a [`hiosc::Error::Model`] that names operator and
//!   node.
//! * *wrong*: any other output.
//! * *crashed*: a panic, another error, a signal, or no answer in time.
//!
//! Inputs are run-time inputs. If that is refused, small secondary ones (not the first, at most one
//! axis: axes, shapes, bounds) become constants, as with `hiosc --constant`. If that is refused
//! too, all become constants, provided that all are small and the first is a number or a list of
//! integers (the bounds of a `Range`, a shape).
//!
//! With `--refused FILE` the refusals must be exactly those that the file lists, by name and
//! reason, for the cases that were run; `--bless` writes them there. Cases listed in a
//! `disputed.txt` beside that file are *disputed* instead of wrong: their data contradicts ONNX,
//! and the list says how. A listed case that passes is wrong. The exit code is 0 if the refusals
//! are as expected, nothing is wrong and nothing crashed.
//!
//! `case.rs` reads a case. `worker.rs` runs a batch in a process of its own, so that a failing case
//! cannot take down the others. `pool.rs` distributes batches and gives up on workers that take too
//! long. `report.rs` counts outcomes and compares refusals.

mod case;
mod pool;
mod report;
mod worker;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Parser;
use hiosc::schedule::Algorithm;

/// Runs small models with known outputs on virtual GPUs.
#[derive(Parser)]
struct Arguments {
    /// Cases, folders of cases, or zip files of such folders.
    #[arg(value_name = "PATH", required_unless_present = "worker")]
    folders: Vec<PathBuf>,
    /// The schedules under which each case is run: scatter, hios-lp, or others of hiosc's
    /// algorithms.
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "scatter")]
    algorithm: Vec<Algorithm>,
    /// Only cases whose name contains this.
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Count separately the cases that this file lists, one name at the start of each line.
    #[arg(long, value_name = "FILE")]
    among: Vec<PathBuf>,
    /// The refusals to expect.
    #[arg(long, value_name = "FILE")]
    refused: Option<PathBuf>,
    /// Write the refusals to that file instead of comparing them.
    #[arg(long, requires = "refused")]
    bless: bool,
    /// Run the cases named on standard input.
    #[arg(long, hide = true)]
    worker: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = if arguments.worker { worker::run(&arguments.algorithm).map(|()| true) } else { conformance(&arguments) };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("conformance: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether everything is as expected.
fn conformance(arguments: &Arguments) -> anyhow::Result<bool> {
    let unpacked = tempfile::tempdir()?;
    let mut cases = Vec::new();
    for folder in &arguments.folders {
        let folder = &if folder.is_file() { unpack(folder, unpacked.path())? } else { folder.clone() };
        find(folder, &mut cases).with_context(|| folder.display().to_string())?;
    }
    cases.retain(|case| arguments.only.is_empty() || arguments.only.iter().any(|text| report::name_of(case).contains(text)));
    cases.sort_by_key(|case| report::name_of(case));
    cases.dedup();
    if cases.is_empty() {
        bail!("no cases: expected folders that hold a model.onnx or m.onnx, or folders or zip files of such folders");
    }
    if !hiosc::vgpu::compiler_present() {
        bail!("no C++ compiler, so no virtual GPUs: install g++ or clang++, or name one in CXX");
    }
    let results = pool::run(&cases, &arguments.algorithm)?;
    let mut report = report::Report::new(&cases, &results);
    if let Some(file) = arguments.refused.as_ref().map(|file| file.with_file_name("disputed.txt")).filter(|file| file.is_file()) {
        report.dispute(&file)?;
    }
    if !arguments.only.is_empty() {
        print!("{}", report.each());
    }
    print!("{}", report.by_operator());
    print!("{}", report.refusals());
    print!("{}", report.failures());
    for file in &arguments.among {
        print!("{}", report.among(file)?);
    }
    let as_expected = match &arguments.refused {
        Some(file) if arguments.bless => report.bless(file).map(|()| true)?,
        Some(file) => report.compare(file)?,
        None => true,
    };
    println!("{}", report.summary());
    Ok(as_expected && report.sound())
}

/// Unpacks a zip file into a folder of its name.
fn unpack(file: &Path, into: &Path) -> anyhow::Result<PathBuf> {
    let folder = into.join(file.file_stem().unwrap_or_default());
    let archive = std::fs::File::open(file).with_context(|| file.display().to_string())?;
    zip::ZipArchive::new(archive).and_then(|mut archive| archive.extract(&folder)).with_context(|| file.display().to_string())?;
    Ok(folder)
}

/// The cases in `folder`: itself, or those that it holds, however deep.
fn find(folder: &Path, cases: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    if case::model(folder).is_file() {
        cases.push(folder.canonicalize()?);
        return Ok(());
    }
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, cases)?;
        }
    }
    Ok(())
}
