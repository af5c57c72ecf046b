//! Typing with tract, up to a graph of core operators in which convolutions are still convolutions.
//!
//! tract's own `into_declutter` rewrites for its CPU kernels: a 1x1 convolution becomes an EinSum,
//! a strided one a Downsample, a Concat before it a handful of Slices. We use its constant
//! propagation, and one pass that declutters every node *except* convolutions.

use std::any::Any;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tract_onnx::pb;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::format_err;
use tract_onnx::tract_core::ops::Downsample;
use tract_onnx::tract_core::ops::array::Slice;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::cnn::conv::Conv;
use tract_onnx::tract_core::ops::dummy::Dummy;
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::ops::nn::resize::Resize;
use tract_onnx::tract_core::ops::quant::DequantizeLinearF32;
use tract_onnx::tract_core::ops::source::TypedSource;
use tract_onnx::tract_core::optim::{CONST_FOLD_MEM_BUDGET, Optimizer, OptimizerSession, TypedPass};
use tract_onnx::tract_hir::infer::Factoid;

use super::messages::plain;
use super::weights::LargeWeights;
use super::{parse, readers, rewrite};
use crate::error::{Error, Result};
use crate::graph::{Constant, DType};
use crate::import::onnx::bfloat16;
use crate::import::onnx::dtype::dtype_of;
use crate::import::onnx::inline::{self, SELECT};
use crate::import::onnx::limits;
use crate::import::onnx::operators::{self, Row};
use crate::panics::{self, one_line, silently};

/// Replaces nodes whose inputs are all constants by what they compute. A node that fails, such as a
/// division of integers by 0, stays as it is. Like tract's own pass, it does not copy a large
/// constant for each of several readers, and computes nothing large from little.
#[derive(Clone, Debug, Default)]
struct FoldConstants {
    /// The node at which the next search starts.
    next: usize,
}

impl TypedPass for FoldConstants {
    fn reset(&mut self) -> TractResult<()> {
        self.next = 0;
        Ok(())
    }

    fn next(&mut self, _: &mut OptimizerSession, model: &TypedModel) -> TractResult<Option<TypedModelPatch>> {
        for node in &model.nodes()[self.next..] {
            let lost = node.op_as::<Const>().filter(|_| node.outputs[0].fact.konst.is_none());
            let results = match lost {
                Some(constant) => Some(tvec![constant.val().clone()]),
                None => folded(model, node)?,
            };
            let Some(results) = results else { continue };
            self.next = node.id;
            let mut patch = TypedModelPatch::default();
            for (slot, result) in results.into_iter().enumerate() {
                let name = if slot > 0 { format!("{}.{slot}", node.name) } else { node.name.clone() };
                let constant = patch.add_const(name, result)?;
                patch.shunt_outside(model, OutletId::new(node.id, slot), constant)?;
            }
            return Ok(Some(patch));
        }
        Ok(None)
    }
}

/// What `node` computes, if its inputs are constants and it is worth folding.
fn folded(model: &TypedModel, node: &TypedNode) -> TractResult<Option<TVec<Arc<Tensor>>>> {
    if node.op_is::<Const>() || node.op_is::<Dummy>() || node.op_is::<TypedSource>() {
        return Ok(None);
    }
    let (mut inputs, mut before) = (TVec::new(), 0);
    for (fact, outlet) in model.node_input_facts(node.id)?.into_iter().zip(&node.inputs) {
        let Some(value) = &fact.konst else { return Ok(None) };
        let bytes = (value.datum_type().size_of() * value.volume()) as u64;
        let alone = model.node(outlet.node).outputs[outlet.slot].successors.len() == 1 || node.op_is::<Slice>();
        let small = fact.datum_type.is_number() && bytes <= CONST_FOLD_MEM_BUDGET;
        if !alone && !small {
            return Ok(None);
        }
        before += bytes;
        inputs.push(value.clone().into_tvalue());
    }
    let known = node.outputs.iter().filter_map(|output| Some((output.fact.shape.as_concrete()?, output.fact.datum_type.size_of())));
    let expected: u128 = known.map(|(shape, element)| limits::bytes(shape.iter().copied(), element)).sum();
    if expected > u128::from(before.max(CONST_FOLD_MEM_BUDGET)) {
        return Ok(None);
    }
    let Ok(Ok(Some(results))) = caught(|| node.op.eval_out_of_plan(inputs)) else { return Ok(None) };
    let after: u64 = results.iter().map(|result| (result.datum_type().size_of() * result.volume()) as u64).sum();
    if after > before.max(CONST_FOLD_MEM_BUDGET) {
        return Ok(None);
    }
    Ok(Some(results.into_iter().map(|result| result.into_arc_tensor()).collect()))
}

/// Declutters every node except convolutions, dequantisations (which would become tables),
/// divisions, resizes to long axes and those in `left_out`.
#[derive(Clone, Debug, Default)]
struct KeepConvolutions {
    /// The node at which the next search starts.
    next: usize,
    /// Nodes that are not rewritten: operator and name, since rewrites keep names.
    left_out: BTreeSet<String>,
    /// The node that is being rewritten.
    current: Arc<Mutex<String>>,
}

impl TypedPass for KeepConvolutions {
    fn reset(&mut self) -> TractResult<()> {
        self.next = 0;
        Ok(())
    }

    fn next(&mut self, session: &mut OptimizerSession, model: &TypedModel) -> TractResult<Option<TypedModelPatch>> {
        for node in &model.nodes()[self.next..] {
            // a division by a constant would become a product with its rounded reciprocal, and a
            // remainder is taken to be commutative
            let division = node.op_as::<TypedBinOp>().is_some_and(|op| matches!(op.0.name(), "Div" | "Rem"));
            // tract would make a table for each axis, however long
            let extents = || node.outputs.iter().filter_map(|output| output.fact.shape.as_concrete()).flatten();
            let long = node.op_is::<Resize>() && extents().any(|&extent| limits::table(&[extent], 64).is_err());
            let kept = node.op_is::<Conv>()
                || node.op_is::<Dummy>()
                || node.op_is::<DequantizeLinearF32>()
                || division
                || long
                || node.op_is::<Downsample>();
            let key = format!("{} {}", node.op.name(), node.name);
            if kept || self.left_out.contains(&key) {
                continue;
            }
            *lock(&self.current) = key;
            if let Some(patch) = node.op.declutter_with_session(session, model, node)? {
                self.next = node.id + usize::from(patch.dont_apply_twice.is_some());
                return Ok(Some(patch));
            }
        }
        Ok(None)
    }
}

fn lock(name: &Mutex<String>) -> MutexGuard<'_, String> {
    name.lock().unwrap_or_else(PoisonError::into_inner)
}

/// These passes, until none of them finds anything.
fn passes(passes: Vec<Box<dyn TypedPass>>) -> Optimizer {
    let mut optimizer = Optimizer::prop_consts();
    optimizer.passes = passes;
    optimizer
}

/// The maximum number of rewrites that may fail. A model in which more do is not rewritten at all.
const FAILING_REWRITES: usize = 50;

/// Folds constants and rewrites nodes. Where a rewrite of tract's fails or panics, its node stays
/// as it was, and all starts again from the model before.
pub fn simplified(model: TypedModel) -> TractResult<TypedModel> {
    let mut pass = KeepConvolutions::default();
    while pass.left_out.len() < FAILING_REWRITES {
        let mut attempt = model.clone();
        let optimizer = passes(vec![Box::<FoldConstants>::default(), Box::new(pass.clone())]);
        lock(&pass.current).clear();
        if let Ok(Ok(())) = caught(|| optimizer.optimize(&mut attempt)) {
            return Ok(attempt);
        }
        let failed = lock(&pass.current).clone();
        if failed.is_empty() || !pass.left_out.insert(failed) {
            break;
        }
    }
    let mut folded = model;
    passes(vec![Box::<FoldConstants>::default()]).optimize(&mut folded)?;
    Ok(folded)
}

/// A model in tract's core operators.
pub struct Typed {
    /// As tract types it, for the reference; `None` if that was not wanted.
    pub reference: Option<TypedModel>,
    /// The same after our pipeline, for lowering.
    pub kept: TypedModel,
    /// The names of the values that the file declares to be bfloat16, and that are f32 here.
    pub narrow: BTreeSet<String>,
}

/// Types the model, whose large weights are `large`. Its errors name a node if they come from one.
pub fn type_model(
    path: &Path,
    proto: &pb::ModelProto,
    large: &LargeWeights,
    shapes: &[(String, Vec<usize>)],
    reference: bool,
) -> Result<Typed> {
    match try_type_model(path, proto, large, shapes, reference) {
        Err(Error::Model { path, message }) if !message.contains("(node \"") && !message.contains("Loop detected") => {
            let message = match first_failing(&path, proto, large, shapes) {
                Some(node) => {
                    let why = message.trim_start_matches("typing the model: ");
                    format!("{} (node {:?}): {why}", operator_of(node), node.name)
                }
                None => message,
            };
            Err(Error::Model { path, message })
        }
        Err(Error::Model { path, message }) => Err(Error::Model { path, message: as_onnx(&message, proto) }),
        Err(Error::Unsupported(lines)) => Err(Error::Unsupported(lines.iter().map(|line| as_onnx(line, proto)).collect())),
        result => result,
    }
}

/// `ConvHir (node "n"): why` with the operator that the node has in ONNX.
fn as_onnx(line: &str, proto: &pb::ModelProto) -> String {
    let renamed = || {
        let (before, rest) = line.split_once(" (node \"")?;
        let (name, _) = rest.split_once("\")")?;
        let nodes = &proto.graph.as_ref()?.node;
        let node =
            nodes.iter().find(|node| name.strip_prefix(node.name.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))?;
        let start = before.rfind(": ").map_or(0, |at| at + 2);
        Some(format!("{}{} (node {:?}{}", &before[..start], operator_of(node), node.name, &rest[name.len() + 1..]))
    };
    renamed().unwrap_or_else(|| line.to_string())
}

/// The operator that the node has in the model's file.
fn operator_of(node: &pb::NodeProto) -> String {
    if node.op_type == SELECT { "If".into() } else { node.op_type.escape_debug().to_string() }
}

/// The first node that cannot be typed, with the nodes before it. Found by halving.
fn first_failing<'a>(
    path: &Path,
    proto: &'a pb::ModelProto,
    large: &LargeWeights,
    shapes: &[(String, Vec<usize>)],
) -> Option<&'a pb::NodeProto> {
    let nodes = &proto.graph.as_ref()?.node;
    let (mut good, mut bad) = (0, nodes.len());
    while bad - good > 1 {
        let middle = (good + bad) / 2;
        let mut part = proto.clone();
        if let Some(graph) = &mut part.graph {
            graph.node.truncate(middle);
            let names = graph.node.iter().flat_map(|node| &node.output).filter(|name| !name.is_empty());
            graph.output = names.map(|name| pb::ValueInfoProto { name: name.clone(), ..Default::default() }).collect();
        }
        match try_type_model(path, &part, large, shapes, false) {
            Ok(_) => good = middle,
            Err(_) => bad = middle,
        }
    }
    nodes.get(bad.checked_sub(1)?)
}

fn try_type_model(
    path: &Path,
    proto: &pb::ModelProto,
    large: &LargeWeights,
    shapes: &[(String, Vec<usize>)],
    reference: bool,
) -> Result<Typed> {
    quietly(path, "typing the model", || {
        let folder = path.parent().map(|p| p.to_string_lossy().into_owned());
        let mut model = readers::onnx().parse(proto, folder.as_deref())?.model;
        large.put(&mut model)?;
        for outlet in model.input_outlets()?.to_vec() {
            let name = &model.node(outlet.node).name;
            if let Some((_, shape)) = shapes.iter().find(|(n, _)| n == name) {
                // tract forgets the type of an input that is an output, too
                let datum = declared(proto, name).or(model.outlet_fact(outlet)?.datum_type.concretize());
                model.set_outlet_fact(outlet, InferenceFact::dt_shape(datum.unwrap_or(f32::datum_type()), shape))?;
            }
        }
        let mut kept = model.into_typed()?;
        rewrite::negative_pads(&mut kept)?;
        let reference = reference.then(|| kept.clone());
        Ok(Typed { reference, kept: simplified(kept)?, narrow: BTreeSet::new() })
    })
}

/// tract's element type for the one that the file declares for an input.
fn declared(proto: &pb::ModelProto, input: &str) -> Option<DatumType> {
    let value = proto.graph.as_ref()?.input.iter().find(|value| value.name == input)?;
    let pb::type_proto::Value::TensorType(tensor) = value.r#type.as_ref()?.value.as_ref()?;
    pb::tensor_proto::DataType::try_from(tensor.elem_type).ok().and_then(dtype_of).map(datum)
}

/// The first output of a model, if it is one number that is known for these shapes. A model that
/// the check refuses is not typed: tract may not terminate on it.
pub fn known(path: &Path, mut proto: pb::ModelProto, shapes: &[(String, Vec<usize>)]) -> Option<inline::Value> {
    let large = LargeWeights::take(path, &mut proto).ok()?;
    parse::check(path, &proto).ok()?;
    let folded = try_type_model(path, &proto, &large, shapes, false).ok()?.kept;
    let outlet = *folded.outputs.first()?;
    let value = folded.outlet_fact(outlet).ok()?.konst.clone()?;
    let number = value.cast_to::<i64>().ok()?.try_as_plain_ram().ok()?.as_slice::<i64>().ok()?.first().copied()?;
    let truth = value.datum_type() == DatumType::Bool;
    (value.volume() == 1).then_some(if truth { inline::Value::Truth(number != 0) } else { inline::Value::Number(number) })
}

/// Our element type for one of tract's. Symbolic dimensions, which are constants by now or results
/// of casts to i64, are i64.
pub fn dtype(datum: DatumType) -> Option<DType> {
    Some(match datum.unquantized() {
        DatumType::Bool => DType::Bool,
        DatumType::I8 => DType::I8,
        DatumType::I16 => DType::I16,
        DatumType::I32 => DType::I32,
        DatumType::I64 | DatumType::TDim => DType::I64,
        DatumType::U8 => DType::U8,
        DatumType::U16 => DType::U16,
        DatumType::U32 => DType::U32,
        DatumType::U64 => DType::U64,
        DatumType::F16 => DType::F16,
        DatumType::F32 => DType::F32,
        DatumType::F64 => DType::F64,
        _ => return None,
    })
}

/// tract's element type for one of ours; bfloat16, which it does not have, is f32.
pub fn datum(dtype: DType) -> DatumType {
    match dtype {
        DType::Bool => DatumType::Bool,
        DType::I8 => DatumType::I8,
        DType::I16 => DatumType::I16,
        DType::I32 => DatumType::I32,
        DType::I64 => DatumType::I64,
        DType::U8 => DatumType::U8,
        DType::U16 => DatumType::U16,
        DType::U32 => DatumType::U32,
        DType::U64 => DatumType::U64,
        DType::F16 => DatumType::F16,
        DType::BF16 | DType::F32 => DatumType::F32,
        DType::F64 => DatumType::F64,
    }
}

/// The values of a tensor of any type that [`dtype`] knows.
pub fn values(tensor: &Tensor) -> TractResult<Constant> {
    let datum = tensor.datum_type();
    let dtype = dtype(datum).ok_or_else(|| format_err!("element type {datum:?} is not supported yet"))?;
    let tensor = if datum == DatumType::TDim { tensor.cast_to::<i64>()? } else { Cow::Borrowed(tensor) };
    Ok(Constant::from_bytes(dtype, tensor.try_as_plain_ram()?.as_bytes()))
}

/// The same, without a copy where tract and hiosc store values alike.
pub fn shared_values(tensor: &Arc<Tensor>) -> TractResult<Constant> {
    match dtype(tensor.datum_type()) {
        Some(dtype) if tensor.datum_type() != DatumType::TDim && tensor.is_plain_ram() => {
            Ok(Constant::sharing(dtype, TensorBytes(tensor.clone())))
        }
        _ => values(tensor),
    }
}

/// A tensor of tract's as its bytes.
struct TensorBytes(Arc<Tensor>);

impl AsRef<[u8]> for TensorBytes {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// A tensor of these values.
pub fn tensor(values: &Constant, shape: &[usize]) -> TractResult<Tensor> {
    let bytes = match values.dtype() {
        DType::BF16 => Cow::Owned(bfloat16::wide_bytes(values.bytes()).collect()),
        _ => Cow::Borrowed(values.bytes()),
    };
    // SAFETY: each type of ours, bfloat16 now being f32, has the size and layout of tract's;
    // booleans are 0 or 1, since they come from `bool`.
    unsafe { Tensor::from_raw_dt(datum(values.dtype()), shape, &bytes) }
}

/// The values of a tensor as f32.
pub fn f32_values(tensor: &Tensor) -> TractResult<Vec<f32>> {
    let tensor = tensor.cast_to::<f32>()?;
    Ok(tensor.try_as_plain_ram()?.as_slice::<f32>()?.to_vec())
}

/// Runs `f`, turning tract's errors and panics into [`Error::Model`], and what tract has no typed
/// form for into [`Error::Unsupported`], without a panic message on the terminal.
pub fn quietly<T>(path: &Path, action: &str, f: impl FnOnce() -> TractResult<T>) -> Result<T> {
    let message = match silently(|| catch_unwind(AssertUnwindSafe(f))) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => {
            let text = format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ");
            match failed_node(&text, "Translating node #") {
                Some(line) => return Err(Error::Unsupported(vec![one_line(&line)])),
                None => plain(&one_line(&failed_node(&text, "Failed analyse for node #").unwrap_or(text))),
            }
        }
        Err(panic) => panicked(&*panic),
    };
    Err(Error::Model { path: path.to_path_buf(), message: format!("{action}: {message}") })
}

/// The result of `f`, a function of tract's, or the message of its panic.
pub fn caught<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    silently(|| catch_unwind(AssertUnwindSafe(f))).map_err(|panic| panicked(&*panic))
}

/// What is said of a panic of tract's.
pub fn panicked(panic: &(dyn Any + Send)) -> String {
    plain(&format!("the reader fails on it: {}", panic_text(panic)))
}

/// The message of a panic.
fn panic_text(panic: &(dyn Any + Send)) -> String {
    match panics::text(panic) {
        text if text.contains("self.dims.iter().all(|d|") => "the shape of its result has a negative extent".into(),
        text => text,
    }
}

/// tract's `PHRASE3 "name" Conv: why` as `Conv (node "name"): why`, and the innermost one if they
/// are nested.
fn failed_node(text: &str, phrase: &str) -> Option<String> {
    let (_, rest) = text.rsplit_once(phrase)?;
    let (_, rest) = rest.split_once(" \"")?;
    let (name, rest) = rest.split_once("\" ")?;
    let (operator, why) = rest.split_once(": ")?;
    let operator = operator.trim_end_matches(" ToTypedTranslator");
    let why = match operators::find("", operator).and_then(Row::refusal) {
        Some(refusal) if why.contains("can not be typed") => refusal.to_string(),
        _ => plain(why.trim_start_matches("Infering facts: ")),
    };
    Some(format!("{operator} (node {name:?}): {why}"))
}

/// The reason alone, without any node, of an error of tract's about nested nodes.
pub fn innermost(text: &str) -> String {
    let found = ["Translating node #", "Failed analyse for node #"].iter().find_map(|phrase| {
        let (_, rest) = text.rsplit_once(phrase)?;
        let (_, why) = rest.split_once("\" ")?.1.split_once(": ")?;
        Some(why.trim_start_matches("Infering facts: ").to_string())
    });
    plain(found.as_deref().unwrap_or(text))
}
