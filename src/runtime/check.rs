//! The check of a model: a stored input with its reference outputs, and how far outputs may be from
//! them.
//!
//! A check is two inferences, one right after the other. The first has other inputs, and its
//! outputs are not looked at. If a stream did not wait for the inputs, or was not waited for, the
//! second one reads or returns what the first one left.

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use sha2::{Digest, Sha256};

use super::dtype::DType;
use super::error::{Error, Result};
use super::exec::Exec;
use super::layout::Port;
use super::weights::hex;

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

/// The file `check.safetensors` of a model, as the program contains it.
#[derive(Clone, Copy, Debug)]
pub struct StoredCheck<'a> {
    /// Its contents.
    pub bytes: &'a [u8],
    /// Their SHA-256, hex, when the model was compiled.
    pub sha256: &'a str,
}

impl StoredCheck<'_> {
    /// The data, if the file is still what it was when the model was compiled.
    pub(super) fn read(&self, inputs: &[Port<'_>], outputs: &[Port<'_>]) -> std::result::Result<CheckData, String> {
        let found = hex(&Sha256::digest(self.bytes));
        if found != self.sha256 {
            return Err(format!("check.safetensors was changed: its sha256 is {found}, expected {}", self.sha256));
        }
        CheckData::read(self.bytes, inputs, outputs)
    }
}

/// The inputs and reference outputs of one inference, as bytes. An output may lack a reference.
pub struct CheckData {
    /// Each input.
    pub inputs: Vec<Vec<u8>>,
    /// Each output.
    pub outputs: Vec<Option<Vec<u8>>>,
    /// Each output according to another reference, which disagrees with `outputs`, where there is
    /// one.
    pub others: Vec<Option<Vec<u8>>>,
}

impl CheckData {
    /// Reads the tensors `in:NAME`, `out:NAME` and `other:NAME` of a safetensors file; '/' in a
    /// name may also be '_'.
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
            others: outputs.iter().map(|port| find("other", port)).collect::<std::result::Result<_, String>>()?,
        })
    }

    /// Whether two references disagree about the outputs.
    pub fn is_disputed(&self) -> bool {
        self.others.iter().any(Option::is_some)
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

/// Other inputs than these: the elements in reverse order, floating-point numbers with the other
/// sign. What was a valid index stays one.
pub fn other_inputs(inputs: &[&[u8]], ports: &[Port<'_>]) -> Vec<Vec<u8>> {
    let other = |(bytes, port): (&&[u8], &Port<'_>)| {
        let size = port.dtype.bytes() as usize;
        let mut other: Vec<u8> = bytes.rchunks_exact(size).flatten().copied().collect();
        if port.dtype.is_float() {
            other.chunks_exact_mut(size).for_each(|element| element[size - 1] ^= 0x80);
        }
        other
    };
    inputs.iter().zip(ports).map(other).collect()
}

/// Runs the inferences of a check on the inputs in `stored`, and compares the outputs of the last
/// one with those in `stored`.
pub fn check(
    exec: &mut Exec,
    stored: &StoredCheck<'_>,
    inputs: &[Port<'_>],
    outputs: &[Port<'_>],
    mut enqueue: impl FnMut(&mut Exec) -> Result<()>,
) -> Result<()> {
    let failed = |output: &str, message: String| Error::Check { output: output.into(), message };
    let data = stored.read(inputs, outputs).map_err(|message| failed("", message))?;
    let others = other_inputs(&data.slices(), inputs);
    exec.run(&others.iter().map(Vec::as_slice).collect::<Vec<_>>(), &mut enqueue)?;
    exec.run(&data.slices(), enqueue)?;
    let mut disputed = None;
    for (index, (port, reference)) in outputs.iter().zip(&data.outputs).enumerate() {
        let Some(reference) = reference else { continue };
        let found = Difference::between(port, exec.output_bytes(index), reference);
        let other = data.others[index].as_ref().map(|other| Difference::between(port, exec.output_bytes(index), other));
        if let (false, None | Some(false)) = (found.passes(), other.map(|other| other.passes())) {
            let Difference { difference, allowed, .. } = found;
            return Err(failed(port.name, format!("differs from the reference by {difference:.2e}, allowed are {allowed:.2e}")));
        }
        disputed = disputed.or(other.map(|_| port.name));
    }
    match disputed {
        None => Ok(()),
        Some(name) => Err(failed(
            name,
            "is disputed: two references disagree, and it agrees with one of them; compile with --reference to decide".into(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::dtype::Element;
    use super::*;

    #[test]
    fn other_inputs_are_valid_and_different() {
        let ports = [DType::F32, DType::I64].map(|dtype| Port { name: "x", dtype, shape: &[2] });
        let others = other_inputs(&[f32::bytes(&[1.5, -2.0]), i64::bytes(&[0, 7])], &ports);
        assert_eq!(f32::values(&others[0]), [2.0, -1.5]);
        assert_eq!(i64::values(&others[1]), [7, 0]);
    }

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
