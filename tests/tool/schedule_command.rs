//! `hiosc schedule`, as users call it.

use std::path::PathBuf;
use std::process::{Command, Output};

use hiosc::compiler::Passes;
use hiosc::schedule::{Algorithm, LinkMode, Problem};

/// Two chains that meet, 1 ms per operator.
const GRAPH: &str = "5\n0 1 0.5\n1 1 0.5\n2 1 0.5\n3 1 0.5\n4 1 0.5\n4\n0 1 0.1\n2 3 0.1\n1 4 0.1\n3 4 0.1\n";

fn hiosc(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hiosc")).arg("schedule").args(arguments).output().unwrap()
}

fn file(folder: &tempfile::TempDir, name: &str, text: &[u8]) -> String {
    let path: PathBuf = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_string()
}

#[test]
fn rows_in_json() {
    let folder = tempfile::tempdir().unwrap();
    let graph = file(&folder, "two.txt", GRAPH.as_bytes());
    let output = hiosc(&[&graph, "--json", "--no-grouping", "--gpus", "2"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = rows.as_array().unwrap();
    let names: Vec<&str> = rows.iter().map(|r| r["algorithm"].as_str().unwrap()).collect();
    assert_eq!(names, ["hios-lp", "sequential", "greedy", "ios", "intra-gpu", "inter-lp", "inter-mr", "hios-mr", "heft", "best"]);
    let best = rows.last().unwrap();
    assert!(best.get("graph").is_none());
    assert_eq!(best["gpus"], 2);
    assert_eq!(best["latency_ms"], 3.1);
    assert_eq!(best["sequential_ms"], 5.0);
    assert_eq!(best["lower_bound_ms"], 3.0);
    assert_eq!(best["gpus_used"], 2);
    assert_eq!(best["transfers"], 1);
    assert_eq!(best["note"], "optimal");
    assert!(best["scheduling_ms"].as_f64().unwrap() > 0.0);

    // Without the valid-path rule, too.
    let output = hiosc(&[&graph, "--json", "--relaxed-paths", "--algorithm", "hios-lp"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    // Several files, several numbers of GPUs, one algorithm: one row each, with its graph.
    let output = hiosc(&[&graph, &graph, "--json", "--gpus", "1,2", "--algorithm", "heft"]);
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let gpus: Vec<u64> = rows.as_array().unwrap().iter().map(|r| r["gpus"].as_u64().unwrap()).collect();
    assert_eq!(gpus, [1, 2, 1, 2]);
    assert_eq!(rows[0]["graph"], graph);
}

#[test]
fn a_table_for_people() {
    let folder = tempfile::tempdir().unwrap();
    let graph = file(&folder, "two.txt", GRAPH.as_bytes());
    let output = hiosc(&[&graph, "--algorithm", "sequential,best", "--effort", "low", "--seed", "3", "--window", "2", "--print"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("5 operators, 2 GPUs, window 2, at most 2 operators per stage"), "{text}");
    assert!(text.contains("algorithm     latency ms  speed-up     gap  GPUs  transfers  scheduling ms"), "{text}");
    assert!(text.contains("schedule best\nlatency "), "{text}");
}

#[test]
fn bad_arguments_are_usage() {
    let folder = tempfile::tempdir().unwrap();
    let graph = file(&folder, "two.txt", GRAPH.as_bytes());
    for (arguments, expected) in [
        (vec![&graph[..], "--algorithm", "magic"], "unknown scheduling algorithm `magic`"),
        (vec![&graph[..], "--effort", "much"], "unknown effort `much`"),
        (vec![&graph[..], "--gpus", "0"], "0 is not in 1..=64"),
        (vec![], "FILE"),
    ] {
        let output = hiosc(&arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(expected), "{error}");
    }
    let output = hiosc(&["/no/such/file.txt"]);
    assert_eq!(output.status.code(), Some(1));
}

/// Models on GPUs of different kinds, links and memory from a file, costs from a file.
/// Contradictory arguments are refused.
#[test]
fn models_on_unequal_gpus() {
    let folder = tempfile::tempdir().unwrap();
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/squeezenet1_1.onnx");
    let rows = |arguments: &[&str]| -> serde_json::Value {
        let output = hiosc(&[&[model, "--json", "--effort", "1000"], arguments].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let mixed = rows(&["--device", "a40,a40,l4", "--algorithm", "sequential,best"]);
    assert_eq!((&mixed[0]["gpus"], &mixed[0]["algorithm"]), (&3.into(), &"sequential".into()));
    // Several numbers of GPUs.
    let numbers = rows(&["--device", "a40", "--gpus", "1,2", "--algorithm", "hios-lp"]);
    assert_eq!((&numbers[0]["gpus"], &numbers[1]["gpus"]), (&1.into(), &2.into()));

    // Not all weights fit on the fast GPU. The schedule uses the slow one or both, and is slower
    // than without the limit.
    let text = |capacity: u64| format!("gpu0: a40, {capacity} bytes\ngpu1: l4, 20000000 bytes\nlink others: pcie4\n");
    let topology =
        |capacity: u64| rows(&["--algorithm", "sequential", "--topology", &file(&folder, "topology.txt", text(capacity).as_bytes())]);
    let (tight, ample) = (topology(3_000_000), topology(20_000_000));
    assert_eq!(ample[0]["latency_ms"], ample[0]["sequential_ms"]);
    assert!(tight[0]["latency_ms"].as_f64() > ample[0]["latency_ms"].as_f64());

    // Costs from a file determine the GPUs.
    let mut compiler = hiosc::Compiler::new(model).device("l4,a40,l4");
    let imported = compiler.import().unwrap();
    let problem = compiler.problem(&imported).unwrap();
    let planned = compiler.check(false).algorithm(Algorithm::Sequential).plan().unwrap();
    assert_eq!(problem, planned.problem);
    let costs = file(&folder, "costs.txt", planned.costs.to_text(&planned.graph).as_bytes());
    assert_eq!(rows(&["--costs", &costs, "--algorithm", "hios-lp"])[0]["gpus"], 3);
    compiler = hiosc::Compiler::new(model).costs(&costs);
    let imported = compiler.import().unwrap();
    assert_eq!(compiler.problem(&imported).unwrap(), problem);

    let graph = file(&folder, "two.txt", GRAPH.as_bytes());
    for (arguments, expected) in [
        (vec![model, "--device", "a40,l4", "--gpus", "3"], "names 2 GPUs, but 3 are requested"),
        (vec![model, "--topology", &graph, "--gpus", "2"], "cannot be used with"),
        (vec![&graph[..], "--device", "a40"], "device, link, topology and costs are for models"),
    ] {
        let output = hiosc(&arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(expected), "{error}");
    }
}

/// Each malformed graph is refused with the line that is wrong.
#[test]
fn malformed_graphs_name_the_line() {
    let cases: [(&str, &str, &str); 15] = [
        ("cycle", "4\n0 1 1\n1 1 1\n2 1 1\n3 1 1\n4\n0 1 1\n1 2 1\n2 1 1\n2 3 1\n", "line 9: a cycle: operator 2 depends on itself"),
        ("itself", "1\n0 1 1\n1\n0 0 1\n", "line 4: operator 0 depends on itself"),
        ("dangling", "2\n0 1 1\n1 1 1\n1\n0 7 1\n", "line 5: `7` is not the id"),
        ("negative", "2\n0 -1 1\n1 1 1\n0\n", "line 2: "),
        ("nan", "2\n0 NaN 1\n1 1 1\n0\n", "line 2: "),
        ("infinite", "2\n0 inf 1\n1 1 1\n0\n", "line 2: "),
        ("zero", "1\n0 0 1\n0\n", "line 2: "),
        ("transfer", "2\n0 1 1\n1 1 1\n1\n0 1 -3\n", "line 5: "),
        ("utilisation", "1\n0 1 1.5\n0\n", "line 2: utilisation 1.5"),
        ("duplicate", "2\n0 1 1\n0 1 1\n0\n", "line 3: operator 0 appears twice"),
        ("truncated", "3\n0 1 1\n1 1 1\n2 1", "line 4: "),
        ("no edges", "1\n0 1 1\n", "line 3: the text ends here"),
        ("huge", "99999999999999999999\n0 1 1\n0\n", "line 1: "),
        ("large", "4000000000\n0 1 1\n0\n", "line 1: 4000000000 operators announced"),
        ("rest", "1\n0 1 1\n0\nmore\n", "line 4: end of the text expected"),
    ];
    for (name, text, expected) in cases {
        let error = Problem::from_dag_text(text, 2, LinkMode::Free).unwrap_err().to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let bad = file(&folder, "bad.txt", cases[2].1.as_bytes());
    let output = hiosc(&[&bad]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("bad.txt: scheduling graph, line 5: "), "{error}");
    let binary = file(&folder, "bad.bin", &[0xff, 0xfe, 0, 1]);
    let error = String::from_utf8(hiosc(&[&binary]).stderr).unwrap();
    assert!(error.contains("neither a model"), "{error}");
}

/// A text that is cut off anywhere, or has any byte changed, is a graph or an error, never a panic.
#[test]
fn damaged_graphs_do_not_panic() {
    for cut in 0..GRAPH.len() {
        let _ = Problem::from_dag_text(&GRAPH[..cut], 2, LinkMode::Free);
        for byte in b" -.9eN\n" {
            let mut text = GRAPH.as_bytes().to_vec();
            text[cut] = *byte;
            let _ = Problem::from_dag_text(std::str::from_utf8(&text).unwrap(), 2, LinkMode::Free);
        }
    }
}

/// GPUs with different or too little memory. The plan fits, and uses both GPUs if neither can hold
/// everything; or the error says how many bytes are missing on which GPU.
#[test]
fn memory_decides_where_a_model_runs() {
    let folder = tempfile::tempdir().unwrap();
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/squeezenet1_1.onnx");
    let plan = |memory: [u64; 2]| {
        let text = format!("gpu0: a40, {} bytes\ngpu1: a40, {} bytes\nlink others: nvlink\n", memory[0], memory[1]);
        hiosc::Compiler::new(model).topology(file(&folder, "topology.txt", text.as_bytes())).check(false).plan()
    };
    // All weights take 6.0 MB, packed; weights and tensors together about 10 MB on one GPU.
    for (memory, one_gpu) in [([3_000_000, 20_000_000], true), ([8_000_000, 7_000_000], false)] {
        let planned = plan(memory).unwrap();
        for (target, gpu) in planned.plan.targets.iter().zip(&planned.plan.gpus) {
            assert!(gpu.weights_bytes + gpu.arena_bytes <= memory[target.index()]);
        }
        assert_eq!(planned.schedules.iter().any(|c| c.schedule.algorithm == "sequential"), one_gpu);
        assert!(one_gpu || planned.plan.gpus.len() == 2);
    }
    let error = plan([2_000_000, 2_000_000]).err().unwrap().to_string();
    for part in ["the model does not fit: its weights take 5996800 bytes", "bytes are missing on gpu0", "gpu1 has 2000000 of 2000000 bytes"]
    {
        assert!(error.contains(part), "{error}");
    }
}
