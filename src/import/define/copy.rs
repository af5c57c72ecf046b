//! Operators that move elements: bounds beyond the axis, wrapped padding, reversed sequences.

use super::body::{int, text};
use super::{Body, Call, Definition, OPSET, always, attribute, of};
use crate::graph::{Constant, DType, Scalar};
use crate::import::onnx::limits;

pub const DEFINITIONS: &[Definition] = &[
    Definition { operator: "CenterCropPad", values: &[1], applies: always, define: center_crop_pad, reason: "the reader does not know it" },
    Definition {
        operator: "ConstantOfShape",
        values: &[0],
        applies: |call: &Call| !call.has("value"),
        define: constant_of_shape,
        reason: "without a value, the reader takes f64 instead of f32",
    },
    Definition {
        operator: "Pad",
        values: &[1, 3],
        applies: |call: &Call| attribute(call.node, "mode").is_some_and(|mode| mode.s == b"wrap"),
        define: wrapped_pad,
        reason: "the reader does not know the mode wrap",
    },
    Definition {
        operator: "Expand",
        values: &[1],
        applies: |call: &Call| call.version >= 8,
        define: sized,
        reason: "the reader cuts sizes to 32 bits",
    },
    Definition { operator: "EyeLike", values: &[], applies: always, define: eye_like, reason: "the reader has no truth values for it" },
    Definition {
        operator: "Pad",
        values: &[],
        applies: |call: &Call| call.version < 11,
        define: old_pad,
        reason: "the reader refuses pads that are negative, if they are an attribute",
    },
    Definition {
        operator: "Range",
        values: &[0, 1, 2],
        applies: always,
        define: range,
        reason: "the reader divides by zero for some bounds",
    },
    Definition {
        operator: "ReverseSequence",
        values: &[],
        applies: always,
        define: reverse_sequence,
        reason: "the reader does not know it",
    },
    Definition {
        operator: "Pad",
        values: &[1, 3],
        applies: |call: &Call| call.version >= 11,
        define: pad,
        reason: "the reader pads no truth values, and wants a value without axes",
    },
    of("GatherND", gather_nd, "the reader does not end on indices without axes"),
    of("Shape", shape, "the reader's sizes have a type of their own, which few of its operators take"),
    of("Size", size, "as for Shape"),
    Definition {
        operator: "Slice",
        values: &[1, 2, 3, 4],
        applies: always,
        define: slice,
        reason: "the reader cuts bounds and steps to 32 bits, and refuses an empty slice",
    },
    Definition {
        operator: "SpaceToDepth",
        values: &[],
        applies: |call: &Call| call.has("mode"),
        define: space_to_depth,
        reason: "the reader does not know the mode",
    },
    of("TensorScatter", tensor_scatter, "the reader does not know it"),
    Definition {
        operator: "Tile",
        values: &[1],
        applies: |call: &Call| call.version >= 6,
        define: sized,
        reason: "the reader cuts sizes to 32 bits",
    },
    Definition { operator: "TopK", values: &[], applies: |call: &Call| call.version < 10, define: old_top_k, reason: "k was an attribute" },
];

/// The elements of one axis that a slice takes.
struct Part {
    axis: usize,
    first: i64,
    /// The bound that is no longer taken; -1 if the first element of the axis is.
    beyond: i64,
    step: i64,
}

/// The slice with bounds within the axis.
fn slice(body: &mut Body) -> Result<(), String> {
    let x = body.input(0)?;
    let list = |position: usize, name: &str| match body.optional(position) {
        Some(known) => known.ints().map(Some).ok_or_else(|| format!("its {name} must be constants")),
        None => Ok(body.ints(name)),
    };
    let starts = list(1, "starts")?.ok_or("it has no starts")?;
    let ends = list(2, "ends")?.ok_or("it has no ends")?;
    let axes = list(3, "axes")?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = list(4, "steps")?.unwrap_or_else(|| vec![1; starts.len()]);
    if [&ends, &axes, &steps].iter().any(|other| other.len() != starts.len()) {
        return Err("its starts, ends, axes and steps differ in number".into());
    }
    let mut shape = x.shape.clone();
    let mut parts: Vec<Part> = Vec::new();
    for ((&start, &end), (&axis, &step)) in starts.iter().zip(&ends).zip(axes.iter().zip(&steps)) {
        let axis = Body::axis(axis, x.rank())?;
        if parts.iter().any(|part| part.axis == axis) {
            return Err(format!("it names axis {axis} twice"));
        }
        let extent = x.shape[axis] as i64;
        let from_end = |bound: i64| if bound < 0 { bound.saturating_add(extent) } else { bound };
        // a step as long as the axis takes one element, as any longer one does
        let step = step.clamp(-extent.max(1), extent.max(1));
        let (first, beyond, count) = match step {
            0 => return Err("its step is 0".into()),
            1.. => {
                let (first, beyond) = (from_end(start).clamp(0, extent), from_end(end).clamp(0, extent));
                (first, beyond, quotient((beyond - first).max(0), step))
            }
            _ => {
                let (first, beyond) = (from_end(start).clamp(0, extent - 1), from_end(end).clamp(-1, extent - 1));
                (first, beyond, quotient((first - beyond).max(0), -step))
            }
        };
        shape[axis] = if extent == 0 { 0 } else { count as usize };
        parts.push(Part { axis, first, beyond, step });
    }
    if shape.contains(&0) {
        let empty = body.constant(&Constant::from_bytes(x.dtype, &[]), &shape);
        body.output(0, &empty);
        return Ok(());
    }
    parts.sort_unstable_by_key(|part| part.axis);
    // an axis that stays whole needs no slice
    parts.retain(|part| part.step != 1 || part.first != 0 || shape[part.axis] != x.shape[part.axis]);
    if parts.is_empty() {
        body.output(0, &x.name);
        return Ok(());
    }
    // the bound before the first element is below all that count from the end
    let end = |part: &Part| if part.beyond < 0 { -1 - x.shape[part.axis] as i64 } else { part.beyond };
    let starts = body.list(&parts.iter().map(|part| part.first).collect::<Vec<_>>());
    let ends = body.list(&parts.iter().map(end).collect::<Vec<_>>());
    let axes = body.list(&parts.iter().map(|part| part.axis as i64).collect::<Vec<_>>());
    let mut inputs = vec![x.name.as_str(), &starts, &ends, &axes];
    let steps: Vec<i64> = parts.iter().map(|part| part.step).collect();
    let list;
    if steps.iter().any(|&step| step != 1) {
        list = body.list(&steps);
        inputs.push(&list);
    }
    let result = body.as_read("Slice", OPSET, &inputs, vec![], &[true]).remove(0);
    body.output(0, &result);
    Ok(())
}

/// The quotient of two numbers that are not negative, rounded up.
fn quotient(a: i64, b: i64) -> i64 {
    a / b + i64::from(a % b != 0)
}

/// The extents of the axes from `start` to `end`: a constant.
fn shape(body: &mut Body) -> Result<(), String> {
    let x = body.input(0)?;
    let rank = x.rank() as i64;
    let bound = |value: i64| (if value < 0 { value + rank } else { value }).clamp(0, rank) as usize;
    let (start, end) = (bound(body.call.int("start", 0)), bound(body.call.int("end", rank)));
    let extents: Vec<i64> = x.shape.get(start..end).unwrap_or_default().iter().map(|&extent| extent as i64).collect();
    let result = body.list(&extents);
    body.output(0, &result);
    Ok(())
}

/// The number of elements: a constant.
fn size(body: &mut Body) -> Result<(), String> {
    let elements: usize = body.input(0)?.shape.iter().product();
    let result = body.constant(&Constant::I64([elements as i64].into()), &[]);
    body.output(0, &result);
    Ok(())
}

/// Refuses a result of so many elements that they cannot be indexed.
fn few(elements: f64) -> Result<(), String> {
    if elements < f64::from(1u32 << 31) { Ok(()) } else { Err("its result has 2^31 elements or more, which hiosc cannot index".into()) }
}

/// A broadcast or a repetition to a size that the reader does not cut.
fn sized(body: &mut Body) -> Result<(), String> {
    let (x, sizes) = (body.input(0)?, body.input(1)?);
    if let Some(sizes) = sizes.ints() {
        let factors = match body.call.node.op_type.as_str() {
            "Tile" => sizes.iter().map(|&times| times as f64).chain(x.shape.iter().map(|&extent| extent as f64)).product(),
            _ => sizes.iter().map(|&extent| extent as f64).product(),
        };
        if sizes.iter().any(|&size| size < 0) {
            return Err(format!("its sizes {sizes:?} are negative"));
        }
        few(factors)?;
    }
    let result = body.itself(&[&x.name, &sizes.name], vec![]).remove(0);
    body.output(0, &result);
    Ok(())
}

/// An index is a list of coordinates.
fn gather_nd(body: &mut Body) -> Result<(), String> {
    let (x, indices) = (body.input(0)?, body.input(1)?);
    if x.rank() == 0 || indices.rank() == 0 {
        return Err("its data and its indices must have one axis or more".into());
    }
    let result = body.itself(&[&x.name, &indices.name], vec![]).remove(0);
    body.output(0, &result);
    Ok(())
}

/// The numbers from `start` on, below `limit`.
fn range(body: &mut Body) -> Result<(), String> {
    let mut bounds = Vec::new();
    for position in 0..3 {
        let bound = body.input(position)?;
        let value = bound.value.as_ref().and_then(Constant::only).ok_or("its start, limit and delta must be constants")?;
        bounds.push(value);
    }
    let [start, limit, delta] = [0, 1, 2].map(|i| bounds[i]);
    let dtype = start.dtype();
    if limit.dtype() != dtype || delta.dtype() != dtype {
        return Err("its start, limit and delta differ in type".into());
    }
    if delta.number() == 0.0 {
        return Err("its delta is 0".into());
    }
    let values: Vec<Scalar> = if dtype == DType::I64 {
        // f64 does not have all integers
        let [start, limit, delta] = [start, limit, delta].map(|value| i128::from(value.bits() as i64));
        let count = ((limit - start) / delta + i128::from((limit - start) % delta != 0)).max(0);
        limits::table(&[usize::try_from(count).unwrap_or(usize::MAX)], 8)?;
        (0..count).map(|i| Scalar::from_bits(dtype, (start + i * delta) as i64 as u64)).collect()
    } else {
        let [start, limit, delta] = [start, limit, delta].map(Scalar::number);
        let count = ((limit - start) / delta).ceil().max(0.0);
        limits::table(&[count as usize], 8)?;
        (0..count as usize).map(|i| Scalar::from_f64(dtype, start + i as f64 * delta)).collect()
    };
    let size = dtype.bytes() as usize;
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.bits().to_le_bytes()[..size].to_vec()).collect();
    let result = body.constant(&Constant::from_bytes(dtype, &bytes), &[values.len()]);
    body.output(0, &result);
    Ok(())
}

/// Ones on a diagonal: a constant.
fn eye_like(body: &mut Body) -> Result<(), String> {
    let x = body.input(0)?;
    let &[rows, columns] = &x.shape[..] else { return Err("its input must have two axes".into()) };
    let dtype = super::quantised::named_type(body, "dtype")?.unwrap_or(x.dtype);
    let k = body.call.int("k", 0);
    let size = dtype.bytes() as usize;
    limits::table(&x.shape, size)?;
    let of = |value: f64| Scalar::from_f64(dtype, value).bits().to_le_bytes()[..size].to_vec();
    let (zero, one) = (of(0.0), of(1.0));
    let on = |i: usize| (i % columns) as i64 - (i / columns) as i64 == k;
    let bytes: Vec<u8> = (0..rows * columns).flat_map(|i| if on(i) { one.clone() } else { zero.clone() }).collect();
    let result = body.constant(&Constant::from_bytes(dtype, &bytes), &[rows, columns]);
    body.output(0, &result);
    Ok(())
}

/// Each sample of the update, written into the cache from an index of its own on.
fn tensor_scatter(body: &mut Body) -> Result<(), String> {
    let (cache, update) = (body.input(0)?, body.input(1)?);
    let axis = Body::axis(body.call.int("axis", -2), cache.rank())?;
    let misfit = |i: usize| update.shape.get(i) != cache.shape.get(i);
    if axis == 0
        || update.rank() != cache.rank()
        || (0..cache.rank()).any(|i| i != axis && misfit(i))
        || update.shape[axis] > cache.shape[axis]
    {
        return Err(format!("an update of shape {:?} does not fit a cache of shape {:?} along axis {axis}", update.shape, cache.shape));
    }
    let along = |extent: usize, at: usize| (0..cache.rank()).map(|i| if i == at { extent } else { 1 }).collect::<Vec<_>>();
    let steps: Vec<i64> = (0..update.shape[axis] as i64).collect();
    let mut positions = body.constant(&Constant::I64(steps.into()), &along(update.shape[axis], axis));
    if let Some(first) = body.optional(2) {
        let first = body.reshape(&first.name, &along(cache.shape[0], 0));
        positions = body.op("Add", &[&first, &positions]);
    }
    match body.text("mode", "linear").as_str() {
        "linear" => {}
        "circular" => {
            let length = body.number(DType::I64, cache.shape[axis] as f64);
            positions = body.op("Mod", &[&positions, &length]);
        }
        other => return Err(format!("its mode {other:?} is not one of linear, circular")),
    }
    let shape: Vec<i64> = update.shape.iter().map(|&extent| extent as i64).collect();
    let shape = body.list(&shape);
    let positions = body.op("Expand", &[&positions, &shape]);
    let result = body.with("ScatterElements", &[&cache.name, &positions, &update.name], vec![int("axis", axis as i64)]);
    body.output(0, &result);
    Ok(())
}

/// Truth values are padded as integers. The value may be a list of one number.
fn pad(body: &mut Body) -> Result<(), String> {
    let x = body.input(0)?;
    let truth = x.dtype == DType::Bool;
    let mut inputs = Vec::new();
    for position in 0..body.arity() {
        let known = body.optional(position);
        inputs.push(match known {
            Some(known) if known.dtype == DType::Bool => {
                let integers = body.cast(&known.name, DType::U8);
                if position == 2 { body.reshape(&integers, &[]) } else { integers }
            }
            Some(known) if position == 2 && known.shape == [1] => body.reshape(&known.name, &[]),
            known => known.map(|known| known.name).unwrap_or_default(),
        });
    }
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let mut result = body.itself(&inputs, vec![]).remove(0);
    if truth {
        result = body.cast(&result, DType::Bool);
    }
    body.output(0, &result);
    Ok(())
}

/// Blocks of `blocksize` become channels: `mode` says whether the block is the slower axis (DCR) or
/// the channel (CRD).
fn space_to_depth(body: &mut Body) -> Result<(), String> {
    let x = body.input(0)?;
    let block = usize::try_from(body.call.int("blocksize", 0)).unwrap_or(0);
    let &[n, c, h, w] = &x.shape[..] else { return Err("its input must have four axes".into()) };
    if block == 0 || !h.is_multiple_of(block) || !w.is_multiple_of(block) {
        return Err(format!("its blocksize {block} does not divide an image of {h}x{w}"));
    }
    let order: &[usize] = match body.text("mode", "DCR").as_str() {
        "DCR" => &[0, 3, 5, 1, 2, 4],
        "CRD" => &[0, 1, 3, 5, 2, 4],
        other => return Err(format!("its mode {other:?} is not known")),
    };
    let split = body.reshape(&x.name, &[n, c, h / block, block, w / block, block]);
    let moved = body.transpose(&split, order);
    let result = body.reshape(&moved, &[n, c * block * block, h / block, w / block]);
    body.output(0, &result);
    Ok(())
}

fn old_top_k(body: &mut Body) -> Result<(), String> {
    let x = body.input(0)?;
    let count = body.call.int("k", 1);
    let k = body.list(&[count]);
    let axis = int("axis", body.call.int("axis", -1));
    let wanted = [body.wants(0), body.wants(1)];
    let results = body.as_read("TopK", 11, &[&x.name, &k], vec![axis], &wanted);
    for (position, result) in results.iter().enumerate() {
        body.output(position, result);
    }
    Ok(())
}

/// A padding whose pads are an attribute.
fn old_pad(body: &mut Body) -> Result<(), String> {
    let x = body.input(0)?;
    let pads = body.ints("pads").or(body.ints("paddings")).ok_or("it has no pads")?;
    let pads = body.list(&pads);
    let mode = body.text("mode", "constant");
    let mut inputs = vec![x.name.as_str(), &pads];
    let value = body.call.float("value", 0.0);
    let value = body.number(x.dtype, value.into());
    if mode == "constant" {
        inputs.push(&value);
    }
    let result = body.as_read("Pad", OPSET, &inputs, vec![text("mode", &mode)], &[true]).remove(0);
    body.output(0, &result);
    Ok(())
}

fn constant_of_shape(body: &mut Body) -> Result<(), String> {
    let shape = body.input(0)?.ints().ok_or("its shape must be a constant")?;
    let shape: Vec<usize> =
        shape.iter().map(|&extent| usize::try_from(extent)).collect::<Result<_, _>>().map_err(|_| "its shape is negative")?;
    let zero = body.number(DType::F32, 0.0);
    few(shape.iter().map(|&extent| extent as f64).product())?;
    let list = body.list(&shape.iter().map(|&extent| extent as i64).collect::<Vec<_>>());
    let result = body.op("Expand", &[&zero, &list]);
    body.output(0, &result);
    Ok(())
}

/// Each axis is read at the positions modulo its extent.
fn wrapped_pad(body: &mut Body) -> Result<(), String> {
    let x = body.input(0)?;
    let pads = match body.optional(1) {
        Some(pads) => pads.ints().ok_or("its pads must be constants")?,
        None => body.ints("pads").ok_or("it has no pads")?,
    };
    let axes = match body.optional(3) {
        Some(axes) => axes.ints().ok_or("its axes must be constants")?,
        None => (0..x.rank() as i64).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return Err(format!("{} pads for {} axes", pads.len(), axes.len()));
    }
    let mut result = x.name.clone();
    for (i, &axis) in axes.iter().enumerate() {
        let axis = Body::axis(axis, x.rank())?;
        let (extent, before, after) = (x.shape[axis] as i64, pads[i], pads[axes.len() + i]);
        if (before, after) == (0, 0) {
            continue;
        }
        // negative pads cut first; what is left wraps around
        let (first, kept) = ((-before).max(0), extent - (-before).max(0) - (-after).max(0));
        if kept < 1 {
            return Err("it wraps around an axis without elements".into());
        }
        let positions = kept as u128 + before.max(0) as u128 + after.max(0) as u128;
        limits::table(&[usize::try_from(positions).unwrap_or(usize::MAX)], 8)?;
        let positions: Vec<i64> = (-before.max(0)..kept + after.max(0)).map(|position| first + position.rem_euclid(kept)).collect();
        let positions = body.list(&positions);
        result = body.with("Gather", &[&result, &positions], vec![int("axis", axis as i64)]);
    }
    body.output(0, &result);
    Ok(())
}

/// Element `i` of a sequence of length `n` comes from `n - 1 - i`; what is behind it stays.
fn reverse_sequence(body: &mut Body) -> Result<(), String> {
    let (x, lengths) = (body.input(0)?, body.input(1)?);
    let (time, batch) = (body.call.int("time_axis", 0), body.call.int("batch_axis", 1));
    let (time, batch) = (Body::axis(time, x.rank())?, Body::axis(batch, x.rank())?);
    if time == batch || lengths.shape != [x.shape[batch]] {
        return Err(format!("sequence_lens of shape {:?} do not fit axes {time} and {batch} of {:?}", lengths.shape, x.shape));
    }
    let along = |axis: usize| -> Vec<usize> { (0..x.rank()).map(|i| if i == axis { x.shape[axis] } else { 1 }).collect() };
    limits::table(&[x.shape[time]], 8)?;
    let numbers: Vec<i64> = (0..x.shape[time] as i64).collect();
    let steps = body.constant(&Constant::I64(numbers.into()), &along(time));
    let lengths = body.cast(&lengths.name, DType::I64);
    let lengths = body.reshape(&lengths, &along(batch));
    let inside = body.op("Less", &[&steps, &lengths]);
    let one = body.number(DType::I64, 1.0);
    let last = body.op("Sub", &[&lengths, &one]);
    let mirrored = body.op("Sub", &[&last, &steps]);
    let index = body.op("Where", &[&inside, &mirrored, &steps]);
    let shape = body.list(&x.shape.iter().map(|&extent| extent as i64).collect::<Vec<_>>());
    let index = body.op("Expand", &[&index, &shape]);
    let result = body.with("GatherElements", &[&x.name, &index], vec![int("axis", time as i64)]);
    body.output(0, &result);
    Ok(())
}

/// Cuts what is beyond the shape from both sides, then adds zeros on both sides.
fn center_crop_pad(body: &mut Body) -> Result<(), String> {
    let (x, shape) = (body.input(0)?, body.input(1)?.ints().ok_or("its shape must be a constant")?);
    let axes = body.ints("axes").unwrap_or_else(|| (0..x.rank() as i64).collect());
    if axes.len() != shape.len() {
        return Err(format!("a shape of {} extents for {} axes", shape.len(), axes.len()));
    }
    let (mut result, mut pads) = (x.name.clone(), vec![0; 2 * x.rank()]);
    for (&axis, &wanted) in axes.iter().zip(&shape) {
        let axis = Body::axis(axis, x.rank())?;
        let (extent, wanted) = (x.shape[axis], usize::try_from(wanted).map_err(|_| "its shape is negative")?);
        few(wanted as f64)?;
        if wanted < extent {
            let begin = (extent - wanted) / 2;
            result = body.slice(&result, axis, begin, begin + wanted);
        } else {
            let before = (wanted - extent) / 2;
            pads[axis] = before as i64;
            pads[x.rank() + axis] = (wanted - extent - before) as i64;
        }
    }
    if pads.iter().any(|&pad| pad != 0) {
        let pads = body.list(&pads);
        let zero = body.constant(&Constant::repeated(Scalar::from_f64(x.dtype, 0.0), 1), &[]);
        result = body.op("Pad", &[&result, &pads, &zero]);
    }
    body.output(0, &result);
    Ok(())
}
