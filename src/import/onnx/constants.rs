//! Inputs that the caller fixes: each becomes an initialiser before anything is typed, so that
//! whatever depends on it is folded away.
//!
//! Typical inputs to fix are axes, bounds, scales and flags: an operator whose output shape depends
//! on one of them has a static shape only then.

use std::path::Path;

use tract_onnx::pb::{self, tensor_proto::DataType};

use super::dtype::onnx_type;
use crate::error::{Error, Result};
use crate::graph::{Constant, shape_text};
use crate::runtime::npy;

/// The shape and values to which an input is fixed.
#[derive(Clone, Debug, PartialEq)]
pub struct Literal {
    /// Extent of each axis; empty for a scalar.
    shape: Vec<usize>,
    /// The elements, of the input's type.
    values: Constant,
}

impl Literal {
    /// Elements of type f32; `shape` is empty for a scalar.
    pub fn f32(shape: &[usize], values: &[f32]) -> Literal {
        Literal { shape: shape.to_vec(), values: values.to_vec().into() }
    }

    /// Elements of type i64; `shape` is empty for a scalar.
    pub fn i64(shape: &[usize], values: &[i64]) -> Literal {
        Literal { shape: shape.to_vec(), values: Constant::I64(values.into()) }
    }

    /// Extent of each axis.
    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements.
    pub(crate) fn values(&self) -> &Constant {
        &self.values
    }

    /// The array in a `.npy` file.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], or [`Error::Usage`] for a file that is not an array of one of hiosc's types
    /// in C order.
    pub fn from_npy(path: &Path) -> Result<Literal> {
        let file = std::fs::read(path).map_err(Error::io(path))?;
        let (dtype, shape, bytes) = npy::open(&file).map_err(|why| Error::Usage(format!("{}: {why}", path.display())))?;
        Ok(Literal { shape, values: Constant::from_bytes(dtype, &bytes) })
    }
}

/// A constant of any type. Internal: for tests.
pub fn literal(shape: Vec<usize>, values: Constant) -> Literal {
    Literal { shape, values }
}

/// Turns the inputs that `constants` names into initialisers.
///
/// # Errors
///
/// [`Error::Usage`] for a name that is not an input, a type or rank other than the input's, or a
/// number of values that does not fit the shape.
pub fn fix<'a>(graph: &mut pb::GraphProto, constants: impl IntoIterator<Item = (&'a String, &'a Literal)>) -> Result<()> {
    for (name, literal) in constants {
        let wrong = |what: String| Err(Error::Usage(format!("--constant {name}: {what}")));
        let Some(position) = graph.input.iter().position(|v| v.name == *name) else {
            let names: Vec<_> = graph.input.iter().map(|v| v.name.as_str()).collect();
            return wrong(format!("the model's inputs are {names:?}"));
        };
        let elements = literal.shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d as u64));
        if elements != Some(literal.values.len() as u64) {
            return wrong(format!("{} values do not fill the shape {}", literal.values.len(), shape_text(&literal.shape)));
        }
        let dtype = literal.values.dtype();
        if let Some(pb::type_proto::Value::TensorType(tensor)) = graph.input[position].r#type.as_ref().and_then(|t| t.value.as_ref()) {
            if tensor.elem_type != onnx_type(dtype) as i32 {
                let wanted = DataType::try_from(tensor.elem_type).map_or_else(|_| tensor.elem_type.to_string(), |t| format!("{t:?}"));
                return wrong(format!("the input has type {wanted}, the constant {}", dtype.name()));
            }
            if let Some(shape) = tensor.shape.as_ref().filter(|shape| shape.dim.len() != literal.shape.len()) {
                return wrong(format!("the input has {} axes, the constant {}", shape.dim.len(), literal.shape.len()));
            }
        }
        graph.input.remove(position);
        graph.initializer.retain(|t| t.name != *name); // its default value
        graph.initializer.push(pb::TensorProto {
            name: name.clone(),
            dims: literal.shape.iter().map(|&d| d as i64).collect(),
            data_type: onnx_type(dtype) as i32,
            raw_data: literal.values.bytes().to_vec(),
            ..Default::default()
        });
    }
    Ok(())
}
