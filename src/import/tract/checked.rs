//! What every node is checked for while tract infers types and shapes, whatever its operator.
//!
//! * Its inputs have element types of the kind that ONNX asks for ([`KINDS`]). tract casts many of
//!   them, or reads a number as a truth value.
//! * Sizes and axes that are known are in range. tract cuts them to 32 bits.
//! * Its axis is one of its input ([`AXES`]). tract and kernels take some numbers modulo the rank.
//! * The condition of an `If` is one value.
//! * Its results are not larger than any memory, and what can be computed at once is not larger
//!   than hiosc computes while compiling ([`limits`]).
//!
//! tract computes a node whose inputs are all known, and drops the results if they are too large
//! for a constant. Here they are not computed if their size is known before.

use std::collections::HashMap;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::OpState;
use tract_onnx::tract_core::optim::CONST_FOLD_MEM_BUDGET;
use tract_onnx::tract_core::tract_data::TooEarly;
use tract_onnx::tract_hir::internal::*;

use super::{defined, readers};
use crate::import::onnx::inline::SELECT;
use crate::import::onnx::limits::{self, LARGEST_CONSTANT, LARGEST_TENSOR, MOST_AXES};

/// What an input must consist of.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Axes of the first input.
    Axes,
    /// Axes of the result, which has one more for each.
    NewAxes,
    Integers,
    /// Integers between -2^31 and 2^31.
    Sizes,
    TruthValues,
}

use Kind::{Axes, Integers, NewAxes, Sizes, TruthValues};

/// Inputs that are of one kind at every opset: operators, positions, the kind, and what the inputs
/// are. Those in which ONNX takes any number are not here.
const KINDS: &[(&[&str], &[usize], Kind, &str)] = &[
    (&["AffineGrid"], &[1], Sizes, "a size"),
    (&["And", "Or", "Xor"], &[0, 1], TruthValues, "operands"),
    (&["Attention"], &[6], Integers, "numbers of keys"),
    (&["BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor"], &[0, 1], Integers, "operands"),
    (&["BitwiseNot"], &[0], Integers, "an operand"),
    (&["BlackmanWindow", "HammingWindow", "HannWindow"], &[0], Sizes, "a size"),
    (&["CenterCropPad", "Expand"], &[1], Integers, "a shape"),
    (&["Compress"], &[1], TruthValues, "a condition"),
    (&["ConstantOfShape"], &[0], Sizes, "a shape"),
    (&["CumSum"], &[1], Axes, "an axis"),
    (&["DFT"], &[1, 2], Integers, "a length and an axis"),
    (&["Dropout"], &[2], TruthValues, "a mode"),
    (&["GRU", "LSTM", "RNN"], &[4], Integers, "lengths"),
    (&["Gather", "GatherElements", "GatherND", "Scatter", "ScatterElements", "ScatterND"], &[1], Integers, "indices"),
    (&["If", SELECT, "Where"], &[0], TruthValues, "a condition"),
    (&["Loop"], &[0], Integers, "a number of steps"),
    (&["Loop"], &[1], TruthValues, "a condition"),
    (&["MelWeightMatrix"], &[0, 1, 2], Sizes, "sizes"),
    (&["Not"], &[0], TruthValues, "an operand"),
    (&["Pad"], &[1], Sizes, "pads"),
    (&["Pad"], &[3], Axes, "axes"),
    (&["ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean"], &[1], Axes, "axes"),
    (&["ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare"], &[1], Axes, "axes"),
    (&["Reshape"], &[1], Sizes, "a shape"),
    (&["Resize"], &[3], Sizes, "sizes"),
    (&["ReverseSequence"], &[1], Integers, "lengths"),
    (&["RotaryEmbedding"], &[3], Integers, "positions"),
    (&["STFT"], &[1, 3], Sizes, "lengths"),
    (&["Slice"], &[1, 2, 3, 4], Integers, "starts, ends, axes and steps"),
    (&["Split"], &[1], Sizes, "sizes"),
    (&["Squeeze"], &[1], Axes, "axes"),
    (&["Tile"], &[1], Integers, "numbers of repetitions"),
    (&["TopK"], &[1], Sizes, "a number of elements"),
    (&["Trilu"], &[1], Integers, "the number of a diagonal"),
    (&["Unsqueeze"], &[1], NewAxes, "axes"),
    (&["ai.onnx.ml.ArrayFeatureExtractor"], &[1], Integers, "indices"),
];

/// Operators whose axis no other check compares with the rank of their input.
const AXES: [&str; 3] = ["Hardmax", "LogSoftmax", "Softmax"];

/// Reads a node, which may have a definition, and adds the checks.
pub fn read(context: &ParsingContext, node: &pb::NodeProto) -> readers::Parsed {
    let (inner, closures) = defined::read(context, node)?;
    let axis = node.attribute.iter().find(|attribute| attribute.name == "axis").map(|attribute| attribute.i);
    let default = if context.onnx_operator_set_version < 13 { 1 } else { -1 };
    let checked = Checked {
        inner,
        operator: node.op_type.clone(),
        positions: (0..node.input.len()).filter(|&i| !node.input[i].is_empty()).collect(),
        axis: AXES.contains(&node.op_type.as_str()).then(|| axis.unwrap_or(default)),
    };
    Ok((Box::new(checked), closures))
}

/// A node with checks. In all else it is what it was.
#[derive(Clone, Debug)]
struct Checked {
    inner: Box<dyn InferenceOp>,
    operator: String,
    /// The positions of the inputs that the node has.
    positions: Vec<usize>,
    /// The axis, if it is to be checked.
    axis: Option<i64>,
}

impl Checked {
    /// Refuses inputs of these types and shapes, as far as they are known.
    fn inputs(&self, facts: &[&InferenceFact]) -> TractResult<()> {
        for (operators, positions, kind, what) in KINDS {
            if !operators.contains(&self.operator.as_str()) {
                continue;
            }
            for (&position, fact) in self.positions.iter().zip(facts).filter(|(position, _)| positions.contains(position)) {
                let Some(datum) = fact.datum_type.concretize() else { continue };
                let (fits, wanted) = match kind {
                    TruthValues => (datum == DatumType::Bool, "truth values"),
                    _ => (datum.is_integer() || datum.is_tdim(), "integers"),
                };
                if !fits {
                    let datum = format!("{datum:?}").to_lowercase();
                    bail!("its input {position} ({what}) has type {datum}, but must consist of {wanted}");
                }
                let rank = facts.first().and_then(|fact| fact.shape.rank().concretize());
                self.numbers(*kind, fact, rank).map_err(|why| format_err!("its input {position} ({what}) {why}"))?;
            }
        }
        let Some(shape) = facts.first().and_then(|fact| concrete(&fact.shape)) else { return Ok(()) };
        if matches!(self.operator.as_str(), "If" | SELECT) && shape.iter().any(|&extent| extent != 1) {
            bail!("its condition has the shape {shape:?}, but must be one truth value");
        }
        let rank = shape.len() as i64;
        match self.axis {
            Some(axis) if rank > 0 && !(-rank..rank).contains(&axis) => bail!("axis {axis} is not one of {rank} axes"),
            _ => Ok(()),
        }
    }

    /// Why the numbers in an input of this kind are refused, if they are known. The first input of
    /// the node has `rank` axes.
    fn numbers(&self, kind: Kind, fact: &InferenceFact, rank: Option<i64>) -> Result<(), String> {
        let Some(value) = fact.value.concretize().filter(|value| value.is_plain_ram() && size(value) <= CONST_FOLD_MEM_BUDGET) else {
            return Ok(());
        };
        let numbers = value.cast_to::<i64>().ok().and_then(|value| Some(value.try_as_plain_ram().ok()?.as_slice::<i64>().ok()?.to_vec()));
        let numbers = numbers.unwrap_or_default();
        let axes = match kind {
            Sizes => {
                let beyond = numbers.iter().find(|number| number.unsigned_abs() >= 1 << 31);
                return beyond.map_or(Ok(()), |number| Err(format!("has {number}: 2^31 or more, which hiosc cannot index")));
            }
            Axes => rank,
            NewAxes => rank.map(|rank| rank + numbers.len() as i64),
            Integers | TruthValues => None,
        };
        let Some(axes) = axes.filter(|&axes| axes > 0) else { return Ok(()) };
        let beyond = numbers.iter().find(|axis| !(-axes..axes).contains(axis));
        beyond.map_or(Ok(()), |axis| Err(format!("has {axis}, which is not one of {axes} axes")))
    }

    /// Whether to compute the results now; refuses results of these types and shapes. All inputs
    /// have values, of `given` bytes, if that is known.
    fn results(&self, facts: &[InferenceFact], given: Option<u64>) -> TractResult<bool> {
        let mut total = 0;
        for fact in facts {
            if let Some(rank) = fact.shape.rank().concretize().filter(|rank| rank.unsigned_abs() > MOST_AXES) {
                bail!("its result has {rank} axes: at most {MOST_AXES} are supported");
            }
            let Some(shape) = concrete(&fact.shape) else { continue };
            let bytes = limits::bytes(shape.iter().copied(), fact.datum_type.concretize().map_or(1, |datum| datum.size_of()));
            let size = || shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
            if bytes > LARGEST_TENSOR {
                bail!("its result is {} and takes more than 2^48 bytes, the most that can be addressed", size());
            }
            if given.is_some() && bytes > LARGEST_CONSTANT {
                bail!(
                    "its result is {} and takes {bytes} bytes: from constants alone, at most {LARGEST_CONSTANT} are computed while compiling",
                    size()
                );
            }
            total += bytes;
        }
        Ok(given.is_some_and(|given| total <= u128::from(given.max(CONST_FOLD_MEM_BUDGET))))
    }
}

/// The sizes of all axes, if they are known. A negative one, which cannot be, counts as 0.
fn concrete(shape: &ShapeFactoid) -> Option<TVec<usize>> {
    shape.concretize()?.iter().map(|extent| extent.to_i64().ok().map(|extent| usize::try_from(extent).unwrap_or(0))).collect()
}

fn size(tensor: &Tensor) -> u64 {
    (tensor.volume() * tensor.datum_type().size_of()) as u64
}

impl InferenceOp for Checked {
    /// As tract does it, with the checks.
    fn infer(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(TVec<InferenceFact>, TVec<InferenceFact>, TVec<InferenceFact>)> {
        self.inputs(&inputs)?;
        let (inputs, mut outputs, observed) = self.inner.infer_facts(inputs, outputs, observed).context("Infering facts")?;
        let small = |fact: &InferenceFact| fact.value.concretize().filter(|t| t.is_plain_ram() && size(t) <= CONST_FOLD_MEM_BUDGET);
        let values: Option<TVec<Arc<Tensor>>> = if inputs.is_empty() { None } else { inputs.iter().map(small).collect() };
        let given = values.as_ref().map(|values| values.iter().map(|value| size(value)).sum::<u64>());
        if let (true, Some(values)) = (self.results(&outputs, given)?, values) {
            match self.inner.eval_out_of_plan(values.into_iter().map(|value| value.into_tvalue()).collect()) {
                Ok(None) => {}
                Ok(Some(results)) => {
                    let total: u64 = results.iter().map(|result| size(result)).sum();
                    if total <= given.unwrap_or(0).max(CONST_FOLD_MEM_BUDGET) {
                        let facts = results.into_iter().map(|result| result.into_arc_tensor().try_into());
                        outputs = facts.collect::<TractResult<_>>()?;
                    }
                }
                Err(error) if error.root_cause().downcast_ref::<TooEarly>().is_some() => {}
                Err(error) => return Err(error).context("Eager eval during inference"),
            }
        }
        Ok((inputs, outputs, observed))
    }

    fn observe_outlets(&self, model: &InferenceModel, node: &InferenceNode) -> TractResult<Vec<OutletId>> {
        self.inner.observe_outlets(model, node)
    }

    fn infer_facts(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(TVec<InferenceFact>, TVec<InferenceFact>, TVec<InferenceFact>)> {
        self.inner.infer_facts(inputs, outputs, observed)
    }

    fn incorporate(&self, model: &InferenceModel, node: &InferenceNode) -> TractResult<Option<InferenceModelPatch>> {
        self.inner.incorporate(model, node)
    }

    fn nboutputs(&self) -> TractResult<usize> {
        self.inner.nboutputs()
    }

    fn as_op(&self) -> &dyn Op {
        self.inner.as_op()
    }

    fn as_op_mut(&mut self) -> &mut dyn Op {
        self.inner.as_op_mut()
    }

    fn to_typed(
        &self,
        source: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<TVec<OutletId>> {
        self.inner.to_typed(source, node, target, mapping)
    }
}

impl Op for Checked {
    fn name(&self) -> StaticName {
        self.inner.name()
    }

    fn as_typed(&self) -> Option<&dyn TypedOp> {
        self.inner.as_typed()
    }
}

impl EvalOp for Checked {
    fn eval(&self, ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.inner.eval(ctx, inputs)
    }

    fn eval_out_of_plan(&self, inputs: TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
        self.inner.eval_out_of_plan(inputs)
    }

    fn state(&self, ctx: &EvalContext) -> TractResult<Option<Box<dyn OpState>>> {
        self.inner.state(ctx)
    }
}

impl PartialEq for Checked {
    fn eq(&self, _: &Checked) -> bool {
        false
    }
}

impl Eq for Checked {}
