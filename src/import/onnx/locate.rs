//! Large weights stay in the model file until tract needs them, so that they are never in memory
//! twice.
//!
//! **In**: the bytes of a `.onnx` file. **Out**: the same model, without the data of its large
//! initialisers and `Constant` nodes: each says instead, as external data, where in the model file
//! its data is.
//!
//! A protobuf message is a list of fields, and a field that occurs later overrides or extends an
//! earlier one. So the data's field is left out, and fields with its position are appended. The
//! lengths of the messages around it are written anew. Whatever is unusual stays as it is.

use std::ops::Range;

use prost::Message;
use prost::encoding::{decode_varint, encode_varint};
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::{self, StringStringEntryProto};

use super::decode::bytes_needed;

/// Bytes of a large tensor. What reads the values of a small one finds them in the protobuf.
pub const LARGE: u64 = 1 << 16;

/// Numbers of fields.
mod number {
    pub const GRAPH: u64 = 7;
    pub const NODE: u64 = 1;
    pub const INITIALIZER: u64 = 5;
    pub const OPERATOR: u64 = 4;
    pub const ATTRIBUTE: u64 = 5;
    pub const TENSOR: u64 = 5;
    pub const FLOAT_DATA: u64 = 4;
    pub const RAW_DATA: u64 = 9;
    /// Everything else that may hold a tensor's values, or say where they are.
    pub const OTHER_DATA: [u64; 8] = [3, 5, 6, 7, 10, 11, 13, 14];
}

/// The wire type of fields that begin with their length.
const DELIMITED: u64 = 2;

/// A field of a message.
struct Field {
    number: u64,
    wire_type: u64,
    /// Its bytes in the file, key and length included.
    whole: Range<usize>,
    /// The bytes of its value.
    value: Range<usize>,
}

/// The fields of the message at `range` of `file`; `None` if it is damaged.
fn fields(file: &[u8], range: Range<usize>) -> Option<Vec<Field>> {
    let mut rest = file.get(range.clone())?;
    let position = |rest: &[u8]| range.end - rest.len();
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let start = position(rest);
        let key = decode_varint(&mut rest).ok()?;
        let mut value = position(rest);
        let length = match key & 7 {
            0 => {
                decode_varint(&mut rest).ok()?;
                position(rest) - value
            }
            1 => 8,
            DELIMITED => {
                let length = decode_varint(&mut rest).ok()?;
                value = position(rest);
                usize::try_from(length).ok()?
            }
            5 => 4,
            _ => return None,
        };
        let end = value.checked_add(length).filter(|&end| end <= range.end)?;
        rest = file.get(end..range.end)?;
        fields.push(Field { number: key >> 3, wire_type: key & 7, whole: start..end, value: value..end });
    }
    Some(fields)
}

/// Appends a field with this value to a message.
fn append(message: &mut Vec<u8>, number: u64, value: &[u8]) {
    encode_varint(number << 3 | DELIMITED, message);
    encode_varint(value.len() as u64, message);
    message.extend(value);
}

/// The message at `range` of `file` with other values of fields: those that `changed` gives for
/// number and value. `None` if it gives none, or if the message is damaged.
fn rewritten(file: &[u8], range: Range<usize>, changed: impl Fn(u64, Range<usize>) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let (mut message, mut any) = (Vec::new(), false);
    for field in fields(file, range)? {
        let value = if field.wire_type == DELIMITED { changed(field.number, field.value) } else { None };
        any |= value.is_some();
        match value {
            Some(value) => append(&mut message, field.number, &value),
            None => message.extend(&file[field.whole]),
        }
    }
    any.then_some(message)
}

/// The model in `file`, whose name in its folder is `name`, with the positions of its large weights
/// instead of their data; `None` if it has none.
pub fn located(file: &[u8], name: &str) -> Option<Vec<u8>> {
    let weight = |tensor| weight(file, tensor, name);
    let attribute = |attribute| rewritten(file, attribute, |n, value| if n == number::TENSOR { weight(value) } else { None });
    let node = |node: Range<usize>| {
        let operator = fields(file, node.clone())?.into_iter().find(|field| field.number == number::OPERATOR)?;
        let constant = &file[operator.value] == b"Constant";
        rewritten(file, node, |n, value| if n == number::ATTRIBUTE && constant { attribute(value) } else { None })
    };
    let graph = |graph| {
        rewritten(file, graph, |n, value| match n {
            _ if (value.len() as u64) < LARGE => None,
            number::INITIALIZER => weight(value),
            number::NODE => node(value),
            _ => None,
        })
    };
    rewritten(file, 0..file.len(), |n, value| if n == number::GRAPH { graph(value) } else { None })
}

/// The same for the tensor at `range`; `None` if it stays as it is.
fn weight(file: &[u8], range: Range<usize>, name: &str) -> Option<Vec<u8>> {
    let (mut message, mut data) = (Vec::new(), None);
    for field in fields(file, range)? {
        match field.number {
            number::RAW_DATA | number::FLOAT_DATA if data.is_some() || field.wire_type != DELIMITED => return None,
            number::RAW_DATA | number::FLOAT_DATA => data = Some((field.number, field.value)),
            other if number::OTHER_DATA.contains(&other) => return None,
            _ => message.extend(&file[field.whole]),
        }
    }
    let (number, data) = data?;
    let tensor = pb::TensorProto::decode(&message[..]).ok()?;
    let length = data.len() as u64;
    if length < LARGE
        || bytes_needed(&tensor) != Some(length)
        || (number == number::FLOAT_DATA && tensor.data_type != DataType::Float as i32)
    {
        return None;
    }
    let entry = |key: &str, value: String| StringStringEntryProto { key: key.into(), value };
    let position = pb::TensorProto {
        external_data: vec![entry("location", name.into()), entry("offset", data.start.to_string()), entry("length", length.to_string())],
        data_location: Some(DataLocation::External as i32),
        ..Default::default()
    };
    message.extend(position.encode_to_vec());
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(tensors: Vec<pb::TensorProto>) -> Vec<u8> {
        let graph = pb::GraphProto { initializer: tensors, name: "g".into(), ..Default::default() };
        pb::ModelProto { ir_version: 8, graph: Some(graph), producer_name: "after".into(), ..Default::default() }.encode_to_vec()
    }

    fn tensor(name: &str, rows: i64, data_type: DataType) -> pb::TensorProto {
        pb::TensorProto { name: name.into(), dims: vec![rows, 1024], data_type: data_type as i32, ..Default::default() }
    }

    #[test]
    fn only_large_weights_stay_in_the_file() {
        let bytes = |n: usize| (0..n).map(|i| (i * 7) as u8).collect::<Vec<u8>>();
        let raw = pb::TensorProto { raw_data: bytes(20 << 12), ..tensor("raw", 20, DataType::Float) };
        let half = pb::TensorProto { raw_data: bytes(40 << 11), ..tensor("half", 40, DataType::Float16) };
        let floats = pb::TensorProto { float_data: (0..16 << 10).map(|i| i as f32).collect(), ..tensor("floats", 16, DataType::Float) };
        let kept = vec![
            pb::TensorProto { raw_data: bytes(15 << 12), ..tensor("small", 15, DataType::Float) },
            pb::TensorProto { raw_data: bytes((20 << 12) - 1), ..tensor("short", 20, DataType::Float) },
            pb::TensorProto { int32_data: vec![1; 64 << 10], ..tensor("ints", 64, DataType::Int32) },
            pb::TensorProto { int32_data: vec![1], ..raw.clone() },
        ];
        let file = model([vec![raw, half, floats], kept.clone()].concat());
        let smaller = located(&file, "m.onnx").expect("large weights");
        let proto = pb::ModelProto::decode(&smaller[..]).expect("a model");
        assert_eq!((proto.ir_version, proto.producer_name.as_str()), (8, "after"));
        let graph = proto.graph.expect("a graph");
        assert_eq!((graph.name.as_str(), &graph.initializer[3..]), ("g", &kept[..]));
        let whole = pb::ModelProto::decode(&file[..]).expect("a model").graph.expect("a graph");
        for (found, before) in graph.initializer.iter().zip(&whole.initializer).take(3) {
            assert!(found.raw_data.is_empty() && found.float_data.is_empty() && found.data_location == Some(1));
            let values: Vec<&str> = found.external_data.iter().map(|entry| entry.value.as_str()).collect();
            let [location, offset, length] = values[..] else { panic!("{values:?}") };
            let (offset, length): (usize, usize) = (offset.parse().expect("a number"), length.parse().expect("a number"));
            let floats: Vec<u8> = before.float_data.iter().flat_map(|v| v.to_le_bytes()).collect();
            assert_eq!((location, &file[offset..offset + length]), ("m.onnx", &[&before.raw_data[..], &floats].concat()[..]));
            assert_eq!((&found.name, &found.dims, found.data_type), (&before.name, &before.dims, before.data_type));
        }
        assert_eq!(located(&model(kept), "m.onnx"), None);

        let constant = |op: &str, tensor: &pb::TensorProto| {
            let attribute = vec![pb::AttributeProto { name: "value".into(), t: Some(tensor.clone()), ..Default::default() }];
            pb::NodeProto { op_type: op.into(), output: vec!["c".into()], attribute, ..Default::default() }
        };
        let nodes = ["Constant", "Other"].map(|op| constant(op, &whole.initializer[0]));
        let graph = pb::GraphProto { node: nodes.to_vec(), ..Default::default() };
        let file = pb::ModelProto { graph: Some(graph), ..Default::default() }.encode_to_vec();
        let smaller = located(&file, "m.onnx").expect("a large constant");
        let found = pb::ModelProto::decode(&smaller[..]).expect("a model").graph.expect("a graph").node;
        let tensor = found[0].attribute[0].t.clone().expect("a tensor");
        assert!(tensor.raw_data.is_empty() && tensor.data_location == Some(1) && tensor.dims == [20, 1024]);
        assert_eq!((&found[0].output, &found[1]), (&nodes[0].output, &nodes[1]));
        assert_eq!(located(&file[..file.len() - 9], "m.onnx"), None, "a truncated file");
    }
}
