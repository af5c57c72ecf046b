//! Targets: unequal GPUs, topologies, cost tables read back; through the library, the command line,
//! and generated crates.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::skipped;
use hiosc::compiler::{Passes, parts};
use hiosc::plan::Step;
use hiosc::schedule::Algorithm;
use hiosc::{Compiler, VerifyOptions, verify, vgpu};

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/squeezenet1_1.onnx")
}

fn hiosc(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hiosc")).arg(model()).args(arguments).output().expect("hiosc starts")
}

/// The output of hiosc, which must succeed.
fn printed(arguments: &[&str]) -> String {
    let output = hiosc(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// The error of a call that must fail with this exit code.
fn refused(arguments: &[&str], code: i32) -> String {
    let output = hiosc(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    assert!(output.stdout.is_empty(), "{arguments:?} printed something");
    said
}

/// A file in a folder that exists as long as the test.
fn file(folder: &tempfile::TempDir, name: &str, text: &str) -> String {
    let path = folder.path().join(name);
    fs::write(&path, text).expect("a writable folder");
    path.to_string_lossy().into_owned()
}

#[test]
fn unequal_gpus_run_their_own_kernels() {
    let compilation = Compiler::new(model()).device("a40,a40,l4").algorithm(Algorithm::Scatter).compile().expect("a sound model");
    let (planned, shipped, _) = parts(&compilation);
    assert_eq!(compilation.latency().as_nanos(), u128::from(planned.plan.latency));
    assert_eq!(compilation.timings().last().map(|(pass, _)| *pass), Some("emit"));
    let (costs, plan) = (&planned.costs, &planned.plan);
    assert_eq!(plan.gpus.len(), 3);
    assert_eq!(costs.gpus.iter().map(|g| g.device.as_str()).collect::<Vec<_>>(), ["a40", "a40", "l4"]);
    // If the devices have different kernels for an operator, the plan launches that of the GPU that
    // it runs on, and the crate has both.
    let mut differing = 0;
    let mut wanted = BTreeSet::new();
    for step in &plan.steps {
        if let Step::Launch { operators, stream, .. } = step {
            let target = plan.targets[plan.streams[stream.index()].gpu.index()];
            wanted.insert(costs.launch(operators, target).expect("a kernel").kernel.name.as_str());
            let row = &costs.operators[operators[0].index()];
            differing += usize::from(row[0].kernel.name != row[2].kernel.name);
        }
    }
    assert!(differing > 0, "the devices agree on every kernel: this test shows nothing");
    assert!(wanted.iter().copied().eq(shipped.kernels.iter().map(|k| k.name.as_str())));

    let scratch = tempfile::tempdir().expect("a temporary folder");
    let out = scratch.path().join("out");
    compilation.write(&out).expect("a writable folder");
    let manifest = fs::read_to_string(out.join("Cargo.toml")).expect("a manifest");
    assert!(manifest.contains("\narchitecture = \"8.6,8.6,8.9\"\n"), "{manifest}");
    if !vgpu::compiler_present() {
        skipped!("SKIPPED: no C++ compiler for the virtual GPUs");
        return;
    }
    for gpus in [3, 1] {
        let options = VerifyOptions::default().on_virtual(true).gpus(gpus).seeds(3);
        verify(&out, &options).unwrap_or_else(|e| panic!("on {gpus} virtual GPUs: {e}"));
    }
}

#[test]
fn a_cost_table_comes_back() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let target = ["--device", "a40,l4", "--algorithm", "scatter"];
    let first = printed(&[&target[..], &["--emit", "costs,schedule,plan"]].concat());
    let table = printed(&[&target[..], &["--emit", "costs"]].concat());
    let costs = file(&folder, "costs.txt", &table);
    assert_eq!(printed(&["--costs", &costs, "--algorithm", "scatter", "--emit", "costs,schedule,plan"]), first);
    assert_eq!(printed(&[&target[..], &["--costs", &costs, "--emit", "costs,schedule,plan"]].concat()), first);

    // edited times count: with slow kernels everywhere, and free links, two GPUs pay off
    let slower: Vec<String> = table.lines().map(|line| line.replace(" ns, busy", "0000 ns, busy").replace(": 6000 ns", ": 1 ns")).collect();
    let slower = file(&folder, "slower.txt", &slower.join("\n"));
    let schedule = printed(&["--costs", &slower, "--emit", "schedule"]);
    assert!(schedule.contains("\ngpu0\n  stage 0: ") && schedule.contains("\ngpu1\n  stage 0: "), "{schedule}");

    let named = |message: &str| format!("hiosc: {costs}: {message}");
    let error = refused(&["--costs", &costs, "--device", "a40", "--emit", "plan"], 2);
    assert!(
        error.starts_with(&named("costs: gpu1 of the table is l4, compute capability 8.9, 24000000000 bytes, of the target a40, ")),
        "{error}"
    );
    assert!(error.ends_with("; without --device, --gpus, --link and --topology, the table's own target is used\n"), "{error}");
    let error = refused(&["--costs", &costs, "--no-fuse", "epilogue", "--emit", "plan"], 2);
    assert!(error.starts_with(&named("costs, line ")), "{error}");
    assert!(error.ends_with("made with other --no-fuse rules?\n"), "{error}");
    let broken = file(&folder, "broken.txt", &table.replacen("ns, busy", "us, busy", 1));
    let error = refused(&["--costs", &broken, "--emit", "plan"], 2);
    assert!(
        error.starts_with(&format!("hiosc: {broken}: costs, line 6: `"))
            && error.contains("is not a cost of one of this operator's kernels"),
        "{error}"
    );
    let nowhere = folder.path().join("nowhere.txt").to_string_lossy().into_owned();
    assert_eq!(refused(&["--costs", &nowhere, "--emit", "plan"], 1), format!("hiosc: {nowhere}: No such file or directory (os error 2)\n"));
}

#[test]
fn a_topology_names_gpus_links_and_memory() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = "gpu0: a40\ngpu1: a40, 40000000000 bytes\ngpu2: l4\nlink gpu0 <-> gpu1: nvlink\nlink others: 6000 ns, 12500000000 bytes/s\n";
    let topology = file(&folder, "box.txt", text);
    let costs = printed(&["--topology", &topology, "--emit", "costs"]);
    let head: Vec<&str> = costs.lines().take(10).collect();
    let expected = [
        "costs: estimated from device models a40, l4, topology box.txt",
        "gpu0: a40, compute capability 8.6, 48000000000 bytes",
        "gpu1: a40, compute capability 8.6, 40000000000 bytes",
        "gpu2: l4, compute capability 8.9, 24000000000 bytes",
        "link gpu0 -> gpu1: 3000 ns, 47250000000 bytes/s",
        "link gpu0 -> gpu2: 6000 ns, 12500000000 bytes/s",
        "link gpu1 -> gpu0: 3000 ns, 47250000000 bytes/s",
        "link gpu1 -> gpu2: 6000 ns, 12500000000 bytes/s",
        "link gpu2 -> gpu0: 6000 ns, 12500000000 bytes/s",
        "link gpu2 -> gpu1: 6000 ns, 12500000000 bytes/s",
    ];
    assert_eq!(head, expected);

    let small = file(&folder, "small.txt", "gpu0: a40, 1000000 bytes\n");
    let error = refused(&["--topology", &small, "--emit", "plan"], 2);
    assert!(error.starts_with("hiosc: the model does not fit: its weights take 5996800 bytes, "), "{error}");
    assert!(
        error.contains(" but gpu0 has 1000000 of 1000000 bytes for weights left: ") && error.contains(" bytes are missing on gpu0; "),
        "{error}"
    );
    let broken = file(&folder, "broken.txt", "gpu0: a40\n\ngpu1: a41\n");
    assert!(
        refused(&["--topology", &broken, "--emit", "plan"], 2)
            .starts_with("hiosc: topology broken.txt, line 3: unknown device `a41` (did you mean `a40`?); known: a40, ")
    );
    let error = refused(&["--topology", &topology, "--device", "a40", "--emit", "plan"], 2);
    assert!(error.contains("'--topology <FILE>'") && error.contains("cannot be used with"), "{error}");
    let both = Compiler::new(model()).topology(&topology).gpus(2).plan().map(|_| ()).unwrap_err().to_string();
    assert_eq!(both, "a topology says everything about GPUs and links: leave out device, gpus and link");
}

#[test]
fn targets_that_make_no_sense() {
    let cases: [(&[&str], &str); 4] = [
        (
            &["--device", "a41"],
            "hiosc: unknown device `a41` (did you mean `a40`?); known: a40, a100, a100-40gb, h100, h200, l4, rtx4090, v100\n",
        ),
        (&["--device", "a40,l4", "--gpus", "3"], "hiosc: device `a40,l4` names 2 GPUs, but 3 are requested: leave out --gpus\n"),
        (
            &["--device", "l4", "--link", "nvlink"],
            "hiosc: link `nvlink` is on none of the devices: l4 (pcie4); other connections go into a --topology file\n",
        ),
        (&["--link", "ib"], "hiosc: unknown link `ib`; known: nvlink, nvlink2, nvlink3, nvlink4, pcie3, pcie4, pcie5, host4\n"),
    ];
    for (arguments, expected) in cases {
        assert_eq!(refused(&[arguments, &["--emit", "plan"]].concat(), 2), expected);
    }
}

#[test]
fn every_device_compiles_and_is_never_slower_than_sequential() {
    for device in ["v100", "a40", "a100", "a100-40gb", "h100", "h200", "l4", "rtx4090", "h100,v100,l4,rtx4090"] {
        let planned = Compiler::new(model()).device(device).plan().unwrap_or_else(|e| panic!("{device}: {e}"));
        let latency = |name: &str| planned.schedules.iter().find(|c| c.schedule.algorithm == name).map(|c| c.timeline.latency);
        assert!(latency("hios-lp") <= latency("sequential"), "{device}");
    }
}

#[test]
fn barriers_and_timings() {
    let planned = |barriers| Compiler::new(model()).algorithm(Algorithm::HiosLp).stage_barriers(barriers).plan().expect("a plan").plan;
    let waits = |plan: &hiosc::plan::Plan| plan.steps.iter().filter(|s| matches!(s, Step::Wait { .. })).count();
    let (without, with) = (planned(false), planned(true));
    assert!(waits(&with) >= waits(&without), "{} {}", waits(&with), waits(&without));
    assert_eq!(printed(&["--algorithm", "hios-lp", "--stage-barriers", "--emit", "plan"]), {
        let planned = Compiler::new(model()).algorithm(Algorithm::HiosLp).stage_barriers(true).plan().expect("a plan");
        planned.plan.text(&planned.graph)
    });

    let output = hiosc(&["--emit", "plan", "--timings"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let passes: Vec<&str> = said.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(passes, ["import", "fuse", "cost", "schedule", "plan", "all"], "{said}");
    assert!(said.lines().all(|line| line.starts_with("time ") && line.ends_with(" s")), "{said}");
}
