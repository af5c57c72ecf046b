//! Recurrent layers and loops: unrolled, they compute what tract's loops compute.

use super::check;
use crate::support::onnx::{Attr, Model};
use hiosc::graph::{Graph, OpKind};
use hiosc::import::{self, import};

/// A recurrent layer of 5 inputs and 4 units: `gates` is 4 for an LSTM, 3 for a GRU, 1 for an RNN.
struct Layer<'a> {
    op: &'a str,
    gates: i64,
    steps: i64,
    batch: i64,
    directions: i64,
    /// Which of the inputs `b`, `h0`, `c0`, `p` it has.
    given: &'a [&'a str],
    /// Which of the outputs `y`, `y_h`, `y_c` are wanted.
    wanted: &'a [&'a str],
    /// Which of its inputs are known only at run time.
    computed: &'a [&'a str],
    attrs: &'a [Attr<'a>],
}

const LSTM: Layer = Layer {
    op: "LSTM",
    gates: 4,
    steps: 3,
    batch: 1,
    directions: 1,
    given: &["b"],
    wanted: &["y", "y_h", "y_c"],
    computed: &[],
    attrs: &[],
};
const GRU: Layer = Layer { op: "GRU", gates: 3, wanted: &["y", "y_h"], ..LSTM };
const RNN: Layer = Layer { op: "RNN", gates: 1, wanted: &["y", "y_h"], ..LSTM };

impl Layer<'_> {
    fn model(&self) -> Model {
        let (n, d, g, hidden, width) = (self.batch, self.directions, self.gates, 4, 5);
        let direction = [Attr::Text("direction", if d == 2 { "bidirectional" } else { "forward" })];
        let direction = if self.attrs.iter().any(|a| matches!(a, Attr::Text("direction", _))) { &[][..] } else { &direction };
        let attrs: Vec<Attr> = self.attrs.iter().chain(direction).copied().chain([Attr::Int("hidden_size", hidden)]).collect();
        let batch_first = attrs.iter().any(|a| matches!(a, Attr::Int("layout", 1)));
        let (mut model, x) = (Model::new(), if batch_first { [n, self.steps, width] } else { [self.steps, n, width] });
        model = model.input("x", &x);
        let state: &[i64] = &if batch_first { [n, d, hidden] } else { [d, n, hidden] };
        let shapes: [(&str, &[i64]); 6] = [
            ("w", &[d, g * hidden, width]),
            ("r", &[d, g * hidden, hidden]),
            ("b", &[d, 2 * g * hidden]),
            ("h0", state),
            ("c0", state),
            ("p", &[d, 3 * hidden]),
        ];
        let mut inputs = vec!["x"];
        for (name, shape) in shapes {
            if name == "h0" {
                inputs.push(""); // no sequence lengths
            }
            let given = ["w", "r"].contains(&name) || self.given.contains(&name);
            inputs.push(if given { name } else { "" });
            if given {
                model = if self.computed.contains(&name) { model.input(name, shape) } else { model.random_weight(name, shape) };
            }
        }
        while inputs.last() == Some(&"") {
            inputs.pop();
        }
        let all: &[i64] = &if batch_first { [n, self.steps, d, hidden] } else { [self.steps, d, n, hidden] };
        let outputs: Vec<&str> = ["y", "y_h", "y_c"].map(|o| if self.wanted.contains(&o) { o } else { "" }).into();
        for &name in self.wanted {
            model = model.output(name, if name == "y" { all } else { state });
        }
        model.node(self.op, &inputs, outputs.join(",").trim_end_matches(','), &attrs)
    }
}

/// How many operators of `graph` are of the kind called `name`.
fn count(graph: &Graph, name: &str) -> usize {
    graph.operators.iter().filter(|op| op.kind.name() == name).count()
}

#[test]
fn lstms() {
    let graph = check("lstm", LSTM.model());
    // one product projects all steps, then one per step; two cells per step
    assert_eq!((count(&graph, "matmul"), count(&graph, "cell")), (1 + 3, 2 * 3), "{graph}");
    assert!(graph.operators.iter().any(|op| op.name == "/y,y_h,y_c/LSTM.step-2.lstm_cell.H"), "{graph}");
    check("lstm_batch", Layer { batch: 3, given: &["b", "h0", "c0"], computed: &["w"], ..LSTM }.model());
    check("lstm_both_ways", Layer { directions: 2, steps: 5, given: &["b", "h0", "c0"], computed: &["h0", "c0"], ..LSTM }.model());
    check(
        "lstm_backward",
        Layer { batch: 2, given: &["b", "h0", "c0"], computed: &["w"], attrs: &[Attr::Text("direction", "reverse")], ..LSTM }.model(),
    );
    check("lstm_one_step", Layer { steps: 1, wanted: &["y_h", "y_c"], ..LSTM }.model());
    check("lstm_without_bias", Layer { given: &[], wanted: &["y"], ..LSTM }.model());
    check("lstm_peepholes", Layer { batch: 2, computed: &["w"], given: &["b", "h0", "c0", "p"], ..LSTM }.model());
    check("lstm_computed_weights", Layer { batch: 2, given: &["b", "h0", "c0"], computed: &["w", "r", "b"], ..LSTM }.model());
}

#[test]
fn grus() {
    const AFTER: &[Attr] = &[Attr::Int("linear_before_reset", 1)];
    check("gru", GRU.model());
    check("gru_batch", Layer { batch: 3, computed: &["w"], given: &["b", "h0"], ..GRU }.model());
    check("gru_both_ways", Layer { directions: 2, steps: 4, given: &["b", "h0"], ..GRU }.model());
    check("gru_short", Layer { attrs: AFTER, ..GRU }.model());
    // four steps or more: tract keeps the loop whole
    let graph = check("gru_long", Layer { steps: 6, attrs: AFTER, ..GRU }.model());
    assert_eq!((count(&graph, "matmul"), count(&graph, "cell")), (1 + 6, 6), "{graph}");
    check("gru_long_batch", Layer { steps: 5, batch: 3, attrs: AFTER, given: &["b", "h0"], computed: &["h0", "b"], ..GRU }.model());
    check("gru_long_both_ways", Layer { steps: 5, directions: 2, attrs: AFTER, given: &[], wanted: &["y"], ..GRU }.model());
    check("gru_long_last", Layer { steps: 5, batch: 2, attrs: AFTER, wanted: &["y_h"], ..GRU }.model());
}

#[test]
fn rnns() {
    check("rnn", RNN.model());
    check("rnn_batch", Layer { batch: 2, given: &["b", "h0"], computed: &["h0", "w"], ..RNN }.model());
    check("rnn_both_ways", Layer { directions: 2, ..RNN }.model());
}

/// More steps than one concatenation joins.
#[test]
fn a_long_sequence_is_joined_in_groups() {
    let graph = check("rnn_long", Layer { steps: 70, wanted: &["y"], ..RNN }.model());
    assert!(graph.operators.iter().all(|op| op.inputs.len() <= 64) && count(&graph, "concat") == 1, "{graph}");
    let kernels: std::collections::BTreeSet<String> =
        graph.op_ids().map(|op| hiosc::kernel::select(&graph, op, &crate::support::a40()).expect("a kernel").name).collect();
    assert!(kernels.len() <= 8, "all steps share their kernels: {kernels:?}");
    check("rnn_long_backward", Layer { steps: 12, wanted: &["y"], attrs: &[Attr::Text("direction", "reverse")], ..RNN }.model());
}

#[test]
fn a_loop_that_would_be_too_long_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = Layer { steps: 20_000, ..LSTM }.model().save(folder.path(), "long");
    let error = import(&path, &import::ImportOptions::default()).map(|m| m.graph.operators.len()).expect_err("too long").to_string();
    assert!(error.contains("its 20000 steps of") && error.contains("more than the 10000 operators"), "{error}");
}

#[test]
fn cells_are_checked() {
    let mut graph = check("lstm", LSTM.model());
    let cell = graph.operators.iter().position(|op| matches!(op.kind, OpKind::Cell(_))).expect("a cell");
    graph.operators[cell].inputs.swap(0, 1);
    assert!(graph.verify().is_err());
}
