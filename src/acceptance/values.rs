//! Reads inputs, outputs and references from files, and compares outputs with references.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use safetensors::{SafeTensors, tensor::TensorView};
use zip::ZipArchive;

use crate::error::{Error, Result};
use crate::graph::shape_text;
use crate::oracle::{NamedValues, Values};
use crate::runtime::{DType, npy};

/// How far one output is from its reference.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OutputReport {
    /// ONNX name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Largest absolute difference; infinite if there is a NaN on one side only.
    pub difference: f32,
    /// Largest absolute value of the reference.
    pub scale: f32,
    /// The largest difference that passes.
    pub allowed: f32,
    /// Number of elements that differ by more than that.
    pub wrong: usize,
    /// The first element with the largest difference; `None` if there is no difference.
    pub worst: Option<WorstElement>,
}

/// An element of an output, and what it should be.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WorstElement {
    /// Its position in each dimension, from 0.
    pub index: Vec<usize>,
    /// Its value.
    pub found: f64,
    /// The reference.
    pub expected: f64,
}

impl OutputReport {
    /// Whether the difference is allowed.
    pub fn passes(&self) -> bool {
        self.difference <= self.allowed
    }

    /// The report for programs.
    pub(crate) fn json(&self) -> serde_json::Value {
        // JSON has no infinity and no NaN
        let number = |value: f64| if value.is_finite() { serde_json::json!(value) } else { value.to_string().into() };
        let worst = self
            .worst
            .as_ref()
            .map(|worst| serde_json::json!({ "index": worst.index, "found": number(worst.found), "expected": number(worst.expected) }));
        serde_json::json!({
            "name": self.name,
            "shape": self.shape,
            "passes": self.passes(),
            "difference": number(self.difference.into()),
            "allowed": number(self.allowed.into()),
            "largest_expected": number(self.scale.into()),
            "wrong_elements": self.wrong,
            "worst": worst,
        })
    }
}

/// One line, without a line break.
impl Display for OutputReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let OutputReport { name, shape, difference, allowed, wrong, worst, .. } = self;
        let (Some(WorstElement { index, found, expected }), false) = (worst, self.passes()) else {
            return write!(f, "ok: {name} differs by at most {difference:.2e} (allowed {allowed:.2e})");
        };
        let elements: usize = shape.iter().product();
        write!(f, "WRONG: {name}: {wrong} of {elements} elements differ by more than {allowed:.2e}; worst at {index:?}: ")?;
        write!(f, "{}, expected {}", number(*found), number(*expected))
    }
}

/// A number as text: whole ones with all their digits.
fn number(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e16 { format!("{value}") } else { format!("{value:e}") }
}

/// All tensors of a safetensors file.
pub fn read(path: &Path) -> Result<NamedValues> {
    let bytes = fs::read(path).map_err(Error::io(path))?;
    let broken = |message: String| Error::Model { path: path.to_path_buf(), message };
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| broken(e.to_string()))?;
    let values = tensors.iter().map(|(name, tensor)| {
        let dtype = DType::of_stored(tensor.dtype());
        let dtype = dtype.ok_or_else(|| broken(format!("{name} is {:?}, which is not a tensor type", tensor.dtype())))?;
        Ok((name.to_string(), Values { dtype, shape: tensor.shape().to_vec(), bytes: tensor.data().to_vec() }))
    });
    values.collect()
}

/// Writes the tensors of these inputs and outputs from `npz` to `to`, as safetensors.
pub fn convert(npz: &Path, inputs: &[String], outputs: &[String], to: &Path) -> Result<PathBuf> {
    let broken = |message: String| Error::Model { path: npz.to_path_buf(), message };
    let file = fs::File::open(npz).map_err(Error::io(npz))?;
    let mut archive = ZipArchive::new(file).map_err(|e| broken(format!("not an npz file: {e}")))?;
    let keys: Vec<(String, String)> = (inputs.iter().map(|n| ("in", n)))
        .chain(outputs.iter().map(|n| ("out", n)))
        .map(|(side, name)| (format!("{side}:{name}"), format!("{side}:{}", name.replace('/', "_"))))
        .collect();
    let mut tensors = NamedValues::new();
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
        tensors.insert(key, Values { dtype, shape, bytes: values });
    }
    write(&tensors, to)?;
    Ok(to.to_path_buf())
}

/// Writes tensors as safetensors.
pub(crate) fn write(tensors: &NamedValues, to: &Path) -> Result<()> {
    let views = tensors.iter().map(|(key, v)| TensorView::new(v.dtype.stored(), v.shape.clone(), &v.bytes).map(|view| (key, view)));
    let text = |e: safetensors::SafeTensorError| Error::internal("acceptance", e.to_string());
    let views = views.collect::<Result<Vec<_>, _>>().map_err(text)?;
    let bytes = safetensors::serialize(views, None).map_err(text)?;
    fs::write(to, bytes).map_err(Error::io(to))
}

/// Compares computed and expected values of each output. All are reported, right or wrong.
pub fn compare(expected: &NamedValues, found: &NamedValues, outputs: &[String]) -> Result<Vec<OutputReport>> {
    let compared = |name: &String| {
        let key = format!("out:{name}");
        let (Some(expected), Some(found)) = (expected.get(&key), found.get(&key)) else {
            return Err(Error::Mismatch(format!("output {name:?} is not in the reference, or was not computed")));
        };
        let dtype = found.dtype;
        if dtype != expected.dtype {
            return Err(Error::Mismatch(format!("output {name:?} is {}, the reference {}", dtype.name(), expected.dtype.name())));
        }
        if expected.shape != found.shape {
            let [found, expected] = [found, expected].map(|values| shape_text(&values.shape));
            return Err(Error::Mismatch(format!("output {name:?} is {found}, the reference {expected}")));
        }
        Ok(report(name, expected, found))
    };
    outputs.iter().map(compared).collect()
}

/// The report of an output; `found` has the type and the number of elements that are expected.
pub(super) fn report(name: &str, expected: &Values, found: &Values) -> OutputReport {
    let dtype = found.dtype;
    let (difference, scale) = dtype.difference(&found.bytes, &expected.bytes);
    let allowed = dtype.tolerance() * scale;
    let differences = dtype.differences(&found.bytes, &expected.bytes);
    let worst = differences.iter().position(|&d| d == difference && d > 0.0).map(|position| {
        let mut rest = position;
        let mut index: Vec<usize> = expected.shape.iter().rev().map(|&extent| (rest % extent, rest /= extent).0).collect();
        index.reverse();
        let value = |values: &Values| dtype.numbers(&values.bytes)[position];
        WorstElement { index, found: value(found), expected: value(expected) }
    });
    OutputReport {
        name: name.into(),
        shape: expected.shape.clone(),
        difference: difference as f32,
        scale: scale as f32,
        allowed: allowed as f32,
        wrong: differences.iter().filter(|&&d| d as f32 > allowed as f32).count(),
        worst,
    }
}
