//! The numeric reference: the model run by tract.
//!
//! **In**: the model as tract types it, and values of its inputs. **Out**: values of its outputs,
//! computed by tract's optimised pipeline on the CPU.

use std::path::Path;

use tract_onnx::prelude::*;

use super::typed;
use crate::error::Result;
use crate::graph::Constant;

/// Outputs of `model` for `inputs`, each with its shape; `path` is named in errors.
pub fn outputs<'a>(
    path: &Path,
    model: &TypedModel,
    inputs: impl IntoIterator<Item = (&'a Constant, &'a [usize])>,
) -> Result<Vec<Constant>> {
    typed::quietly(path, "computing the reference", || {
        let feeds = inputs
            .into_iter()
            .map(|(values, shape)| Ok(typed::tensor(values, shape)?.into_tvalue()))
            .collect::<TractResult<TVec<TValue>>>()?;
        let outputs = model.clone().into_optimized()?.into_runnable()?.run(feeds)?;
        outputs.iter().map(|t| typed::values(t)).collect()
    })
}
