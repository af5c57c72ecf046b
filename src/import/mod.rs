//! From ONNX bytes to a [`Graph`].
//!
//! **In**: a `.onnx` file (and the external data beside it). **Out**: a [`Model`]: the graph with static shapes in our few operators, and
//! the same model in tract, whose optimised pipeline serves as the numeric reference.
//!
//! Steps:
//! 1. `decode.rs`: read, decode with prost, check what can be checked in the file itself: external data, names, input shapes. `constants.rs`: inputs
//!    that the caller fixes become initialisers.
//!    `inline.rs`: calls of the model's own functions are written out, and so is the branch that an `If` takes where its condition is known.
//! 2. `parse.rs`: find operators that tract does not know or cannot parse, all of them in one error. `readers.rs`: some more operators, and forms, that it can.
//! 3. `typed.rs`: type with tract and fold constants, by the pipeline that keeps convolutions whole. tract can panic on odd graphs: a panic is
//!    caught and reported as an error. `mend.rs` rewrites what tract types but cannot run.
//! 4. `lower.rs`: translate tract's core operators to ours, or list all that cannot be. What has no elements is not computed (`empty.rs`).
//!
//! tract appears in this room only.

mod affine_grid;
mod attention;
mod cell;
mod constants;
mod cumsum;
mod decode;
mod dense;
mod einsum;
mod empty;
mod fourier;
mod index;
mod inline;
mod lower;
mod mend;
mod movement;
pub mod operators;
mod parse;
mod quantised;
mod readers;
mod resize;
mod scalar;
mod scan;
mod survey;

mod typed;
mod window;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tract_onnx::pb;
use tract_onnx::prelude::*;

pub use constants::Literal;
pub use survey::{OperatorCount, Survey, survey};

use crate::error::{Error, Result};
use crate::graph::{Constant, Graph, shape_text};

/// What the caller may say about a model.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Shapes of inputs, by name: they replace what the model says, and give its symbolic dimensions a value.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// Inputs that are no inputs of the compiled model, by name: their values are known now.
    pub constants: BTreeMap<String, Literal>,
}

/// An imported model.
pub struct Model {
    /// What hiosc compiles.
    pub graph: Graph,
    /// SHA-256 of the model file, hex.
    pub hash: String,
    /// Operators of the ONNX graph, before anything was folded.
    pub onnx_nodes: usize,
    typed: TypedModel,
    path: PathBuf,
}

/// The file, checked and with the caller's constants in it; and its SHA-256, hex.
fn read(path: &Path, options: &Options) -> Result<(pb::ModelProto, String)> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    let hash = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    let mut proto = decode::decode(path, &bytes)?;
    if let Some(graph) = &mut proto.graph {
        constants::fix(graph, &options.constants)?;
    }
    inline::functions(path, &mut proto)?;
    Ok((proto, hash))
}

/// The model as tract types it, and as it is lowered (see `typed.rs`).
fn typed_models(path: &Path, proto: &mut pb::ModelProto, options: &Options) -> Result<(TypedModel, TypedModel)> {
    let shapes = decode::input_shapes(path, proto, &options.shapes);
    if let Ok(shapes) = &shapes {
        inline::branches(path, proto, shapes);
    }
    parse::check(path, proto)?;
    let shapes = shapes?;
    typed::type_model(path, proto, &shapes).map_err(|e| blame_shapes(e, options))
}

/// Reads, checks, types and lowers the model at `path`.
pub fn import(path: &Path, options: &Options) -> Result<Model> {
    let (mut proto, hash) = read(path, options)?;
    let onnx_nodes = proto.graph.as_ref().map_or(0, |g| g.node.len());
    let (typed, kept) = typed_models(path, &mut proto, options)?;
    let name = path.file_stem().map_or("model".into(), |s| s.to_string_lossy().into_owned());
    let graph = lower::lower(name, &proto, &kept)?;
    graph.verify()?;
    Ok(Model { graph, hash, onnx_nodes, typed, path: path.to_path_buf() })
}

/// A model that does not type under shapes that the caller gave: they are the first suspects.
fn blame_shapes(error: Error, options: &Options) -> Error {
    match error {
        Error::Model { path, message } if !options.shapes.is_empty() => {
            let given: Vec<_> = options.shapes.iter().map(|(name, shape)| format!("{name}:{}", shape_text(shape))).collect();
            Error::Model { path, message: format!("with the given shapes {}: {message}", given.join(", ")) }
        }
        other => other,
    }
}

impl Model {
    /// Outputs of the model for `inputs` (in the order of [`Graph::inputs`]), computed by tract's optimised pipeline on the CPU.
    pub fn reference(&self, inputs: &[Constant]) -> Result<Vec<Constant>> {
        typed::quietly(&self.path, "computing the reference", || {
            let feeds = inputs
                .iter()
                .zip(&self.graph.inputs)
                .map(|(values, &id)| Ok(typed::tensor(values, &self.graph.tensor(id).shape)?.into_tvalue()))
                .collect::<TractResult<TVec<TValue>>>()?;
            let outputs = self.typed.clone().into_optimized()?.into_runnable()?.run(feeds)?;
            outputs.iter().map(|t| typed::values(t)).collect()
        })
    }
}
