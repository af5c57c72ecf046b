//! One case: its model's inputs, and the data sets that say what must come out.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use prost::Message;
use tract_onnx::pb::{self, tensor_proto::DataType, type_proto};

/// A tensor of a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    pub shape: Vec<usize>,
    pub values: Values,
}

/// Values as wide as they need to be to lose nothing, with the type they had.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    Float(DataType, Vec<f64>),
    Integer(DataType, Vec<i128>),
}

impl Values {
    pub fn dtype(&self) -> DataType {
        match self {
            Values::Float(dtype, _) | Values::Integer(dtype, _) => *dtype,
        }
    }
}

/// Inputs, by the name of the model's input, and expected outputs, in the model's order.
pub struct DataSet {
    pub inputs: Vec<(String, Array)>,
    pub outputs: Vec<Array>,
}

/// The data sets of the case in `folder`. Data that is no tensor is an error.
pub fn data_sets(folder: &Path) -> anyhow::Result<Vec<DataSet>> {
    let graph = graph(folder)?;
    let initialised = |name: &str| graph.initializer.iter().any(|t| t.name == name);
    let inputs: Vec<_> = graph.input.iter().filter(|v| !initialised(&v.name)).collect();
    let tensor_type =
        |v: &pb::ValueInfoProto| matches!(v.r#type.as_ref().and_then(|t| t.value.as_ref()), Some(type_proto::Value::TensorType(_)));
    if let Some(other) = graph.input.iter().chain(&graph.output).find(|v| !tensor_type(v)) {
        bail!("{:?} is not a tensor", other.name);
    }
    let mut sets = Vec::new();
    for set in (0..).map(|i| folder.join(format!("test_data_set_{i}"))).take_while(|set| set.is_dir()) {
        let mut named = Vec::new();
        for (i, tensor) in tensors(&set, "input")?.into_iter().enumerate() {
            let by_name = inputs.iter().find(|v| v.name == tensor.name);
            let input = by_name.or(inputs.get(i)).with_context(|| format!("input {i} is more than the model has"))?;
            named.push((input.name.clone(), array(&tensor)?));
        }
        let outputs = tensors(&set, "output")?.iter().map(array).collect::<Result<_, _>>()?;
        sets.push(DataSet { inputs: named, outputs });
    }
    ensure!(!sets.is_empty(), "no test_data_set_0");
    Ok(sets)
}

fn graph(folder: &Path) -> anyhow::Result<pb::GraphProto> {
    let model = folder.join("model.onnx");
    let proto = pb::ModelProto::decode(&*fs::read(&model)?).context("the model")?;
    proto.graph.context("the model has no graph")
}

/// `PREFIX_0.pb`, `PREFIX_1.pb`, ...
fn tensors(set: &Path, prefix: &str) -> anyhow::Result<Vec<pb::TensorProto>> {
    let files = (0..).map(|i| set.join(format!("{prefix}_{i}.pb"))).take_while(|file| file.is_file());
    files.map(|file| pb::TensorProto::decode(&*fs::read(&file)?).with_context(|| file.display().to_string())).collect()
}

/// The names of the operators of a model, each once, subgraphs aside.
pub fn operators(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = graph(folder).unwrap_or_default().node.into_iter().map(|node| node.op_type).collect();
    names.sort();
    names.dedup();
    names
}

fn array(tensor: &pb::TensorProto) -> anyhow::Result<Array> {
    let dtype = DataType::try_from(tensor.data_type).context("its element type")?;
    let shape: Vec<usize> = tensor.dims.iter().map(|&d| usize::try_from(d)).collect::<Result<_, _>>()?;
    let raw = &tensor.raw_data;
    let from_raw = !raw.is_empty();
    macro_rules! wide {
        ($type:ty, $field:expr, $wide:ty) => {{
            let size = size_of::<$type>();
            if from_raw {
                raw.chunks_exact(size).map(|b| <$type>::from_le_bytes(b.try_into().unwrap_or_default()) as $wide).collect()
            } else {
                $field.iter().map(|&v| v as $type as $wide).collect()
            }
        }};
    }
    let half = |of: fn(u16) -> f64| -> Vec<f64> {
        if from_raw {
            raw.chunks_exact(2).map(|b| of(u16::from_le_bytes([b[0], b[1]]))).collect()
        } else {
            tensor.int32_data.iter().map(|&v| of(v as u16)).collect()
        }
    };
    let values = match dtype {
        DataType::Float => Values::Float(dtype, wide!(f32, tensor.float_data, f64)),
        DataType::Double => Values::Float(dtype, wide!(f64, tensor.double_data, f64)),
        DataType::Float16 => Values::Float(dtype, half(f16)),
        DataType::Bfloat16 => Values::Float(dtype, half(|bits| f64::from(f32::from_bits(u32::from(bits) << 16)))),
        DataType::Bool | DataType::Uint8 => Values::Integer(dtype, wide!(u8, tensor.int32_data, i128)),
        DataType::Int8 => Values::Integer(dtype, wide!(i8, tensor.int32_data, i128)),
        DataType::Uint16 => Values::Integer(dtype, wide!(u16, tensor.int32_data, i128)),
        DataType::Int16 => Values::Integer(dtype, wide!(i16, tensor.int32_data, i128)),
        DataType::Int32 => Values::Integer(dtype, wide!(i32, tensor.int32_data, i128)),
        DataType::Int64 => Values::Integer(dtype, wide!(i64, tensor.int64_data, i128)),
        DataType::Uint32 => Values::Integer(dtype, wide!(u32, tensor.uint64_data, i128)),
        DataType::Uint64 => Values::Integer(dtype, wide!(u64, tensor.uint64_data, i128)),
        other => bail!("element type {other:?} is not numeric"),
    };
    let count = match &values {
        Values::Float(_, v) => v.len(),
        Values::Integer(_, v) => v.len(),
    };
    ensure!(count == shape.iter().product::<usize>(), "tensor {:?} has {count} values for the shape {shape:?}", tensor.name);
    Ok(Array { shape, values })
}

/// IEEE half precision.
fn f16(bits: u16) -> f64 {
    let (sign, exponent, fraction) = (bits >> 15, i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    let magnitude = match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + fraction) * 2f64.powi(exponent - 25),
    };
    if sign == 1 { -magnitude } else { magnitude }
}

impl Array {
    /// What is wrong with `self` where `expected` should be.
    pub fn difference(&self, expected: &Array) -> Option<String> {
        if self.values.dtype() != expected.values.dtype() {
            return Some(format!("type {:?} instead of {:?}", self.values.dtype(), expected.values.dtype()));
        }
        if self.shape != expected.shape {
            return Some(format!("shape {:?} instead of {:?}", self.shape, expected.shape));
        }
        match (&self.values, &expected.values) {
            (Values::Integer(_, got), Values::Integer(_, wanted)) => {
                let wrong = got.iter().zip(wanted).filter(|(g, w)| g != w);
                describe(wrong.map(|(g, w)| (g.to_string(), w.to_string())), got.len())
            }
            (Values::Float(_, got), Values::Float(_, wanted)) => {
                let largest = wanted.iter().filter(|w| w.is_finite()).fold(0.0, |m: f64, w| m.max(w.abs()));
                let tolerance = (1e-5 * largest).max(1e-7);
                let close = |g: f64, w: f64| g == w || (g.is_nan() && w.is_nan()) || (g - w).abs() <= 1e-3 * w.abs() + tolerance;
                // an infinite value is close to itself only
                let wrong =
                    got.iter().zip(wanted).filter(|&(&g, &w)| !close(g, w) || (g != w && !(g.is_nan() && w.is_nan()) && !w.is_finite()));
                describe(wrong.map(|(g, w)| (g.to_string(), w.to_string())), got.len())
            }
            _ => Some("another kind of type".into()),
        }
    }
}

fn describe(wrong: impl Iterator<Item = (String, String)>, all: usize) -> Option<String> {
    let wrong: Vec<_> = wrong.collect();
    let (got, wanted) = wrong.first()?;
    Some(format!("{} of {all} values, first {got} instead of {wanted}", wrong.len()))
}
