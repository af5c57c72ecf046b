//! Reads large weights from their files straight into tract's tensors: tract itself reads them
//! into a buffer and copies that.
//!
//! In the protobuf that tract parses, a stand-in replaces each of them: two integers, of which the
//! second is an index. Equal tensors get equal stand-ins, since tract makes equal initialisers one.
//! In the parsed model, the tensors replace the stand-ins.
//!
//! Small external tensors are put into the protobuf, those of subgraphs too: tract does not follow
//! links, which caches of models consist of. A name inside the model's folder may be a link to
//! anywhere: whoever made the link decided so.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid;
use tract_onnx::tract_hir::ops::konst::Const;

use super::typed;
use crate::error::Result;
use crate::graph::DType;
use crate::import::onnx::{bfloat16, dtype::dtype_of, locate::LARGE};

/// The first integer of a stand-in, which no model has by chance.
const STAND_IN: i64 = 0x6869_6f73_632d_7761;

/// The large weights of a model, in the order of their stand-ins.
pub struct LargeWeights(Vec<Arc<Tensor>>);

impl LargeWeights {
    /// Reads the large weights of `proto`, whose file is `model`, and puts stand-ins in their
    /// positions. Skips what is not where it may be: tract reports that.
    pub fn take(model: &Path, proto: &mut pb::ModelProto) -> Result<LargeWeights> {
        typed::quietly(model, "reading the weights", || {
            if let Some(graph) = &mut proto.graph {
                embed(model, graph)?;
            }
            let mut taken: Vec<Arc<Tensor>> = Vec::new();
            for weight in proto.graph.iter_mut().flat_map(weights) {
                let Some(stored) = Stored::of(model, weight) else { continue };
                let tensor = stored.read()?;
                // not `==`, for which 0 and -0 are equal
                let same = |other: &Arc<Tensor>| {
                    other.datum_type() == tensor.datum_type() && other.shape() == tensor.shape() && other.as_bytes() == tensor.as_bytes()
                };
                let index = taken.iter().position(same).unwrap_or(taken.len());
                if index == taken.len() {
                    taken.push(Arc::new(tensor));
                }
                *weight = pb::TensorProto {
                    name: std::mem::take(&mut weight.name),
                    dims: vec![2],
                    data_type: DataType::Int64 as i32,
                    int64_data: vec![STAND_IN, index as i64],
                    ..Default::default()
                };
            }
            Ok(LargeWeights(taken))
        })
    }

    /// Replaces the stand-ins in the parsed `model`.
    pub fn put(&self, model: &mut InferenceModel) -> TractResult<()> {
        for node in model.nodes_mut() {
            let Some(constant) = node.op_as::<Const>() else { continue };
            let values = constant.val().try_as_plain_ram()?;
            let Ok(&[STAND_IN, index]) = values.as_slice::<i64>() else { continue };
            let Some(tensor) = usize::try_from(index).ok().and_then(|index| self.0.get(index)) else { continue };
            // else the fact is what the file says about the node
            if node.outputs[0].fact.value.is_concrete() {
                node.outputs[0].fact = TypedFact::try_from(tensor.clone())?.into();
            }
            node.op = Box::new(Const::new(tensor.clone())?);
        }
        Ok(())
    }
}

/// Reads the small external tensors of `graph`, and those of its subgraphs.
fn embed(model: &Path, graph: &mut pb::GraphProto) -> TractResult<()> {
    let read = |tensor: &mut pb::TensorProto| -> TractResult<()> {
        let Some(location) = Location::of(model, tensor).filter(|location| location.length < LARGE) else { return Ok(()) };
        let mut bytes = vec![0; location.length as usize];
        location.read(&mut bytes)?;
        tensor.raw_data = bytes;
        tensor.external_data.clear();
        tensor.data_location = None;
        bfloat16::widen_tensor(tensor);
        Ok(())
    };
    graph.initializer.iter_mut().try_for_each(read)?;
    for attribute in graph.node.iter_mut().flat_map(|node| &mut node.attribute) {
        attribute.t.iter_mut().chain(&mut attribute.tensors).try_for_each(read)?;
        attribute.g.iter_mut().chain(&mut attribute.graphs).try_for_each(|graph| embed(model, graph))?;
    }
    Ok(())
}

/// Where the data of an external tensor is.
struct Location {
    file: PathBuf,
    offset: u64,
    length: u64,
}

impl Location {
    /// `None` if `tensor` is not external. It has passed the checks of `decode.rs`: the name is
    /// that of a file in the model's folder.
    fn of(model: &Path, tensor: &pb::TensorProto) -> Option<Location> {
        if tensor.data_location != Some(DataLocation::External as i32) || !tensor.raw_data.is_empty() {
            return None;
        }
        let entry = |key: &str| tensor.external_data.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str());
        let (offset, length) = (entry("offset").map_or(Some(0), |text| text.parse().ok())?, entry("length")?.parse::<u64>().ok()?);
        let location = Path::new(entry("location")?);
        let folder = model.parent().unwrap_or(Path::new(""));
        let file = if model.file_name() == Some(location.as_os_str()) { model.to_path_buf() } else { folder.join(location) };
        Some(Location { file, offset, length })
    }

    fn read(&self, bytes: &mut [u8]) -> TractResult<()> {
        let mut file = File::open(&self.file)?;
        file.seek(SeekFrom::Start(self.offset))?;
        Ok(file.read_exact(bytes)?)
    }
}

/// The tensors of `graph` that are weights: its initialisers, and those of nodes `Constant`.
fn weights(graph: &mut pb::GraphProto) -> impl Iterator<Item = &mut pb::TensorProto> {
    let constants = graph.node.iter_mut().filter(|node| node.op_type == "Constant");
    let values = constants.flat_map(|node| &mut node.attribute).filter(|attribute| attribute.name == "value");
    graph.initializer.iter_mut().chain(values.filter_map(|attribute| attribute.t.as_mut()))
}

/// A large weight in a file.
struct Stored {
    location: Location,
    dtype: DType,
    shape: Vec<usize>,
}

impl Stored {
    /// `None` if `tensor` is small or not of plain numbers.
    fn of(model: &Path, tensor: &pb::TensorProto) -> Option<Stored> {
        let location = Location::of(model, tensor)?;
        let dtype = DataType::try_from(tensor.data_type).ok().and_then(dtype_of).filter(|&dtype| dtype != DType::Bool)?;
        let shape = tensor.dims.iter().map(|&d| usize::try_from(d).ok()).collect::<Option<Vec<usize>>>()?;
        let bytes = shape.iter().try_fold(dtype.bytes(), |bytes, &d| bytes.checked_mul(d as u64))?;
        if bytes < LARGE || location.length != bytes {
            return None;
        }
        Some(Stored { location, dtype, shape })
    }

    fn read(&self) -> TractResult<Tensor> {
        let mut tensor = Tensor::zero_dt(typed::datum(self.dtype), &self.shape)?;
        let mut plain = tensor.try_as_plain_ram_mut()?;
        if self.dtype == DType::BF16 {
            let mut narrow = vec![0; self.location.length as usize];
            self.location.read(&mut narrow)?;
            let wide = plain.as_bytes_mut().iter_mut().zip(bfloat16::wide_bytes(&narrow));
            wide.for_each(|(to, byte)| *to = byte);
        } else {
            self.location.read(plain.as_bytes_mut())?;
        }
        Ok(tensor)
    }
}
