//! Operators of ONNX Runtime (`com.microsoft`) that its optimiser and exporters write.
//!
//! Source: ONNX Runtime's page ContribOperators. Each is expressed in operators of ONNX; forms that
//! cannot be are refused by name.

use super::attention::{Heads, Sight, bias, by_heads, computed};
use super::body::{float, int, text};
use super::elementwise::scaled;
use super::{Body, Definition, Known, always, of};
use crate::graph::{Constant, DType, Scalar};

const FUSED: &str = "ONNX Runtime's optimiser fuses operators of ONNX into it";
const INTEGER: &str = "ONNX Runtime's quantiser writes it: integers are converted, computed with and converted back";
const LANGUAGE: &str = "exporters of language models write it";

pub const DEFINITIONS: &[Definition] = &[
    of("SimplifiedLayerNormalization", rms_norm, FUSED),
    of("com.microsoft.Attention", attention, FUSED),
    of("com.microsoft.BiasGelu", bias_gelu, FUSED),
    of("com.microsoft.DynamicQuantizeMatMul", dynamic_product, INTEGER),
    of("com.microsoft.EmbedLayerNormalization", embedding, FUSED),
    of("com.microsoft.FastGelu", fast_gelu, FUSED),
    of("com.microsoft.FusedConv", fused_conv, FUSED),
    of("com.microsoft.FusedGemm", fused_gemm, FUSED),
    of("com.microsoft.FusedMatMul", fused_matmul, FUSED),
    of("com.microsoft.Gelu", bias_gelu, FUSED),
    Definition {
        operator: "com.microsoft.GroupQueryAttention",
        values: &[5],
        applies: always,
        define: group_query_attention,
        reason: LANGUAGE,
    },
    of("com.microsoft.MatMulIntegerToFloat", integer_product, INTEGER),
    Definition { operator: "com.microsoft.MatMulNBits", values: &[1, 2, 3], applies: always, define: packed_product, reason: LANGUAGE },
    of("com.microsoft.MultiHeadAttention", multi_head_attention, FUSED),
    of("com.microsoft.QLinearAdd", q_binary, INTEGER),
    of("com.microsoft.QLinearAveragePool", q_unary, INTEGER),
    of("com.microsoft.QLinearConcat", q_concat, INTEGER),
    of("com.microsoft.QLinearGlobalAveragePool", q_unary, INTEGER),
    of("com.microsoft.QLinearLeakyRelu", q_unary, INTEGER),
    of("com.microsoft.QLinearMul", q_binary, INTEGER),
    of("com.microsoft.QLinearSigmoid", q_unary, INTEGER),
    of("com.microsoft.QLinearSoftmax", q_unary, INTEGER),
    of("com.microsoft.QuickGelu", quick_gelu, FUSED),
    of("com.microsoft.RotaryEmbedding", rotary_embedding, LANGUAGE),
    of("com.microsoft.SimplifiedLayerNormalization", rms_norm, FUSED),
    of("com.microsoft.SkipLayerNormalization", skip_norm, FUSED),
    of("com.microsoft.SkipSimplifiedLayerNormalization", skip_norm, FUSED),
    of("com.microsoft.TransposeMatMul", fused_matmul, FUSED),
];

/// The sum of those of these values that exist.
fn sum(body: &mut Body, values: &[Option<&str>]) -> String {
    let mut values = values.iter().flatten();
    let mut sum = values.next().map_or(String::new(), |value| value.to_string());
    for value in values {
        sum = body.op("Add", &[&sum, value]);
    }
    sum
}

fn needed<T>(value: Option<T>, what: &str) -> Result<T, String> {
    value.ok_or_else(|| format!("its input {what} is missing"))
}

fn only_default(body: &Body, name: &str, default: i64) -> Result<(), String> {
    match body.call.int(name, default) {
        value if value == default => Ok(()),
        value => Err(format!("its attribute {name} is {value}: only {default} is supported")),
    }
}

fn without(body: &Body, position: usize, name: &str) -> Result<(), String> {
    if body.optional(position).is_some() { Err(format!("its input {name} is not supported")) } else { Ok(()) }
}

/// `Gelu` of `x`, or of `x + bias`.
fn bias_gelu(body: &mut Body) -> Result<(), String> {
    let (x, first) = needed(body.optional_wide(0), "A")?;
    let second = body.optional_wide(1).map(|(_, name)| name);
    let total = sum(body, &[Some(&first), second.as_deref()]);
    let result = body.op("Gelu", &[&total]);
    body.give(0, &result, &x);
    Ok(())
}

/// The approximation of `Gelu` by a tanh.
fn fast_gelu(body: &mut Body) -> Result<(), String> {
    let (x, first) = needed(body.optional_wide(0), "X")?;
    let second = body.optional_wide(1).map(|(_, name)| name);
    let total = sum(body, &[Some(&first), second.as_deref()]);
    let result = body.with("Gelu", &[&total], vec![text("approximate", "tanh")]);
    body.give(0, &result, &x);
    Ok(())
}

/// `x * sigmoid(alpha * x)`.
fn quick_gelu(body: &mut Body) -> Result<(), String> {
    let (x, wide) = needed(body.optional_wide(0), "X")?;
    let alpha = body.call.float("alpha", 1.702);
    let inner = scaled(body, &wide, x.computed(), alpha);
    let gate = body.op("Sigmoid", &[&inner]);
    let result = body.op("Mul", &[&wide, &gate]);
    body.give(0, &result, &x);
    Ok(())
}

/// A convolution, a summand, and an activation.
fn fused_conv(body: &mut Body) -> Result<(), String> {
    let (x, w, b, z) = (body.input(0)?, body.input(1)?, body.optional(2), body.optional(3));
    let mut attributes = body.call.node.attribute.clone();
    attributes.retain(|attribute| !attribute.name.starts_with("activation"));
    let mut inputs = vec![x.name.as_str(), &w.name];
    inputs.extend(b.as_ref().map(|b| b.name.as_str()));
    let convolved = body.with("Conv", &inputs, attributes);
    let total = sum(body, &[Some(&convolved), z.as_ref().map(|z| z.name.as_str())]);
    let parameters = body.floats("activation_params");
    let result = activated(body, &total, x.dtype, &parameters)?;
    body.output(0, &result);
    Ok(())
}

/// `Gemm`, and an activation.
fn fused_gemm(body: &mut Body) -> Result<(), String> {
    let a = body.input(0)?;
    let inputs: Vec<String> = (0..body.arity()).map(|position| body.optional(position).map_or(String::new(), |known| known.name)).collect();
    let mut attributes = body.call.node.attribute.clone();
    attributes.retain(|attribute| !attribute.name.starts_with("activation"));
    let total = body.with("Gemm", &inputs.iter().map(String::as_str).collect::<Vec<_>>(), attributes);
    let given = ["activation_alpha", "activation_beta"].map(|name| body.call.has(name).then(|| body.call.float(name, 0.0)));
    let parameters: Vec<f32> = given.into_iter().map_while(|value| value).collect();
    let result = activated(body, &total, a.dtype, &parameters)?;
    body.output(0, &result);
    Ok(())
}

/// The activation of `x` that the node names, with these parameters; those left out have ONNX's
/// defaults.
fn activated(body: &mut Body, x: &str, dtype: DType, parameters: &[f32]) -> Result<String, String> {
    let parameter = |i: usize, default: f32| parameters.get(i).copied().unwrap_or(default);
    Ok(match body.text("activation", "").as_str() {
        "" => x.to_string(),
        name @ ("Relu" | "Sigmoid" | "Tanh") => body.op(name, &[x]),
        "LeakyRelu" => body.with("LeakyRelu", &[x], vec![float("alpha", parameter(0, 0.01))]),
        "HardSigmoid" => body.with("HardSigmoid", &[x], vec![float("alpha", parameter(0, 0.2)), float("beta", parameter(1, 0.5))]),
        "Clip" => {
            let low = body.number(dtype, parameter(0, f32::MIN).into());
            let high = body.number(dtype, parameter(1, f32::MAX).into());
            body.op("Clip", &[x, &low, &high])
        }
        other => return Err(format!("its activation {other:?} is not supported")),
    })
}

/// `alpha * a * b`, with either operand transposed.
fn fused_matmul(body: &mut Body) -> Result<(), String> {
    let (a, b) = (body.input(0)?, body.input(1)?);
    let mut turned = Vec::new();
    for (known, rows, batch) in [(&a, "transA", "transBatchA"), (&b, "transB", "transBatchB")] {
        let mut order: Vec<usize> = (0..known.rank()).collect();
        if known.rank() > 1 {
            if body.call.int(batch, 0) != 0 {
                let first = order.remove(0);
                order.insert(known.rank() - 2, first); // the batch axes follow the first axis
            }
            if body.call.int(rows, 0) != 0 {
                order.swap(known.rank() - 2, known.rank() - 1);
            }
        }
        turned.push(body.transpose(&known.name, &order));
    }
    let product = body.op("MatMul", &[&turned[0], &turned[1]]);
    let alpha = body.call.float("alpha", 1.0);
    let result = scaled(body, &product, a.dtype, alpha);
    body.output(0, &result);
    Ok(())
}

/// `x / sqrt(mean(x^2) + epsilon) * scale`.
fn rms_norm(body: &mut Body) -> Result<(), String> {
    let (x, data) = needed(body.optional_wide(0), "X")?;
    let (factor, scale) = needed(body.optional_wide(1), "scale")?;
    let axis = body.call.int("axis", -1);
    let epsilon = body.call.float("epsilon", 1e-5);
    let result = body.with("RMSNormalization", &[&data, &scale], vec![int("axis", axis), float("epsilon", epsilon)]);
    let result = if x.dtype == factor.dtype { result } else { body.cast(&result, factor.dtype) };
    body.give(0, &result, &factor);
    Ok(())
}

/// The normalisation of a sum.
fn skip_norm(body: &mut Body) -> Result<(), String> {
    let simplified = body.call.node.op_type.contains("Simplified");
    let (x, data) = needed(body.optional_wide(0), "input")?;
    let skip = needed(body.optional_wide(1), "skip")?.1;
    let gamma = needed(body.optional_wide(2), "gamma")?.1;
    let (beta, extra) = if simplified { (None, body.optional_wide(3)) } else { (body.optional_wide(3), body.optional_wide(4)) };
    let total = sum(body, &[Some(&data), Some(&skip), extra.as_ref().map(|(_, name)| name.as_str())]);
    let epsilon = float("epsilon", body.call.float("epsilon", 1e-12));
    let result = if simplified {
        body.with("RMSNormalization", &[&total, &gamma], vec![int("axis", -1), epsilon])
    } else {
        let mut inputs = vec![total.as_str(), &gamma];
        inputs.extend(beta.as_ref().map(|(_, name)| name.as_str()));
        body.with("LayerNormalization", &inputs, vec![int("axis", -1), epsilon])
    };
    body.give(0, &result, &x);
    body.give(3, &total, &x);
    Ok(())
}

/// The sum of embeddings of words, positions and segments, normalised.
fn embedding(body: &mut Body) -> Result<(), String> {
    let ids = body.input(0)?;
    let &[batch, length] = &ids.shape[..] else { return Err("its input_ids must have two axes".into()) };
    let (words, word_name) = needed(body.optional_wide(2), "word_embedding")?;
    let position_table = needed(body.optional_wide(3), "position_embedding")?.1;
    let rows = |body: &mut Body, table: &str, index: &str| body.with("Gather", &[table, index], vec![int("axis", 0)]);
    let word = rows(body, &word_name, &ids.name);
    let positions = match body.optional(8) {
        Some(positions) => positions.name,
        None => {
            let numbers: Vec<i64> = (0..length as i64).collect();
            body.constant(&Constant::I64(numbers.into()), &[1, length])
        }
    };
    let position = rows(body, &position_table, &positions);
    let segment = match (body.optional(1), body.optional_wide(4)) {
        (Some(ids), Some((_, table))) => Some(rows(body, &table, &ids.name)),
        _ => None,
    };
    let total = sum(body, &[Some(&word), Some(&position), segment.as_deref()]);
    let (gamma, beta) = (needed(body.optional_wide(5), "gamma")?.1, needed(body.optional_wide(6), "beta")?.1);
    let epsilon = body.call.float("epsilon", 1e-12);
    let result = body.with("LayerNormalization", &[&total, &gamma, &beta], vec![int("axis", -1), float("epsilon", epsilon)]);
    body.give(0, &result, &words);
    if body.wants(1) {
        let counts = match body.optional(7) {
            Some(mask) => {
                let axes = body.list(&[1]);
                body.with("ReduceSum", &[&mask.name, &axes], vec![int("keepdims", 0)])
            }
            None => body.constant(&Constant::repeated(Scalar::from_f64(DType::I32, 0.0), batch), &[batch]),
        };
        body.output(1, &counts);
    }
    body.give(2, &total, &words);
    Ok(())
}

/// The numbers that integers with a scale and zero point represent, from the inputs at `position`.
fn numbers(body: &mut Body, position: usize) -> Result<String, String> {
    let x = body.input(position)?;
    let scale = body.input(position + 1)?;
    let mut inputs = vec![x.name, scale.name];
    inputs.extend(body.optional(position + 2).map(|zero| zero.name));
    Ok(body.op("DequantizeLinear", &inputs.iter().map(String::as_str).collect::<Vec<_>>()))
}

/// Makes `value` the output, as integers with the scale and zero point at `position`.
fn integers(body: &mut Body, value: &str, position: usize) -> Result<(), String> {
    let dtype = body.input(0)?.dtype;
    let scale = body.input(position)?;
    let zero = match body.optional(position + 1) {
        Some(zero) => zero.name,
        None => body.number(dtype, 0.0),
    };
    let result = body.op("QuantizeLinear", &[value, &scale.name, &zero]);
    body.output(0, &result);
    Ok(())
}

fn q_binary(body: &mut Body) -> Result<(), String> {
    let (a, b) = (numbers(body, 0)?, numbers(body, 3)?);
    let operator = if body.call.node.op_type.ends_with("Add") { "Add" } else { "Mul" };
    let result = body.op(operator, &[&a, &b]);
    integers(body, &result, 6)
}

fn q_unary(body: &mut Body) -> Result<(), String> {
    only_default(body, "channels_last", 0)?;
    let x = numbers(body, 0)?;
    let operator = body.call.node.op_type.rsplit("QLinear").next().unwrap_or_default().to_string();
    if body.call.int("ceil_mode", 0) != 0 && body.call.int("count_include_pad", 0) != 0 {
        return Err("its ceil_mode together with count_include_pad is not supported".into());
    }
    let mut attributes = body.call.node.attribute.clone();
    attributes.retain(|attribute| !matches!(attribute.name.as_str(), "channels_last" | "opset"));
    if operator == "Softmax" && body.call.int("opset", 13) < 13 {
        return Err("its softmax of an opset below 13 is not supported".into());
    }
    let result = body.with(&operator, &[&x], attributes);
    integers(body, &result, 3)
}

fn q_concat(body: &mut Body) -> Result<(), String> {
    let mut parts = Vec::new();
    for position in (2..body.arity()).step_by(3) {
        parts.push(numbers(body, position)?);
    }
    let axis = body.call.int("axis", 0);
    let all = body.with("Concat", &parts.iter().map(String::as_str).collect::<Vec<_>>(), vec![int("axis", axis)]);
    let (scale, zero) = (body.input(0)?, body.input(1)?);
    let result = body.op("QuantizeLinear", &[&all, &scale.name, &zero.name]);
    body.output(0, &result);
    Ok(())
}

/// The product of integers, as numbers: `(a - a_zero)(b - b_zero) * scale + bias`.
fn rescaled(body: &mut Body, operands: [&str; 2], zeros: [Option<String>; 2], scales: [&str; 2], bias: Option<&str>) -> String {
    let mut inputs = vec![operands[0].to_string(), operands[1].to_string()];
    inputs.extend(zeros.into_iter().map(Option::unwrap_or_default));
    while inputs.last().is_some_and(String::is_empty) {
        inputs.pop();
    }
    let product = body.op("MatMulInteger", &inputs.iter().map(String::as_str).collect::<Vec<_>>());
    let product = body.cast(&product, DType::F32);
    let scale = body.op("Mul", &[scales[0], scales[1]]);
    let result = body.op("Mul", &[&product, &scale]);
    sum(body, &[Some(&result), bias])
}

fn dynamic_product(body: &mut Body) -> Result<(), String> {
    let (a, b, scale, zero, bias) = (body.input(0)?, body.input(1)?, body.input(2)?, body.optional(3), body.optional(4));
    let quantised = body.several("DynamicQuantizeLinear", &[&a.name], vec![], 3);
    let zeros = [Some(quantised[2].clone()), zero.map(|zero| zero.name)];
    let bias = bias.as_ref().map(|bias| bias.name.as_str());
    let result = rescaled(body, [&quantised[0], &b.name], zeros, [&quantised[1], &scale.name], bias);
    body.output(0, &result);
    Ok(())
}

fn integer_product(body: &mut Body) -> Result<(), String> {
    let ((a, b), (scale, a_scale), (_, b_scale)) = ((body.input(0)?, body.input(1)?), body.wide(2)?, body.wide(3)?);
    let zeros = [4, 5].map(|position| body.optional(position).map(|zero| zero.name));
    let bias = body.optional_wide(6).map(|(_, bias)| bias);
    let result = rescaled(body, [&a.name, &b.name], zeros, [&a_scale, &b_scale], bias.as_deref());
    body.give(0, &result, &scale);
    Ok(())
}

/// A product with constant weights of 4 or 8 bits, in blocks along K that have a scale each.
fn packed_product(body: &mut Body) -> Result<(), String> {
    let (a, data) = needed(body.optional_wide(0), "A")?;
    let (b, scales, zeros, order) = (body.input(1)?, body.input(2)?, body.optional(3), body.optional(4));
    if order.is_some() {
        return Err("its input g_idx is not supported".into());
    }
    let [k, n, bits, block] = [("K", 0), ("N", 0), ("bits", 4), ("block_size", 0)]
        .map(|(name, default)| usize::try_from(body.call.int(name, default)).unwrap_or(0));
    if k == 0 || n == 0 || block == 0 || !matches!(bits, 4 | 8) {
        return Err(format!("K {k}, N {n}, bits {bits} and block_size {block} are not supported"));
    }
    let blocks = k.div_ceil(block);
    let bytes = block * bits / 8;
    let constant = |known: &Known, what: &str| known.value.clone().ok_or_else(|| format!("its {what} must be constants"));
    let (Constant::U8(packed), scale) = (constant(&b, "weights")?, constant(&scales, "scales")?) else {
        return Err("its weights must be of type u8".into());
    };
    let scale_size = scale.dtype().bytes() as usize;
    let number = |i: usize| {
        let mut wide = [0; 8];
        wide[..scale_size].copy_from_slice(&scale.bytes()[i * scale_size..(i + 1) * scale_size]);
        Scalar::from_bits(scale.dtype(), u64::from_le_bytes(wide)).number() as f32
    };
    let zero_row = (blocks * bits).div_ceil(8);
    let points = match &zeros {
        None => None,
        Some(zeros) => match constant(zeros, "zero points")? {
            Constant::U8(points) if points.len() == n * zero_row => Some(points),
            _ => return Err("its zero points must be packed like its weights".into()),
        },
    };
    if packed.len() != n * blocks * bytes || scale.len() != n * blocks {
        return Err(format!("{} bytes of weights and {} scales do not fit K {k}, N {n}", packed.len(), scale.len()));
    }
    let part = |byte: u8, i: usize| if bits == 8 { byte } else { byte >> (4 * (i % 2)) & 15 };
    let mut values = vec![0.0f32; k * n];
    for column in 0..n {
        for row in 0..k {
            let (of, i) = (row / block, row % block);
            let byte = packed[(column * blocks + of) * bytes + i * bits / 8];
            let zero = match &points {
                Some(points) => part(points[column * zero_row + of * bits / 8], of),
                None => 1 << (bits - 1),
            };
            let difference = f32::from(part(byte, i)) - f32::from(zero);
            values[row * n + column] = difference * number(column * blocks + of);
        }
    }
    let weights = body.constant(&values.into(), &[k, n]);
    let mut product = body.op("MatMul", &[&data, &weights]);
    if let Some((_, bias)) = body.optional_wide(5) {
        product = body.op("Add", &[&product, &bias]);
    }
    body.give(0, &product, &a);
    Ok(())
}

/// The number that the node asks for where a mask of integers is 0. A mask with one number for each
/// batch has the numbers of valid keys.
fn hidden_keys(body: &mut Body, mask: &Known, batch: usize, columns: usize) -> Result<String, String> {
    let filter = f64::from(body.call.float("mask_filter_value", -10000.0));
    let (zero, hidden) = (body.number(DType::F32, 0.0), body.number(DType::F32, filter));
    let visible = match mask.shape[..] {
        [b] if b == batch => {
            let lengths = body.cast(&mask.name, DType::I64);
            let lengths = body.reshape(&lengths, &[batch, 1, 1, 1]);
            let numbers: Vec<i64> = (0..columns as i64).collect();
            let numbers = body.constant(&Constant::I64(numbers.into()), &[1, 1, 1, columns]);
            body.op("Less", &[&numbers, &lengths])
        }
        [b, c] if (b, c) == (batch, columns) => {
            let given = positive(body, mask);
            body.reshape(&given, &[batch, 1, 1, columns])
        }
        [b, rows, c] if (b, c) == (batch, columns) => {
            let given = positive(body, mask);
            body.reshape(&given, &[batch, 1, rows, columns])
        }
        _ => return Err(format!("a mask of shape {:?} is not supported", mask.shape)),
    };
    Ok(body.op("Where", &[&visible, &zero, &hidden]))
}

/// Whether each element of a mask is above 0.
fn positive(body: &mut Body, mask: &Known) -> String {
    if mask.dtype == DType::Bool {
        return mask.name.clone();
    }
    let zero = body.number(mask.dtype, 0.0);
    body.op("Greater", &[&mask.name, &zero])
}

/// Heads joined again: `[batch, rows, heads * depth]`.
fn joined(body: &mut Body, y: &str, operands: &Heads) -> String {
    let rows_first = body.transpose(y, &[0, 2, 1, 3]);
    body.reshape(&rows_first, &[operands.batch, operands.rows, operands.heads * operands.value_depth])
}

/// The scale that the node states, or that of its depth.
fn scale_of(body: &Body, depth: usize) -> f32 {
    match body.call.float("scale", 0.0) {
        0.0 => (depth as f32).sqrt().recip(),
        scale => scale,
    }
}

/// Projections of one input to Q, K and V, then attention.
fn attention(body: &mut Body) -> Result<(), String> {
    only_default(body, "do_rotary", 0)?;
    only_default(body, "past_present_share_buffer", 0)?;
    without(body, 6, "past_sequence_length")?;
    let (x, data) = needed(body.optional_wide(0), "input")?;
    let (w, weights) = needed(body.optional_wide(1), "weights")?;
    let heads = usize::try_from(body.call.int("num_heads", 0)).ok().filter(|&heads| heads > 0).ok_or("it has no num_heads")?;
    let &[batch, rows, _] = &x.shape[..] else { return Err("its input must have three axes".into()) };
    let width = *w.shape.last().unwrap_or(&0);
    let sizes: Vec<usize> = match body.ints("qkv_hidden_sizes").filter(|sizes| !sizes.is_empty()) {
        Some(sizes) => sizes.iter().map(|&size| usize::try_from(size).unwrap_or(0)).collect(),
        None => vec![width / 3; 3],
    };
    if sizes.len() != 3 || sizes.iter().sum::<usize>() != width || sizes.iter().any(|size| *size == 0 || size % heads != 0) {
        return Err(format!("its sizes {sizes:?} do not fit weights of {width} columns and {heads} heads"));
    }
    let mut all = body.op("MatMul", &[&data, &weights]);
    if let Some((_, bias)) = body.optional_wide(2) {
        all = body.op("Add", &[&all, &bias]);
    }
    let mut parts = Vec::new();
    let mut begin = 0;
    for &size in &sizes {
        let part = body.slice(&all, 2, begin, begin + size);
        let known = Known { name: part.clone(), dtype: DType::F32, shape: vec![batch, rows, size], value: None };
        parts.push(by_heads(body, &known, &part, Some(heads))?.0);
        begin += size;
    }
    let (depth, value_depth) = (sizes[0] / heads, sizes[2] / heads);
    let mut before = 0;
    if let Some((past, name)) = body.optional_wide(4) {
        before = past.shape.get(3).copied().unwrap_or(0);
        for (i, part) in parts[1..].iter_mut().enumerate() {
            let half = body.slice(&name, 0, i, i + 1);
            let half = body.reshape(&half, &[batch, heads, before, depth]);
            *part = body.concat(&[half, part.clone()], 2);
        }
    }
    let columns = before + rows;
    if body.wants(1) {
        let shape = [1, batch, heads, columns, depth];
        let halves = [body.reshape(&parts[1], &shape), body.reshape(&parts[2], &shape)];
        let present = body.concat(&halves, 0);
        body.give(1, &present, &x);
    }
    let [q, k, v] = <[String; 3]>::try_from(parts).map_err(|_| "it has three projections")?;
    let operands = Heads { q, k, v, dtype: DType::F32, batch, heads, kv_heads: heads, rows, columns, depth, value_depth };
    let mask = body.optional(3).map(|mask| hidden_keys(body, &mask, batch, columns)).transpose()?;
    let added = body.optional_wide(5).map(|(_, name)| name);
    finish(body, &operands, before, [mask, added], &x)
}

/// Attention of `operands` with summands of the scores, as output 0.
fn finish(body: &mut Body, operands: &Heads, before: usize, summands: [Option<String>; 2], like: &Known) -> Result<(), String> {
    // a single query sees all keys, as in ONNX Runtime
    let causal = body.call.int("unidirectional", 0) != 0 && operands.rows > 1;
    if causal && operands.columns > before + operands.rows {
        return Err(format!(
            "unidirectional attention of {} queries to {} keys is not supported",
            operands.rows,
            operands.columns - before
        ));
    }
    let sight = Sight { causal, left: -1, right: -1, before: before as i64, lengths: None };
    let mask = summands.iter().any(Option::is_some).then(|| sum(body, &[summands[0].as_deref(), summands[1].as_deref()]));
    let bias = bias(body, operands, &sight, mask)?;
    let scale = scale_of(body, operands.depth);
    let (y, _) = computed(body, operands, bias.as_deref(), scale, 0.0, None)?;
    let y = joined(body, &y, operands);
    body.give(0, &y, like);
    Ok(())
}

fn multi_head_attention(body: &mut Body) -> Result<(), String> {
    without(body, 8, "past_sequence_length")?;
    let (q, mut q_name) = needed(body.optional_wide(0), "query")?;
    if q.rank() != 3 || body.optional(1).is_some_and(|key| key.rank() == 5) {
        return Err("packed queries, keys and values are not supported".into());
    }
    let (k, mut k_name) = needed(body.optional_wide(1), "key")?;
    let (v, mut v_name) = needed(body.optional_wide(2), "value")?;
    let heads = usize::try_from(body.call.int("num_heads", 0)).ok().filter(|&heads| heads > 0).ok_or("it has no num_heads")?;
    if let Some((known, bias)) = body.optional_wide(3) {
        let mut begin = 0;
        for (operand, name) in [(&q, &mut q_name), (&k, &mut k_name), (&v, &mut v_name)] {
            let width = operand
                .shape
                .get(2)
                .copied()
                .filter(|_| operand.rank() == 3)
                .ok_or("a bias of keys that are already split into heads is not supported")?;
            if begin + width > known.shape.iter().product() {
                return Err(format!("its bias of shape {:?} is too short", known.shape));
            }
            let part = body.slice(&bias, 0, begin, begin + width);
            *name = body.op("Add", &[name, &part]);
            begin += width;
        }
    }
    let (q4, [batch, _, rows, depth]) = by_heads(body, &q, &q_name, Some(heads))?;
    let (mut k4, [.., mut columns, _]) = by_heads(body, &k, &k_name, Some(heads))?;
    let (mut v4, [.., value_depth]) = by_heads(body, &v, &v_name, Some(heads))?;
    let mut before = 0;
    if let (Some((past, key)), Some((_, value))) = (body.optional_wide(6), body.optional_wide(7)) {
        before = past.shape.get(2).copied().unwrap_or(0);
        columns += before;
        k4 = body.concat(&[key, k4], 2);
        v4 = body.concat(&[value, v4], 2);
    }
    body.give(1, &k4, &q);
    body.give(2, &v4, &q);
    let mask = body.optional(4).map(|mask| hidden_keys(body, &mask, batch, columns)).transpose()?;
    let added = body.optional_wide(5).map(|(_, name)| name);
    let operands = Heads { q: q4, k: k4, v: v4, dtype: DType::F32, batch, heads, kv_heads: heads, rows, columns, depth, value_depth };
    finish(body, &operands, before, [mask, added], &q)
}

/// The operator of ONNX, with its inputs in another order and a position for each token.
fn rotary_embedding(body: &mut Body) -> Result<(), String> {
    only_default(body, "is_packed_batching", 0)?;
    if body.call.float("scale", 1.0) != 1.0 {
        return Err("its scale is not supported".into());
    }
    let (x, data) = needed(body.optional_wide(0), "input")?;
    let positions = body.input(1)?;
    let (cos, cos_name) = needed(body.optional_wide(2), "cos_cache")?;
    let (_, sin_name) = needed(body.optional_wide(3), "sin_cache")?;
    let (batch, rows) = match x.shape[..] {
        [batch, rows, _] => (batch, rows),
        [batch, _, rows, _] => (batch, rows),
        _ => return Err("its input must have three or four axes".into()),
    };
    let width = 2 * cos.shape.get(1).copied().unwrap_or(0);
    let positions = token_positions(body, &positions, batch, rows);
    let heads = match (body.call.int("num_heads", 0), x.rank()) {
        (0, 3) if width > 0 => (x.shape[2] / width) as i64,
        (heads, _) => heads,
    };
    let rotary = body.call.int("rotary_embedding_dim", 0);
    let result = rotated(body, &data, &cos_name, &sin_name, &positions, [heads, rotary]);
    body.give(0, &result, &x);
    Ok(())
}

/// The position of each token: `[batch, rows]`. One number is that of the first token.
fn token_positions(body: &mut Body, positions: &Known, batch: usize, rows: usize) -> String {
    if positions.shape.iter().product::<usize>() != 1 {
        return positions.name.clone();
    }
    let first = if positions.dtype == DType::I64 { positions.name.clone() } else { body.cast(&positions.name, DType::I64) };
    let first = body.reshape(&first, &[1, 1]);
    let numbers: Vec<i64> = (0..batch).flat_map(|_| 0..rows as i64).collect();
    let numbers = body.constant(&Constant::I64(numbers.into()), &[batch, rows]);
    body.op("Add", &[&numbers, &first])
}

/// `x` with the first `width` elements of each row rotated; all if that is 0.
fn rotated(body: &mut Body, x: &str, cos: &str, sin: &str, positions: &str, [heads, width]: [i64; 2]) -> String {
    let interleaved = body.call.int("interleaved", body.call.int("rotary_interleaved", 0));
    let attributes = vec![int("interleaved", interleaved), int("rotary_embedding_dim", width), int("num_heads", heads)];
    body.with("RotaryEmbedding", &[x, cos, sin, positions], attributes)
}

/// Attention in which several heads share keys and values, with rotary positions and a cache. The
/// cache must be full: its length is then known when the model is compiled.
fn group_query_attention(body: &mut Body) -> Result<(), String> {
    let refused = ["position_ids", "attention_bias", "head_sink", "k_scale", "v_scale", "q_norm_weight", "k_norm_weight", "query_seqlens"];
    for (position, name) in (9..).zip(refused) {
        without(body, position, name)?;
    }
    let (q, q_name) = needed(body.optional_wide(0), "query")?;
    let count = |name: &str| usize::try_from(body.call.int(name, 0)).ok().filter(|&n| n > 0).ok_or(format!("it has no {name}"));
    let (heads, kv_heads) = (count("num_heads")?, count("kv_num_heads")?);
    let &[batch, rows, width] = &q.shape[..] else { return Err("its query must have three axes".into()) };
    let packed = body.optional(1).is_none();
    let depth = width / if packed { heads + 2 * kv_heads } else { heads };
    let mut operands = Vec::new();
    for (position, count) in [(0, heads), (1, kv_heads), (2, kv_heads)] {
        let name = if packed {
            let begin = [0, heads, heads + kv_heads][position] * depth;
            body.slice(&q_name, 2, begin, begin + count * depth)
        } else {
            needed(body.optional_wide(position), "key or value")?.1
        };
        let split = body.reshape(&name, &[batch, rows, count, depth]);
        operands.push(body.transpose(&split, &[0, 2, 1, 3]));
    }
    let past = body.optional(3).map_or(0, |past| past.shape.get(2).copied().unwrap_or(0));
    let lengths = body.input(5)?.ints().ok_or(
        "its seqlens_k must be constants: give the input of the model that they are computed from, such as attention_mask, with --constant",
    )?;
    if lengths.iter().any(|&length| length + 1 != (past + rows) as i64) {
        return Err(format!("its seqlens_k {lengths:?} are not {}, one less than the {past} cached and {rows} new keys", past + rows - 1));
    }
    if body.call.int("do_rotary", 0) != 0 {
        let ((table, cos), sin) = (needed(body.optional_wide(7), "cos_cache")?, needed(body.optional_wide(8), "sin_cache")?.1);
        // the tables have half of the elements that are rotated
        let width = 2 * table.shape.last().copied().unwrap_or(0);
        let numbers: Vec<i64> = (0..batch).flat_map(|_| past as i64..(past + rows) as i64).collect();
        let positions = body.constant(&Constant::I64(numbers.into()), &[batch, rows]);
        for operand in &mut operands[..2] {
            *operand = rotated(body, operand, &cos, &sin, &positions, [0, if width < depth { width as i64 } else { 0 }]);
        }
    }
    if past > 0 {
        for (position, operand) in [(3, 1), (4, 2)] {
            let cached = needed(body.optional_wide(position), "past")?.1;
            operands[operand] = body.concat(&[cached, operands[operand].clone()], 2);
        }
    }
    body.give(1, &operands[1], &q);
    body.give(2, &operands[2], &q);
    let [q4, k4, v4] = <[String; 3]>::try_from(operands).map_err(|_| "it has three operands")?;
    let columns = past + rows;
    let operands = Heads { q: q4, k: k4, v: v4, dtype: DType::F32, batch, heads, kv_heads, rows, columns, depth, value_depth: depth };
    let window = body.call.int("local_window_size", -1);
    if window == 0 {
        return Err("its local_window_size is 0, in which no key is visible".into());
    }
    let sight = Sight { causal: true, left: if window > 0 { window - 1 } else { -1 }, right: -1, before: past as i64, lengths: None };
    let hidden = bias(body, &operands, &sight, None)?;
    let (scale, softcap) = (scale_of(body, depth), body.call.float("softcap", 0.0));
    let (y, _) = computed(body, &operands, hidden.as_deref(), scale, softcap, None)?;
    let y = joined(body, &y, &operands);
    body.give(0, &y, &q);
    Ok(())
}
