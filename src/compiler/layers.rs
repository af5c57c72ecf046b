//! Compares every intermediate tensor of a plan that runs in this process: what `hiosc verify
//! --layers` does with a crate.

use std::path::{Path, PathBuf};

use super::Planned;
use crate::acceptance::{Dumpable, LaunchTable, LayersReport, OutputReport, SavedLayers, convert, layers_of, read};
use crate::error::{Error, Result};
use crate::graph::Constant;
use crate::ids::TensorId;
use crate::import::ImportOptions;
use crate::measure::bench;
use crate::oracle::{NamedValues, Values};
use crate::runtime::RuntimeOptions;

/// What to do with the intermediate tensors of a plan.
#[derive(Clone, Debug, Default)]
pub struct LayersOptions {
    /// The model to compare with, and the options it was imported with.
    pub compare: Option<(PathBuf, ImportOptions)>,
    /// Tensors to write as npy files, by ONNX name, and the folder to write them to.
    pub dump: Option<(Vec<String>, PathBuf)>,
}

/// Runs one inference of the plan on the inputs in the npz file `reference`. Returns the comparison
/// and the files written, if they are asked for. The inputs must fit the model; `found` compares
/// the outputs with those of `reference`.
pub fn in_process_layers(
    planned: &Planned,
    reference: &Path,
    options: &RuntimeOptions,
    found: &[OutputReport],
    wanted: &LayersOptions,
) -> Result<(Option<LayersReport>, Vec<PathBuf>)> {
    let graph = &planned.graph;
    let names = |ids: &[TensorId]| ids.iter().map(|&t| graph.tensor(t).name.clone()).collect::<Vec<String>>();
    let (inputs, outputs) = (names(&graph.inputs), names(&graph.outputs));
    let scratch = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
    let given = read(&convert(reference, &inputs, &outputs, &scratch.path().join("reference.safetensors"))?)?;
    let input = |name: &String| {
        let values = given.get(&format!("in:{name}"));
        let values = values.ok_or_else(|| Error::Mismatch(format!("input {name:?} is not in the reference")))?;
        Ok(Constant::from_bytes(values.dtype, &values.bytes))
    };
    let values = inputs.iter().map(input).collect::<Result<Vec<_>>>()?;
    let table = LaunchTable::parse(&planned.launches()?).map_err(|e| Error::internal("compiler", format!("launches: {e}")))?;
    let (mut session, _) = bench::session(graph, &planned.costs, planned.chosen(), &planned.plan, options)?;
    let path = scratch.path().join("layers.safetensors");
    session.save_layers(&values, &path)?;
    let file = SavedLayers::open(&path)?;
    let mut dumped = Vec::new();
    if let Some((names, folder)) = &wanted.dump {
        let computed = session.run(&values)?;
        let of = |(&id, v): (&TensorId, &Constant)| {
            let tensor = graph.tensor(id);
            (tensor.name.clone(), Values { dtype: v.dtype(), shape: tensor.shape.clone(), bytes: v.bytes().to_vec() })
        };
        let ports: NamedValues = graph.inputs.iter().zip(&values).chain(graph.outputs.iter().zip(&computed)).map(of).collect();
        let ports = ports.iter().map(|(name, values)| (name.as_str(), values)).collect();
        dumped = Dumpable { table: &table, file: &file, ports }.dump(names, folder)?;
    }
    let compared = wanted.compare.as_ref().map(|(model, import)| layers_of(&table, &file, (model, import), &inputs, &given, found));
    Ok((compared.transpose()?, dumped))
}
