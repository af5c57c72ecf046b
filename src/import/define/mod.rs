//! Operators that are defined by other operators of ONNX.
//!
//! **In**: a node, and the types, shapes and known values of its inputs. **Out**: a [`Body`]: nodes
//! of ONNX that compute the same. The reader types the body in place of the node.
//!
//! ONNX itself defines many operators as functions. These are written down here for operators that
//! the reader does not know, or reads wrongly in some form: with an attribute that it drops, in an
//! unstable way, in a narrow type. [`DEFINITIONS`] lists them all, each with its reason. A body may
//! use its own operator: then it is read as the reader reads it.
//!
//! One file for each kind of operator. Bodies are of opset [`OPSET`].

mod attention;
mod body;
mod contrib;
mod copy;
mod elementwise;
mod matmul;
mod pool;
mod quantised;
mod recurrent;
mod reduce;

pub use body::{AS_READ, Body, Known, OPERATOR, ROOT, VERSION};

use tract_onnx::pb;

use crate::graph::DType;

/// The opset of all bodies.
pub const OPSET: i64 = 18;

/// Writes the body of one node, or says why the node is refused.
pub type Define = fn(&mut Body) -> Result<(), String>;

/// One row of [`DEFINITIONS`].
pub struct Definition {
    /// The operator, with its domain if that is not ONNX itself.
    pub operator: &'static str,
    /// Inputs whose values the result's shape depends on, by their positions.
    pub values: &'static [usize],
    /// Which of its nodes are defined here.
    pub applies: fn(&Call) -> bool,
    /// Writes the body.
    pub define: Define,
    /// Why it is defined here.
    pub reason: &'static str,
}

/// A node, as `Definition::applies` sees it: before any type is known.
pub struct Call<'a> {
    /// The node.
    pub node: &'a pb::NodeProto,
    /// The opset of the model.
    pub version: i64,
}

impl Call<'_> {
    /// An attribute that is an integer.
    pub fn int(&self, name: &str, default: i64) -> i64 {
        attribute(self.node, name).map_or(default, |a| a.i)
    }

    /// An attribute that is a number.
    pub fn float(&self, name: &str, default: f32) -> f32 {
        attribute(self.node, name).map_or(default, |a| a.f)
    }

    /// Whether the node has an attribute of this name.
    pub fn has(&self, name: &str) -> bool {
        attribute(self.node, name).is_some()
    }
}

/// The attribute of this name.
pub fn attribute<'a>(node: &'a pb::NodeProto, name: &str) -> Option<&'a pb::AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

/// Computes in f32 what has operands in f16: a sum, a square or an exponential overflows there. Any
/// other node stays what it is.
fn in_f32(body: &mut Body) -> Result<(), String> {
    let narrow = body.input(0)?.dtype == DType::F16;
    let inputs = single(body);
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    // the type in which others compute
    let changed = if body.call.has("stash_type") { vec![body::int("stash_type", 1)] } else { vec![] };
    let outputs = body.itself(&inputs, changed);
    for (position, output) in outputs.iter().enumerate() {
        let rounded = if narrow && position == 0 { body.cast(output, DType::F16) } else { output.clone() };
        body.output(position, &rounded);
    }
    Ok(())
}

/// All inputs, by position, those of f16 as f32; an empty name for one that is left out.
fn single(body: &mut Body) -> Vec<String> {
    let mut inputs = Vec::new();
    for position in 0..body.arity() {
        inputs.push(match body.optional(position) {
            Some(known) if known.dtype == DType::F16 => body.cast(&known.name, DType::F32),
            Some(known) => known.name,
            None => String::new(),
        });
    }
    inputs
}

/// All nodes of an operator.
fn always(_: &Call) -> bool {
    true
}

/// A definition of all nodes of an operator, whose result's shape follows from the inputs' shapes.
const fn of(operator: &'static str, define: Define, reason: &'static str) -> Definition {
    Definition { operator, values: &[], applies: always, define, reason }
}

/// All definitions.
pub static DEFINITIONS: [&[Definition]; 9] = [
    attention::DEFINITIONS,
    contrib::DEFINITIONS,
    copy::DEFINITIONS,
    elementwise::DEFINITIONS,
    matmul::DEFINITIONS,
    pool::DEFINITIONS,
    quantised::DEFINITIONS,
    recurrent::DEFINITIONS,
    reduce::DEFINITIONS,
];

/// Each defined operator, with the reason, by name.
pub fn reasons() -> Vec<(&'static str, &'static str)> {
    let all = DEFINITIONS.iter().flat_map(|group| group.iter()).filter(|definition| !definition.operator.starts_with("hiosc."));
    let mut reasons: Vec<_> = all.map(|definition| (definition.operator, definition.reason)).collect();
    reasons.sort_unstable();
    reasons
}

/// The definition that `node` has at opset `version`.
pub fn find(node: &pb::NodeProto, version: i64) -> Option<&'static Definition> {
    let call = Call { node, version };
    let all = DEFINITIONS.iter().flat_map(|group| group.iter());
    all.into_iter().find(|definition| definition.operator == node.op_type && (definition.applies)(&call))
}
