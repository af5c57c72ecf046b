//! What each launch reads and writes, under names that a file can have: for comparing an inference
//! with another reader of the model, operator by operator.
//!
//! The *key* of a result is unique in the program. It is the ONNX name of the value that the result
//! holds, if there is one of its shape; else the name of its tensor, which only says where it comes
//! from. Where two results have one name, the later ones get a number.

use std::collections::{BTreeMap, BTreeSet};

use super::Program;
use crate::error::{Error, Result};
use crate::graph::{OnnxValue, Origin, Tensor};
use crate::ids::{OpId, TensorId};
use crate::plan::Step;

/// A launch.
#[derive(Clone, Debug)]
pub struct Layer<'a> {
    /// The operators that it computes.
    pub operators: Vec<OpId>,
    /// What it reads, once each.
    pub reads: Vec<(&'a Tensor, LayerSource)>,
    /// The index of its first result among its arguments.
    pub first: usize,
    /// What it writes: the results of its operators.
    pub results: Vec<LayerResult<'a>>,
}

/// Where an argument comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum LayerSource {
    /// An input of the model.
    Input,
    /// A constant.
    Constant,
    /// The results with these keys: one, or the parts of a joined tensor.
    Results(Vec<String>),
}

/// A result of a launch.
#[derive(Clone, Debug)]
pub struct LayerResult<'a> {
    /// Its key.
    pub key: String,
    /// The tensor.
    pub tensor: &'a Tensor,
    /// Index into the layer's operators of the one that computes it.
    pub operator: usize,
    /// The ONNX values that it holds, under this shape or another.
    pub values: Vec<&'a OnnxValue>,
    /// The names of ONNX values that its operator computes on the way to it.
    pub absorbed: Vec<&'a str>,
}

impl Program<'_> {
    /// All launches, in the order of the plan's steps.
    pub fn layers(&self) -> Result<Vec<Layer<'_>>> {
        let graph = self.graph;
        // by the tensor that owns the bytes; a slice holds only some of them
        let mut values: BTreeMap<TensorId, Vec<&OnnxValue>> = BTreeMap::new();
        for value in &graph.values {
            let mut owner = value.tensor;
            while let Origin::View(of) = graph.tensor(owner).origin {
                owner = of;
            }
            values.entry(owner).or_default().push(value);
        }
        let mut keys: BTreeMap<TensorId, String> = BTreeMap::new();
        let mut taken: BTreeSet<String> = BTreeSet::new();
        let mut layers = Vec::new();
        for step in &self.plan.steps {
            let Step::Launch { operators, reads, .. } = step else { continue };
            let source = |tensor: TensorId| match graph.tensor(graph.root(tensor)).origin {
                Origin::Input => Ok(LayerSource::Input),
                Origin::Constant(_) => Ok(LayerSource::Constant),
                _ => {
                    let key = |part: TensorId| {
                        let key = keys.get(&part).cloned();
                        key.ok_or_else(|| Error::internal("program", format!("{part} is read before it is written")))
                    };
                    Ok(LayerSource::Results(graph.parts(tensor).into_iter().map(key).collect::<Result<_>>()?))
                }
            };
            let mut inputs: Vec<TensorId> = Vec::new();
            for &input in operators.iter().flat_map(|&op| &graph.operator(op).inputs) {
                if !inputs.contains(&input) {
                    inputs.push(input);
                }
            }
            let inputs = inputs.into_iter().map(|id| Ok((graph.tensor(id), source(id)?))).collect::<Result<Vec<_>>>()?;
            let mut results = Vec::new();
            let outputs = operators.iter().enumerate().flat_map(|(i, &op)| graph.operator(op).outputs.iter().map(move |&id| (i, id)));
            for (operator, id) in outputs {
                let tensor = graph.tensor(id);
                let here = values.get(&id).map_or(&[][..], Vec::as_slice);
                let held: Vec<&OnnxValue> = here.iter().copied().filter(|value| !value.absorbed).collect();
                let name = held.iter().find(|value| value.shape == tensor.shape).map_or(&tensor.name, |value| &value.name);
                let mut key = name.clone();
                for number in 2.. {
                    if taken.insert(key.clone()) {
                        break;
                    }
                    key = format!("{name} ({number})");
                }
                keys.insert(id, key.clone());
                let absorbed = here.iter().filter(|value| value.absorbed).map(|value| value.name.as_str()).collect();
                results.push(LayerResult { key, tensor, operator, values: held, absorbed });
            }
            layers.push(Layer { operators: operators.clone(), reads: inputs, first: reads.len(), results });
        }
        Ok(layers)
    }
}
