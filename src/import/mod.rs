//! From ONNX bytes to a [`Graph`].
//!
//! **In**: a `.onnx` file (and the external data beside it). **Out**: a [`Model`]: the graph with
//! static shapes in our few operators, and the same model in tract, whose optimised pipeline serves
//! as the numeric reference.
//!
//! Steps, each of which uses only those before it:
//! 1. `onnx/`: the file itself: decoded, checked, with the caller's constants inserted and calls
//!    inlined. Also the table of ONNX's operators.
//! 2. `define/`: definitions of operators by other operators.
//! 3. `tract/`: tract types the model and folds constants. What tract cannot read, type or run is
//!    read, rewritten or refused here. tract also computes the reference.
//! 4. `lower/`: tract's core operators are lowered to ours, or all that cannot be are listed.
//!
//! `survey.rs` uses the same steps to report what a model consists of. Only this pass uses tract.

mod define;
mod lower;
mod onnx;
mod survey;
mod tract;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::TypedModel;

pub use onnx::{ImportOptions, Literal, attributes, literal, operators};
pub use survey::{OperatorCount, Survey, survey};

use crate::error::{Error, Result};
use crate::graph::{Constant, DType, Graph};
use crate::runtime::f32_to_bf16;
use tract::typed::Typed;

/// The text of `docs/operators.md`.
pub fn operators_page() -> String {
    operators::page(define::reasons())
}

/// An imported model.
pub struct Model {
    /// What hiosc compiles. The compiler takes it, and leaves an empty graph.
    pub graph: Graph,
    /// SHA-256 of the model file, hex.
    pub hash: String,
    /// Operators of the ONNX graph, before anything was folded.
    pub onnx_nodes: usize,
    /// The files that it was read from: the model file, and those of its external data.
    pub files: Vec<PathBuf>,
    /// Shapes of the inputs.
    shapes: Vec<Vec<usize>>,
    /// Types of the outputs.
    results: Vec<DType>,
    reference: Option<TypedModel>,
    path: PathBuf,
}

/// Reads, checks, types and lowers the model at `path`.
///
/// # Errors
///
/// [`Error::Io`], [`Error::Usage`] for options that do not fit the model, [`Error::Unsupported`],
/// and [`Error::Model`] for all that is wrong with the model, also if it makes this pass panic.
pub fn import(path: &Path, options: &ImportOptions) -> Result<Model> {
    guarded(path, || read_model(path, options))
}

/// The result of `f`, or an error with the text of its panic.
fn guarded<T>(path: &Path, f: impl FnOnce() -> Result<T>) -> Result<T> {
    let message = |why: String| Error::Model { path: path.to_path_buf(), message: format!("importing it: {why}") };
    tract::typed::caught(f).map_err(message)?
}

fn read_model(path: &Path, options: &ImportOptions) -> Result<Model> {
    let (mut proto, hash) = onnx::read(path, options)?;
    let onnx_nodes = proto.graph.as_ref().map_or(0, |g| g.node.len());
    let external = proto.graph.iter().flat_map(|graph| onnx::decode::external_files(path, graph));
    let files = [path.to_path_buf()].into_iter().chain(external).collect();
    let Typed { reference, kept, narrow } = tract::typed_model(path, &mut proto, options)?;
    let graph = lowered(path, &proto, &kept, &narrow)?;
    let results = graph.outputs.iter().map(|&id| graph.tensor(id).dtype).collect();
    let shapes = graph.inputs.iter().map(|&id| graph.tensor(id).shape.clone()).collect();
    Ok(Model { graph, hash, onnx_nodes, files, shapes, results, reference, path: path.to_path_buf() })
}

/// The graph of a typed model, verified. The values named in `narrow` are bfloat16.
fn lowered(path: &Path, proto: &ModelProto, kept: &TypedModel, narrow: &BTreeSet<String>) -> Result<Graph> {
    let name = path.file_stem().map_or("model".into(), |s| s.to_string_lossy().into_owned());
    let graph = lower::lower(name, proto, kept, narrow)?;
    graph.verify()?;
    Ok(graph)
}

impl Model {
    /// Outputs of the model for `inputs` (in the order of [`Graph::inputs`]), computed by tract's
    /// optimised pipeline on the CPU.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] if the options of the import said that there would be no reference.
    pub fn reference(&self, inputs: &[Constant]) -> Result<Vec<Constant>> {
        let model = self.reference.as_ref().ok_or_else(|| Error::internal("import", "the model was not kept as a reference"))?;
        let outputs = tract::reference::outputs(&self.path, model, inputs.iter().zip(self.shapes.iter().map(Vec::as_slice)))?;
        let stored = |(output, &dtype)| if dtype == DType::BF16 { narrowed(output) } else { output };
        Ok(outputs.into_iter().zip(&self.results).map(stored).collect())
    }
}

/// f32 values as bfloat16, which can hold them.
fn narrowed(values: Constant) -> Constant {
    match values {
        Constant::F32(values) => Constant::BF16(values.iter().map(|&value| f32_to_bf16(value)).collect()),
        other => other,
    }
}
