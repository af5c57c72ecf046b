//! Reads one case: its data sets, each with inputs and expected outputs, and the operators of its
//! model.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use hiosc::graph::{Constant, DType, Scalar};
use hiosc::import::{Literal, literal};
use prost::Message;
use tract_onnx::pb::{self, tensor_proto::DataType, type_proto};

/// A tensor of a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    pub shape: Vec<usize>,
    pub values: Constant,
}

/// Inputs, by the name of the model's input, and expected outputs, in the model's order.
#[derive(Clone)]
pub struct DataSet {
    /// Whether a tensor of the model is of type f16 or bf16.
    pub half: bool,
    pub inputs: Vec<(String, Array)>,
    pub outputs: Vec<Array>,
}

/// The model of the case in `folder`.
pub fn model(folder: &Path) -> PathBuf {
    let short = folder.join("m.onnx");
    if short.is_file() { short } else { folder.join("model.onnx") }
}

/// The data sets of the case in `folder`. Data that is not a tensor is an error.
pub fn data_sets(folder: &Path) -> anyhow::Result<Vec<DataSet>> {
    let graph = graph(folder)?;
    let half = mentions_half(&graph);
    let initialised = |name: &str| graph.initializer.iter().any(|t| t.name == name);
    let inputs: Vec<_> = graph.input.iter().filter(|v| !initialised(&v.name)).collect();
    let tensor_type =
        |v: &pb::ValueInfoProto| matches!(v.r#type.as_ref().and_then(|t| t.value.as_ref()), Some(type_proto::Value::TensorType(_)));
    let typed_outputs = graph.output.iter().filter(|v| v.r#type.is_some());
    if let Some(other) = inputs.iter().copied().chain(typed_outputs).find(|v| !tensor_type(v)) {
        bail!("{:?} is not a tensor", other.name);
    }
    let mut sets = Vec::new();
    let arrays = folder.join("ref.npz");
    if arrays.is_file() {
        let arrays = npz(&arrays)?;
        let named = |side: &str, name: &str| -> anyhow::Result<Array> {
            let key = format!("{side}:{}", name.replace('/', "_"));
            Ok(arrays.get(&key).with_context(|| format!("ref.npz has no {key}"))?.clone())
        };
        let inputs = inputs.iter().map(|v| Ok((v.name.clone(), named("in", &v.name)?))).collect::<anyhow::Result<_>>()?;
        let outputs = graph.output.iter().map(|v| named("out", &v.name)).collect::<anyhow::Result<_>>()?;
        return Ok(vec![DataSet { half, inputs, outputs }]);
    }
    for set in (0..).map(|i| folder.join(format!("test_data_set_{i}"))).take_while(|set| set.is_dir()) {
        let mut named = Vec::new();
        for (i, tensor) in tensors(&set, "input")?.into_iter().enumerate() {
            let by_name = inputs.iter().find(|v| v.name == tensor.name);
            let input = by_name.or(inputs.get(i)).with_context(|| format!("the model has no input {i}"))?;
            named.push((input.name.clone(), declared(input, array(&tensor)?)));
        }
        let stored = tensors(&set, "output")?;
        let output = |(tensor, output)| Ok(declared(output, array(tensor)?));
        let outputs = stored.iter().zip(&graph.output).map(output).collect::<anyhow::Result<_>>()?;
        sets.push(DataSet { half, inputs: named, outputs });
    }
    ensure!(!sets.is_empty(), "no test_data_set_0");
    Ok(sets)
}

/// The arrays of an npz file, by name.
fn npz(file: &Path) -> anyhow::Result<BTreeMap<String, Array>> {
    let mut archive = zip::ZipArchive::new(fs::File::open(file)?)?;
    let mut arrays = BTreeMap::new();
    for i in 0..archive.len() {
        let mut entry = archive.by_index(i)?;
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        let (dtype, shape, values) = hiosc::runtime::npy::open(&bytes).map_err(anyhow::Error::msg)?;
        let array = Array { shape, values: Constant::from_bytes(dtype, &values) };
        arrays.insert(entry.name().trim_end_matches(".npy").to_string(), array);
    }
    Ok(arrays)
}

/// `array` in the type that `value` declares: up to ONNX 1.17, data of type bf16 is bit patterns of
/// type u16.
fn declared(value: &pb::ValueInfoProto, array: Array) -> Array {
    let bf16 = matches!(value.r#type.as_ref().and_then(|t| t.value.as_ref()), Some(type_proto::Value::TensorType(t)) if t.elem_type == DataType::Bfloat16 as i32);
    match array.values {
        Constant::U16(values) if bf16 => Array { values: Constant::BF16(values), ..array },
        values => Array { values, ..array },
    }
}

/// Whether an input, an initialiser, a constant or the target of a `Cast` is of type f16 or bf16.
fn mentions_half(graph: &pb::GraphProto) -> bool {
    let half = |code: i32| [DataType::Float16 as i32, DataType::Bfloat16 as i32].contains(&code);
    let input = |v: &pb::ValueInfoProto| matches!(v.r#type.as_ref().and_then(|t| t.value.as_ref()), Some(type_proto::Value::TensorType(t)) if half(t.elem_type));
    let of_node = |node: &pb::NodeProto| {
        let mut attributes = node.attribute.iter();
        attributes.any(|a| (a.name == "to" && half(a.i as i32)) || a.t.as_ref().is_some_and(|t| half(t.data_type)))
    };
    graph.input.iter().any(input) || graph.initializer.iter().any(|t| half(t.data_type)) || graph.node.iter().any(of_node)
}

fn graph(folder: &Path) -> anyhow::Result<pb::GraphProto> {
    let model = model(folder);
    let proto = pb::ModelProto::decode(&*fs::read(&model)?).context("the model")?;
    proto.graph.context("the model has no graph")
}

/// `PREFIX_0.pb`, `PREFIX_1.pb`, ...
fn tensors(set: &Path, prefix: &str) -> anyhow::Result<Vec<pb::TensorProto>> {
    let files = (0..).map(|i| set.join(format!("{prefix}_{i}.pb"))).take_while(|file| file.is_file());
    files.map(|file| pb::TensorProto::decode(&*fs::read(&file)?).with_context(|| file.display().to_string())).collect()
}

/// The names of the operators of a model, each once, without those of subgraphs.
pub fn operators(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = graph(folder).unwrap_or_default().node.into_iter().map(|node| node.op_type).collect();
    names.sort();
    names.dedup();
    names
}

fn array(tensor: &pb::TensorProto) -> anyhow::Result<Array> {
    let dtype = match DataType::try_from(tensor.data_type).context("its element type")? {
        DataType::Bool => DType::Bool,
        DataType::Int8 => DType::I8,
        DataType::Int16 => DType::I16,
        DataType::Int32 => DType::I32,
        DataType::Int64 => DType::I64,
        DataType::Uint8 => DType::U8,
        DataType::Uint16 => DType::U16,
        DataType::Uint32 => DType::U32,
        DataType::Uint64 => DType::U64,
        DataType::Float16 => DType::F16,
        DataType::Bfloat16 => DType::BF16,
        DataType::Float => DType::F32,
        DataType::Double => DType::F64,
        other => bail!("element type {other:?} is not one of hiosc's"),
    };
    let shape: Vec<usize> = tensor.dims.iter().map(|&d| usize::try_from(d)).collect::<Result<_, _>>()?;
    // values are in `raw_data`, or in the field for their type, which may be wider than the type
    let size = dtype.bytes() as usize;
    let bytes: Vec<u8> = if !tensor.raw_data.is_empty() {
        tensor.raw_data.clone()
    } else {
        let floats = tensor.float_data.iter().flat_map(|v| v.to_le_bytes());
        let doubles = tensor.double_data.iter().flat_map(|v| v.to_le_bytes());
        let narrow = tensor.int32_data.iter().flat_map(|v| v.to_le_bytes()[..size.min(4)].to_vec());
        let long = tensor.int64_data.iter().flat_map(|v| v.to_le_bytes());
        let unsigned = tensor.uint64_data.iter().flat_map(|v| v.to_le_bytes()[..size].to_vec());
        floats.chain(doubles).chain(narrow).chain(long).chain(unsigned).collect()
    };
    let count: usize = shape.iter().product();
    ensure!(bytes.len() == count * size, "tensor {:?} has {} bytes for the shape {shape:?}", tensor.name, bytes.len());
    Ok(Array { shape, values: Constant::from_bytes(dtype, &bytes) })
}

/// Elements of any type, exactly.
fn numbers(values: &Constant) -> Vec<Number> {
    let dtype = values.dtype();
    let size = dtype.bytes() as usize;
    let number = |bytes: &[u8]| {
        let mut wide = [0; 8];
        wide[..size].copy_from_slice(bytes);
        let bits = u64::from_le_bytes(wide);
        let unused = 64 - 8 * size as u32;
        match dtype {
            _ if dtype.is_float() => Number::Float(Scalar::from_bits(dtype, bits).number()),
            DType::I8 | DType::I16 | DType::I32 | DType::I64 => Number::Integer(i128::from((bits << unused) as i64 >> unused)),
            _ => Number::Integer(i128::from(bits)),
        }
    };
    values.bytes().chunks_exact(size).map(number).collect()
}

#[derive(Clone, Copy)]
enum Number {
    Float(f64),
    Integer(i128),
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Number::Float(v) => write!(f, "{v}"),
            Number::Integer(v) => write!(f, "{v}"),
        }
    }
}

impl DataSet {
    /// Which inputs may become constants, if those at run time are refused, in the order of the
    /// attempts: the small secondary ones; then all, if all are small and the first is a number or
    /// a list of integers.
    pub fn constants(&self) -> Vec<Vec<(String, Literal)>> {
        let constant = |array: &Array| (array.shape.len() <= 1).then(|| literal(array.shape.clone(), array.values.clone()));
        let small: Vec<(String, Literal)> = self.inputs.iter().filter_map(|(name, array)| Some((name.clone(), constant(array)?))).collect();
        let first = self.inputs.first();
        let secondary = small.iter().filter(|(name, _)| first.is_some_and(|(first, _)| first != name)).cloned().collect();
        let mut attempts: Vec<Vec<(String, Literal)>> = vec![secondary];
        if small.len() == self.inputs.len() && first.is_some_and(|(_, array)| array.shape.is_empty() || array.values.dtype().is_integer()) {
            attempts.push(small);
        }
        attempts.retain(|constants| !constants.is_empty());
        attempts
    }
}

impl Array {
    /// How `self` differs from `expected`, if it does; `half` if numbers were rounded to f16 or
    /// bf16.
    pub fn difference(&self, expected: &Array, half: bool) -> Option<String> {
        let (got, wanted) = (self.values.dtype(), expected.values.dtype());
        if got != wanted {
            return Some(format!("type {} instead of {}", got.name(), wanted.name()));
        }
        if self.shape != expected.shape {
            return Some(format!("shape {:?} instead of {:?}", self.shape, expected.shape));
        }
        let (got, wanted) = (numbers(&self.values), numbers(&expected.values));
        let magnitude = |n: &Number| match n {
            Number::Float(v) if v.is_finite() => v.abs(),
            _ => 0.0,
        };
        let (relative, absolute) = if half { (1e-2, 1e-2) } else { (1e-3, 1e-5) };
        let tolerance = (absolute * wanted.iter().map(magnitude).fold(0.0, f64::max)).max(1e-7);
        let right = |got: Number, wanted: Number| match (got, wanted) {
            (Number::Integer(g), Number::Integer(w)) => g == w,
            (Number::Float(g), Number::Float(w)) if g.is_finite() && w.is_finite() => (g - w).abs() <= relative * w.abs() + tolerance,
            (Number::Float(g), Number::Float(w)) => g == w || (g.is_nan() && w.is_nan()),
            _ => false,
        };
        let wrong: Vec<_> = got.iter().zip(&wanted).filter(|&(&g, &w)| !right(g, w)).collect();
        let (first, instead) = wrong.first()?;
        Some(format!("{} of {} values, first {first} instead of {instead}", wrong.len(), got.len()))
    }
}
