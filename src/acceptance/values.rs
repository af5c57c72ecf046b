//! Reads inputs, outputs and references from files, and compares outputs with references.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use safetensors::{SafeTensors, tensor::TensorView};
use zip::ZipArchive;

use crate::error::{Error, Result};
use crate::runtime::{DType, TOLERANCE, npy};

/// How far one output is from its reference.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OutputReport {
    /// ONNX name.
    pub name: String,
    /// Largest absolute difference; infinite if there is a NaN on one side only.
    pub difference: f32,
    /// Largest absolute value of the reference.
    pub scale: f32,
    /// The largest difference that passes.
    pub allowed: f32,
}

impl OutputReport {
    /// Whether the difference is allowed.
    pub fn passes(&self) -> bool {
        self.difference <= self.allowed
    }
}

/// Type and bytes of each tensor, by key (`in:NAME`, `out:NAME`).
pub(crate) type NamedValues = BTreeMap<String, (DType, Vec<u8>)>;

/// All tensors of a safetensors file.
pub(crate) fn read(path: &Path) -> Result<NamedValues> {
    let bytes = fs::read(path).map_err(Error::io(path))?;
    let broken = |message: String| Error::Model { path: path.to_path_buf(), message };
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| broken(e.to_string()))?;
    let values = tensors.iter().map(|(name, tensor)| {
        let dtype = DType::of_stored(tensor.dtype());
        let dtype = dtype.ok_or_else(|| broken(format!("{name} is {:?}, which is not a tensor type", tensor.dtype())))?;
        Ok((name.to_string(), (dtype, tensor.data().to_vec())))
    });
    values.collect()
}

/// Writes the tensors of these inputs and outputs from `npz` to `to`, as safetensors.
pub(crate) fn convert(npz: &Path, inputs: &[String], outputs: &[String], to: &Path) -> Result<PathBuf> {
    let broken = |message: String| Error::Model { path: npz.to_path_buf(), message };
    let file = fs::File::open(npz).map_err(Error::io(npz))?;
    let mut archive = ZipArchive::new(file).map_err(|e| broken(format!("not an npz file: {e}")))?;
    let keys: Vec<(String, String)> = (inputs.iter().map(|n| ("in", n)))
        .chain(outputs.iter().map(|n| ("out", n)))
        .map(|(side, name)| (format!("{side}:{name}"), format!("{side}:{}", name.replace('/', "_"))))
        .collect();
    let mut tensors: Vec<(String, DType, Vec<usize>, Vec<u8>)> = Vec::new();
    for (key, stored) in keys {
        let entry = format!("{stored}.npy");
        if archive.index_for_name(&entry).is_none() {
            let names: Vec<_> = archive.file_names().filter_map(|name| name.strip_suffix(".npy")).collect();
            return Err(broken(format!("has no {stored:?}; it holds {}", names.join(", "))));
        }
        let mut file = Vec::new();
        let mut entry = archive.by_name(&entry).map_err(|e| broken(format!("{stored}: {e}")))?;
        entry.read_to_end(&mut file).map_err(|e| broken(format!("{stored}: {e}")))?;
        let (dtype, shape, values) = npy::open(&file).map_err(|message| broken(format!("{stored}: {message}")))?;
        tensors.push((key, dtype, shape, values));
    }
    let views =
        tensors.iter().map(|(key, dtype, shape, bytes)| TensorView::new(dtype.stored(), shape.clone(), bytes).map(|view| (key, view)));
    let text = |e: safetensors::SafeTensorError| Error::internal("acceptance", e.to_string());
    let views = views.collect::<Result<Vec<_>, _>>().map_err(text)?;
    let bytes = safetensors::serialize(views, None).map_err(text)?;
    fs::write(to, bytes).map_err(Error::io(to))?;
    Ok(to.to_path_buf())
}

/// Compares computed and expected values of each output. All are reported, right or wrong.
pub(crate) fn compare(expected: &NamedValues, found: &NamedValues, outputs: &[String]) -> Result<Vec<OutputReport>> {
    let report = |name: &String| {
        let key = format!("out:{name}");
        let (Some(expected), Some(found)) = (expected.get(&key), found.get(&key)) else {
            return Err(Error::Mismatch(format!("output {name:?} is not in the reference, or was not computed")));
        };
        let ((wanted, reference), (dtype, bytes)) = (expected, found);
        if dtype != wanted {
            return Err(Error::Mismatch(format!("output {name:?} is {}, the reference {}", dtype.name(), wanted.name())));
        }
        if reference.len() != bytes.len() {
            let elements = |bytes: &[u8]| bytes.len() as u64 / dtype.bytes();
            return Err(Error::Mismatch(format!("output {name:?} has {} values, the reference {}", elements(bytes), elements(reference))));
        }
        let (difference, scale) = dtype.difference(bytes, reference);
        let allowed = if dtype.is_float() { TOLERANCE * scale } else { 0.0 };
        Ok(OutputReport { name: name.clone(), difference: difference as f32, scale: scale as f32, allowed: allowed as f32 })
    };
    outputs.iter().map(report).collect()
}
