//! The ONNX file, before tract sees it.
//!
//! **In**: a `.onnx` file (and the external data beside it), and what the caller says about it.
//! **Out**: the decoded protobuf, checked, with the caller's constants in it and without calls.
//!
//! * `decode.rs`: read, decode with prost, check what can be checked in the file itself: external
//!   data, names, input shapes.
//! * `constants.rs`: inputs that the caller fixes become initialisers.
//! * `inline.rs`: calls of the model's own functions are written out, and so is the branch that an
//!   `If` takes where its condition is known.
//! * `operators.rs`: the table of ONNX's operators, and what hiosc makes of each.
//! * `dtype.rs`: ONNX's codes of element types.
//!
//! Of tract there is only its form of the protobuf here.

mod constants;
pub mod decode;
pub mod dtype;
pub mod inline;
pub mod operators;

use std::collections::BTreeMap;
use std::path::Path;

use sha2::{Digest, Sha256};
use tract_onnx::pb;

pub use constants::Literal;

use crate::error::{Error, Result};

/// What the caller may say about a model.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Shapes of inputs, by name: they replace what the model says, and give its symbolic dimensions a value.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// Inputs that are no inputs of the compiled model, by name: their values are known now.
    pub constants: BTreeMap<String, Literal>,
}

/// The file, checked and with the caller's constants in it; and its SHA-256, hex.
pub fn read(path: &Path, options: &Options) -> Result<(pb::ModelProto, String)> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    let hash = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    let mut proto = decode::decode(path, &bytes)?;
    if let Some(graph) = &mut proto.graph {
        constants::fix(graph, &options.constants)?;
    }
    inline::functions(path, &mut proto)?;
    Ok((proto, hash))
}
