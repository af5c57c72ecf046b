//! Fewer and larger operators: an ordered table of named rules.
//!
//! **In** and **out**: a [`Graph`]. A rule looks at one operator and its neighbours and returns a
//! patch, or nothing; it never edits the graph itself. Each rule runs to its fixed point before the
//! next one starts, over operators in topological order. After each rule, unused operators and
//! tensors are dropped and the graph is verified. [`RULES`] says why each rule is at its position;
//! `--no-fuse NAME` leaves one out.
//!
//! An operator is absorbed only if the one that absorbs it is its only consumer and its result is
//! not an output of the model, so no value is computed twice.

mod bfloat16;
mod concat;
mod conv;
mod copy;
mod elementwise;
mod norm;
mod prune;
mod reduce;
mod softmax;
mod views;

use std::collections::BTreeSet;

use crate::error::{Error, Result};
use crate::graph::{Constant, Graph, Operator, Origin, Scalar, Tensor};
use crate::ids::{OpId, TensorId};

/// A named rewrite.
pub struct Rule {
    /// The name that `--no-fuse` takes.
    pub name: &'static str,
    /// What it does, and why it is at its position in the table.
    pub why: &'static str,
    find: fn(&Graph, &Uses, OpId) -> Option<Patch>,
}

/// All rules, in the order in which they run.
pub static RULES: &[Rule] = &[
    Rule {
        name: "bfloat16",
        why: "an operator between conversions from and to bfloat16 reads and writes it itself; first, since conversions keep neighbours apart for all other rules",
        find: bfloat16::stored,
    },
    Rule {
        name: "bfloat16-moves",
        why: "an operator that only moves values moves them as bfloat16, and the conversion comes after it; until a conversion meets one that it cancels",
        find: bfloat16::moved,
    },
    Rule {
        name: "bfloat16-copies",
        why: "a value that is converted there and back is the same value; after the rule that absorbs conversions",
        find: bfloat16::copies,
    },
    Rule {
        name: "free-views",
        why: "reshapes become views, so that every later rule sees producer and consumer side by side",
        find: views::free,
    },
    Rule { name: "slices", why: "a slice of a slice is one slice", find: copy::compose_slices },
    Rule {
        name: "pad",
        why: "padding before a convolution or pooling costs nothing as its own padding; before the folds, which look at neighbours",
        find: copy::into_window,
    },
    Rule { name: "mean", why: "a sum times 1/n is a mean; before another rule takes the product for a scale", find: reduce::mean },
    Rule {
        name: "log-softmax",
        why: "the logarithm of a softmax is one operator; before another function absorbs the logarithm",
        find: softmax::log,
    },
    Rule {
        name: "rms-norm",
        why: "squares, mean, root and product are one normalisation; before another rule takes the product for a scale",
        find: norm::root_mean_square,
    },
    Rule { name: "layer-norm", why: "a normalisation of x minus its mean absorbs the mean", find: norm::layer },
    Rule {
        name: "bfloat16-operands",
        why: "an elementwise operator converts its operands from bfloat16 itself; after the normalisations, whose parts are recognised without conversions",
        find: bfloat16::operands,
    },
    Rule {
        name: "fold-scale",
        why: "a product by a constant per channel goes into the weights: the first half of a BatchNorm",
        find: conv::scale,
    },
    Rule {
        name: "fold-bias",
        why: "a constant added per channel becomes the bias: the second half of a BatchNorm, or a Gemm's C",
        find: conv::bias,
    },
    Rule {
        name: "bfloat16-late",
        why: "the same as bfloat16, for what single operators have become by now: means, logarithms of a softmax, products with a bias; before an epilogue absorbs the conversion",
        find: bfloat16::stored,
    },
    Rule {
        name: "epilogue",
        why: "an elementwise operator after a convolution, product or resampling is applied to each finished sum; after the folds, which cost nothing at all",
        find: conv::epilogue,
    },
    Rule {
        name: "norm-epilogue",
        why: "an elementwise operator after a normalisation, above all scale and bias, is applied to each normalised number",
        find: norm::epilogue,
    },
    Rule { name: "elementwise-chain", why: "remaining elementwise neighbours run as one kernel", find: elementwise::chain },
    Rule {
        name: "concat",
        why: "operators write their results where a concatenation would copy them; after all rules that need a tensor to have one producer",
        find: concat::in_place,
    },
    Rule {
        name: "slice-views",
        why: "a slice of consecutive elements is read in place; last, since a slice may be a part of a concatenation, and all other rules need views to be whole",
        find: views::slices,
    },
];

/// The maximum number of operations of a fused expression: an input that is read twice adds its
/// whole expression twice.
const MAX_OPERATIONS: usize = 48;

/// The maximum number of inputs of a fused operator: bounds a kernel's pointers and the length of
/// names.
const MAX_INPUTS: usize = 8;

/// A change that a rule proposes.
struct Patch {
    /// The operator that is replaced. Its output tensor stays, and the replacement produces it.
    at: OpId,
    /// Operators that the replacement absorbs.
    absorbed: Vec<OpId>,
    /// New tensors, nearly always constants: they get the ids that follow the last tensor's.
    constants: Vec<Tensor>,
    /// The replacement.
    with: Replacement,
}

enum Replacement {
    /// The first operator, which writes a new tensor, the last of the patch's constants; and a
    /// second, which converts that to the output of the replaced operator.
    Converted(Box<Operator>, Box<Operator>),
    /// This operator; its `outputs` name the tensor it writes. If that is not the output of the
    /// replaced operator, the latter becomes a view of it.
    Operator(Box<Operator>),
    /// No operator: the output has this origin instead.
    Origin(Origin),
}

/// The consumers of each tensor that owns bytes.
struct Uses {
    consumers: Vec<Vec<OpId>>,
    outputs: BTreeSet<TensorId>,
}

impl Uses {
    fn new(graph: &Graph) -> Uses {
        Uses { consumers: graph.consumers(), outputs: graph.outputs.iter().map(|&t| graph.root(t)).collect() }
    }

    /// The producer of `id`, if `reader` is the only consumer of its result.
    fn sole_producer(&self, graph: &Graph, id: TensorId, reader: OpId) -> Option<OpId> {
        let root = graph.root(id);
        let producer = graph.producer(root)?;
        (self.consumers[root.index()] == [reader] && !self.outputs.contains(&root)).then_some(producer)
    }
}

/// Applies every rule that is not in `without`, in order. Unknown names in `without` are
/// [`Error::Usage`].
pub fn fuse(mut graph: Graph, without: &[String]) -> Result<Graph> {
    if let Some(name) = without.iter().find(|name| !RULES.iter().any(|r| r.name == **name)) {
        let known: Vec<_> = RULES.iter().map(|r| r.name).collect();
        return Err(Error::Usage(format!("no fuse rule {name:?}; the rules are {}", known.join(", "))));
    }
    if without.iter().any(|name| name == "free-views") {
        return Err(Error::Usage("the rule free-views cannot be left out: there is no kernel for a reshape".into()));
    }
    for rule in RULES.iter().filter(|r| !without.iter().any(|name| name == r.name)) {
        graph = apply(graph, rule)?;
    }
    Ok(graph)
}

/// Applies one rule to its fixed point.
fn apply(mut graph: Graph, rule: &Rule) -> Result<Graph> {
    let mut alive = vec![true; graph.operators.len()];
    loop {
        let order = graph.topological_order().ok_or_else(|| Error::internal("fuse", format!("a cycle before rule {}", rule.name)))?;
        let mut changed = false;
        let mut uses = Uses::new(&graph);
        for op in order {
            while alive[op.index()]
                && let Some(patch) = (rule.find)(&graph, &uses, op)
            {
                let before = inputs(&graph, &patch);
                insert(&mut graph, patch, &mut alive);
                uses = Uses::new(&graph);
                before.into_iter().for_each(|id| release(&mut graph, &uses, id));
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    let graph = prune::prune(&graph, &alive);
    graph.verify().map_err(|e| Error::internal("fuse", format!("after rule {}: {e}", rule.name)))?;
    Ok(graph)
}

/// What the operators read that `patch` replaces.
fn inputs(graph: &Graph, patch: &Patch) -> Vec<TensorId> {
    let replaced = patch.absorbed.iter().chain([&patch.at]);
    replaced.flat_map(|&op| graph.operator(op).inputs.clone()).collect()
}

/// Frees the values of a constant that nothing reads any more, before it is pruned: a rule may
/// replace all weights, and these need not be in memory twice.
fn release(graph: &mut Graph, uses: &Uses, id: TensorId) {
    let root = graph.root(id);
    let unused = uses.consumers[root.index()].is_empty() && !uses.outputs.contains(&root);
    if let (true, Origin::Constant(values)) = (unused, &mut graph.tensors[root.index()].origin) {
        *values = Constant::repeated(Scalar::from_f64(values.dtype(), 0.0), 0);
    }
}

/// Applies `patch` to the graph. Absorbed operators keep their index in the table, without inputs,
/// until the graph is pruned.
fn insert(graph: &mut Graph, mut patch: Patch, alive: &mut Vec<bool>) {
    graph.tensors.append(&mut patch.constants);
    let provided = graph.operator(patch.at).outputs[0];
    absorb_values(graph, &patch, provided);
    for &op in &patch.absorbed {
        alive[op.index()] = false;
        graph.operators[op.index()].inputs.clear();
    }
    match patch.with {
        Replacement::Origin(origin) => drop_operator(graph, patch.at, origin, alive),
        Replacement::Converted(operator, conversion) => {
            graph.tensors[operator.outputs[0].index()].origin = Origin::Operator(patch.at);
            graph.operators[patch.at.index()] = *operator;
            graph.add_operator(*conversion);
            alive.push(true);
        }
        Replacement::Operator(operator) => {
            let written = operator.outputs[0];
            graph.tensors[written.index()].origin = Origin::Operator(patch.at);
            if written != provided {
                // an epilogue may end in another type than its sums have
                graph.tensors[written.index()].dtype = graph.tensor(provided).dtype;
                graph.tensors[provided.index()].origin = Origin::View(written);
            }
            graph.operators[patch.at.index()] = *operator;
        }
    }
}

/// Marks the ONNX values that `patch` leaves in no tensor: those of absorbed operators, also if the
/// replacement writes into such an operator's tensor.
fn absorb_values(graph: &mut Graph, patch: &Patch, provided: TensorId) {
    let gone: Vec<TensorId> = patch.absorbed.iter().flat_map(|&op| graph.operator(op).outputs.clone()).collect();
    let rewritten = match &patch.with {
        Replacement::Operator(operator) => Some(operator.outputs[0]).filter(|&written| written != provided),
        _ => None,
    };
    for index in 0..graph.values.len() {
        let root = graph.root(graph.values[index].tensor);
        if gone.contains(&root) || rewritten == Some(root) {
            let value = &mut graph.values[index];
            (value.tensor, value.absorbed) = (provided, true);
        }
    }
}

/// Removes the operator `at` and gives its output another origin.
fn drop_operator(graph: &mut Graph, at: OpId, origin: Origin, alive: &mut [bool]) {
    alive[at.index()] = false;
    let operator = &mut graph.operators[at.index()];
    operator.inputs.clear();
    let output = operator.outputs[0];
    graph.tensors[output.index()].origin = origin;
}

/// The id that the `i`-th new constant of a patch will have.
fn new_constant(graph: &Graph, i: usize) -> TensorId {
    TensorId::new(graph.tensors.len() + i)
}
