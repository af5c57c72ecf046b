//! `Resize` as resampling: for each axis that changes, which elements each position of the result
//! is computed from, and with which weights.
//!
//! The tables are tract's (`plan_axis`), so the result agrees with the reference, which casts
//! everything to single precision and resizes one axis after the other. tract has two operators:
//! one for the plain modes, and one in its ONNX part for all others (filters against aliasing,
//! crops, excluded taps, every rounding of the nearest element). The first is a special case of the
//! second.
//!
//! The rules:
//! * an axis stays as it is if each position `i` is element `i` alone;
//! * if each position is one element, elements of any type are copied; else integers are refused,
//!   since the rounding of their sums is not defined;
//! * axes are resampled together, up to [`Resample::MAX_AXES`] and [`MAX_TAPS`]; any further axes
//!   become another operator.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::nn::resize::{
    self, Interpolator, Resize as CoreResize, cubic_weights, linear_weights, plan_axis, window_size,
};
use tract_onnx_opl::resize::{AspectRatio, CoordTransform, Nearest, Resize};

use super::{Lowering, Reason};
use crate::graph::{Constant, Expr, OpKind, Origin, Resample, Scalar, TappedAxis, Tensor};
use crate::ids::TensorId;
use crate::import::onnx::decode::too_large;
use crate::import::onnx::limits;
use crate::import::tract::typed;

/// The maximum number of elements that one operator reads for one result: three axes of four, or
/// two of eight. If more are needed, one axis after the other costs less.
const MAX_TAPS: usize = 64;

/// The tables of one axis: `taps` positions and weights for each position of the result. A row that
/// begins with position -1 is outside the input.
struct Table {
    axis: usize,
    taps: usize,
    positions: Vec<i32>,
    weights: Vec<f32>,
}

impl Table {
    /// tract's plan, without the taps of weight 0.
    fn new(axis: usize, plan: &resize::AxisPlan) -> Table {
        let rows: Vec<Vec<(i32, f32)>> = (0..plan.extrapolated.len())
            .map(|row| {
                let row_of = |i: usize| (plan.indices[i] as i32, plan.weights[i]);
                let taps = (row * plan.window..(row + 1) * plan.window).map(row_of);
                if plan.extrapolated[row] { vec![(-1, 1.0)] } else { taps.filter(|&(_, weight)| weight != 0.0).collect() }
            })
            .collect();
        let taps = rows.iter().map(Vec::len).max().unwrap_or(0).max(1);
        let padded = rows.iter().flat_map(|row| row.iter().copied().chain([(0, 0.0)].into_iter().cycle()).take(taps));
        let (positions, weights) = padded.unzip();
        Table { axis, taps, positions, weights }
    }

    /// Whether each position is one element, with weight 1.
    fn picks(&self) -> bool {
        self.taps == 1 && self.weights.iter().all(|&weight| weight == 1.0)
    }

    /// Whether the axis stays as it is.
    fn is_identity(&self, extent: usize) -> bool {
        self.picks() && self.positions.iter().copied().eq(0..extent as i32)
    }
}

impl Lowering<'_> {
    /// Lowers `node` if it is a `Resize`; returns whether it was.
    pub(super) fn resample(&mut self, node: &TypedNode) -> Result<bool, Reason> {
        let op = match (node.op_as::<Resize>(), node.op_as::<CoreResize>()) {
            (Some(op), _) => op.clone(),
            (None, Some(op)) => general(op),
            (None, None) => return Ok(false),
        };
        let output = self.describe(node.id.into(), Origin::Input)?;
        let Some(&x) = self.tensors.get(&node.inputs[0]) else { return Err("its input is a constant of an unsupported type".into()) };
        // the tables would be as long
        if too_large(&output.shape) {
            return Err(format!("its result is {}: 2^31 elements or more, which hiosc cannot index", output.shape_text()));
        }
        if output.elements() == 0 {
            let nothing = self.filled(&output, Scalar::from_f64(output.dtype, 0.0));
            self.tensors.insert(node.id.into(), nothing);
            return Ok(true);
        }
        let from = self.graph.tensor(x).shape.clone();
        if from.contains(&0) {
            return Err("its input has no elements".into());
        }
        let tables = self.tables(node, &op, &from, &output.shape)?;
        let extrapolation = f64::from(op.extrapolation_value());
        self.tensors.insert(node.id.into(), x);
        let mut rest = tables.iter().filter(|t| !t.is_identity(from[t.axis])).collect::<Vec<_>>();
        if !output.dtype.is_float() && !rest.iter().all(|t| t.picks()) {
            let dtype = output.dtype.name();
            return Err(format!("elements of type {dtype} are not interpolated: cast them to f32, or use the mode nearest"));
        }
        let mut shape = from;
        while !rest.is_empty() {
            let mut count = 1;
            let taps = |tables: &[&Table]| tables.iter().map(|t| t.taps).product::<usize>();
            while count < rest.len().min(Resample::MAX_AXES) && taps(&rest[..=count]) <= MAX_TAPS {
                count += 1;
            }
            let later = rest.split_off(count);
            rest.iter().for_each(|table| shape[table.axis] = output.shape[table.axis]);
            let mut inputs = vec![self.tensors[&node.id.into()]];
            let weighted = !rest.iter().all(|t| t.picks());
            for table in &rest {
                inputs.extend(self.table_inputs(node, table, output.shape[table.axis], weighted));
            }
            let outside = rest.iter().any(|t| t.positions.contains(&-1)).then(|| Scalar::from_f64(output.dtype, extrapolation));
            let axes = rest.iter().map(|t| TappedAxis { axis: t.axis, taps: t.taps }).collect();
            let kind = OpKind::Resample(Resample { axes, weighted, outside, epilogue: Expr::identity() });
            let name = if later.is_empty() { output.name.clone() } else { format!("{}.axis-{}", output.name, rest[0].axis) };
            self.finish(node, kind, inputs, Tensor { name, shape: shape.clone(), ..output.clone() });
            rest = later;
        }
        Ok(true)
    }

    /// The tables as inputs of an operator.
    fn table_inputs(&mut self, node: &TypedNode, table: &Table, extent: usize, weighted: bool) -> Vec<TensorId> {
        let mut add = |what: &str, values: Constant| {
            let name = format!("{}.{what}-{}", self.operator_name(node), table.axis);
            self.graph.add_tensor(Tensor { name, dtype: values.dtype(), shape: vec![extent, table.taps], origin: Origin::Constant(values) })
        };
        let mut inputs = vec![add("positions", Constant::I32(table.positions.clone().into()))];
        if weighted {
            inputs.push(add("weights", table.weights.clone().into()));
        }
        inputs
    }

    /// The tables of all axes.
    fn tables(&self, node: &TypedNode, op: &Resize, from: &[usize], to: &[usize]) -> Result<Vec<Table>, Reason> {
        let text = |e: TractError| format!("{e:#}");
        let axes = op.resized_axes(from.len()).map_err(text)?;
        let crops = op.coord_transformer == CoordTransform::TfCropAndResize;
        let mut scales: Vec<f32> = vec![1.0; from.len()];
        match self.numbers(node, op.optional_scales_input, "scales")?.filter(|s| s.len() == axes.len()) {
            Some(given) => axes.iter().zip(given).for_each(|(&axis, scale)| scales[axis] = scale),
            None if op.keep_aspect_ratio_policy == AspectRatio::Stretch => {
                axes.iter().for_each(|&axis| scales[axis] = to[axis] as f32 / from[axis] as f32);
            }
            None => {
                let sizes = self.numbers(node, op.optional_sizes_input, "sizes")?.ok_or("it has neither scales nor sizes")?;
                let ratios = axes.iter().zip(sizes).map(|(&axis, size)| size / from[axis] as f32);
                let pick = if op.keep_aspect_ratio_policy == AspectRatio::NotLarger { f32::min } else { f32::max };
                let scale = ratios.reduce(pick).ok_or("its sizes are empty")?;
                axes.iter().for_each(|&axis| scales[axis] = scale);
            }
        }
        let mut roi: Vec<(f32, f32)> = vec![(0.0, 1.0); from.len()];
        if crops {
            let given = self.numbers(node, op.optional_roi_input, "roi")?.filter(|r| r.len() == 2 * axes.len());
            let given = given.ok_or_else(|| format!("to crop, it needs a roi of {} numbers", 2 * axes.len()))?;
            axes.iter().enumerate().for_each(|(i, &axis)| roi[axis] = (given[i], given[i + axes.len()]));
        }
        // the same condition as in tract
        let changes = |&axis: &usize| crops || from[axis] != to[axis] || scales[axis] != 1.0;
        let table = |axis: usize| {
            limits::table(&[to[axis], window_size(&op.interpolator, op.antialias, scales[axis])], 16)?;
            Ok(Table::new(axis, &plan(op, scales[axis], from[axis], to[axis], roi[axis])))
        };
        (0..from.len()).filter(changes).map(table).collect()
    }

    /// The values of an input that must be constant, if there is one.
    fn numbers(&self, node: &TypedNode, input: Option<usize>, what: &str) -> Result<Option<Vec<f32>>, Reason> {
        let Some(&outlet) = input.and_then(|input| node.inputs.get(input)) else { return Ok(None) };
        let fact = self.model.outlet_fact(outlet).map_err(|e| format!("{e:#}"))?;
        let values = fact.konst.as_ref().ok_or_else(|| format!("its {what} are not constant"))?;
        typed::f32_values(values).map(Some).map_err(|e| format!("{e:#}"))
    }
}

/// A plain `Resize` as the general one.
fn general(op: &CoreResize) -> Resize {
    Resize {
        axes: None,
        coord_transformer: CoordTransform::Plain(op.coord_transformer.clone()),
        interpolator: op.interpolator.clone(),
        nearest: match op.nearest {
            resize::Nearest::Floor => Nearest::Floor,
            resize::Nearest::RoundPreferCeil => Nearest::RoundPreferCeil,
        },
        antialias: false,
        cubic_coeff_a_bits: (-0.75f32).to_bits(),
        exclude_outside: false,
        extrapolation_value_bits: 0,
        keep_aspect_ratio_policy: AspectRatio::Stretch,
        optional_roi_input: None,
        optional_scales_input: op.optional_scales_input,
        optional_sizes_input: op.optional_sizes_input,
    }
}

/// tract's plan of one axis; its own function that calls these parts is private.
fn plan(op: &Resize, scale: f32, from: usize, to: usize, (start, end): (f32, f32)) -> resize::AxisPlan {
    let coordinate = |x: usize| match &op.coord_transformer {
        // one element is at the first one, by definition
        CoordTransform::Plain(transform) if to == 1 && transform.as_str() == "pytorch_half_pixel" => Some(0.0),
        CoordTransform::Plain(transform) => Some(transform.transform(x, scale, from, to)),
        CoordTransform::TfCropAndResize => {
            let last = from as f32 - 1.0;
            let (span, width) = (last * (end - start), scale * from as f32);
            let offset = if width == 1.0 { span / 2.0 } else { x as f32 * span / (width - 1.0) };
            Some(offset + start * last).filter(|x| (0.0..=last).contains(x))
        }
    };
    // one of the two neighbours, by the distance of the position from the left one, in (0, 1]
    let nearest = |behind: f32, weights: &mut [f32]| {
        let right = match op.nearest {
            _ if behind == 1.0 => true,
            Nearest::Floor => false,
            Nearest::Ceil => true,
            Nearest::RoundPreferFloor => behind > 0.5,
            Nearest::RoundPreferCeil => behind >= 0.5,
        };
        weights.copy_from_slice(if right { &[0.0, 1.0] } else { &[1.0, 0.0] });
    };
    let weights = |behind: f32, weights: &mut [f32]| match op.interpolator {
        Interpolator::Linear => linear_weights(behind, scale, op.antialias, weights),
        Interpolator::Cubic => cubic_weights(behind, scale, op.cubic_coeff_a(), op.antialias, weights),
        Interpolator::Nearest => nearest(behind, weights),
    };
    let window = window_size(&op.interpolator, op.antialias, scale);
    plan_axis(from, to, window, op.exclude_outside, coordinate, weights)
}
