//! Pooling by a norm, the padding of transposed convolutions, and convolutions of many groups.

use super::body::{int, ints, text};
use super::{Body, Call, Definition, Known, of};
use crate::graph::{Constant, DType, Scalar};

/// The most groups that one launch numbers: the second and third axis of a grid have 65535 blocks.
const GROUPS: usize = 65_535;

/// The groups of each part, where there are more.
const PART: usize = 32_768;

/// A convolution of so many groups that one launch cannot number them.
const fn many_groups(operator: &'static str) -> Definition {
    Definition {
        operator,
        values: &[],
        applies: |call: &Call| call.int("group", 1) > GROUPS as i64,
        define: in_parts,
        reason: "a launch numbers at most 65535 groups",
    }
}

pub const DEFINITIONS: &[Definition] = &[
    Definition {
        operator: "ConvTranspose",
        values: &[],
        applies: |call: &Call| call.has("output_shape") && call.int("group", 1) <= GROUPS as i64,
        define: conv_transpose,
        reason: "the reader cuts the result to output_shape at its end instead of padding both sides",
    },
    many_groups("Conv"),
    many_groups("ConvTranspose"),
    of("CausalConvWithState", causal_convolution, "the reader does not know it"),
    of("GlobalLpPool", global_lp_pool, "the reader divides the sum by the number of elements, and drops the absolute value"),
    of("LpPool", lp_pool, "the reader does not know it"),
];

/// A convolution of each channel by itself that sees only the past: the state, or zeros, stands
/// before the input, and the last of both is the next state.
fn causal_convolution(body: &mut Body) -> Result<(), String> {
    let (x, w) = (body.input(0)?, body.input(1)?);
    let (&[batch, channels, length], &[filters, 1, taps]) = (&x.shape[..], &w.shape[..]) else {
        return Err("its input and its weight must have three axes, the second of the weight one element".into());
    };
    let past = taps.saturating_sub(1);
    if filters != channels || taps == 0 {
        return Err(format!("a weight of shape {:?} does not fit {channels} channels", w.shape));
    }
    let mut whole = x.name.clone();
    if past > 0 {
        let before = match body.optional(3) {
            Some(state) if state.shape == [batch, channels, past] => state.name,
            Some(state) => return Err(format!("its past_state has the shape {:?} instead of {:?}", state.shape, [batch, channels, past])),
            None => {
                let zeros = Constant::repeated(Scalar::from_f64(x.dtype, 0.0), batch * channels * past);
                body.constant(&zeros, &[batch, channels, past])
            }
        };
        whole = body.concat(&[before, whole], 2);
    }
    let mut inputs = vec![whole.clone(), w.name];
    inputs.extend(body.optional(2).map(|bias| bias.name));
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let convolved = body.with("Conv", &inputs, vec![int("group", channels as i64)]);
    let result = match body.text("activation", "none").as_str() {
        "none" => convolved,
        "silu" | "swish" => body.op("Swish", &[&convolved]),
        other => return Err(format!("its activation {other:?} is not one of none, silu, swish")),
    };
    body.output(0, &result);
    let state = body.slice(&whole, 2, length, length + past);
    body.output(1, &state);
    Ok(())
}

/// Total padding so that the result has `output_shape`. It is distributed over both sides: the
/// larger half at the end for SAME_UPPER, else at the beginning. An axis that is too short is
/// extended at its end.
fn conv_transpose(body: &mut Body) -> Result<(), String> {
    let (x, w, bias) = (body.input(0)?, body.input(1)?, body.optional(2));
    let axes = x.rank().saturating_sub(2);
    let mut wanted = body.ints("output_shape").unwrap_or_default();
    if wanted.len() == axes + 2 {
        wanted.drain(..2); // some exporters write batch and channels, too
    }
    if wanted.len() != axes || w.rank() != x.rank() {
        return Err(format!("its output_shape {wanted:?} does not fit an input of {axes} spatial axes"));
    }
    let or = |list: Option<Vec<i64>>, default: i64| list.unwrap_or_else(|| vec![default; axes]);
    let (strides, dilations) = (or(body.ints("strides"), 1), or(body.ints("dilations"), 1));
    let mut added = or(body.ints("output_padding"), 0);
    if [&strides, &dilations, &added].iter().any(|list| list.len() != axes) {
        return Err("its strides, dilations or output_padding do not fit its axes".into());
    }
    let upper = body.text("auto_pad", "NOTSET") == "SAME_UPPER";
    let (mut begin, mut end) = (Vec::new(), Vec::new());
    for axis in 0..axes {
        let (extent, kernel) = (x.shape[axis + 2] as i64, w.shape[axis + 2] as i64);
        let natural = (extent - 1) * strides[axis] + added[axis] + (kernel - 1) * dilations[axis] + 1;
        let total = (natural - wanted[axis]).max(0);
        added[axis] += (wanted[axis] - natural).max(0);
        let (small, large) = (total / 2, total - total / 2);
        begin.push(if upper { small } else { large });
        end.push(if upper { large } else { small });
    }
    let pads = [begin, end].concat();
    let mut inputs = vec![x.name.as_str(), &w.name];
    inputs.extend(bias.as_ref().map(|bias| bias.name.as_str()));
    let list = [ints("strides", strides), ints("dilations", dilations), ints("output_padding", added), ints("pads", pads)];
    let mut attributes = vec![text("auto_pad", "NOTSET"), int("group", body.call.int("group", 1))];
    attributes.extend(list);
    let result = body.with("ConvTranspose", &inputs, attributes);
    body.output(0, &result);
    Ok(())
}

/// The convolutions of some of the groups each, side by side.
fn in_parts(body: &mut Body) -> Result<(), String> {
    let (x, w, bias) = (body.input(0)?, body.input(1)?, body.optional(2));
    let operator = body.call.node.op_type.clone();
    let groups = usize::try_from(body.call.int("group", 1)).unwrap_or(0);
    let (Some(&channels), Some(&first), Some(&second)) = (x.shape.get(1), w.shape.first(), w.shape.get(1)) else {
        return Err("its input and its weights must have three axes or more".into());
    };
    if groups == 0 || !channels.is_multiple_of(groups) || !first.is_multiple_of(groups) {
        return Err(format!("its {groups} groups do not divide {channels} channels and weights of {:?}", w.shape));
    }
    let filters = if operator == "Conv" { first / groups } else { second };
    let mut parts = Vec::new();
    for begin in (0..groups).step_by(PART) {
        let end = groups.min(begin + PART);
        let part = |body: &mut Body, name: &str, axis: usize, each: usize| body.slice(name, axis, begin * each, end * each);
        let mut inputs = vec![part(body, &x.name, 1, channels / groups), part(body, &w.name, 0, first / groups)];
        if let Some(bias) = &bias {
            inputs.push(part(body, &bias.name, 0, filters));
        }
        let mut attributes = body.call.node.attribute.clone();
        attributes.retain(|attribute| attribute.name != "group");
        attributes.push(int("group", (end - begin) as i64));
        parts.push(body.with(&operator, &inputs.iter().map(String::as_str).collect::<Vec<_>>(), attributes));
    }
    let result = body.concat(&parts, 1);
    body.output(0, &result);
    Ok(())
}

/// `|x|^p`, in f32 for f16.
fn powers(body: &mut Body, x: &Known, p: i64) -> (String, DType) {
    let dtype = x.computed();
    let wide = body.widened(x);
    let size = body.op("Abs", &[&wide]);
    let result = match p {
        1 => size,
        2 => body.op("Mul", &[&size, &size]),
        _ => {
            let exponent = body.number(dtype, p as f64);
            body.op("Pow", &[&size, &exponent])
        }
    };
    (result, dtype)
}

/// `sum^(1/p)`, in the type of `x`.
fn root(body: &mut Body, x: &Known, sum: &str, p: i64, dtype: DType) {
    let result = match p {
        1 => sum.to_string(),
        2 => body.op("Sqrt", &[sum]),
        _ => {
            let exponent = body.number(dtype, 1.0 / p as f64);
            body.op("Pow", &[sum, &exponent])
        }
    };
    let result = if x.dtype == dtype { result } else { body.cast(&result, x.dtype) };
    body.output(0, &result);
}

/// The attribute p: a float at opset 1, then an integer.
fn exponent(body: &Body) -> Result<i64, String> {
    let p = body.call.int("p", 2);
    if p < 1 { Err(format!("its p is {p}: it must be 1 or more")) } else { Ok(p) }
}

fn global_lp_pool(body: &mut Body) -> Result<(), String> {
    let (x, p) = (body.input(0)?, exponent(body)?);
    let axes: Vec<i64> = (2..x.rank() as i64).collect();
    let (powers, dtype) = powers(body, &x, p);
    let sum = body.reduce("ReduceSum", &powers, &axes);
    root(body, &x, &sum, p, dtype);
    Ok(())
}

/// The sums are averages over windows that lie inside the padded input, times the size of a window.
fn lp_pool(body: &mut Body) -> Result<(), String> {
    let (x, p) = (body.input(0)?, exponent(body)?);
    let kernel = body.ints("kernel_shape").ok_or("it has no kernel_shape")?;
    let axes = kernel.len();
    if x.rank() != axes + 2 || kernel.iter().any(|&extent| extent < 1) {
        return Err(format!("its kernel_shape {kernel:?} does not fit an input of {} axes", x.rank()));
    }
    let or = |list: Option<Vec<i64>>| list.unwrap_or_else(|| vec![1; axes]);
    let (strides, dilations) = (or(body.ints("strides")), or(body.ints("dilations")));
    let mut pads = body.ints("pads").unwrap_or_else(|| vec![0; 2 * axes]);
    if strides.len() != axes || dilations.len() != axes || pads.len() != 2 * axes || strides.iter().chain(&dilations).any(|&s| s < 1) {
        return Err("its strides, dilations or pads do not fit its kernel_shape".into());
    }
    let mode = body.text("auto_pad", "NOTSET");
    for axis in 0..axes {
        let (extent, window) = (x.shape[axis + 2] as i64, (kernel[axis] - 1) * dilations[axis] + 1);
        let step = strides[axis];
        match mode.as_str() {
            "VALID" => (pads[axis], pads[axes + axis]) = (0, 0),
            "SAME_UPPER" | "SAME_LOWER" => {
                let total = ((extent + step - 1) / step - 1) * step + window - extent;
                let (small, large) = (total.max(0) / 2, total.max(0) - total.max(0) / 2);
                (pads[axis], pads[axes + axis]) = if mode == "SAME_UPPER" { (small, large) } else { (large, small) };
            }
            _ => {}
        }
        if body.call.int("ceil_mode", 0) != 0 {
            let padded = extent + pads[axis] + pads[axes + axis];
            let mut windows = (padded - window + step - 1).div_euclid(step) + 1;
            // a window must not begin in the padding at the end
            if (windows - 1) * step >= extent + pads[axis] {
                windows -= 1;
            }
            pads[axes + axis] += ((windows - 1) * step + window - padded).max(0);
        }
    }
    let (powers, dtype) = powers(body, &x, p);
    let size: i64 = kernel.iter().product();
    let attributes = vec![
        ints("kernel_shape", kernel),
        ints("strides", strides),
        ints("dilations", dilations),
        ints("pads", pads),
        int("count_include_pad", 1),
    ];
    let averages = body.with("AveragePool", &[&powers], attributes);
    let factor = body.number(dtype, size as f64);
    let sums = body.op("Mul", &[&averages, &factor]);
    root(body, &x, &sums, p, dtype);
    Ok(())
}
