//! Types operators by their definitions (see `define/`).
//!
//! Once the types and shapes of a node's inputs are known, its definition is written for them,
//! parsed and typed as a model of its own, and put in the node's position.

use std::collections::BTreeMap;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::cast::cast;
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::ops::scan::Scan;
use tract_onnx::tract_core::ops::source::TypedSource;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::ops::konst::Const as InferenceConst;

use super::{readers, typed};
use crate::import::define::{self, Body, Call, Definition, Known, ROOT};

/// Reads a node that may have a definition.
pub fn read(context: &ParsingContext, node: &pb::NodeProto) -> readers::Parsed {
    let version = context.onnx_operator_set_version;
    match define::find(node, version) {
        Some(definition) => Ok((expand(Defined { definition, node: node.clone(), version }), vec![])),
        None => readers::usual(context, node),
    }
}

/// Operators that are not computed on constants while types are inferred: shapes do not depend on
/// them, they take long, and tract computes some of them for few types.
const COSTLY: [&str; 7] = ["Attention", "Einsum", "GRU", "Gemm", "LSTM", "MatMul", "RNN"];

/// A node that has a definition.
#[derive(Clone)]
struct Defined {
    definition: &'static Definition,
    node: pb::NodeProto,
    version: i64,
}

impl std::fmt::Debug for Defined {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "Defined {}", self.node.op_type)
    }
}

/// What is known of an input of a node.
struct Argument {
    datum: DatumType,
    shape: Vec<usize>,
    value: Option<Arc<Tensor>>,
}

impl Defined {
    /// The positions of the inputs that the node has.
    fn positions(&self) -> Vec<usize> {
        (0..self.node.input.len()).filter(|&i| !self.node.input[i].is_empty()).collect()
    }

    /// The definition for these inputs, as a model in which inputs with a value are constants.
    fn body(&self, arguments: &[Argument]) -> TractResult<InferenceModel> {
        let mut inputs = vec![None; self.node.input.len()];
        for (position, argument) in self.positions().into_iter().zip(arguments) {
            let datum = argument.datum;
            let dtype = typed::dtype(datum).ok_or_else(|| format_err!("element type {datum:?} is not supported yet"))?;
            let value = argument.value.as_ref().map(typed::shared_values).transpose()?;
            inputs[position] = Some(Known { name: input_name(position), dtype, shape: argument.shape.clone(), value });
        }
        let mut body = Body::new(Call { node: &self.node, version: self.version }, inputs);
        (self.definition.define)(&mut body).map_err(TractError::msg)?;
        let proto = body.model().map_err(TractError::msg)?;
        let mut model = readers::onnx().parse(&proto, None)?.model;
        let mut run_time = Vec::new();
        for outlet in model.input_outlets()?.to_vec() {
            let of = |&i: &usize| input_name(i) == model.node(outlet.node).name;
            let found = self.positions().iter().position(of).and_then(|i| arguments.get(i));
            match found.and_then(|argument| argument.value.clone()) {
                Some(value) => {
                    let value = if value.datum_type() == DatumType::TDim { value.cast_to::<i64>()?.into_owned().into() } else { value };
                    let node = &mut model.nodes_mut()[outlet.node];
                    node.outputs[0].fact = TypedFact::try_from(value.clone())?.into();
                    node.op = Box::new(InferenceConst::new(value)?);
                }
                None => run_time.push(outlet),
            }
        }
        model.set_input_outlets(&run_time)?;
        Ok(model)
    }

    /// Types and shapes of the results, as far as they follow from these inputs.
    fn results(&self, arguments: &[Argument]) -> TractResult<Vec<InferenceFact>> {
        let mut body = self.body(arguments)?;
        body.analyse(true)?;
        body.output_outlets()?.iter().map(|&outlet| Ok(body.outlet_fact(outlet)?.clone())).collect()
    }
}

/// The name of the input `position` in a body.
fn input_name(position: usize) -> String {
    format!("{ROOT}.input-{position}")
}

/// The reason alone of an error in a body: the names in it are not the user's.
fn reason(error: TractError) -> TractError {
    let text = format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ");
    TractError::msg(typed::innermost(&text))
}

impl Expansion for Defined {
    fn name(&self) -> StaticName {
        self.node.op_type.clone().into()
    }

    fn runs_out_of_plan(&self) -> bool {
        !COSTLY.contains(&self.definition.operator)
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.node.output.iter().filter(|name| !name.is_empty()).count())
    }

    fn rules<'r, 'p: 'r, 's: 'r>(&'s self, s: &mut Solver<'r>, inputs: &'p [TensorProxy], outputs: &'p [TensorProxy]) -> InferenceResult {
        let positions = self.positions();
        check_input_arity(inputs, positions.len())?;
        check_output_arity(outputs, self.nboutputs()?)?;
        let needed: Vec<usize> = (0..positions.len()).filter(|&i| self.definition.values.contains(&positions[i])).collect();
        s.given_all(inputs.iter().map(|input| &input.datum_type), move |s, types| {
            let needed = needed.clone();
            s.given_all(inputs.iter().map(|input| &input.shape), move |s, shapes| {
                let (types, needed) = (types.clone(), needed.clone());
                s.given_all(needed.clone().into_iter().map(|i| &inputs[i].value), move |s, values| {
                    let mut arguments = Vec::new();
                    for (i, (&datum, shape)) in types.iter().zip(&shapes).enumerate() {
                        let shape = shape.iter().map(|d| d.to_usize()).collect::<Result<Vec<usize>, _>>()?;
                        let value = needed.iter().position(|&n| n == i).map(|n| values[n].clone());
                        arguments.push(Argument { datum, shape, value });
                    }
                    for (result, output) in self.results(&arguments).map_err(reason)?.into_iter().zip(outputs) {
                        if let Some(datum) = result.datum_type.concretize() {
                            s.equals(&output.datum_type, datum)?;
                        }
                        s.equals(&output.shape, result.shape)?;
                        if let Some(value) = result.value.concretize() {
                            s.equals(&output.value, value)?;
                        }
                    }
                    Ok(())
                })
            })
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let mut arguments = Vec::new();
        for &input in inputs {
            let fact = model.outlet_fact(input)?;
            let shape = fact.shape.as_concrete().ok_or_else(|| format_err!("the shape of an input is not static: {:?}", fact.shape))?;
            arguments.push(Argument { datum: fact.datum_type, shape: shape.to_vec(), value: fact.konst.clone() });
        }
        let body = self.body(&arguments).and_then(|body| body.into_typed()).map_err(reason)?;
        let name = |inner: &str| inner.strip_prefix(ROOT).map_or_else(|| format!("{prefix}.{inner}"), |rest| format!("{prefix}{rest}"));
        let given: BTreeMap<String, OutletId> = self.positions().into_iter().map(input_name).zip(inputs.iter().copied()).collect();
        let mut outlets: BTreeMap<OutletId, OutletId> = BTreeMap::new();
        for id in body.eval_order()? {
            let node = body.node(id);
            let plain =
                |outlet: OutletId, model: &TypedModel| Ok::<_, TractError>(model.outlet_fact(outlet)?.datum_type != DatumType::TDim);
            match (given.get(&node.name), node.op_as::<Const>()) {
                (Some(&outlet), _) if plain(outlet, model)? => _ = outlets.insert(id.into(), outlet),
                (Some(&outlet), None) => {
                    let converted = model.wire_node(name(&node.name), cast(i64::datum_type()), &[outlet])?[0];
                    outlets.insert(id.into(), converted);
                }
                (_, Some(constant)) => {
                    let outlet = model.add_const(name(&node.name), constant.val().clone())?;
                    outlets.insert(id.into(), outlet);
                }
                (None, None) if node.op_is::<TypedSource>() => bail!("its definition reads {:?}, which it does not have", node.name),
                (None, None) => {
                    let inputs: TVec<OutletId> = node.inputs.iter().map(|input| outlets[input]).collect();
                    let mut op = node.op.clone();
                    if let Some(scan) = op.downcast_mut::<Scan>() {
                        for inner in scan.body.nodes_mut().iter_mut().filter(|inner| inner.name.starts_with(ROOT)) {
                            inner.name = name(&inner.name);
                        }
                    }
                    let results = model.wire_node(name(&node.name), op, &inputs)?;
                    outlets.extend(results.into_iter().enumerate().map(|(slot, outlet)| (OutletId::new(id, slot), outlet)));
                }
            }
        }
        body.outputs.iter().map(|outlet| Ok(outlets[outlet])).collect()
    }
}
