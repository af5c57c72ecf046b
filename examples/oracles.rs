//! Who can say what models should compute: for each model, whether rten and tract run it, whether
//! they agree, and how far each is from values that ONNX Runtime computed.
//!
//! ```text
//! cargo run --release --example oracles -- MODELS [REFERENCES]
//! ```
//!
//! MODELS has files `NAME.onnx`, with their references in `REFERENCES/NAME.ref.npz`; or folders
//! `NAME` with `m.onnx` and `ref.npz`. Errors are relative to the largest magnitude of the output;
//! `yes` means that they are within what `hiosc verify` allows.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use hiosc::ImportOptions;
use hiosc::acceptance::{compare, convert, read};
use hiosc::compiler::check_inputs;
use hiosc::graph::{Constant, Graph, Tensor};
use hiosc::ids::TensorId;
use hiosc::import::import;
use hiosc::oracle::{Input, NamedValues, Oracle, Values};

fn main() -> Result<()> {
    let args: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let models = args.first().context("usage: oracles MODELS [REFERENCES]")?;
    let references = args.get(1).unwrap_or(models);
    let mut paths: Vec<PathBuf> = fs::read_dir(models)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.sort();
    println!("| model | reference | rten and tract agree | error of rten | error of tract | remark |");
    println!("|---|---|---|---|---|---|");
    for path in paths {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let (model, reference) = match path.is_dir() {
            true => (path.join("m.onnx"), path.join("ref.npz")),
            false => (path.clone(), references.join(format!("{}.ref.npz", name.trim_end_matches(".folded")))),
        };
        if model.extension().is_some_and(|end| end == "onnx") && model.is_file() {
            println!("| {name} | {} |", row(&model, &reference).unwrap_or_else(|error| format!("| | | | {error:#}")));
        }
    }
    Ok(())
}

fn row(model: &Path, reference: &Path) -> Result<String> {
    let options = ImportOptions::default();
    let imported = import(model, &options)?;
    let graph = &imported.graph;
    let names = |ids: &[TensorId]| ids.iter().map(|&id| graph.tensor(id).name.clone()).collect::<Vec<String>>();
    let outputs = names(&graph.outputs);
    let scratch = tempfile::tempdir()?;
    let known = convert(reference, &names(&graph.inputs), &outputs, &scratch.path().join("reference")).and_then(|file| read(&file)).ok();
    let inputs: Vec<Constant> = match &known {
        Some(known) => graph.inputs.iter().filter_map(|&id| given(known, graph.tensor(id))).collect(),
        None => check_inputs(graph),
    };
    let known = known.filter(|_| inputs.len() == graph.inputs.len());
    let inputs = if inputs.len() == graph.inputs.len() { inputs } else { check_inputs(graph) };

    let feeds: Vec<Input> =
        graph.inputs.iter().zip(&inputs).map(|(&id, v)| (&*graph.tensor(id).name, &*graph.tensor(id).shape, v)).collect();
    let wanted: Vec<&str> = outputs.iter().map(String::as_str).collect();
    let rten = Oracle::load(model, &options).and_then(|oracle| oracle.run(&feeds, &wanted)).and_then(|values| by_rten(graph, values));
    let tract = imported.reference(&inputs).map(|values| {
        let of = |(&id, v): (&TensorId, &Constant)| {
            let tensor = graph.tensor(id);
            (format!("out:{}", tensor.name), Values { dtype: v.dtype(), shape: tensor.shape.clone(), bytes: v.bytes().to_vec() })
        };
        graph.outputs.iter().zip(&values).map(of).collect::<NamedValues>()
    });
    let error = |found: Option<&NamedValues>| match (&known, found) {
        (Some(known), Some(found)) => worst(known, found, &outputs),
        _ => String::new(),
    };
    let agree = match (&rten, &tract) {
        (Ok(rten), Ok(tract)) => worst(rten, tract, &outputs),
        _ => String::new(),
    };
    let by = match (&rten, &tract) {
        (Ok(_), _) => "rten",
        (Err(_), Ok(_)) => "tract",
        _ => "nobody",
    };
    let why = rten.as_ref().err().map(|why| format!("rten: {why}"));
    let why = why.into_iter().chain(tract.as_ref().err().map(|why| format!("tract: {why}"))).collect::<Vec<_>>().join("; ");
    Ok(format!("{by} | {agree} | {} | {} | {why}", error(rten.as_ref().ok()), error(tract.as_ref().ok())))
}

/// The values of an input in a reference, if they are of its type and shape.
fn given(known: &NamedValues, tensor: &Tensor) -> Option<Constant> {
    let values = known.get(&format!("in:{}", tensor.name))?;
    ((values.dtype, &values.shape) == (tensor.dtype, &tensor.shape)).then(|| Constant::from_bytes(values.dtype, &values.bytes))
}

fn by_rten(graph: &Graph, values: Vec<Option<Values>>) -> Result<NamedValues, String> {
    let of = |(&id, values): (&TensorId, Option<Values>)| {
        let tensor = graph.tensor(id);
        let values = values.and_then(|values| values.converted(tensor.dtype)).filter(|values| values.shape == tensor.shape);
        Ok((format!("out:{}", tensor.name), values.ok_or("another type or shape")?))
    };
    graph.outputs.iter().zip(values).map(of).collect()
}

/// `yes` or `NO`, and the largest error of an output.
fn worst(expected: &NamedValues, found: &NamedValues, outputs: &[String]) -> String {
    match compare(expected, found, outputs) {
        Err(error) => error.to_string(),
        Ok(reports) => {
            let relative = |scale: f32, difference: f32| if difference == 0.0 { 0.0 } else { difference / scale };
            let error = reports.iter().map(|r| relative(r.scale, r.difference)).fold(0.0, f32::max);
            format!("{} {error:.1e}", if reports.iter().all(|r| r.passes()) { "yes" } else { "NO" })
        }
    }
}
