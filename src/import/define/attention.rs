//! Scaled dot-product attention.
//!
//! Everything that hides a score is one summand of 0 and -inf: masks of numbers or truth values,
//! causality, windows, the lengths of padded sequences. What is known when the model is compiled is
//! a constant. Then either the reader's attention adds it, which becomes one kernel, or, if scores
//! are capped or are an output, the steps are written out. A row with all scores hidden gives 0.

use super::body::{float, int};
use super::{Body, Definition, Known, OPSET, always};
use crate::graph::{Constant, DType, Scalar};
use crate::import::onnx::limits::{self, LARGEST_MASK};

pub const DEFINITIONS: &[Definition] = &[Definition {
    operator: "Attention",
    values: &[],
    applies: always,
    define: attention,
    reason: "the reader knows no masks of truth values, windows or lengths, and shifts no causal mask by the cache",
}];

/// Operands `[batch, heads, rows, depth]` of the type that is computed.
pub struct Heads {
    pub q: String,
    pub k: String,
    pub v: String,
    pub dtype: DType,
    pub batch: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub rows: usize,
    pub columns: usize,
    pub depth: usize,
    pub value_depth: usize,
}

/// What a query may look at, besides a mask.
pub struct Sight {
    /// No key behind the query.
    pub causal: bool,
    /// At most so many keys before the query; negative for any number.
    pub left: i64,
    /// At most so many keys behind the query; negative for any number.
    pub right: i64,
    /// The number of keys before the first query.
    pub before: i64,
    /// The number of valid keys of each batch, if they are padded: `[batch]`, i64.
    pub lengths: Option<String>,
}

/// `x` as `[batch, heads, rows, depth]`, and the shape.
pub fn by_heads(body: &mut Body, x: &Known, name: &str, heads: Option<usize>) -> Result<(String, [usize; 4]), String> {
    match (x.shape[..].to_vec()[..].try_into(), heads) {
        (Ok(shape), _) => Ok((name.into(), shape)),
        (Err(_), Some(heads)) if x.rank() == 3 && heads > 0 && x.shape[2].is_multiple_of(heads) => {
            let [batch, rows, width] = [x.shape[0], x.shape[1], x.shape[2]];
            let split = body.reshape(name, &[batch, rows, heads, width / heads]);
            Ok((body.transpose(&split, &[0, 2, 1, 3]), [batch, heads, rows, width / heads]))
        }
        _ => Err(format!("an operand of shape {:?} does not consist of {} heads", x.shape, heads.unwrap_or(0))),
    }
}

fn attention(body: &mut Body) -> Result<(), String> {
    let (q, k, v) = (body.input(0)?, body.input(1)?, body.input(2)?);
    let (mask, past_key, past_value) = (body.optional(3), body.optional(4), body.optional(5));
    let lengths = body.optional(6);
    if past_key.is_some() != past_value.is_some() || (lengths.is_some() && past_key.is_some()) {
        return Err("past_key and past_value go together, and exclude nonpad_kv_seqlen".into());
    }
    let dtype = q.computed();
    let heads = |name: &str| body.call.has(name).then(|| body.call.int(name, 0) as usize);
    let (q_heads, kv_heads) = (heads("q_num_heads"), heads("kv_num_heads"));
    let wide = |body: &mut Body, known: &Known| if known.dtype == dtype { known.name.clone() } else { body.cast(&known.name, dtype) };
    let [q_wide, k_wide, v_wide] = [&q, &k, &v].map(|known| wide(body, known));
    let (q4, [batch, heads, rows, depth]) = by_heads(body, &q, &q_wide, q_heads)?;
    let (mut k4, [_, kv_heads, mut columns, k_depth]) = by_heads(body, &k, &k_wide, kv_heads.or(q_heads))?;
    let (mut v4, [_, v_heads, v_rows, value_depth]) = by_heads(body, &v, &v_wide, Some(kv_heads))?;
    if k_depth != depth || v_heads != kv_heads || v_rows != columns || kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
        return Err(format!("Q {:?}, K {:?} and V {:?} do not fit together", q.shape, k.shape, v.shape));
    }
    let mut before = 0;
    if let (Some(key), Some(value)) = (past_key, past_value) {
        before = key.shape.get(2).copied().unwrap_or(0);
        columns += before;
        let (key, value) = (wide(body, &key), wide(body, &value));
        k4 = body.concat(&[key, k4], 2);
        v4 = body.concat(&[value, v4], 2);
    }
    let lengths = lengths.map(|lengths| body.cast(&lengths.name, DType::I64));
    let sight = Sight {
        causal: body.call.int("is_causal", 0) != 0,
        left: body.call.int("left_window_size", -1),
        right: body.call.int("right_window_size", -1),
        before: before as i64,
        lengths,
    };
    let operands = Heads { q: q4, k: k4.clone(), v: v4.clone(), dtype, batch, heads, kv_heads, rows, columns, depth, value_depth };
    let mask = mask.map(|mask| additive(body, &mask, columns, dtype)).transpose()?;
    let bias = bias(body, &operands, &sight, mask)?;
    let scale = if body.call.has("scale") { body.call.float("scale", 1.0) } else { (depth as f32).sqrt().recip() };
    let softcap = body.call.float("softcap", 0.0);
    let mode = body.call.int("qk_matmul_output_mode", 0);
    let (y, scores) = computed(body, &operands, bias.as_deref(), scale, softcap, body.wants(3).then_some(mode))?;
    let y = if q.rank() == 3 {
        let rows_first = body.transpose(&y, &[0, 2, 1, 3]);
        body.reshape(&rows_first, &[batch, rows, heads * value_depth])
    } else {
        y
    };
    for (position, value) in [Some(y), Some(k4), Some(v4), scores].into_iter().enumerate() {
        if let Some(value) = value.filter(|_| body.wants(position)) {
            body.give(position, &value, &q);
        }
    }
    Ok(())
}

/// A mask as a summand of scores: truth values become 0 and -inf; columns that it does not have are
/// hidden.
fn additive(body: &mut Body, mask: &Known, columns: usize, dtype: DType) -> Result<String, String> {
    let mut result = if mask.dtype == DType::Bool {
        let (zero, hidden) = (body.number(dtype, 0.0), body.number(dtype, f64::NEG_INFINITY));
        body.op("Where", &[&mask.name, &zero, &hidden])
    } else if mask.dtype == dtype {
        mask.name.clone()
    } else {
        body.cast(&mask.name, dtype)
    };
    let width = *mask.shape.last().ok_or("its mask has no axes")?;
    if width < columns && width != 1 {
        let mut shape = mask.shape.clone();
        shape[mask.rank() - 1] = columns - width;
        let count = shape.iter().product();
        let rest = body.constant(&Constant::repeated(Scalar::from_f64(dtype, f64::NEG_INFINITY), count), &shape);
        result = body.concat(&[result, rest], mask.rank() - 1);
    }
    // four axes
    let mut shape = vec![1; 4 - mask.rank().min(4)];
    shape.extend(&mask.shape);
    if width < columns && width != 1 {
        shape[3] = columns;
    }
    Ok(if mask.rank() < 4 { body.reshape(&result, &shape) } else { result })
}

/// The sum of `mask` and of what `sight` hides; `None` if nothing is hidden.
pub fn bias(body: &mut Body, operands: &Heads, sight: &Sight, mask: Option<String>) -> Result<Option<String>, String> {
    let (rows, columns, dtype) = (operands.rows as i64, operands.columns as i64, operands.dtype);
    let limited = sight.causal || sight.left >= 0 || sight.right >= 0;
    let seen = |query: i64, key: i64| {
        (!sight.causal || key <= query) && (sight.left < 0 || query - key <= sight.left) && (sight.right < 0 || key - query <= sight.right)
    };
    let (zero, hidden) = (body.number(dtype, 0.0), body.number(dtype, f64::NEG_INFINITY));
    let mut summands: Vec<String> = mask.into_iter().collect();
    match &sight.lengths {
        None if limited => {
            limits::computed(&[operands.rows, operands.columns], 1, LARGEST_MASK)?;
            let all = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
            let values: Vec<bool> = all.map(|(row, column)| seen(row + sight.before, column)).collect();
            let visible = body.constant(&Constant::Bool(values.into()), &[1, 1, operands.rows, operands.columns]);
            summands.push(body.op("Where", &[&visible, &zero, &hidden]));
        }
        None => {}
        Some(lengths) => {
            let lengths = body.reshape(lengths, &[operands.batch, 1, 1, 1]);
            let columns = body.constant(&Constant::I64((0..columns).collect::<Vec<_>>().into()), &[1, 1, 1, operands.columns]);
            let valid = body.op("Less", &[&columns, &lengths]);
            summands.push(body.op("Where", &[&valid, &zero, &hidden]));
            if limited {
                // the last query is at the last valid key
                let numbers =
                    body.constant(&Constant::I64((0..rows).map(|row| row - rows).collect::<Vec<_>>().into()), &[1, 1, operands.rows, 1]);
                let queries = body.op("Add", &[&numbers, &lengths]);
                let ahead = body.op("Sub", &[&columns, &queries]);
                for (limit, left) in [(if sight.causal { 0 } else { -1 }, false), (sight.right, false), (sight.left, true)] {
                    if limit < 0 {
                        continue;
                    }
                    let distance = if left { body.op("Neg", &[&ahead]) } else { ahead.clone() };
                    let limit = body.number(DType::I64, limit as f64);
                    let near = body.op("LessOrEqual", &[&distance, &limit]);
                    summands.push(body.op("Where", &[&near, &zero, &hidden]));
                }
            }
        }
    }
    let mut summands = summands.into_iter();
    let Some(first) = summands.next() else { return Ok(None) };
    Ok(Some(summands.fold(first, |sum, summand| body.op("Add", &[&sum, &summand]))))
}

/// `softmax(scale * q k^T + bias) v`, and the scores in the state that `mode` names.
pub fn computed(
    body: &mut Body,
    operands: &Heads,
    bias: Option<&str>,
    scale: f32,
    softcap: f32,
    mode: Option<i64>,
) -> Result<(String, Option<String>), String> {
    let Heads { batch, heads, kv_heads, rows, columns, depth, value_depth, dtype, .. } = *operands;
    if softcap == 0.0 && mode.is_none() && dtype == DType::F32 {
        let mut inputs = vec![operands.q.as_str(), &operands.k, &operands.v];
        inputs.extend(bias);
        let y = body.as_read("Attention", OPSET, &inputs, vec![float("scale", scale)], &[true]).remove(0);
        return Ok((y, None));
    }
    // heads that share keys are rows of one product
    let group = heads / kv_heads;
    let q = body.reshape(&operands.q, &[batch, kv_heads, group * rows, depth]);
    let k = body.transpose(&operands.k, &[0, 1, 3, 2]);
    let products = body.op("MatMul", &[&q, &k]);
    let factor = body.number(dtype, scale.into());
    let raw = body.op("Mul", &[&products, &factor]);
    let raw = body.reshape(&raw, &[batch, heads, rows, columns]);
    let mut scores = raw.clone();
    if softcap != 0.0 {
        let cap = body.number(dtype, softcap.into());
        let small = body.op("Div", &[&scores, &cap]);
        let capped = body.op("Tanh", &[&small]);
        scores = body.op("Mul", &[&capped, &cap]);
    }
    let capped = scores.clone();
    if let Some(bias) = bias {
        scores = body.op("Add", &[&scores, bias]);
    }
    let masked = scores.clone();
    let mut weights = body.with("Softmax", &[&scores], vec![int("axis", -1)]);
    if let Some(bias) = bias {
        let largest = body.reduce("ReduceMax", bias, &[-1]);
        let hidden = body.with("IsInf", &[&largest], vec![int("detect_positive", 0)]);
        let zero = body.number(dtype, 0.0);
        weights = body.op("Where", &[&hidden, &zero, &weights]);
    }
    let shown = match mode {
        None => None,
        Some(0) => Some(raw),
        Some(1) => Some(capped),
        Some(2) => Some(masked),
        Some(3) => Some(weights.clone()),
        Some(other) => return Err(format!("its qk_matmul_output_mode {other} is not known")),
    };
    let tall = body.reshape(&weights, &[batch, kv_heads, group * rows, columns]);
    let y = body.op("MatMul", &[&tall, &operands.v]);
    Ok((body.reshape(&y, &[batch, heads, rows, value_depth]), shown))
}
