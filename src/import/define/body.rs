//! Writes the nodes of a definition.
//!
//! A value is its name. Each node is named after its operator and its position; the node that
//! computes the first output has the name [`ROOT`] alone, which stands for the name of the defined
//! node.

use std::ops::{Deref, DerefMut};

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension::Value as Dim};
use tract_onnx::pb::{self, type_proto};

use super::{Call, OPSET, attribute};
use crate::graph::{Constant, DType, Scalar};
use crate::import::onnx::dtype::onnx_type;

/// Stands for the name of the defined node.
pub const ROOT: &str = "@";

/// The operator of a node that the reader reads without its definition. Its attributes [`OPERATOR`]
/// and [`VERSION`] say as what.
pub const AS_READ: &str = "hiosc.as_read";
/// The attribute that names the operator.
pub const OPERATOR: &str = "hiosc.operator";
/// The attribute that has the opset.
pub const VERSION: &str = "hiosc.version";

/// What is known of an input.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its name in the body.
    pub name: String,
    /// Its element type.
    pub dtype: DType,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its value, if that is a constant.
    pub value: Option<Constant>,
}

impl Known {
    /// The number of its axes.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The type in which it is computed: f32 for f16, in which sums and squares overflow.
    pub fn computed(&self) -> DType {
        if self.dtype == DType::F16 { DType::F32 } else { self.dtype }
    }

    /// Its values as integers.
    pub fn ints(&self) -> Option<Vec<i64>> {
        let bytes = self.value.as_ref()?;
        match bytes {
            Constant::I64(values) => Some(values.to_vec()),
            Constant::I32(values) => Some(values.iter().map(|&v| v.into()).collect()),
            _ => None,
        }
    }
}

/// Nodes and constants of one graph, while they are written.
pub struct Nodes {
    /// What all names begin with.
    prefix: String,
    nodes: Vec<pb::NodeProto>,
    initialisers: Vec<pb::TensorProto>,
}

impl Nodes {
    /// No nodes yet. All names will begin with `prefix`.
    pub fn new(prefix: &str) -> Nodes {
        Nodes { prefix: prefix.into(), nodes: Vec::new(), initialisers: Vec::new() }
    }

    /// The nodes as a graph with inputs of these types, whose shapes are not stated, and these
    /// outputs.
    pub fn graph(self, inputs: &[(&str, DType)], outputs: &[&str]) -> pb::GraphProto {
        let value = |name: &str, r#type| pb::ValueInfoProto { name: name.into(), r#type, ..Default::default() };
        pb::GraphProto {
            name: self.prefix,
            node: self.nodes,
            initializer: self.initialisers,
            input: inputs.iter().map(|&(name, dtype)| value(name, Some(tensor_type(dtype, None)))).collect(),
            output: outputs.iter().map(|name| value(name, None)).collect(),
            ..Default::default()
        }
    }

    /// A node of one result.
    pub fn op(&mut self, operator: &str, inputs: &[&str]) -> String {
        self.with(operator, inputs, vec![])
    }

    /// A node of one result, with attributes.
    pub fn with(&mut self, operator: &str, inputs: &[&str], attributes: Vec<pb::AttributeProto>) -> String {
        self.several(operator, inputs, attributes, 1).remove(0)
    }

    /// A node of `count` results.
    pub fn several(&mut self, operator: &str, inputs: &[&str], attributes: Vec<pb::AttributeProto>, count: usize) -> Vec<String> {
        let name = self.fresh(operator);
        let output: Vec<String> = (0..count).map(|i| if i == 0 { name.clone() } else { format!("{name}.{i}") }).collect();
        self.nodes.push(pb::NodeProto {
            op_type: operator.into(),
            name,
            input: inputs.iter().map(|&input| input.into()).collect(),
            output: output.clone(),
            attribute: attributes,
            ..Default::default()
        });
        output
    }

    fn fresh(&self, operator: &str) -> String {
        let plain = operator.rsplit('.').next().unwrap_or(operator);
        format!("{}{plain}-{}", self.prefix, self.nodes.len() + self.initialisers.len())
    }

    /// A constant.
    pub fn constant(&mut self, values: &Constant, shape: &[usize]) -> String {
        let name = self.fresh("const");
        self.initialisers.push(pb::TensorProto {
            name: name.clone(),
            dims: shape.iter().map(|&d| d as i64).collect(),
            data_type: onnx_type(values.dtype()) as i32,
            raw_data: values.bytes().to_vec(),
            ..Default::default()
        });
        name
    }

    /// A constant list of integers.
    pub fn list(&mut self, values: &[i64]) -> String {
        self.constant(&Constant::I64(values.to_vec().into()), &[values.len()])
    }

    /// One number of type `dtype`, without axes.
    pub fn number(&mut self, dtype: DType, value: f64) -> String {
        self.constant(&Constant::repeated(Scalar::from_f64(dtype, value), 1), &[])
    }

    /// `x` in type `dtype`.
    pub fn cast(&mut self, x: &str, dtype: DType) -> String {
        self.with("Cast", &[x], vec![int("to", onnx_type(dtype) as i64)])
    }

    /// `x` under another shape.
    pub fn reshape(&mut self, x: &str, shape: &[usize]) -> String {
        let shape: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
        let list = self.list(&shape);
        // a 0 is an extent, not a copy of one
        self.with("Reshape", &[x, &list], vec![int("allowzero", i64::from(shape.contains(&0)))])
    }

    /// `x` with its axes in another order.
    pub fn transpose(&mut self, x: &str, order: &[usize]) -> String {
        if order.is_sorted() {
            return x.into();
        }
        self.with("Transpose", &[x], vec![ints("perm", order.iter().map(|&axis| axis as i64).collect())])
    }

    /// The elements from `begin` to `end` of axis `axis` of `x`.
    pub fn slice(&mut self, x: &str, axis: usize, begin: usize, end: usize) -> String {
        let [begin, end, axis] = [begin, end, axis].map(|number| self.list(&[number as i64]));
        self.op("Slice", &[x, &begin, &end, &axis])
    }

    /// `x` with the order of axis `axis`, of `extent` elements, reversed.
    pub fn reversed(&mut self, x: &str, axis: usize, extent: usize) -> String {
        if extent < 2 {
            return x.into();
        }
        let [begin, end, axis, step] = [-1, -1 - extent as i64, axis as i64, -1].map(|number| self.list(&[number]));
        self.op("Slice", &[x, &begin, &end, &axis, &step])
    }

    /// `list` joined along `axis`.
    pub fn concat(&mut self, list: &[String], axis: usize) -> String {
        match list {
            [only] => only.clone(),
            _ => self.with("Concat", &list.iter().map(String::as_str).collect::<Vec<_>>(), vec![int("axis", axis as i64)]),
        }
    }

    /// `x` reduced by `operator` along `axes`, which are kept with one element.
    pub fn reduce(&mut self, operator: &str, x: &str, axes: &[i64]) -> String {
        let axes = self.list(axes);
        self.with(operator, &[x, &axes], vec![int("keepdims", 1)])
    }
}

/// The body of one node, while it is written.
pub struct Body<'a> {
    /// The node that is defined.
    pub call: Call<'a>,
    inputs: Vec<Option<Known>>,
    nodes: Nodes,
    /// The value of each output of the node; empty for one that it does not have.
    outputs: Vec<String>,
}

impl Deref for Body<'_> {
    type Target = Nodes;

    fn deref(&self) -> &Nodes {
        &self.nodes
    }
}

impl DerefMut for Body<'_> {
    fn deref_mut(&mut self) -> &mut Nodes {
        &mut self.nodes
    }
}

impl<'a> Body<'a> {
    /// An empty body. `inputs` has what is known of each input of the node, by its position; `None`
    /// for one that is left out.
    pub fn new(call: Call<'a>, inputs: Vec<Option<Known>>) -> Body<'a> {
        let outputs = vec![String::new(); call.node.output.len()];
        Body { call, inputs, nodes: Nodes::new(&format!("{ROOT}.")), outputs }
    }

    /// The input `position`, which the operator must have.
    pub fn input(&self, position: usize) -> Result<Known, String> {
        self.optional(position).ok_or_else(|| format!("its input {position} is missing"))
    }

    /// The input `position`, if the node has it.
    pub fn optional(&self, position: usize) -> Option<Known> {
        self.inputs.get(position).cloned().flatten()
    }

    /// The input `position`, and its name in the type in which it is computed.
    pub fn wide(&mut self, position: usize) -> Result<(Known, String), String> {
        self.optional_wide(position).ok_or_else(|| format!("its input {position} is missing"))
    }

    /// The same, if the node has that input.
    pub fn optional_wide(&mut self, position: usize) -> Option<(Known, String)> {
        let known = self.optional(position)?;
        let name = self.widened(&known);
        Some((known, name))
    }

    /// The name of `known` in the type in which it is computed.
    pub fn widened(&mut self, known: &Known) -> String {
        if known.computed() == known.dtype { known.name.clone() } else { self.cast(&known.name, known.computed()) }
    }

    /// Makes `value`, which is in the type in which `like` is computed, the output `position` of
    /// the node, in the type of `like`.
    pub fn give(&mut self, position: usize, value: &str, like: &Known) {
        let value = if like.computed() == like.dtype { value.to_string() } else { self.cast(value, like.dtype) };
        self.output(position, &value);
    }

    /// The number of inputs, with those that are left out before the last.
    pub fn arity(&self) -> usize {
        self.inputs.len()
    }

    /// Whether the output `position` is wanted.
    pub fn wants(&self, position: usize) -> bool {
        self.call.node.output.get(position).is_some_and(|name| !name.is_empty())
    }

    /// An attribute that is a list of integers.
    pub fn ints(&self, name: &str) -> Option<Vec<i64>> {
        attribute(self.call.node, name).map(|a| a.ints.clone())
    }

    /// An attribute that is a text.
    pub fn text(&self, name: &str, default: &str) -> String {
        attribute(self.call.node, name).map_or(default.into(), |a| String::from_utf8_lossy(&a.s).into_owned())
    }

    /// An attribute that is a list of texts.
    pub fn texts(&self, name: &str) -> Option<Vec<String>> {
        let list = &attribute(self.call.node, name)?.strings;
        Some(list.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect())
    }

    /// An attribute that is a list of numbers.
    pub fn floats(&self, name: &str) -> Vec<f32> {
        attribute(self.call.node, name).map_or(Vec::new(), |a| a.floats.clone())
    }

    /// `axis`, counted from the front, if `rank` axes have it.
    pub fn axis(axis: i64, rank: usize) -> Result<usize, String> {
        let counted = if axis < 0 { axis + rank as i64 } else { axis };
        usize::try_from(counted).ok().filter(|&axis| axis < rank).ok_or_else(|| format!("axis {axis} is not one of {rank} axes"))
    }

    /// The defined node itself, with other inputs and some changed attributes, as the reader reads
    /// it at the model's opset. Returns its results.
    pub fn itself(&mut self, inputs: &[&str], changed: Vec<pb::AttributeProto>) -> Vec<String> {
        let operator = self.call.node.op_type.clone();
        let mut attributes = self.call.node.attribute.clone();
        attributes.retain(|attribute| changed.iter().all(|other| other.name != attribute.name));
        attributes.extend(changed);
        let wanted: Vec<bool> = (0..self.call.node.output.len()).map(|i| self.wants(i)).collect();
        let version = self.call.version;
        self.as_read(&operator, version, inputs, attributes, &wanted)
    }

    /// A node of `operator`, as the reader reads it at opset `version` without its definition. It
    /// has the outputs that are `wanted`.
    pub fn as_read(
        &mut self,
        operator: &str,
        version: i64,
        inputs: &[&str],
        mut attributes: Vec<pb::AttributeProto>,
        wanted: &[bool],
    ) -> Vec<String> {
        let name = self.fresh(operator);
        attributes.extend([text(OPERATOR, operator), int(VERSION, version)]);
        let output = |(i, &wanted): (usize, &bool)| match (wanted, i) {
            (false, _) => String::new(),
            (true, 0) => name.clone(),
            (true, i) => format!("{name}.{i}"),
        };
        let outputs: Vec<String> = wanted.iter().enumerate().map(output).collect();
        self.nodes.nodes.push(pb::NodeProto {
            op_type: AS_READ.into(),
            name,
            input: inputs.iter().map(|&input| input.into()).collect(),
            output: outputs.clone(),
            attribute: attributes,
            ..Default::default()
        });
        outputs
    }

    /// Makes `value` the output `position` of the node.
    pub fn output(&mut self, position: usize, value: &str) {
        if let Some(output) = self.outputs.get_mut(position) {
            *output = value.into();
        }
    }

    /// The body as a model, and the positions of the inputs that it has.
    ///
    /// # Errors
    ///
    /// If an output that the node has was not defined.
    pub fn model(mut self) -> Result<pb::ModelProto, String> {
        for position in 0..self.outputs.len() {
            let value = self.outputs[position].clone();
            if !self.wants(position) {
                continue;
            }
            if value.is_empty() {
                return Err(format!("its output {position} is not supported"));
            }
            // an output that is an input, a constant or another output
            let fixed = self.nodes.nodes.iter().all(|node| !node.output.contains(&value));
            if fixed || self.outputs[..position].contains(&value) {
                self.outputs[position] = self.op("Identity", &[&value]);
            }
        }
        let outputs: Vec<String> = (0..self.outputs.len()).filter(|&i| self.wants(i)).map(|i| self.outputs[i].clone()).collect();
        if let Some(root) = self.nodes.nodes.iter_mut().find(|node| outputs.first().is_some_and(|first| node.output.contains(first))) {
            root.name = ROOT.into();
        }
        let value_info = |name: String, r#type| pb::ValueInfoProto { name, r#type, ..Default::default() };
        let graph = pb::GraphProto {
            node: self.nodes.nodes,
            name: ROOT.into(),
            initializer: self.nodes.initialisers,
            input: self
                .inputs
                .into_iter()
                .flatten()
                .map(|known| value_info(known.name, Some(tensor_type(known.dtype, Some(&known.shape)))))
                .collect(),
            output: outputs.into_iter().map(|name| value_info(name, None)).collect(),
            ..Default::default()
        };
        let opset = pb::OperatorSetIdProto { domain: String::new(), version: OPSET };
        Ok(pb::ModelProto { ir_version: 8, opset_import: vec![opset], graph: Some(graph), ..Default::default() })
    }
}

/// The type of a tensor, whose shape may be left open.
fn tensor_type(dtype: DType, shape: Option<&[usize]>) -> pb::TypeProto {
    let dim = |&extent: &usize| Dimension { value: Some(Dim::DimValue(extent as i64)), ..Default::default() };
    let shape = shape.map(|shape| pb::TensorShapeProto { dim: shape.iter().map(dim).collect() });
    let tensor = type_proto::Tensor { elem_type: onnx_type(dtype) as i32, shape };
    pb::TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() }
}

/// An attribute that is an integer.
pub fn int(name: &str, value: i64) -> pb::AttributeProto {
    pb::AttributeProto { name: name.into(), r#type: AttributeType::Int as i32, i: value, ..Default::default() }
}

/// An attribute that is a number.
pub fn float(name: &str, value: f32) -> pb::AttributeProto {
    pb::AttributeProto { name: name.into(), r#type: AttributeType::Float as i32, f: value, ..Default::default() }
}

/// An attribute that is a list of integers.
pub fn ints(name: &str, values: Vec<i64>) -> pb::AttributeProto {
    pb::AttributeProto { name: name.into(), r#type: AttributeType::Ints as i32, ints: values, ..Default::default() }
}

/// An attribute that is a text.
pub fn text(name: &str, value: &str) -> pb::AttributeProto {
    pb::AttributeProto { name: name.into(), r#type: AttributeType::String as i32, s: value.as_bytes().to_vec(), ..Default::default() }
}

/// An attribute that is a graph.
pub fn graph(name: &str, value: pb::GraphProto) -> pb::AttributeProto {
    pb::AttributeProto { name: name.into(), r#type: AttributeType::Graph as i32, g: Some(value), ..Default::default() }
}
