//! Loops with a known number of iterations, unrolled: LSTM, GRU, RNN and ONNX's Scan.
//!
//! tract turns a recurrent layer into a `Scan`: a body that runs once per *step*. Each of its
//! inputs is *full* (the same in every step), *scanned* (step `i` reads the `i`-th chunk along an
//! axis, counted from the end if the chunk is negative) or a *state* (the result of the previous
//! step). Each of its outputs is one or more of these: the next state, the last value, and all
//! values concatenated along an axis. tract also hoists products of scanned inputs and constants
//! out of the body: the projection of a whole sequence is one matrix product.
//!
//! Steps:
//! 1. What depends on full inputs and constants alone is lowered once, before the loop.
//! 2. Scanned inputs are transposed into the order of their steps, if they are in another, so that
//!    a chunk is contiguous in memory.
//! 3. The rest of the body is lowered step by step. All steps share their constants and, since
//!    their shapes are the same, their kernels. Names include the step: `LSTM_0.step-3.Ht_1_RT`.
//! 4. Outputs of all steps are concatenated.
//!
//! A step is a handful of launches, and steps cannot overlap, so a loop takes time in proportion to
//! its length. [`LIMIT`] bounds what is unrolled.

use std::collections::{BTreeMap, BTreeSet};

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::DimLike;
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::ops::scan::{InputMapping, Scan, ScanInfo};
use tract_onnx::tract_core::ops::source::TypedSource;

use super::{Lowering, Reason, Scope, extent};
use crate::graph::{Concat, Constant, DType, Gather, OpKind, Origin, Slice, Tensor, Transpose};
use crate::ids::TensorId;

/// The maximum number of operators (steps times operators of a step) that a loop may become. A GPU
/// takes microseconds for each, so more would be tens of milliseconds of tiny kernels, one after
/// the other. Schedule, plan and generated code grow with the number, too.
const LIMIT: usize = 10_000;

/// In a sequence of at most this many steps, each slice has a kernel of its own. In a longer one,
/// all steps share a kernel, which reads its index from a constant.
const SLICED_STEPS: usize = 8;

/// The maximum number of inputs of one `Concat`; more tensors are first concatenated in groups.
const CONCATENATED_AT_ONCE: usize = 64;

/// Refuses a loop that is too long.
pub(super) fn steps_are_few(steps: usize, operators: usize) -> Result<(), Reason> {
    if steps.saturating_mul(operators) <= LIMIT {
        return Ok(());
    }
    Err(format!(
        "its {steps} steps of {operators} operators are more than the {LIMIT} operators that a loop may become: each step is launched on its own, and \
         no two overlap. Give a shorter sequence with --shapes, or run the model on parts of it, passing on its state"
    ))
}

/// The tensors of a body's outlets in the graph, and why some outlets have none.
type Values = (BTreeMap<OutletId, TensorId>, BTreeMap<OutletId, Reason>);

impl<'a> Lowering<'a> {
    /// Lowers `node` if it is a loop, to the operators of all its steps; returns whether it was.
    pub(super) fn scan(&mut self, node: &'a TypedNode) -> Result<bool, Reason> {
        let Some(op) = node.op_as::<Scan>() else { return Ok(false) };
        let text = |e: TractError| format!("{e:#}");
        let steps = self.steps(node, op)?;
        let order = op.body.eval_order().map_err(text)?;
        let varying = varying(op, &order);
        let operators = order.iter().filter(|&&id| varying.contains(&id) && !op.body.node(id).op_is::<TypedSource>()).count();
        steps_are_few(steps, operators)?;

        let mut fixed: Values = Default::default();
        let (mut scanned, mut state) = (Vec::new(), Vec::new());
        for ((&inner, outer), mapping) in op.body.inputs.iter().zip(&node.inputs).zip(&op.input_mapping) {
            match (mapping, self.tensors.get(outer)) {
                (InputMapping::Full, Some(&id)) => _ = fixed.0.insert(inner, id),
                (InputMapping::Full, None) => _ = fixed.1.insert(inner, self.unusable[outer].clone()),
                (_, None) => return Err(format!("it reads a constant whose {}", self.unusable[outer])),
                (InputMapping::State, Some(&id)) => state.push((inner, id)),
                (InputMapping::Scan(info), Some(&id)) => scanned.push((inner, id, *info)),
            }
        }
        let name = self.operator_name(node);
        self.body(op, node, name.clone(), &mut fixed, order.iter().filter(|id| !varying.contains(id)))?;
        let sequences: Vec<ScannedInput> = scanned.iter().map(|&(_, id, info)| self.in_steps(&name, id, info, steps)).collect();

        let mut given: Vec<Vec<TensorId>> = vec![Vec::new(); op.body.outputs.len()];
        for step in 0..steps {
            let name = format!("{name}.step-{step}");
            let mut values = fixed.clone();
            values.0.extend(state.iter().copied());
            for (&(inner, ..), sequence) in scanned.iter().zip(&sequences) {
                values.0.insert(inner, self.chunk(&name, sequence, step));
            }
            self.body(op, node, name, &mut values, order.iter().filter(|id| varying.contains(id)))?;
            for (output, list) in op.body.outputs.iter().zip(&mut given) {
                let unusable = || values.1.get(output).cloned().unwrap_or_default();
                list.push(*values.0.get(output).ok_or_else(unusable)?);
            }
            let next = given.iter().zip(&op.output_mapping).filter(|(_, mapping)| mapping.state).map(|(list, _)| list[step]);
            state.iter_mut().zip(next).for_each(|((_, value), next)| *value = next);
        }
        for (mut list, mapping) in given.into_iter().zip(&op.output_mapping) {
            if let (Some(slot), Some(&last)) = (mapping.last_value_slot, list.last()) {
                self.provide(node, slot, last)?;
            }
            if let Some((slot, info)) = mapping.scan {
                if info.chunk < 0 {
                    list.reverse();
                }
                let output = self.describe(OutletId::new(node.id, slot), Origin::Input)?;
                let lengths = list.iter().map(|&t| extent(&self.graph.tensor(t).shape, info.axis));
                let length: usize = lengths.sum::<Result<usize, Reason>>()?;
                if length != extent(&output.shape, info.axis)? || info.chunk < -1 {
                    return Err(format!("the chunks of its output {slot} do not add up to its extent, which is not supported"));
                }
                let all = self.concatenated(&name, list, info.axis);
                self.provide(node, slot, all)?;
            }
        }
        Ok(true)
    }

    /// The number of steps, the same for all scanned inputs.
    fn steps(&self, node: &TypedNode, op: &Scan) -> Result<usize, Reason> {
        if op.skip != 0 {
            return Err("a loop that skips its first steps is not supported".into());
        }
        let mut steps = BTreeSet::new();
        for (outer, mapping) in node.inputs.iter().zip(&op.input_mapping) {
            let InputMapping::Scan(info) = mapping else { continue };
            let fact = self.model.outlet_fact(*outer).map_err(|e| format!("{e:#}"))?;
            let extent = fact.shape.get(info.axis).ok_or_else(|| format!("axis {} is not one of {} axes", info.axis, fact.rank()))?;
            let length = extent.to_usize().map_err(|_| "the number of its steps is not static: give --shapes".to_string())?;
            if info.chunk == 0 || length % info.chunk.unsigned_abs() != 0 {
                return Err(format!("its chunks of {} do not divide its input of {length}: not supported", info.chunk.unsigned_abs()));
            }
            steps.insert(length / info.chunk.unsigned_abs());
        }
        match steps.into_iter().collect::<Vec<_>>()[..] {
            [steps] if steps > 0 => Ok(steps),
            [_] => Err("a loop without steps is not supported".into()),
            [] => Err("a loop without a scanned input is not supported".into()),
            [..] => Err("its scanned inputs have different numbers of steps".into()),
        }
    }

    /// Lowers `nodes` of the body of `op`, reading and extending `values`. Names begin with
    /// `prefix`.
    fn body<'n>(
        &mut self,
        op: &'a Scan,
        node: &TypedNode,
        prefix: String,
        values: &mut Values,
        nodes: impl Iterator<Item = &'n usize>,
    ) -> Result<(), Reason> {
        let model = std::mem::replace(&mut self.model, &op.body);
        let scope = self.scope.replace(Scope { prefix, tract_prefix: format!("{}.", node.name) });
        std::mem::swap(&mut self.tensors, &mut values.0);
        std::mem::swap(&mut self.unusable, &mut values.1);
        let mut refused = BTreeSet::new();
        for &id in nodes {
            let inner = op.body.node(id);
            let ready = inner.inputs.iter().all(|i| self.tensors.contains_key(i) || self.unusable.contains_key(i));
            if !inner.op_is::<TypedSource>()
                && ready
                && let Err(reason) = self.node(inner)
            {
                refused.insert(format!("{} in its body: {reason}", inner.op.name()));
            }
        }
        std::mem::swap(&mut self.tensors, &mut values.0);
        std::mem::swap(&mut self.unusable, &mut values.1);
        self.scope = scope;
        self.model = model;
        if refused.is_empty() { Ok(()) } else { Err(refused.into_iter().collect::<Vec<_>>().join("; ")) }
    }

    /// `id` as a scanned input of `steps` chunks, transposed if that makes them contiguous.
    pub(super) fn in_steps(&mut self, name: &str, id: TensorId, info: ScanInfo, steps: usize) -> ScannedInput {
        let shape = self.graph.tensor(id).shape.clone();
        let mut chunk = shape.clone();
        chunk[info.axis] = info.chunk.unsigned_abs();
        let outer: usize = shape[..info.axis].iter().product();
        let whole = ScannedInput { tensor: id, axis: info.axis, chunk, backward: info.chunk < 0, steps };
        if steps == 1 || outer == 1 || info.chunk.unsigned_abs() != 1 {
            return whole;
        }
        let mut permutation: Vec<usize> = (0..shape.len()).filter(|&axis| axis != info.axis).collect();
        permutation.insert(0, info.axis);
        let ordered = permutation.iter().map(|&axis| shape[axis]).collect();
        let tensor = self.graph.tensor(id);
        let output = Tensor { name: format!("{}.in-steps", tensor.name), shape: ordered, ..tensor.clone() };
        let tensor = self.add(format!("{name}.in-steps"), OpKind::Transpose(Transpose { permutation }), vec![id], output);
        ScannedInput { tensor, axis: 0, ..whole }
    }

    /// The chunk of `sequence` that step `step` reads.
    pub(super) fn chunk(&mut self, name: &str, sequence: &ScannedInput, step: usize) -> TensorId {
        let ScannedInput { tensor, axis, chunk, backward, steps } = sequence;
        if *steps == 1 {
            return *tensor;
        }
        let whole = self.graph.tensor(*tensor).clone();
        let length = whole.shape[*axis] / steps;
        let index = if *backward { steps - 1 - step } else { step };
        let mut shape = whole.shape.clone();
        shape[*axis] = length;
        let output = Tensor { name: format!("{}.step-{step}", whole.name), shape, ..whole.clone() };
        if length == 1 && *steps > SLICED_STEPS {
            let index = self.graph.add_tensor(Tensor {
                name: format!("{name}.index"),
                dtype: DType::I64,
                shape: vec![1],
                origin: Origin::Constant(Constant::I64([index as i64].into())),
            });
            let part = self.add(format!("{name}.x"), OpKind::Gather(Gather::Slices { axis: *axis }), vec![*tensor, index], output);
            return self.reshaped(part, chunk.clone());
        }
        let mut slice = Slice { begin: vec![0; whole.shape.len()], step: vec![1; whole.shape.len()] };
        slice.begin[*axis] = length * index;
        let part = self.add(format!("{name}.x"), OpKind::Slice(slice), vec![*tensor], output);
        self.reshaped(part, chunk.clone())
    }

    /// The concatenation of `list` along `axis`.
    pub(super) fn concatenated(&mut self, name: &str, mut list: Vec<TensorId>, axis: usize) -> TensorId {
        while list.len() > 1 {
            let groups: Vec<Vec<TensorId>> = list.chunks(CONCATENATED_AT_ONCE).map(<[_]>::to_vec).collect();
            list = groups.into_iter().map(|group| self.concatenate_group(name, group, axis)).collect();
        }
        list[0]
    }

    fn concatenate_group(&mut self, name: &str, group: Vec<TensorId>, axis: usize) -> TensorId {
        if let [one] = group[..] {
            return one;
        }
        let mut output = self.graph.tensor(group[0]).clone();
        output.shape[axis] = group.iter().map(|&t| self.graph.tensor(t).shape[axis]).sum();
        self.add(format!("{name}.joined"), OpKind::Concat(Concat { axis }), group, output)
    }
}

/// A scanned input, with its chunks one after the other along `axis`.
pub(super) struct ScannedInput {
    tensor: TensorId,
    axis: usize,
    /// The shape in which the body reads a chunk.
    chunk: Vec<usize>,
    backward: bool,
    steps: usize,
}

/// The nodes of the body that depend on the step.
fn varying(op: &Scan, order: &[usize]) -> BTreeSet<usize> {
    let full = |id: usize| {
        let input = op.body.inputs.iter().position(|outlet| outlet.node == id);
        input.is_some_and(|i| matches!(op.input_mapping[i], InputMapping::Full))
    };
    let mut varying = BTreeSet::new();
    for &id in order {
        let node = op.body.node(id);
        let own = node.op_is::<TypedSource>() && !full(id);
        if own || (!node.op_is::<Const>() && node.inputs.iter().any(|input| varying.contains(&input.node))) {
            varying.insert(id);
        }
    }
    varying
}
