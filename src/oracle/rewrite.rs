//! Changes of an encoded model, so that rten takes it. Fields that are not named here stay as they
//! are, byte for byte, also those that nobody here has heard of.
//!
//! * *Names*: rten keeps operators and values in one table by name, so an operator that is called
//!   like a value would hide it. Names of operators get a prefix.
//! * *Shapes* of inputs that the caller overrides are left out, since rten insists on them.
//! * *External data*: rten opens files of few names only, wants an offset and a length, and does
//!   not copy what is misaligned. The locations become names of buffers (`external.rs`).
//! * *Defaults*: rten does not know that strides and dilations are 1 along each axis if they are
//!   left out.
//! * *Lists of numbers* may be packed into one field or not: rten reads dimensions and the lists of
//!   attributes only if they are not.
//!
//! Field numbers are those of `onnx.proto`.

use std::collections::{BTreeMap, BTreeSet};

use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};

use super::external::{ExternalData, Location};

/// What is said of bytes that are no protobuf message.
const NOT_ONNX: &str = "the file is not an ONNX model";

/// What the names of operators begin with, for rten.
const OPERATOR: &str = "hiosc:";

const MODEL_GRAPH: u32 = 7;
const GRAPH_NODE: u32 = 1;
const GRAPH_INITIALIZER: u32 = 5;
const GRAPH_INPUT: u32 = 11;
const NODE_INPUT: u32 = 1;
const NODE_OUTPUT: u32 = 2;
const NODE_NAME: u32 = 3;
const NODE_OPERATOR: u32 = 4;
const NODE_ATTRIBUTE: u32 = 5;
const ATTRIBUTE_NAME: u32 = 1;
const ATTRIBUTE_TENSOR: [u32; 2] = [5, 10];
const ATTRIBUTE_GRAPH: [u32; 2] = [6, 11];
const ATTRIBUTE_FLOATS: u32 = 7;
const ATTRIBUTE_INTS: u32 = 8;
const ATTRIBUTE_TYPE: u32 = 20;
const TYPE_INTS: u64 = 7;
const VALUE_NAME: u32 = 1;
const VALUE_TYPE: u32 = 2;
const TYPE_TENSOR: u32 = 1;
const TENSOR_TYPE_SHAPE: u32 = 2;
const TENSOR_DIMS: u32 = 1;
const TENSOR_NAME: u32 = 8;
const TENSOR_EXTERNAL: u32 = 13;
const TENSOR_LOCATION: u32 = 14;
const ENTRY_KEY: u32 = 1;
const ENTRY_VALUE: u32 = 2;

/// `model` with the changes above. `reshaped` names inputs whose shapes are left out. `external`
/// gives each piece of external data a name, an offset and a length.
///
/// # Errors
///
/// If the bytes are not a protobuf message, or external data cannot be read.
pub fn rewritten(model: &[u8], reshaped: &BTreeSet<&str>, external: &mut ExternalData) -> Result<Vec<u8>, String> {
    edited(model, &mut |field, bytes| Ok(if field == MODEL_GRAPH { Edit::Replace(graph(bytes, reshaped, external)?) } else { Edit::Keep }))
}

/// A message of rten's, with the names of operators as the model has them.
pub fn with_names(message: &str) -> String {
    message.replace(OPERATOR, "")
}

fn graph(bytes: &[u8], reshaped: &BTreeSet<&str>, external: &mut ExternalData) -> Result<Vec<u8>, String> {
    let mut ranks = BTreeMap::new();
    let mut initializers = Vec::new();
    visit(bytes, &mut |field, value, _| {
        if let (GRAPH_INITIALIZER, Value::Bytes(tensor)) = (field, value) {
            initializers.push(tensor);
        }
    })?;
    for tensor in initializers {
        ranks.insert(texts(tensor, TENSOR_NAME)?.pop().unwrap_or_default(), count(tensor, TENSOR_DIMS)?);
    }
    edited(bytes, &mut |field, bytes| {
        Ok(match field {
            GRAPH_NODE => Edit::Replace(node(bytes, &ranks, external)?),
            GRAPH_INITIALIZER => Edit::Replace(tensor(bytes, external)?),
            GRAPH_INPUT => input(bytes, reshaped)?,
            _ => Edit::Keep,
        })
    })
}

/// A node under a name that no value has. One without a name is called like its first output.
/// `ranks` has the number of axes of each initialiser.
fn node(bytes: &[u8], ranks: &BTreeMap<String, usize>, external: &mut ExternalData) -> Result<Vec<u8>, String> {
    let name = texts(bytes, NODE_NAME)?.pop().filter(|name| !name.is_empty());
    let name = match name {
        Some(name) => name,
        None => texts(bytes, NODE_OUTPUT)?.into_iter().next().unwrap_or_default(),
    };
    let mut out = edited(bytes, &mut |field, bytes| {
        Ok(match field {
            NODE_NAME => Edit::Drop,
            NODE_ATTRIBUTE => Edit::Replace(attribute(bytes, external)?),
            _ => Edit::Keep,
        })
    })?;
    put(&mut out, NODE_NAME, format!("{OPERATOR}{name}").as_bytes());
    for attribute in missing_ones(bytes, ranks)? {
        put(&mut out, NODE_ATTRIBUTE, &attribute);
    }
    Ok(out)
}

/// The strides and dilations that a convolution or a pool leaves out: 1 along each axis.
fn missing_ones(node: &[u8], ranks: &BTreeMap<String, usize>) -> Result<Vec<Vec<u8>>, String> {
    let operator = texts(node, NODE_OPERATOR)?.pop().unwrap_or_default();
    let wanted: &[&str] = match operator.as_str() {
        "Conv" | "ConvInteger" | "ConvTranspose" => &["strides", "dilations"],
        "AveragePool" | "LpPool" | "MaxPool" => &["strides"],
        _ => return Ok(Vec::new()),
    };
    let mut attributes = Vec::new();
    visit(node, &mut |field, value, _| {
        if let (NODE_ATTRIBUTE, Value::Bytes(attribute)) = (field, value) {
            attributes.push(attribute);
        }
    })?;
    let mut lengths = BTreeMap::new();
    for attribute in attributes {
        lengths.insert(texts(attribute, ATTRIBUTE_NAME)?.pop().unwrap_or_default(), count(attribute, ATTRIBUTE_INTS)?);
    }
    let weight = texts(node, NODE_INPUT)?.get(1).and_then(|name| ranks.get(name)).and_then(|rank| rank.checked_sub(2));
    let given = lengths.get("kernel_shape").copied().or(lengths.get("pads").map(|pads| pads / 2)).or(weight);
    let Some(axes) = given else { return Ok(Vec::new()) };
    let ones = |name: &&str| {
        let mut attribute = Vec::new();
        put(&mut attribute, ATTRIBUTE_NAME, name.as_bytes());
        for (field, number) in std::iter::repeat_n((ATTRIBUTE_INTS, 1), axes).chain([(ATTRIBUTE_TYPE, TYPE_INTS)]) {
            encode_key(field, WireType::Varint, &mut attribute);
            encode_varint(number, &mut attribute);
        }
        attribute
    };
    Ok(wanted.iter().filter(|name| !lengths.contains_key(**name)).map(ones).collect())
}

fn attribute(bytes: &[u8], external: &mut ExternalData) -> Result<Vec<u8>, String> {
    edited(bytes, &mut |field, bytes| {
        Ok(match field {
            ATTRIBUTE_INTS => Edit::Raw(unpacked_integers(field, bytes)?),
            ATTRIBUTE_FLOATS => Edit::Raw(unpacked_floats(field, bytes)),
            _ if ATTRIBUTE_TENSOR.contains(&field) => Edit::Replace(tensor(bytes, external)?),
            _ if ATTRIBUTE_GRAPH.contains(&field) => Edit::Replace(graph(bytes, &BTreeSet::new(), external)?),
            _ => Edit::Keep,
        })
    })
}

fn input(bytes: &[u8], reshaped: &BTreeSet<&str>) -> Result<Edit, String> {
    let name = texts(bytes, VALUE_NAME)?.pop().unwrap_or_default();
    if !reshaped.contains(name.as_str()) {
        return Ok(Edit::Keep);
    }
    let without_shape =
        |tensor: &[u8]| edited(tensor, &mut |field, _| Ok(if field == TENSOR_TYPE_SHAPE { Edit::Drop } else { Edit::Keep }));
    let of_type = |of_type: &[u8]| {
        edited(of_type, &mut |field, tensor| Ok(if field == TYPE_TENSOR { Edit::Replace(without_shape(tensor)?) } else { Edit::Keep }))
    };
    edited(bytes, &mut |field, bytes| Ok(if field == VALUE_TYPE { Edit::Replace(of_type(bytes)?) } else { Edit::Keep })).map(Edit::Replace)
}

fn tensor(bytes: &[u8], external: &mut ExternalData) -> Result<Vec<u8>, String> {
    let mut elsewhere = false;
    let mut entries = Vec::new();
    visit(bytes, &mut |field, value, _| match (field, value) {
        (TENSOR_LOCATION, Value::Number(1)) => elsewhere = true,
        (TENSOR_EXTERNAL, Value::Bytes(entry)) => entries.push(entry),
        _ => {}
    })?;
    let mut out = edited(bytes, &mut |field, bytes| {
        Ok(match field {
            TENSOR_DIMS => Edit::Raw(unpacked_integers(field, bytes)?),
            TENSOR_EXTERNAL if elsewhere => Edit::Drop,
            _ => Edit::Keep,
        })
    })?;
    if elsewhere {
        let text = |entry, field| Ok::<_, String>(texts(entry, field)?.pop().unwrap_or_default());
        let pairs = entries.into_iter().map(|entry| Ok((text(entry, ENTRY_KEY)?, text(entry, ENTRY_VALUE)?)));
        let Location { name, offset, length } = external.address(&pairs.collect::<Result<Vec<_>, String>>()?)?;
        for (key, value) in [("location", name), ("offset", offset.to_string()), ("length", length.to_string())] {
            let mut entry = Vec::new();
            put(&mut entry, ENTRY_KEY, key.as_bytes());
            put(&mut entry, ENTRY_VALUE, value.as_bytes());
            put(&mut out, TENSOR_EXTERNAL, &entry);
        }
    }
    Ok(out)
}

/// Packed integers as one field each.
fn unpacked_integers(field: u32, mut packed: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    while !packed.is_empty() {
        let number = decode_varint(&mut packed).map_err(|_| NOT_ONNX)?;
        encode_key(field, WireType::Varint, &mut out);
        encode_varint(number, &mut out);
    }
    Ok(out)
}

/// Packed numbers of four bytes as one field each.
fn unpacked_floats(field: u32, packed: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for number in packed.chunks_exact(4) {
        encode_key(field, WireType::ThirtyTwoBit, &mut out);
        out.extend_from_slice(number);
    }
    out
}

/// What becomes of a field that holds bytes: a message, a text, packed numbers.
enum Edit {
    Keep,
    Drop,
    /// Other bytes.
    Replace(Vec<u8>),
    /// These whole fields.
    Raw(Vec<u8>),
}

/// What becomes of the field with this number and these bytes.
type EditField<'a> = dyn FnMut(u32, &[u8]) -> Result<Edit, String> + 'a;

/// The value of a field.
enum Value<'a> {
    Bytes(&'a [u8]),
    Number(u64),
    /// Of a fixed size.
    Other,
}

/// `message` with each of its fields of bytes as `edit` says.
fn edited(message: &[u8], edit: &mut EditField) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(message.len());
    let mut failed = None;
    visit(message, &mut |field, value, whole| {
        let edit = match value {
            Value::Bytes(bytes) if failed.is_none() => edit(field, bytes),
            _ => Ok(Edit::Keep),
        };
        match edit {
            Ok(Edit::Keep) => out.extend_from_slice(whole),
            Ok(Edit::Drop) => {}
            Ok(Edit::Raw(fields)) => out.extend_from_slice(&fields),
            Ok(Edit::Replace(bytes)) => put(&mut out, field, &bytes),
            Err(error) => failed = Some(error),
        }
    })?;
    failed.map_or(Ok(out), Err)
}

/// Calls `f` with the number of each field, its value, and all its bytes.
fn visit<'a>(message: &'a [u8], f: &mut dyn FnMut(u32, Value<'a>, &'a [u8])) -> Result<(), String> {
    let broken = |_| NOT_ONNX.to_string();
    let mut rest = message;
    while !rest.is_empty() {
        let whole = rest;
        let (field, wire) = decode_key(&mut rest).map_err(broken)?;
        let length = match wire {
            WireType::Varint => {
                let number = decode_varint(&mut rest).map_err(broken)?;
                f(field, Value::Number(number), &whole[..whole.len() - rest.len()]);
                continue;
            }
            WireType::LengthDelimited => decode_varint(&mut rest).map_err(broken)?,
            WireType::ThirtyTwoBit => 4,
            WireType::SixtyFourBit => 8,
            WireType::StartGroup | WireType::EndGroup => return Err(NOT_ONNX.into()),
        };
        let length = usize::try_from(length).ok().filter(|&length| length <= rest.len());
        let (bytes, after) = rest.split_at(length.ok_or(NOT_ONNX)?);
        rest = after;
        let value = if wire == WireType::LengthDelimited { Value::Bytes(bytes) } else { Value::Other };
        f(field, value, &whole[..whole.len() - rest.len()]);
    }
    Ok(())
}

/// How many numbers the fields `wanted` of `message` hold, packed or not.
fn count(message: &[u8], wanted: u32) -> Result<usize, String> {
    let mut numbers = 0;
    visit(message, &mut |field, value, _| {
        numbers += match value {
            _ if field != wanted => 0,
            // the last byte of each varint has no high bit
            Value::Bytes(packed) => packed.iter().filter(|byte| **byte < 0x80).count(),
            _ => 1,
        }
    })?;
    Ok(numbers)
}

/// Appends a field of bytes.
fn put(message: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    encode_key(field, WireType::LengthDelimited, message);
    encode_varint(bytes.len() as u64, message);
    message.extend_from_slice(bytes);
}

/// All texts in the fields `wanted` of `message`.
fn texts(message: &[u8], wanted: u32) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    visit(message, &mut |field, value, _| {
        if let Value::Bytes(bytes) = value
            && field == wanted
        {
            found.push(String::from_utf8_lossy(bytes).into_owned());
        }
    })?;
    Ok(found)
}
