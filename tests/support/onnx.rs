//! A builder of small ONNX models for tests.

use prost::Message;
use tract_onnx::pb::{self, attribute_proto::AttributeType, tensor_shape_proto, type_proto};

/// A model under construction.
#[derive(Default)]
pub struct Model {
    graph: pb::GraphProto,
    /// 17 by default.
    opset: Option<i64>,
}

/// An attribute of a node.
#[derive(Clone, Copy)]
pub enum Attr<'a> {
    Int(&'a str, i64),
    Ints(&'a str, &'a [i64]),
    Float(&'a str, f32),
    Text(&'a str, &'a str),
}

/// ONNX's codes of element types.
pub const U8: i32 = 2;
pub const I32: i32 = 6;
pub const I64: i32 = 7;
pub const BOOL: i32 = 9;
pub const F16: i32 = 10;
pub const BF16: i32 = 16;

/// The type of a tensor; a dimension of -1 is symbolic ("N").
fn value(name: &str, elem_type: i32, shape: &[i64]) -> pb::ValueInfoProto {
    use tensor_shape_proto::{Dimension, dimension::Value};
    let dim =
        |&d: &i64| Dimension { value: Some(if d < 0 { Value::DimParam("N".into()) } else { Value::DimValue(d) }), ..Default::default() };
    let shape = pb::TensorShapeProto { dim: shape.iter().map(dim).collect() };
    let tensor = type_proto::Tensor { elem_type, shape: Some(shape) };
    let r#type = pb::TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    pb::ValueInfoProto { name: name.into(), r#type: Some(r#type), ..Default::default() }
}

impl Model {
    pub fn new() -> Model {
        Model::default()
    }

    /// Sets the opset, which is 17 by default.
    pub fn opset(self, version: i64) -> Model {
        Model { opset: Some(version), ..self }
    }

    /// An input of f32.
    pub fn input(self, name: &str, shape: &[i64]) -> Model {
        self.input_of(1, name, shape)
    }

    /// An input of an ONNX element type.
    pub fn input_of(mut self, elem_type: i32, name: &str, shape: &[i64]) -> Model {
        self.graph.input.push(value(name, elem_type, shape));
        self
    }

    /// An output of f32.
    pub fn output(self, name: &str, shape: &[i64]) -> Model {
        self.output_of(1, name, shape)
    }

    /// An output of an ONNX element type.
    pub fn output_of(mut self, elem_type: i32, name: &str, shape: &[i64]) -> Model {
        self.graph.output.push(value(name, elem_type, shape));
        self
    }

    pub fn weight(mut self, name: &str, shape: &[i64], values: Vec<f32>) -> Model {
        let tensor = pb::TensorProto { name: name.into(), dims: shape.to_vec(), data_type: 1, float_data: values, ..Default::default() };
        self.graph.initializer.push(tensor);
        self
    }

    /// A weight of f32, stored as bytes.
    pub fn raw_weight(mut self, name: &str, shape: &[i64], raw_data: Vec<u8>) -> Model {
        let tensor = pb::TensorProto { name: name.into(), dims: shape.to_vec(), data_type: 1, raw_data, ..Default::default() };
        self.graph.initializer.push(tensor);
        self
    }

    /// A weight of f32, stored as bytes in a node `Constant`.
    pub fn constant(mut self, name: &str, shape: &[i64], raw_data: Vec<u8>) -> Model {
        let tensor = pb::TensorProto { dims: shape.to_vec(), data_type: 1, raw_data, ..Default::default() };
        let r#type = AttributeType::Tensor as i32;
        let attribute = vec![pb::AttributeProto { name: "value".into(), r#type, t: Some(tensor), ..Default::default() }];
        let output = vec![name.to_string()];
        self.graph.node.push(pb::NodeProto { name: name.into(), op_type: "Constant".into(), output, attribute, ..Default::default() });
        self
    }

    /// A vector of integers: axes, bounds, pads.
    pub fn ints(mut self, name: &str, values: &[i64]) -> Model {
        let dims = vec![values.len() as i64];
        let tensor = pb::TensorProto { name: name.into(), dims, data_type: 7, int64_data: values.to_vec(), ..Default::default() };
        self.graph.initializer.push(tensor);
        self
    }

    /// One integer.
    pub fn int(mut self, name: &str, value: i64) -> Model {
        let tensor = pb::TensorProto { name: name.into(), data_type: I64, int64_data: vec![value], ..Default::default() };
        self.graph.initializer.push(tensor);
        self
    }

    /// A number of type u8: a zero point.
    pub fn byte(mut self, name: &str, value: u8) -> Model {
        let tensor = pb::TensorProto { name: name.into(), data_type: U8, int32_data: vec![value.into()], ..Default::default() };
        self.graph.initializer.push(tensor);
        self
    }

    /// A weight of random values.
    pub fn random_weight(self, name: &str, shape: &[i64]) -> Model {
        let seed = name.bytes().fold(7, |s: u64, b| s.wrapping_mul(31) + u64::from(b));
        let values = super::random(seed, shape.iter().product::<i64>() as usize);
        self.weight(name, shape, values)
    }

    /// A weight of random values of type bf16.
    pub fn random_bf16(self, name: &str, shape: &[i64]) -> Model {
        let mut model = self.random_weight(name, shape);
        let tensor = model.initialiser(name);
        let values = std::mem::take(&mut tensor.float_data);
        tensor.raw_data = values.iter().flat_map(|&value| hiosc::runtime::f32_to_bf16(value).to_le_bytes()).collect();
        tensor.data_type = BF16;
        model
    }

    /// A weight whose data the model says is in another file, `location`.
    pub fn external_weight(mut self, name: &str, shape: &[i64], location: &str) -> Model {
        let entry = |key: &str, value: &str| pb::StringStringEntryProto { key: key.into(), value: value.into() };
        let bytes = (shape.iter().product::<i64>() * 4).to_string();
        let external_data = vec![entry("location", location), entry("offset", "0"), entry("length", &bytes)];
        let tensor = pb::TensorProto {
            name: name.into(),
            dims: shape.to_vec(),
            data_type: 1,
            external_data,
            data_location: Some(1),
            ..Default::default()
        };
        self.graph.initializer.push(tensor);
        self
    }

    /// An initialiser, to be changed.
    pub fn initialiser(&mut self, name: &str) -> &mut pb::TensorProto {
        self.graph.initializer.iter_mut().find(|tensor| tensor.name == name).expect("an initialiser")
    }

    /// A node; several outputs are separated by commas.
    pub fn node(mut self, op: &str, inputs: &[&str], output: &str, attrs: &[Attr]) -> Model {
        let attribute = attrs.iter().map(|attr| match attr {
            Attr::Int(name, i) => {
                pb::AttributeProto { name: name.to_string(), r#type: AttributeType::Int as i32, i: *i, ..Default::default() }
            }
            Attr::Ints(name, ints) => {
                pb::AttributeProto { name: name.to_string(), r#type: AttributeType::Ints as i32, ints: ints.to_vec(), ..Default::default() }
            }
            Attr::Text(name, s) => pb::AttributeProto {
                name: name.to_string(),
                r#type: AttributeType::String as i32,
                s: s.as_bytes().to_vec(),
                ..Default::default()
            },
            Attr::Float(name, f) => {
                pb::AttributeProto { name: name.to_string(), r#type: AttributeType::Float as i32, f: *f, ..Default::default() }
            }
        });
        self.graph.node.push(pb::NodeProto {
            name: format!("/{output}/{op}"),
            op_type: op.into(),
            input: inputs.iter().map(|s| s.to_string()).collect(),
            output: output.split(',').map(str::to_string).collect(),
            attribute: attribute.collect(),
            ..Default::default()
        });
        self
    }

    pub fn bytes(self) -> Vec<u8> {
        let opset = pb::OperatorSetIdProto { version: self.opset.unwrap_or(17), ..Default::default() };
        pb::ModelProto { ir_version: 8, opset_import: vec![opset], graph: Some(self.graph), ..Default::default() }.encode_to_vec()
    }

    /// Writes the model to `folder/NAME.onnx`.
    pub fn save(self, folder: &std::path::Path, name: &str) -> std::path::PathBuf {
        let path = folder.join(format!("{name}.onnx"));
        std::fs::write(&path, self.bytes()).expect("a writable folder");
        path
    }
}
