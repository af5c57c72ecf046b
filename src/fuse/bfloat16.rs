//! bfloat16 in memory. What the model stores so arrives as f32 between two conversions, since nodes
//! compute in single precision:
//!
//! * `bfloat16`: an operator that reads converted values, and whose result is converted back at
//!   once, reads and writes bfloat16 itself. Its kernel sums in single precision and rounds once.
//!   Constants that it reads become bfloat16, too, since it can hold them. `bfloat16-late` is the
//!   same for operators that other rules make;
//! * `bfloat16-moves`: an operator that only moves values does so before they are converted;
//! * `bfloat16-copies`: what is converted back without having been changed is a view;
//! * `bfloat16-operands`: an elementwise operator converts its operands itself.

use super::{Patch, Replacement, Uses, new_constant};
use crate::graph::{Constant, DType, Elementwise, Expr, Graph, OpKind, Operator, Origin, PadMode, Scalar, Scatter, Tensor, Update};
use crate::ids::{OpId, TensorId};
use crate::runtime::f32_to_bf16;

/// `bfloat16`.
pub fn stored(graph: &Graph, uses: &Uses, op: OpId) -> Option<Patch> {
    let rounding = graph.operator(op);
    let wide = converted(graph, rounding, DType::BF16)?;
    let producer = uses.sole_producer(graph, wide, op)?;
    let mut operator = graph.operator(producer).clone();
    if operator.outputs != [graph.root(wide)] {
        return None;
    }
    let constants = narrow_operands(graph, &mut operator)?;
    // behind a reshape, the operator keeps its output, which the result becomes a view of
    if operator.outputs == [wide] {
        operator.outputs.clone_from(&rounding.outputs);
    }
    Some(Patch { at: op, absorbed: vec![producer], constants, with: Replacement::Operator(Box::new(operator)) })
}

/// `bfloat16-moves`.
pub fn moved(graph: &Graph, _: &Uses, op: OpId) -> Option<Patch> {
    let mut operator = graph.operator(op).clone();
    let moves = match &operator.kind {
        OpKind::Concat(_) | OpKind::Gather(_) | OpKind::Reshape(_) | OpKind::Slice(_) | OpKind::Transpose(_) => true,
        OpKind::Scatter(Scatter::Elements { update, .. } | Scatter::Nd { update }) => *update == Update::Replace,
        _ => false,
    };
    let (output, converted) = (operator.outputs[0], operator.inputs.iter().any(|&input| widened(graph, input).is_some()));
    if !moves || !converted || graph.tensor(output).dtype != DType::F32 {
        return None;
    }
    let mut constants = narrow_operands(graph, &mut operator)?;
    let wide = graph.tensor(output);
    let narrow = Tensor { name: format!("{}.bf16", wide.name), dtype: DType::BF16, origin: Origin::Input, ..wide.clone() };
    constants.push(narrow);
    operator.outputs = vec![new_constant(graph, constants.len() - 1)];
    let kind = OpKind::Elementwise(Elementwise { expr: Expr::identity().cast(DType::F32) });
    let conversion = Operator { name: format!("{}.f32", operator.name), kind, inputs: operator.outputs.clone(), outputs: vec![output] };
    let with = Replacement::Converted(Box::new(operator), Box::new(conversion));
    Some(Patch { at: op, absorbed: Vec::new(), constants, with })
}

/// Makes `operator` read bfloat16 instead of f32, if all that it reads was converted from it or is
/// a constant that it can hold. Returns the new constants.
fn narrow_operands(graph: &Graph, operator: &mut Operator) -> Option<Vec<Tensor>> {
    let tensors = tensors(&mut operator.kind)?;
    let mut constants = Vec::new();
    for input in operator.inputs.iter_mut().take(tensors).filter(|input| graph.tensor(**input).dtype == DType::F32) {
        let wide = graph.tensor(*input);
        let origin = match widened(graph, *input) {
            Some(narrow) if graph.tensor(narrow).shape == wide.shape => {
                *input = narrow;
                continue;
            }
            Some(narrow) => Origin::View(narrow),
            None => Origin::Constant(exact(graph.constant_f32(*input)?)?),
        };
        *input = new_constant(graph, constants.len());
        constants.push(Tensor { dtype: DType::BF16, origin, ..wide.clone() });
    }
    Some(constants)
}

/// The number of first inputs that have the type of the result. Constants among the attributes
/// become bfloat16. `None` for operators that have no kernels for bfloat16, or whose result would
/// be rounded more than once.
fn tensors(kind: &mut OpKind) -> Option<usize> {
    match kind {
        OpKind::Concat(_)
        | OpKind::Gather(_)
        | OpKind::Pool(_)
        | OpKind::PoolNd(_)
        | OpKind::Reduce(_)
        | OpKind::Reshape(_)
        | OpKind::Slice(_)
        | OpKind::Softmax(_)
        | OpKind::TopK(_)
        | OpKind::Transpose(_)
        | OpKind::Trilu(_)
        | OpKind::CumSum(_) => Some(usize::MAX),
        OpKind::Scatter(Scatter::Elements { update, .. } | Scatter::Nd { update }) => {
            (!matches!(update, Update::Add | Update::Mul)).then_some(usize::MAX)
        }
        OpKind::Conv(conv) => conv.epilogue.is_identity().then_some(usize::MAX),
        OpKind::ConvNd(conv) => conv.epilogue.is_identity().then_some(usize::MAX),
        OpKind::MatMul(product) => product.epilogue.is_identity().then_some(usize::MAX),
        OpKind::Pad(pad) => {
            if let PadMode::Constant(value) = &mut pad.mode {
                *value = exact_scalar(*value)?;
            }
            Some(usize::MAX)
        }
        OpKind::Resample(resample) => {
            if let Some(value) = &mut resample.outside {
                *value = exact_scalar(*value)?;
            }
            // its tables stay what they are
            resample.epilogue.is_identity().then_some(1)
        }
        OpKind::Attention(_)
        | OpKind::Cell(_)
        | OpKind::Elementwise(_)
        | OpKind::GridSample(_)
        | OpKind::Lrn(_)
        | OpKind::Norm(_)
        | OpKind::PoolIndices(_) => None,
    }
}

/// `bfloat16-copies`.
pub fn copies(graph: &Graph, _: &Uses, op: OpId) -> Option<Patch> {
    let wide = converted(graph, graph.operator(op), DType::BF16)?;
    let narrow = widened(graph, wide)?;
    Some(Patch { at: op, absorbed: Vec::new(), constants: Vec::new(), with: Replacement::Origin(Origin::View(narrow)) })
}

/// `bfloat16-operands`. An operator that reads or writes bfloat16 also reads constants as such, if
/// it can hold them.
pub fn operands(graph: &Graph, _: &Uses, op: OpId) -> Option<Patch> {
    let operator = graph.operator(op);
    let OpKind::Elementwise(Elementwise { expr }) = &operator.kind else { return None };
    let mixed = operator.inputs.iter().chain(&operator.outputs).any(|&tensor| graph.tensor(tensor).dtype == DType::BF16);
    let origin = |&input: &TensorId| match widened(graph, input) {
        Some(narrow) => Some(Origin::View(narrow)),
        None if mixed => Some(Origin::Constant(exact(graph.constant_f32(input)?)?)),
        None => None,
    };
    let (position, origin) = operator.inputs.iter().enumerate().find_map(|(i, input)| Some((i, origin(input)?)))?;
    let (mut inputs, mut constants) = (operator.inputs.clone(), Vec::new());
    let wide = graph.tensor(inputs[position]);
    inputs[position] = match origin {
        Origin::View(narrow) if graph.tensor(narrow).shape == wide.shape => narrow,
        origin => {
            constants.push(Tensor { dtype: DType::BF16, origin, ..wide.clone() });
            new_constant(graph, 0)
        }
    };
    let operand = |i| if i == position { Expr::Input(i).cast(DType::F32) } else { Expr::Input(i) };
    let kind = OpKind::Elementwise(Elementwise { expr: expr.substitute(&operand) });
    let with = Replacement::Operator(Box::new(Operator { kind, inputs, ..operator.clone() }));
    Some(Patch { at: op, absorbed: Vec::new(), constants, with })
}

/// The tensor that `operator` converts to `to`, from the other of f32 and bfloat16, if it does only
/// that.
fn converted(graph: &Graph, operator: &Operator, to: DType) -> Option<TensorId> {
    let OpKind::Elementwise(Elementwise { expr: Expr::Cast(dtype, value) }) = &operator.kind else { return None };
    let &[from] = &operator.inputs[..] else { return None };
    let whole = graph.tensor(from).shape == graph.tensor(operator.outputs[0]).shape;
    let other = if to == DType::F32 { DType::BF16 } else { DType::F32 };
    (*dtype == to && graph.tensor(from).dtype == other && value.is_identity() && whole).then_some(from)
}

/// The bfloat16 tensor that the f32 tensor `wide`, or what it is a view of, was converted from.
fn widened(graph: &Graph, wide: TensorId) -> Option<TensorId> {
    let root = graph.root(wide);
    if graph.tensor(wide).dtype != DType::F32 || graph.tensor(root).elements() != graph.tensor(wide).elements() {
        return None;
    }
    converted(graph, graph.operator(graph.producer(root)?), DType::F32)
}

/// `values` as bfloat16, if it can hold them.
fn exact(values: &[f32]) -> Option<Constant> {
    let narrow = |&value: &f32| (value.to_bits() & 0xffff == 0).then(|| f32_to_bf16(value));
    values.iter().map(narrow).collect::<Option<Vec<u16>>>().map(|values| Constant::BF16(values.into()))
}

fn exact_scalar(value: Scalar) -> Option<Scalar> {
    exact(&[value.f32()?])?.only()
}
