//! `hiosc check`: runs a plan in this process, without building a crate, and compares its outputs
//! with an npz file; if that is asked for, also every intermediate tensor with rten's, as `hiosc
//! verify --layers` does with a crate.

use std::path::{Path, PathBuf};

use super::Planned;
use super::check::{from_file, named};
use crate::acceptance::{Dumpable, LaunchTable, LayersReport, OutputReport, SavedLayers, compare, layers_of};
use crate::error::{Error, Result};
use crate::graph::{Constant, Tensor};
use crate::ids::TensorId;
use crate::import::ImportOptions;
use crate::measure::bench;
use crate::runtime::{Port, RuntimeOptions, other_inputs};

/// What to do with the intermediate tensors of a plan.
#[derive(Clone, Debug, Default)]
pub struct LayersOptions {
    /// The model to compare with, and the options it was imported with.
    pub compare: Option<(PathBuf, ImportOptions)>,
    /// Tensors to write as npy files, by ONNX name, and the folder to write them to.
    pub dump: Option<(Vec<String>, PathBuf)>,
}

/// What a plan computes, compared with a reference.
#[derive(Debug)]
pub struct InProcessReport {
    /// The report of each output, right or wrong.
    pub outputs: Vec<OutputReport>,
    /// The comparison of all intermediate tensors, if it was asked for.
    pub layers: Option<LayersReport>,
    /// The files that [`LayersOptions::dump`] asked for.
    pub dumped: Vec<PathBuf>,
    /// Where the plan ran, in words.
    pub summary: String,
}

/// Runs the plan of a compilation on the inputs in the npz file `reference`.
pub fn in_process(planned: &Planned, reference: &Path, options: &RuntimeOptions, layers: &LayersOptions) -> Result<InProcessReport> {
    let graph = &planned.graph;
    let given = from_file(graph, reference)?;
    let (mut session, _) = bench::session(graph, &planned.costs, planned.chosen(), &planned.plan, options)?;
    // back to back with other inputs: see `runtime/check.rs`
    let ports: Vec<Port> = graph.inputs.iter().map(|&id| port(graph.tensor(id))).collect();
    let others = other_inputs(&given.inputs.iter().map(Constant::bytes).collect::<Vec<_>>(), &ports);
    let others: Vec<Constant> = others.iter().zip(&given.inputs).map(|(bytes, v)| Constant::from_bytes(v.dtype(), bytes)).collect();
    session.run(&others)?;
    let found = session.run(&given.inputs)?;

    let names = |ids: &[TensorId]| ids.iter().map(|&t| graph.tensor(t).name.clone()).collect::<Vec<String>>();
    let mut expected = named(graph, "in", &graph.inputs, &given.inputs);
    expected.extend(named(graph, "out", &graph.outputs, &given.outputs));
    let outputs = compare(&expected, &named(graph, "out", &graph.outputs, &found), &names(&graph.outputs))?;
    let mut report = InProcessReport { outputs, layers: None, dumped: Vec::new(), summary: session.summary() };
    if layers.compare.is_none() && layers.dump.is_none() {
        return Ok(report);
    }
    let scratch = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
    let path = scratch.path().join("layers.safetensors");
    session.save_layers(&given.inputs, &path)?;
    let table = LaunchTable::parse(&planned.launches()?).map_err(|e| Error::internal("compiler", format!("launches: {e}")))?;
    let file = SavedLayers::open(&path)?;
    if let Some((wanted, folder)) = &layers.dump {
        let mut ports = named(graph, "in", &graph.inputs, &given.inputs);
        ports.extend(named(graph, "out", &graph.outputs, &found));
        let plain = |key: &String| key.split_once(':').map_or(key.clone(), |(_, name)| name.to_string());
        let ports: Vec<(String, _)> = ports.iter().map(|(key, values)| (plain(key), values)).collect();
        let ports = ports.iter().map(|(name, values)| (name.as_str(), *values)).collect();
        report.dumped = Dumpable { table: &table, file: &file, ports }.dump(wanted, folder)?;
    }
    let compared = layers
        .compare
        .as_ref()
        .map(|(model, import)| layers_of(&table, &file, (model, import), &names(&graph.inputs), &expected, &report.outputs));
    report.layers = compared.transpose()?;
    Ok(report)
}

/// A tensor in the runtime's terms.
fn port(tensor: &Tensor) -> Port<'_> {
    Port { name: &tensor.name, dtype: tensor.dtype, shape: &tensor.shape }
}
