//! `hiosc profile`, measured costs, and `hiosc bench`, on virtual GPUs: the code paths are real,
//! the times mean nothing.
//!
//! Without a C++ compiler there are no virtual GPUs: the tests say so and pass.

use std::fs;

use crate::support::cli::Bench;
use crate::support::networks;
use crate::support::skipped;
use hiosc::compiler::{Passes, parts};
use hiosc::vgpu;

/// A folder with two models that share an operator, or nothing without a compiler.
fn bench() -> Option<Bench> {
    if !vgpu::compiler_present() {
        skipped!("SKIPPED: no C++ compiler, so no virtual GPUs");
        return None;
    }
    let bench = Bench::new();
    networks::fire().save(bench.path(), "model");
    Some(bench)
}

/// Runs hiosc, which must exit with `code`. Returns standard output and standard error.
fn hiosc(bench: &Bench, arguments: &str, code: i32) -> (String, String) {
    let run = bench.run(&arguments.split_whitespace().collect::<Vec<_>>());
    assert_eq!(run.code, Some(code), "{arguments}: {run:?}");
    (run.stdout, run.stderr)
}

fn read(bench: &Bench, name: &str) -> String {
    fs::read_to_string(bench.at(name)).expect("a file")
}

#[test]
fn costs_are_measured_merged_and_compiled_with() {
    let Some(bench) = bench() else { return };
    let (out, err) = hiosc(&bench, "profile model.onnx -o costs.txt --quick --virtual 2 -v", 0);
    assert!(out.contains(" kernels on hiosc virtual GPU 0, hiosc virtual GPU 1\nwrote      costs.txt\n"), "{out}");
    assert!(err.contains(" s  measuring operators\n") && err.contains(" s  measuring stages\n"), "{err}");
    let costs = read(&bench, "costs.txt");
    for part in [
        "costs: measured by hiosc ",
        "gpu1: hiosc virtual GPU 1, ",
        "measured gpu0: 84 SMs, ",
        "link gpu1 -> gpu0: ",
        "\nkernel conv_",
        "\nstage conv_",
    ] {
        assert!(costs.contains(part), "no {part:?} in:\n{costs}");
    }
    let mut kernels = costs.lines().filter(|line| line.starts_with("kernel "));
    assert!(kernels.all(|line| !line.contains(" | -")), "every kernel is measured on both:\n{costs}");

    // With the file, no GPU is needed, and the bytes are the same.
    let (first, _) = hiosc(&bench, "model.onnx -o one --costs costs.txt --kernels source", 0);
    assert!(first.contains("measured by hiosc"), "{first}");
    hiosc(&bench, "model.onnx -o two --costs costs.txt --kernels source", 0);
    for file in ["src/plan.rs", "src/predicted.rs", "src/buffers.rs", "schedule.txt", "README.md"] {
        assert_eq!(read(&bench, &format!("one/{file}")), read(&bench, &format!("two/{file}")));
    }

    // Half of the table is not enough; merged with the other half, it is the whole.
    let (head, figures): (Vec<&str>, Vec<&str>) =
        costs.lines().partition(|line| !line.starts_with("kernel ") && !line.starts_with("stage "));
    let (kernels, stages): (Vec<&str>, Vec<&str>) = figures.into_iter().partition(|line| line.starts_with("kernel "));
    let half = |lines: &[&str]| format!("{}\n{}\n{}\n", head.join("\n"), lines.join("\n"), stages.join("\n"));
    bench.write("left.txt", half(&kernels[..kernels.len() / 2]));
    bench.write("right.txt", half(&kernels[kernels.len() / 2..]));
    let (_, err) = hiosc(&bench, "model.onnx -o three --costs left.txt", 2);
    assert!(err.contains("left.txt: costs: the table has no times for ") && err.contains("--merge"), "{err}");
    hiosc(&bench, "model.onnx -o three --costs left.txt --costs right.txt --kernels source", 0);
    assert_eq!(read(&bench, "one/src/plan.rs"), read(&bench, "three/src/plan.rs"));
    let (out, _) = hiosc(&bench, "profile model.onnx -o again.txt --merge left.txt --quick --virtual 2", 0);
    assert!(out.contains(&format!("{} kernels", kernels.len())), "{out}");

    // Tables of other GPUs do not merge; tables of other kernels are stale.
    bench.write("other.txt", costs.replace("driver 12.8", "driver 12.4"));
    let (_, err) = hiosc(&bench, "model.onnx -o four --costs costs.txt --costs other.txt", 2);
    assert!(err.contains("other.txt: costs: these tables do not merge: one has") && err.contains("driver 12.4"), "{err}");
    let hash = hiosc::cost::kernels_hash();
    bench.write("stale.txt", costs.replace(&hash, "0000000000000000"));
    let (_, err) = hiosc(&bench, "model.onnx -o four --costs stale.txt", 2);
    assert!(err.contains("stale: gpu0 was measured by hiosc ") && err.contains("with kernels 0000000000000000"), "{err}");
    hiosc(&bench, "model.onnx -o four --costs stale.txt --allow-foreign-costs --kernels source", 0);
    let (_, err) = hiosc(&bench, "model.onnx -o five --costs costs.txt --device h100", 2);
    assert!(err.contains("gpu0 of the table is hiosc virtual GPU 0"), "{err}");
    bench.write("broken.txt", costs.replace("busy ", "lazy "));
    let (_, err) = hiosc(&bench, "model.onnx -o five --costs broken.txt", 2);
    assert!(err.contains("broken.txt: costs, line ") && err.contains("is not understood"), "{err}");
    assert!(!bench.at("five").exists());
}

/// Stages are measured when the schedulers need them, with or without graphs, and the measured
/// times are used.
#[test]
fn stages_are_measured_and_decide() {
    let Some(bench) = bench() else { return };
    for refuse in ["", "capture"] {
        let mut command = bench.command(&["profile", "model.onnx", "-o", "costs.txt", "--quick", "--virtual", "1", "-v"]);
        let output = command.env("HIOSC_VGPU_REFUSE", refuse).output().expect("hiosc starts");
        assert!(output.status.success(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(" s  measuring stages\n"), "{output:?}");
    }
    let costs = read(&bench, "costs.txt");
    let sum = |line: &str| -> u64 {
        let time = |kernel: &str| {
            let line = costs.lines().find(|line| line.starts_with(&format!("kernel {kernel}: "))).expect("a measured kernel");
            line.rsplit_once(": ").and_then(|(_, cost)| cost.split(' ').next()?.parse::<u64>().ok()).expect("a time")
        };
        line["stage ".len()..].split_once(": ").expect("a stage").0.split(" + ").map(time).sum()
    };
    // The same table twice, except for the time of all stages: a tenth of the sum of their kernels
    // alone, and ten times that.
    let with = |change: &dyn Fn(u64) -> u64| -> String {
        let line = |line: &str| match line.split_once(": ") {
            Some((stage, _)) if stage.starts_with("stage ") => format!("{stage}: {} ns\n", change(sum(line)).max(1)),
            _ => format!("{line}\n"),
        };
        costs.lines().map(line).collect()
    };
    let grouped = |name: &str, text: String| -> usize {
        bench.write(name, text);
        let (schedule, _) = hiosc(&bench, &format!("model.onnx --costs {name} --emit schedule --algorithm ios"), 0);
        let stages: Vec<&str> = schedule.split("  stage ").skip(1).collect();
        stages.iter().filter(|stage| stage.matches('%').count() > 1).count()
    };
    assert!(grouped("fast.txt", with(&|alone| alone / 10)) > 0, "stages that take no time are taken:\n{costs}");
    assert_eq!(grouped("slow.txt", with(&|alone| alone * 10)), 0, "stages that take for ever are not:\n{costs}");
}

#[test]
fn plans_are_measured_against_one_another() {
    let Some(bench) = bench() else { return };
    hiosc(&bench, "profile model.onnx -o costs.txt --quick --virtual 2 --on 1,0", 0);
    let (out, _) = hiosc(&bench, "bench model.onnx --device a40 --gpus 2 --virtual 2 --repeat 2 --json bench.json --trace trace.json", 0);
    let parts =
        ["these times are meaningless", "noise of the method (A/A)", "sequential graph, again", "best streams", "hios-lp graph, resident"];
    parts.iter().for_each(|part| assert!(out.contains(part), "no {part:?} in:\n{out}"));
    let json: serde_json::Value = serde_json::from_str(&read(&bench, "bench.json")).expect("JSON");
    let names: Vec<&str> = json["series"].as_array().expect("series").iter().map(|s| s["name"].as_str().expect("a name")).collect();
    for algorithm in ["sequential", "intra-gpu", "hios-lp", "best"] {
        for way in ["graph", "streams", "graph, resident"] {
            assert!(names.contains(&&*format!("{algorithm} {way}")), "{algorithm} {way}: {names:?}");
        }
    }
    assert_eq!(json["end_to_end"].as_array().map(Vec::len), Some(4));
    let trace: serde_json::Value = serde_json::from_str(&read(&bench, "trace.json")).expect("JSON");
    assert!(trace["traceEvents"].as_array().is_some_and(|events| events.iter().any(|e| e["name"] == "stem" || e["cat"] == "operator")));

    // The table lists the GPUs in reverse order, unlike this machine.
    let (_, err) = hiosc(&bench, "bench model.onnx --costs costs.txt --virtual 2 --repeat 2", 2);
    assert!(
        err.contains("costs: foreign: the table has `gpu0: hiosc virtual GPU 1, ")
            && err.contains("this machine `gpu0: hiosc virtual GPU 0"),
        "{err}"
    );
    hiosc(&bench, "bench model.onnx --costs costs.txt --virtual 2 --repeat 2 --allow-foreign-costs --stage-barriers", 0);
}

/// With a driver and without a named target, the costs are measured and the choice is re-checked.
/// Here the driver is the virtual one.
#[test]
fn a_machine_with_gpus_is_measured_without_being_asked() {
    let Some(bench) = bench() else { return };
    let graph = hiosc::Compiler::new(bench.at("model.onnx")).import().expect("a graph").graph;
    let kernels = hiosc::measure::profile::kernels(&[&graph], &crate::support::a40()).expect("kernels");
    let sources: Vec<(&str, &str)> = kernels.iter().map(|k| (k.name.as_str(), k.source.as_str())).collect();
    let kernels = vgpu::compile_kernels(&sources, None).expect("the kernels compile");
    let mut command = bench.command(&["model.onnx", "-o", "out", "--kernels", "source"]);
    vgpu::command_env(&mut command, &kernels).expect("the virtual driver builds");
    let output = command.output().expect("hiosc starts");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    assert!(said.contains("measured by hiosc") && said.contains("on the GPU: ") && said.contains("meaningless"), "{said}");
    // A named device is not measured.
    let mut command = bench.command(&["model.onnx", "-o", "named", "--kernels", "source", "--device", "a40"]);
    vgpu::command_env(&mut command, &kernels).expect("the virtual driver builds");
    let output = command.output().expect("hiosc starts");
    assert!(String::from_utf8_lossy(&output.stdout).contains("estimated from device model a40"), "{output:?}");
}

/// `benchmarks/run.sh`, on a virtual GPU. There is no PyTorch, and the script says so.
#[test]
fn the_script_for_one_gpu_runs_to_its_end() {
    let Some(bench) = bench() else { return };
    if std::process::Command::new("python3").arg("--version").output().is_err() {
        skipped!("SKIPPED: no python3");
        return;
    }
    let scripts = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("benchmarks");
    for script in ["run.sh", "compare.py", "summary.py"] {
        fs::copy(scripts.join(script), bench.at(script)).expect("a copy");
    }
    fs::create_dir(bench.at("models")).expect("a folder");
    fs::rename(bench.at("model.onnx"), bench.at("models/resnet50.onnx")).expect("moved");
    let graph = hiosc::Compiler::new(bench.at("models/resnet50.onnx"));
    let compilation = graph.device("a40").gpus(1).compile().expect("it compiles");
    let check = parts(&compilation).2.files.get("check.safetensors").expect("a check");
    crate::support::npz(&bench.at("models/resnet50.ref.npz"), check);
    let mut command = bench.command(&[""]);
    let nvrtc: Vec<_> = command.get_envs().map(|(k, v)| (k.to_owned(), v.map(|v| v.to_owned()))).collect();
    command = std::process::Command::new("sh");
    command.arg("run.sh").current_dir(bench.path()).env("HIOSC", env!("CARGO_BIN_EXE_hiosc"));
    command.env("VIRTUAL", "1").env("QUICK", "1").env("REPEAT", "2");
    command.envs(nvrtc.into_iter().filter_map(|(k, v)| Some((k, v?))));
    let output = command.output().expect("sh");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    let checks = read(&bench, "results/check.tsv");
    assert_eq!(checks.matches("\tPASS\t").count(), 3, "{checks}");
    assert!(checks.contains("same device, another context"), "{checks}");
    for file in ["costs.txt", "resnet50.bench.json", "resnet50.bench--stage-barriers.json", "resnet50.trace.json", "resnet50.torch.json"] {
        assert!(bench.at("results").join(file).exists(), "no {file}:\n{said}");
    }
    // Virtual times are not measurements.
    let summary = read(&bench, "results/summary.md");
    let row = "| resnet50 | not measured | not measured | not measured | not measured | not measured | not measured | not measured | not measured |";
    assert!(summary.contains(row) && summary.contains("3 of 3 checks passed"), "{summary}");
    assert!(said.contains("hiosc verify out/ --on 0,1 --links"), "{said}");
}

#[test]
fn without_a_gpu_there_is_nothing_to_measure() {
    let bench = Bench::new();
    networks::fire().save(bench.path(), "model");
    let mut command = bench.command(&["profile", "model.onnx", "-o", "costs.txt"]);
    if hiosc::measure::profile::present().is_ok_and(|gpus| !gpus.is_empty()) {
        skipped!("SKIPPED: this machine has a GPU");
        return;
    }
    let output = command.output().expect("hiosc starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("there is no GPU to measure"), "{said}");
    assert!(!bench.at("costs.txt").exists());
}
