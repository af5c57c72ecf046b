//! The check of a model: a stored input with its reference outputs, and how far outputs may be from
//! them.

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

use super::dtype::DType;
use super::error::{Error, Result};
use super::exec::Exec;
use super::layout::Port;

/// Floating-point outputs may differ from the reference by this fraction of its largest magnitude,
/// a step between neighbours of f16; those of bf16 by more ([`DType::tolerance`]). Others must be
/// equal.
pub const TOLERANCE: f64 = 1e-3;

impl DType {
    /// The fraction of the reference's largest magnitude by which an output of this type may differ
    /// from it.
    pub const fn tolerance(self) -> f64 {
        match self {
            DType::F16 | DType::F32 | DType::F64 => TOLERANCE,
            // two steps between neighbours: roundings that went another way add up
            DType::BF16 => 1.6e-2,
            _ => 0.0,
        }
    }
}

/// The inputs and reference outputs of one inference, as bytes. An output may lack a reference.
pub struct CheckData {
    /// Each input.
    pub inputs: Vec<Vec<u8>>,
    /// Each output.
    pub outputs: Vec<Option<Vec<u8>>>,
}

impl CheckData {
    /// Reads the tensors `in:NAME` and `out:NAME` of a safetensors file; '/' in a name may also be
    /// '_'.
    pub fn read(file: &[u8], inputs: &[Port<'_>], outputs: &[Port<'_>]) -> std::result::Result<CheckData, String> {
        let file = SafeTensors::deserialize(file).map_err(|error| error.to_string())?;
        let find = |prefix: &str, port: &Port<'_>| {
            let plain = format!("{prefix}:{}", port.name);
            let view = file.tensor(&plain).or_else(|_| file.tensor(&plain.replace('/', "_"))).ok();
            view.map(|view| contents(&view, port).map_err(|message| format!("`{plain}`: {message}"))).transpose()
        };
        let input = |port: &Port<'_>| find("in", port)?.ok_or_else(|| format!("no tensor `in:{}`", port.name));
        Ok(CheckData {
            inputs: inputs.iter().map(input).collect::<std::result::Result<_, String>>()?,
            outputs: outputs.iter().map(|port| find("out", port)).collect::<std::result::Result<_, String>>()?,
        })
    }

    /// The bytes of each input.
    pub fn slices(&self) -> Vec<&[u8]> {
        self.inputs.iter().map(Vec::as_slice).collect()
    }
}

fn contents(view: &TensorView<'_>, port: &Port<'_>) -> std::result::Result<Vec<u8>, String> {
    if view.dtype() != port.dtype.stored() {
        return Err(format!("expected {:?}, found {:?}", port.dtype.stored(), view.dtype()));
    }
    if view.shape() != port.shape {
        return Err(format!("expected the shape {}, found {:?}", port.shape_text(), view.shape()));
    }
    Ok(view.data().to_vec())
}

/// How far an output is from its reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// The largest difference.
    pub difference: f64,
    /// The largest magnitude of the reference.
    pub reference: f64,
    /// The largest difference that passes.
    pub allowed: f64,
}

impl Difference {
    /// Compares the bytes of an output with those of its reference.
    pub fn between(port: &Port<'_>, values: &[u8], reference: &[u8]) -> Difference {
        let (difference, reference) = port.dtype.difference(values, reference);
        Difference { difference, reference, allowed: port.dtype.tolerance() * reference }
    }

    /// Whether the difference is allowed.
    pub fn passes(&self) -> bool {
        self.difference <= self.allowed
    }
}

/// Runs one inference on the inputs in `file` and compares its outputs with those in `file`.
pub fn check(
    exec: &mut Exec,
    file: &[u8],
    inputs: &[Port<'_>],
    outputs: &[Port<'_>],
    enqueue: impl FnMut(&mut Exec) -> Result<()>,
) -> Result<()> {
    let failed = |output: &str, message: String| Error::Check { output: output.into(), message };
    let data = CheckData::read(file, inputs, outputs).map_err(|message| failed("", message))?;
    exec.run(&data.slices(), enqueue)?;
    for (index, (port, reference)) in outputs.iter().zip(&data.outputs).enumerate() {
        let Some(reference) = reference else { continue };
        let found = Difference::between(port, exec.output_bytes(index), reference);
        if !found.passes() {
            let Difference { difference, allowed, .. } = found;
            return Err(failed(port.name, format!("differs from the reference by {difference:.2e}, allowed are {allowed:.2e}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::dtype::Element;
    use super::*;

    #[test]
    fn differences() {
        let passes = |a: &[f32], b: &[f32]| {
            let port = Port { name: "y", dtype: DType::F32, shape: &[] };
            Difference::between(&port, Element::bytes(a), Element::bytes(b)).passes()
        };
        assert!(passes(&[1.0, 1000.5], &[1.5, 1000.0]));
        assert!(!passes(&[1.0, 1002.0], &[1.5, 1000.0]));
        assert!(!passes(&[f32::INFINITY], &[1.0]));
        assert!(passes(&[0.0], &[0.0]) && !passes(&[1e-9], &[0.0]));
        let exact = |a: &[i32], b: &[i32]| {
            let port = Port { name: "y", dtype: DType::I32, shape: &[] };
            Difference::between(&port, Element::bytes(a), Element::bytes(b)).passes()
        };
        assert!(exact(&[1, 100_000], &[1, 100_000]) && !exact(&[1, 100_001], &[1, 100_000]));
    }
}
