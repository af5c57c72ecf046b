//! Writes `seeds/`: the small inputs that fuzzing starts from, and that the replay runs.
//!
//! Models come from the model builder of hiosc's tests, one for each group of operators. Texts are
//! hiosc's own output and examples of its documentation. Choices are random bytes. Files added by
//! hand, such as inputs of fixed findings, stay.

use std::fs;
use std::path::Path;

use hiosc::cost::{self, Conditions, CostTable, Measured, Profile, kernels_hash};
use hiosc::device::Target;
use hiosc::graph::{DType, Graph};
use hiosc::runtime::npy;
use hiosc::schedule::{self, Algorithm, LinkMode, Problem};
use hiosc_fuzz::COSTED;

#[allow(dead_code)]
#[path = "../../tests/support/networks.rs"]
mod networks;
#[allow(dead_code)]
#[path = "../../tests/support/onnx.rs"]
mod onnx;

use onnx::{Attr, BOOL, F16, I64, Model, U8};

/// `n` values in [-1, 1), the same for the same seed: the model builder's weights.
pub fn random(seed: u64, n: usize) -> Vec<f32> {
    let next = |state: &mut u64| {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Some((*state >> 40) as f32 / (1u64 << 23) as f32 - 1.0)
    };
    let mut state = seed;
    std::iter::repeat_with(|| next(&mut state)).flatten().take(n).collect()
}

fn main() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    let write = |target: &str, name: &str, bytes: Vec<u8>| {
        let folder = folder.join(target);
        fs::create_dir_all(&folder).and_then(|()| fs::write(folder.join(name), bytes)).expect("a writable folder");
    };
    for (name, model) in models() {
        write("import", &format!("{name}.onnx"), model.bytes());
    }
    for target in ["graph", "plan"] {
        for seed in 0..8 {
            let bytes = random(seed + 1, 150 + 100 * seed as usize).into_iter().map(|v| (v * 127.0) as i8 as u8).collect();
            write(target, &format!("random{seed}"), bytes);
        }
    }
    let graph: &Graph = &COSTED;
    let target = Target::uniform("a40", 2, "nvlink").expect("a known target");
    let table = cost::estimate(graph, &target).expect("costs");
    write("costs", "table", table.to_text(graph).into_bytes());
    write("costs", "profile", profile(&table).to_text().into_bytes());

    let text = |kind: char, name: &str, rest: &[u8]| write("texts", name, [&[kind as u8], rest].concat());
    let problem = Problem::new(graph, &table, LinkMode::Serial).expect("a problem");
    for algorithm in [Algorithm::Sequential, Algorithm::Scatter] {
        let found = schedule::schedule(&problem, algorithm).expect("a schedule");
        let timeline = schedule::evaluate(&problem, &found).expect("a timeline");
        text('s', &format!("schedule_{algorithm}"), schedule::to_text(Some(graph), &found, &timeline).as_bytes());
    }
    let topology = "# a machine\ngpu0: a40\ngpu1: a40, 40000000000 bytes\ngpu2: l4\nlink gpu0 <-> gpu1: nvlink\n\
                    link gpu1 -> gpu2: 6000 ns, 12500000000 bytes/s\nlink others: pcie4\n";
    text('t', "topology", topology.as_bytes());
    text('d', "devices", b"h100,v100,a100-40gb 3 pcie4");
    text('d', "one_device", b"rtx4090 4 host4");
    text('g', "dag", b"4\n0 1.5 0.5\n1 2e-1 1\n2 0.25 0.9\n3 1 0.1\n4\n0 1 0.5\n0 2 1e-3\n1 3 2\n2 3 0\n");
    text('n', "npy", &npy::write(&[0, 0, 128, 63, 0, 0, 0, 64], DType::F32, &[1, 2]));
    text('o', "algorithm", b"hios-lp");
    text('o', "effort", b"50000");
}

/// A profile as measuring might produce it: the estimated time of each kernel, and one stage.
fn profile(table: &CostTable) -> Profile {
    let measured = |cost: &cost::OperatorCost| Some(Measured { time: cost.time, utilisation: cost.utilisation, spread: 0.01 });
    let rows = table.operators.iter().map(|row| (row[0].kernel.name.clone(), row.iter().map(measured).collect()));
    let conditions = Conditions { sms: 84, clock: 1740, memory_clock: 7251, driver: 12040, kernels: kernels_hash() };
    let mut names: Vec<String> = table.operators.iter().take(2).map(|row| row[0].kernel.name.clone()).collect();
    names.sort();
    Profile {
        version: "0.1.0".into(),
        gpus: table.gpus.clone(),
        conditions: vec![conditions; table.gpus.len()],
        links: table.links.clone(),
        kernels: rows.collect(),
        stages: [(names, vec![Some(9000), None])].into(),
    }
}

/// A model of one node, from `x [1,4,6,6]` to `y`.
fn one(op: &str, more: &[&str], shape: &[i64], attrs: &[Attr]) -> Model {
    let inputs = [&["x"], more].concat();
    Model::new().input("x", &[1, 4, 6, 6]).output("y", shape).node(op, &inputs, "y", attrs)
}

/// Small models, by name.
fn models() -> Vec<(&'static str, Model)> {
    let keep = [1, 4, 6, 6];
    let window = [Attr::Ints("kernel_shape", &[3, 3]), Attr::Ints("pads", &[1, 1, 1, 1]), Attr::Ints("strides", &[2, 2])];
    let ceil = [Attr::Ints("kernel_shape", &[2, 2]), Attr::Int("ceil_mode", 1), Attr::Ints("strides", &[4, 4])];
    let sequence = Model::new().input("x", &[3, 2, 4]);
    vec![
        ("fire", networks::fire()),
        ("conv", one("Conv", &["w", "b"], &[1, 2, 3, 3], &window).random_weight("w", &[2, 4, 3, 3]).random_weight("b", &[2])),
        (
            "conv_transpose",
            one("ConvTranspose", &["w"], &[1, 2, 12, 12], &[Attr::Ints("strides", &[2, 2])]).random_weight("w", &[4, 2, 2, 2]),
        ),
        ("max_pool", one("MaxPool", &[], &[1, 4, 3, 3], &window)),
        ("average_pool", one("AveragePool", &[], &[1, 4, 2, 2], &ceil)),
        (
            "batch_norm",
            one("BatchNormalization", &["s", "s", "s", "v"], &keep, &[]).random_weight("s", &[4]).weight("v", &[4], vec![0.5; 4]),
        ),
        ("instance_norm", one("InstanceNormalization", &["s", "s"], &keep, &[]).random_weight("s", &[4])),
        ("layer_norm", one("LayerNormalization", &["s"], &keep, &[Attr::Int("axis", -1)]).random_weight("s", &[6])),
        ("softmax", one("Softmax", &[], &keep, &[Attr::Int("axis", 1)])),
        ("reshape", one("Reshape", &["to"], &[4, 36], &[]).ints("to", &[0, -1]).int("unused", 1)),
        ("transpose", one("Transpose", &[], &[6, 4, 1, 6], &[Attr::Ints("perm", &[2, 1, 0, 3])])),
        ("slice", one("Slice", &["begin", "end"], &[1, 4, 3, 6], &[]).ints("begin", &[0, 0, 3]).ints("end", &[1, 4, 6])),
        ("pad", one("Pad", &["pads"], &[1, 4, 8, 6], &[Attr::Text("mode", "reflect")]).ints("pads", &[0, 0, 1, 0, 0, 0, 1, 0])),
        (
            "resize",
            one("Resize", &["", "scales"], &[1, 4, 12, 12], &[Attr::Text("mode", "linear")]).weight(
                "scales",
                &[4],
                vec![1.0, 1.0, 2.0, 2.0],
            ),
        ),
        ("reduce", one("ReduceMean", &[], &[1, 4, 1, 1], &[Attr::Ints("axes", &[2, 3])])),
        ("arg_max", Model::new().input("x", &[2, 5]).output_of(I64, "y", &[2, 1]).node("ArgMax", &["x"], "y", &[Attr::Int("axis", 1)])),
        ("top_k", Model::new().input("x", &[2, 5]).output("y", &[2, 3]).ints("k", &[3]).node("TopK", &["x", "k"], "y,i", &[])),
        ("gather", one("Gather", &["i"], &[1, 2, 6, 6], &[Attr::Int("axis", 1)]).ints("i", &[3, -1])),
        (
            "scatter",
            one("ScatterND", &["i", "u"], &keep, &[])
                .ints("at", &[0, 2])
                .node("Reshape", &["at", "to"], "i", &[])
                .ints("to", &[1, 2])
                .random_weight("u", &[1, 6, 6]),
        ),
        ("matmul", Model::new().input("a", &[2, 3, 4]).input("b", &[4, 5]).output("y", &[2, 3, 5]).node("MatMul", &["a", "b"], "y", &[])),
        (
            "einsum",
            Model::new().input("a", &[2, 3]).input("b", &[3, 2]).output("y", &[2, 2]).node(
                "Einsum",
                &["a", "b"],
                "y",
                &[Attr::Text("equation", "ij,jk->ik")],
            ),
        ),
        (
            "lstm",
            sequence.output("y", &[3, 1, 2, 5]).random_weight("w", &[1, 20, 4]).random_weight("r", &[1, 20, 5]).node(
                "LSTM",
                &["x", "w", "r"],
                "y",
                &[Attr::Int("hidden_size", 5)],
            ),
        ),
        (
            "where",
            Model::new().input_of(BOOL, "c", &[3]).input("a", &[3]).input("b", &[2, 1]).output("y", &[2, 3]).node(
                "Where",
                &["c", "a", "b"],
                "y",
                &[],
            ),
        ),
        ("cast", Model::new().input_of(F16, "x", &[4]).output_of(U8, "y", &[4]).node("Cast", &["x"], "y", &[Attr::Int("to", 2)])),
        ("symbolic", Model::new().input("x", &[-1, 3]).output("y", &[-1, 3]).node("Relu", &["x"], "y", &[])),
        (
            "constants",
            Model::new().ints("a", &[1, 2, 3]).ints("b", &[4, 5, 6]).output_of(I64, "y", &[3]).node("Add", &["a", "b"], "y", &[]),
        ),
        (
            "range",
            Model::new()
                .int("a", 0)
                .int("b", 5)
                .int("c", 2)
                .input("x", &[3])
                .output("y", &[3])
                .node("Range", &["a", "b", "c"], "r", &[])
                .node("Cast", &["r"], "f", &[Attr::Int("to", 1)])
                .node("Add", &["x", "f"], "y", &[]),
        ),
        ("cum_sum", one("CumSum", &["axis"], &keep, &[Attr::Int("reverse", 1)]).int("axis", 2)),
        ("grid_sample", one("GridSample", &["g"], &[1, 4, 2, 2], &[Attr::Int("align_corners", 1)]).input("g", &[1, 2, 2, 2])),
        ("split", one("Split", &[], &[1, 2, 6, 6], &[Attr::Int("axis", 1)]).node("Split", &["x"], "p,q", &[Attr::Int("axis", 2)])),
        ("clip", one("Clip", &["low", "high"], &keep, &[]).weight("low", &[], vec![0.0]).weight("high", &[], vec![6.0])),
        ("external", one("Add", &["w"], &keep, &[]).external_weight("w", &[6], "weights.bin")),
    ]
}
