//! Changes of an encoded model, so that rten takes it. Fields that are not named here stay as they
//! are, byte for byte, also those that nobody here has heard of.
//!
//! * *Names*: rten keeps operators and values in one table by name, so an operator that is called
//!   like a value would hide it. Names of operators get a prefix.
//! * *Shapes* of inputs that the caller overrides are left out, since rten insists on them.
//! * *External data*: rten opens files of few names only, wants an offset and a length, and does
//!   not copy what is misaligned. The locations become names of buffers (`external.rs`).
//!
//! Field numbers are those of `onnx.proto`.

use std::collections::BTreeSet;

use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};

use super::external::{ExternalData, Location};

/// What the names of operators begin with, for rten.
const OPERATOR: &str = "hiosc:";

const MODEL_GRAPH: u32 = 7;
const GRAPH_NODE: u32 = 1;
const GRAPH_INITIALIZER: u32 = 5;
const GRAPH_INPUT: u32 = 11;
const NODE_OUTPUT: u32 = 2;
const NODE_NAME: u32 = 3;
const VALUE_NAME: u32 = 1;
const VALUE_TYPE: u32 = 2;
const TYPE_TENSOR: u32 = 1;
const TENSOR_TYPE_SHAPE: u32 = 2;
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
    edited(model, &mut |field, graph| {
        Ok(match field {
            MODEL_GRAPH => Edit::Replace(edited(graph, &mut |field, bytes| {
                Ok(match field {
                    GRAPH_NODE => Edit::Replace(node(bytes)?),
                    GRAPH_INITIALIZER => initializer(bytes, external)?,
                    GRAPH_INPUT => input(bytes, reshaped)?,
                    _ => Edit::Keep,
                })
            })?),
            _ => Edit::Keep,
        })
    })
}

/// A message of rten's, with the names of operators as the model has them.
pub fn with_names(message: &str) -> String {
    message.replace(OPERATOR, "")
}

/// A node under a name that no value has. One without a name is called like its first output.
fn node(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let name = texts(bytes, NODE_NAME)?.pop().filter(|name| !name.is_empty());
    let name = match name {
        Some(name) => name,
        None => texts(bytes, NODE_OUTPUT)?.into_iter().next().unwrap_or_default(),
    };
    let mut out = edited(bytes, &mut |field, _| Ok(if field == NODE_NAME { Edit::Drop } else { Edit::Keep }))?;
    put(&mut out, NODE_NAME, format!("{OPERATOR}{name}").as_bytes());
    Ok(out)
}

fn input(bytes: &[u8], reshaped: &BTreeSet<&str>) -> Result<Edit, String> {
    let name = texts(bytes, VALUE_NAME)?.pop().unwrap_or_default();
    if !reshaped.contains(name.as_str()) {
        return Ok(Edit::Keep);
    }
    let without_shape = |tensor: &[u8]| edited(tensor, &mut |field, _| Ok(if field == TENSOR_TYPE_SHAPE { Edit::Drop } else { Edit::Keep }));
    let of_type = |of_type: &[u8]| {
        edited(of_type, &mut |field, tensor| Ok(if field == TYPE_TENSOR { Edit::Replace(without_shape(tensor)?) } else { Edit::Keep }))
    };
    edited(bytes, &mut |field, bytes| Ok(if field == VALUE_TYPE { Edit::Replace(of_type(bytes)?) } else { Edit::Keep })).map(Edit::Replace)
}

fn initializer(bytes: &[u8], external: &mut ExternalData) -> Result<Edit, String> {
    let mut elsewhere = false;
    visit(bytes, &mut |field, value, _| elsewhere |= field == TENSOR_LOCATION && matches!(value, Value::Number(1)))?;
    if !elsewhere {
        return Ok(Edit::Keep);
    }
    let mut entries = Vec::new();
    visit(bytes, &mut |field, value, _| {
        if let (TENSOR_EXTERNAL, Value::Bytes(entry)) = (field, value) {
            entries.push(entry.to_vec());
        }
    })?;
    let mut pairs = Vec::new();
    for entry in &entries {
        pairs.push((texts(entry, ENTRY_KEY)?.pop().unwrap_or_default(), texts(entry, ENTRY_VALUE)?.pop().unwrap_or_default()));
    }
    let Location { name, offset, length } = external.place(&pairs)?;
    let mut out = edited(bytes, &mut |field, _| Ok(if field == TENSOR_EXTERNAL { Edit::Drop } else { Edit::Keep }))?;
    for (key, value) in [("location", name), ("offset", offset.to_string()), ("length", length.to_string())] {
        let mut entry = Vec::new();
        put(&mut entry, ENTRY_KEY, key.as_bytes());
        put(&mut entry, ENTRY_VALUE, value.as_bytes());
        put(&mut out, TENSOR_EXTERNAL, &entry);
    }
    Ok(Edit::Replace(out))
}

/// What becomes of a field that holds bytes: a message, a text, packed numbers.
enum Edit {
    Keep,
    Drop,
    Replace(Vec<u8>),
}

/// The value of a field.
enum Value<'a> {
    Bytes(&'a [u8]),
    Number(u64),
    /// Of a fixed size.
    Other,
}

/// `message` with each of its fields of bytes as `edit` says.
fn edited(message: &[u8], edit: &mut dyn FnMut(u32, &[u8]) -> Result<Edit, String>) -> Result<Vec<u8>, String> {
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
            Ok(Edit::Replace(bytes)) => put(&mut out, field, &bytes),
            Err(error) => failed = Some(error),
        }
    })?;
    failed.map_or(Ok(out), Err)
}

/// Calls `f` with the number of each field, its value, and all its bytes.
fn visit<'a>(message: &'a [u8], f: &mut dyn FnMut(u32, Value<'a>, &'a [u8])) -> Result<(), String> {
    let broken = |_| "the file is not an ONNX model".to_string();
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
            WireType::StartGroup | WireType::EndGroup => return Err("the file is not an ONNX model".into()),
        };
        let length = usize::try_from(length).ok().filter(|&length| length <= rest.len());
        let (bytes, after) = rest.split_at(length.ok_or("the file is not an ONNX model")?);
        rest = after;
        let value = if wire == WireType::LengthDelimited { Value::Bytes(bytes) } else { Value::Other };
        f(field, value, &whole[..whole.len() - rest.len()]);
    }
    Ok(())
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
