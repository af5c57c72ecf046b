//! Types the model with tract, and works around what tract cannot do.
//!
//! **In**: the protobuf that [`read`](super::onnx::read) gives. **Out**: the model in tract's core
//! operators, with static shapes and all constants folded; and the outputs that tract computes.
//!
//! * `parse.rs` finds operators that tract does not know or cannot parse, and reports all of them
//!   in one error.
//! * `readers.rs` adds operators, and forms of operators, to those that tract can read;
//!   `affine_grid.rs` is one.
//! * `bfloat16.rs` rounds what is stored as bfloat16.
//! * `checked.rs` checks every node while types are inferred: its inputs' types, axes and sizes.
//! * `typed.rs` types and folds the model, with the pipeline that keeps convolutions whole. tract
//!   can panic on odd graphs: a panic is caught and reported as an error. It also converts tract's
//!   tensors to ours, and back.
//! * `messages.rs` says in the words of ONNX what tract says of a node.
//! * `weights.rs` reads large weights straight into tract's tensors.
//! * `rewrite.rs` rewrites what tract types but cannot run, or folds to other values than ONNX's.
//! * `reference.rs` runs the model in tract, for numbers to compare with.

mod affine_grid;
pub mod bfloat16;
mod checked;
mod defined;
mod messages;
mod parse;
mod readers;
pub mod reference;
mod rewrite;
pub mod typed;
mod weights;

use std::path::Path;

use tract_onnx::pb;

use typed::Typed;
use weights::LargeWeights;

use crate::error::{Error, Result};
use crate::graph::shape_text;
use crate::import::onnx::{self, ImportOptions, decode, inline};

/// The model as tract types it. The protobuf loses the data of its large weights, and bfloat16.
pub fn typed_model(path: &Path, proto: &mut pb::ModelProto, options: &ImportOptions) -> Result<Typed> {
    let narrow = onnx::bfloat16::widen(proto);
    let shapes = decode::input_shapes(path, proto, options);
    if let Ok(shapes) = &shapes {
        inline::bodies(proto, |value| typed::known(path, value, shapes))?;
    }
    let large = LargeWeights::take(path, proto)?;
    parse::check(path, proto)?;
    let shapes = shapes?;
    let typed = typed::type_model(path, proto, &large, &shapes, !options.no_reference).map_err(|e| with_given_shapes(e, options))?;
    Ok(Typed { narrow, ..typed })
}

/// Adds the shapes and dimensions that the caller gave to the error of a model that cannot be
/// typed: they are the likely cause.
fn with_given_shapes(error: Error, options: &ImportOptions) -> Error {
    match error {
        Error::Model { path, message } if !options.shapes.is_empty() || !options.dimensions.is_empty() => {
            let shapes = options.shapes.iter().map(|(name, shape)| format!("{name}:{}", shape_text(shape)));
            let dimensions = options.dimensions.iter().map(|(name, value)| format!("{name}={value}"));
            let given: Vec<_> = shapes.chain(dimensions).collect();
            Error::Model { path, message: format!("with the given shapes {}: {message}", given.join(", ")) }
        }
        other => other,
    }
}
