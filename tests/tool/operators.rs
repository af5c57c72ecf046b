//! The table of operators, its page in docs/, and `hiosc inspect`, which uses it.

use std::path::Path;

use crate::support::cli::Bench;
use crate::support::onnx::{Attr, Model};
use hiosc::import::operators_page;

#[test]
fn the_page_is_what_the_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operators.md");
    let page = operators_page();
    if std::env::var_os("HIOSC_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(&path, &page).expect("a writable file");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == page, "docs/operators.md is stale: HIOSC_BLESS=1 cargo test --release --test tool operators");
}

/// Two branches of 3x3 convolutions, one twice as long.
fn branches() -> Model {
    let pads = [Attr::Ints("pads", &[1, 1, 1, 1])];
    let model = Model::new().input("x", &[1, 4, 8, 8]).output("y", &[1, 4, 8, 8]);
    let model = ["a", "b", "c"].iter().fold(model, |model, name| model.random_weight(name, &[4, 4, 3, 3]));
    let model = model.node("Conv", &["x", "a"], "p", &pads).node("Conv", &["p", "b"], "q", &pads).node("Conv", &["x", "c"], "r", &pads);
    model.node("Add", &["q", "r"], "y", &[])
}

#[test]
fn inspect_says_what_a_model_is_made_of() {
    let bench = Bench::new();
    branches().save(bench.path(), "model");
    let text = bench.done(&["inspect", "model.onnx"]);
    let macs = 4 * 8 * 8 * 4 * 9;
    let work = format!("work       {} multiply-adds, {} on the critical path: parallelism 1.50", 3 * macs, 2 * macs);
    for line in [
        "model      model.onnx, opset 17",
        "input      f32 1x4x8x8  \"x\"",
        "parameters 432",
        &work,
        "      3 Conv                     conv",
    ] {
        assert!(text.contains(line), "no line {line:?} in\n{text}");
    }
    assert!(text.contains("supported  yes: ") && !bench.at("out").exists(), "{text}");

    let json: serde_json::Value = serde_json::from_str(&bench.done(&["inspect", "model.onnx", "--json"])).expect("JSON");
    assert_eq!((json["macs"].as_u64(), json["critical_path_macs"].as_u64()), (Some(3 * macs), Some(2 * macs)));
    assert_eq!((&json["supported"], &json["operators"][0]["name"]), (&true.into(), &"Add".into()));
}

#[test]
fn inspect_says_all_that_is_refused_and_the_rest_all_the_same() {
    let bench = Bench::new();
    let model = Model::new().input("x", &[1, 4]).output("y", &[1, 4]).output("z", &[1, 4]).node("Frobnicate", &["x"], "a", &[]);
    model.node("Relu", &["a"], "y", &[]).node("StringNormalizer", &["x"], "z", &[]).save(bench.path(), "model");
    let run = bench.run(&["inspect", "model.onnx"]);
    assert_eq!((run.code, run.stderr.as_str()), (Some(1), ""), "a script must see that the model is refused");
    let text = run.stdout;
    let lines = [
        "      1 Frobnicate               refused: hiosc does not know this operator",
        "      1 Relu                     elementwise",
        "      1 StringNormalizer         refused: strings are not supported",
        "work       unknown",
        "supported  no\n  StringNormalizer (node \"/z/StringNormalizer\"): strings are not supported\n  operator Frobnicate is not known (node \"/a/Frobnicate\")",
    ];
    assert!(lines.iter().all(|line| text.contains(line)), "{text}");
    bench.refused(&["inspect", "nothing.onnx"], 1, "nothing.onnx: No such file or directory (os error 2)");
}

#[test]
fn inspect_takes_shapes() {
    let bench = Bench::new();
    let model = Model::new().input("x", &[-1, 3]).output("y", &[-1, 3]).node("Relu", &["x"], "y", &[]);
    model.save(bench.path(), "model");
    let run = bench.run(&["inspect", "model.onnx"]);
    assert_eq!(run.code, Some(1));
    let open = run.stdout;
    assert!(open.contains("f32 Nx3") && open.contains("dynamic input shapes: \"x\" is Nx3"), "{open}");
    assert!(bench.done(&["inspect", "model.onnx", "--shapes", "x:2x3"]).contains("supported  yes"));
}
