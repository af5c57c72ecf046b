//! Conversions between numbers and integers that represent `scale * (integer - zero point)`.
//!
//! The reader converts with constants of 8 bits. Here are the rest: scales known only when the
//! model runs, 16 bits, a scale for each block of an axis, a type given as an attribute.

use tract_onnx::pb::tensor_proto::DataType;

use super::{Body, Definition, Known, of, single};
use crate::graph::DType;
use crate::import::onnx::dtype::dtype_of;

const REASON: &str = "the reader wants constant scales, 8 bits, no blocks, and drops output_dtype";

pub const DEFINITIONS: &[Definition] = &[
    of("DequantizeLinear", dequantize, REASON),
    of("QLinearMatMul", product, "the reader wants scales in f32"),
    of("QuantizeLinear", quantize, REASON),
    of("com.microsoft.DequantizeLinear", dequantize, "ONNX Runtime's form of ONNX's operator, with 16 bits"),
    of("com.microsoft.QuantizeLinear", quantize, "ONNX Runtime's form of ONNX's operator, with 16 bits"),
];

/// The type that an attribute names, if it is given.
pub fn named_type(body: &Body, name: &str) -> Result<Option<DType>, String> {
    match body.call.int(name, 0) {
        0 => Ok(None),
        code => {
            let known = i32::try_from(code).ok().and_then(|code| DataType::try_from(code).ok());
            let dtype =
                known.and_then(dtype_of).ok_or_else(|| format!("its {name} {} is not supported", known.map_or("", |t| t.as_str_name())))?;
            Ok(Some(dtype))
        }
    }
}

/// Least and largest value of a type of at most 16 bits.
pub fn range(dtype: DType) -> Option<(f64, f64)> {
    Some(match dtype {
        DType::I8 => (-128.0, 127.0),
        DType::U8 => (0.0, 255.0),
        DType::I16 => (-32768.0, 32767.0),
        DType::U16 => (0.0, 65535.0),
        _ => return None,
    })
}

/// A scale or zero point as it broadcasts to `x`.
fn parameter(body: &mut Body, x: &Known, parameter: &Known, name: &str) -> Result<String, String> {
    let block = body.call.int("block_size", 0);
    if parameter.shape.iter().product::<usize>() == 1 && block == 0 {
        return Ok(body.reshape(name, &[]));
    }
    let axis = Body::axis(body.call.int("axis", 1), x.rank())?;
    if block == 0 {
        if parameter.shape != [x.shape[axis]] {
            return Err(format!("a scale of shape {:?} does not fit axis {axis} of {:?}", parameter.shape, x.shape));
        }
        let shape: Vec<usize> = (0..x.rank()).map(|i| if i == axis { x.shape[axis] } else { 1 }).collect();
        return Ok(body.reshape(name, &shape));
    }
    let block = usize::try_from(block).ok().filter(|&block| block > 0).ok_or("its block_size is negative")?;
    let mut blocks = x.shape.clone();
    blocks[axis] = x.shape[axis].div_ceil(block);
    if parameter.shape != blocks {
        return Err(format!("a scale of shape {:?} does not fit blocks of {block} along axis {axis} of {:?}", parameter.shape, x.shape));
    }
    let (mut narrow, mut wide, mut whole) = (blocks.clone(), blocks.clone(), blocks.clone());
    narrow.insert(axis + 1, 1);
    wide.insert(axis + 1, block);
    whole[axis] *= block;
    let narrow = body.reshape(name, &narrow);
    let shape = body.list(&wide.iter().map(|&extent| extent as i64).collect::<Vec<_>>());
    let repeated = body.op("Expand", &[&narrow, &shape]);
    let repeated = body.reshape(&repeated, &whole);
    Ok(if whole[axis] == x.shape[axis] { repeated } else { body.slice(&repeated, axis, 0, x.shape[axis]) })
}

/// Whether the reader can convert with these parameters: constants, of 8 bits, scales in f32.
fn is_plain(body: &Body, scale: &Known, zero: Option<&Known>) -> bool {
    let constant = |known: &Known| known.value.is_some();
    let narrow = |known: &Known| constant(known) && range(known.dtype).is_some() && known.dtype.bytes() == 1;
    let standard = body.call.node.op_type.starts_with(|c: char| c.is_uppercase());
    standard && body.call.int("block_size", 0) == 0 && constant(scale) && scale.dtype == DType::F32 && zero.is_none_or(narrow)
}

/// `saturate(round(x / scale) + zero)`, rounded to even.
fn quantize(body: &mut Body) -> Result<(), String> {
    let (x, scale, zero) = (body.input(0)?, body.input(1)?, body.optional(2));
    let stated = named_type(body, "output_dtype")?;
    let dtype = zero.as_ref().map(|zero| zero.dtype).or(stated).unwrap_or(DType::U8);
    if stated.is_some_and(|stated| stated != dtype) {
        return Err("its output_dtype is not the type of its zero point".into());
    }
    let (low, high) = range(dtype).ok_or_else(|| format!("it converts to {}, which is not supported", dtype.name()))?;
    if is_plain(body, &scale, zero.as_ref()) && x.dtype == DType::F32 && dtype.bytes() == 1 && (zero.is_some() || dtype == DType::U8) {
        let inputs: Vec<&str> = [Some(&x), Some(&scale), zero.as_ref()].into_iter().flatten().map(|known| known.name.as_str()).collect();
        let result = body.itself(&inputs, vec![]).remove(0);
        body.output(0, &result);
        return Ok(());
    }
    let dividend = body.cast(&x.name, DType::F32);
    let divisor = body.cast(&scale.name, DType::F32);
    let divisor = parameter(body, &x, &scale, &divisor)?;
    let mut quotient = body.op("Div", &[&dividend, &divisor]);
    // from opset 23 on, the quotient has the type that the node names, or that of the scale
    let precise = match named_type(body, "precision")? {
        None => scale.dtype,
        Some(named @ (DType::F16 | DType::F32)) => named,
        Some(other) => return Err(format!("its precision {} is not supported", other.name())),
    };
    if precise == DType::F16 && body.call.version >= 23 && !body.call.node.op_type.contains('.') {
        quotient = body.cast(&quotient, DType::F16);
        quotient = body.cast(&quotient, DType::F32);
    }
    let mut result = body.op("Round", &[&quotient]);
    if let Some(zero) = zero {
        let shift = body.cast(&zero.name, DType::F32);
        let shift = parameter(body, &x, &zero, &shift)?;
        result = body.op("Add", &[&result, &shift]);
    }
    let (low, high) = (body.number(DType::F32, low), body.number(DType::F32, high));
    let clipped = body.op("Clip", &[&result, &low, &high]);
    let result = body.cast(&clipped, dtype);
    body.output(0, &result);
    Ok(())
}

/// `(x - zero) * scale`.
fn dequantize(body: &mut Body) -> Result<(), String> {
    let (x, scale, zero) = (body.input(0)?, body.input(1)?, body.optional(2));
    if range(x.dtype).is_none() && x.dtype != DType::I32 {
        return Err(format!("it converts from {}, which is not supported", x.dtype.name()));
    }
    let to = named_type(body, "output_dtype")?.unwrap_or(scale.dtype);
    let narrow = x.dtype.bytes() == 1 || (x.dtype == DType::I32 && zero.is_none());
    if narrow && is_plain(body, &scale, zero.as_ref()) && to == DType::F32 {
        let inputs: Vec<&str> = [Some(&x), Some(&scale), zero.as_ref()].into_iter().flatten().map(|known| known.name.as_str()).collect();
        let result = body.itself(&inputs, vec![]).remove(0);
        body.output(0, &result);
        return Ok(());
    }
    let mut difference = body.cast(&x.name, DType::I32);
    if let Some(zero) = zero {
        let shift = body.cast(&zero.name, DType::I32);
        let shift = parameter(body, &x, &zero, &shift)?;
        difference = body.op("Sub", &[&difference, &shift]);
    }
    let difference = body.cast(&difference, DType::F32);
    let factor = body.cast(&scale.name, DType::F32);
    let factor = parameter(body, &x, &scale, &factor)?;
    let product = body.op("Mul", &[&difference, &factor]);
    let result = if to == DType::F32 { product } else { body.cast(&product, to) };
    body.output(0, &result);
    Ok(())
}

/// A quantised product with its scales in f32.
fn product(body: &mut Body) -> Result<(), String> {
    let inputs = single(body);
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let result = body.itself(&inputs, vec![]).remove(0);
    body.output(0, &result);
    Ok(())
}
