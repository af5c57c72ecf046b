//! What makes tract type the model, and works around it where it cannot.
//!
//! **In**: the protobuf that [`read`](super::onnx::read) gives. **Out**: the model in tract's core
//! operators, with static shapes and all that is constant folded; and what tract computes of it.
//!
//! * `parse.rs`: find operators that tract does not know or cannot parse, all of them in one error.
//! * `readers.rs`: some more operators, and forms, that tract can read; `affine_grid.rs` is one.
//! * `typed.rs`: type and fold, by the pipeline that keeps convolutions whole. tract can panic on
//!   odd graphs: a panic is caught and reported as an error. Its tensors as ours, and back.
//! * `mend.rs`: rewrite what tract types but cannot run.
//! * `reference.rs`: run the model in tract, for numbers to compare with.

mod affine_grid;
mod mend;
mod parse;
mod readers;
pub mod reference;
pub mod typed;

use std::path::Path;

use tract_onnx::pb;
use tract_onnx::prelude::*;

use crate::error::{Error, Result};
use crate::graph::shape_text;
use crate::import::onnx::{Options, decode, inline};

/// The model as tract types it, and as it is lowered (see `typed.rs`).
pub fn typed_models(path: &Path, proto: &mut pb::ModelProto, options: &Options) -> Result<(TypedModel, TypedModel)> {
    let shapes = decode::input_shapes(path, proto, &options.shapes);
    if let Ok(shapes) = &shapes {
        inline::branches(proto, |condition| typed::truth(path, condition, shapes));
    }
    parse::check(path, proto)?;
    let shapes = shapes?;
    typed::type_model(path, proto, &shapes).map_err(|e| blame_shapes(e, options))
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
