//! The command line, through the real binary: what it prints, its exit codes (0 done, 1 failed, 2
//! bad usage), and that a failure writes nothing.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use crate::support::cli::Bench;
use crate::support::{networks, skipped};
use hiosc::runtime::weights::sha256;
use hiosc::schedule::Algorithm;

/// A folder with `model.onnx`, a small model.
fn bench() -> Bench {
    let bench = Bench::new();
    networks::fire().save(bench.path(), "model");
    bench
}

/// `model.onnx -o out`, and `more`.
fn compile<'a>(more: &[&'a str]) -> Vec<&'a str> {
    ["model.onnx", "-o", "out"].into_iter().chain(more.iter().copied()).collect()
}

#[test]
fn a_compilation_says_what_it_did() {
    let bench = bench();
    let said = bench.done(&compile(&[]));
    let passes: Vec<&str> = said.lines().map(|line| line.get(..10).unwrap_or(line).trim_end()).filter(|pass| !pass.is_empty()).collect();
    assert_eq!(passes, ["model", "fuse", "target", "schedule", "plan", "kernels", "check", "wrote"], "{said}");
    assert!(said.ends_with("\nwrote      out\n"), "{said}");
    for file in
        ["Cargo.toml", "Cargo.lock", "README.md", "src/lib.rs", "src/plan.rs", "kernels", "weights.safetensors", "check.safetensors"]
    {
        assert!(bench.at("out").join(file).exists(), "no {file}");
    }
    // again, over the first output: the same, and nothing else beside it
    assert_eq!(bench.done(&compile(&[])), said);
    assert_eq!(fs::read_dir(bench.path()).expect("a folder").count(), 2);
}

#[test]
fn help_and_version() {
    let bench = Bench::new();
    assert_eq!(bench.done(&["--version"]), format!("hiosc {}\n", env!("CARGO_PKG_VERSION")));
    let help = bench.done(&["--help"]);
    for flag in [
        "--output",
        "--topology",
        "--costs",
        "--stage-barriers",
        "--device",
        "--gpus",
        "--link",
        "--algorithm",
        "--no-fuse",
        "--shapes",
        "--kernels",
        "--emit",
        "--no-check",
        "--verify",
        "--timings",
        "--window",
        "--max-streams",
        "--effort",
        "--seed",
    ] {
        assert!(help.contains(flag), "{flag} is not in\n{help}");
    }
    for algorithm in Algorithm::ALL {
        assert!(help.contains(algorithm.name()), "{algorithm} is not in\n{help}");
    }
    for flag in ["--reference", "--virtual", "--on", "--seeds"] {
        assert!(bench.done(&["verify", "--help"]).contains(flag), "{flag}");
    }
    assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
}

#[test]
fn bad_usage_is_exit_code_2() {
    let bench = bench();
    let none: [&str; 0] = [];
    assert!(bench.usage(&none, 2).contains("Usage: hiosc [OPTIONS] [MODEL.onnx]"));
    let cases: [(&[&str], &str); 13] = [
        (&["model.onnx"], "the following required arguments were not provided:\n  --output <DIR>"),
        (&["-o", "out"], "the following required arguments were not provided:\n  <MODEL.onnx>"),
        (&["model.onnx", "-o", ""], "a value is required for '--output <DIR>' but none was supplied"),
        (&["model.onnx", "-o", "out", "--gpus", "0"], "invalid value '0' for '--gpus <N>': 0 is not in 1..=64"),
        (&["model.onnx", "-o", "out", "--gpus", "65"], "invalid value '65' for '--gpus <N>': 65 is not in 1..=64"),
        (&["model.onnx", "-o", "out", "--shapes", "image"], "expected NAME:SHAPE, for example input:1x3x224x224"),
        (&["model.onnx", "-o", "out", "--shapes", "image:1x3x32x32,image:1x3x64x64"], "hiosc: --shapes gives \"image\" two values"),
        (&["model.onnx", "-o", "out", "--shapes", "image:1x-3"], "\"1x-3\" is not a shape such as 1x3x224x224"),
        (
            &["model.onnx", "-o", "out", "--shapes", "image:1,3"],
            "invalid value 'image:1,3' for '--shapes <NAME:SHAPE>': expected NAME:SHAPE, for example input:1x3x224x224",
        ),
        (&["model.onnx", "--emit", "plans"], "[possible values: graph, costs, schedule, plan, kernels]"),
        (&["model.onnx", "-o", "out", "--kernels", "fast"], "[possible values: auto, binary, source]"),
        (&["model.onnx", "-o", "out", "--no-check", "--verify"], "the argument '--no-check' cannot be used with '--verify'"),
        (&["model.onnx", "-o", "out", "--fast"], "unexpected argument '--fast' found"),
    ];
    for (args, message) in cases {
        let said = bench.usage(args, 2);
        assert!(said.contains(message), "{args:?}: {said}");
    }
    bench.usage(&["model.onnx", "--emit", "plan", "--verify"], 2);
}

#[test]
fn unknown_names_list_the_known_ones() {
    let bench = bench();
    let known = |what: &str, name: &str| {
        let said = bench.failure(&compile(&[what, "none"]), 2);
        assert!(said.contains("`none`") && said.contains("; known: ") && said.contains(name), "{said}");
    };
    known("--device", "a40");
    known("--link", "nvlink");
    known("--link", "pcie4");
    let algorithms: Vec<&str> = Algorithm::ALL.iter().map(|a| a.name()).collect();
    known("--algorithm", &algorithms.join(", "));
    let rules: Vec<&str> = hiosc::fuse::RULES.iter().map(|r| r.name).collect();
    bench.refused(&compile(&["--no-fuse", "none"]), 2, &format!("no fuse rule \"none\"; the rules are {}", rules.join(", ")));
    bench.refused(&compile(&["--no-fuse", "free-views"]), 2, "the rule free-views cannot be left out: there is no kernel for a reshape");
    bench.refused(&compile(&["--shapes", "x:1x3"]), 2, "--shapes names \"x\", but the model's inputs are [\"image\"]");
}

#[test]
fn typing_mistakes_get_a_question() {
    let bench = bench();
    let cases: [(&[&str], &str); 6] = [
        (&["verfy", "out"], "there is no command or file `verfy`; did you mean `hiosc verify`?"),
        (&["Inspect"], "there is no command or file `Inspect`; did you mean `hiosc inspect`?"),
        (&["schedul", "model.onnx", "--json"], "there is no command or file `schedul`; did you mean `hiosc schedule`?"),
        (&["model.onnx", "-o", "out", "--device", "A10"], "unknown device `A10` (did you mean `a100`?); known: "),
        (&["model.onnx", "-o", "out", "--link", "pci4"], "unknown link `pci4` (did you mean `pcie4`?); known: "),
        (&["model.onnx", "-o", "out", "--algorithm", "hios"], "unknown scheduling algorithm `hios` (did you mean `hios-lp`?); known: "),
    ];
    for (args, message) in cases {
        let run = bench.run(args);
        assert_eq!(run.code, Some(2), "{run:?}");
        assert!(run.stderr.starts_with(&format!("hiosc: {message}")) && run.stderr.lines().count() == 1, "{run:?}");
    }
    // names in any case of letters, and the command that is the default
    let plan = bench.done(&["model.onnx", "--emit", "plan", "--device", "a40", "--algorithm", "scatter"]);
    assert_eq!(bench.done(&["compile", "model.onnx", "--emit", "plan", "--device", "A40", "--algorithm", "Scatter"]), plan);
    assert_eq!(bench.done(&["compile", "model.onnx", "--emit", "plan", "--num-gpus", "2", "--algorithm", "scatter"]), plan);
}

#[test]
fn gpus_of_this_machine_are_named_with_on() {
    let bench = bench();
    bench.done(&["model.onnx", "-o", "out", "--gpus", "2", "--algorithm", "scatter"]);
    if !hiosc::vgpu::compiler_present() {
        skipped!("SKIPPED: no C++ compiler, so no virtual GPUs");
        return;
    }
    let now = bench.run(&["verify", "out", "--virtual", "--on", "1,0"]);
    let former = bench.run(&["verify", "out", "--virtual", "--gpus", "1,0"]);
    assert_eq!((now.code, former.code, now.stderr.as_str()), (Some(0), Some(0), ""), "{now:?} {former:?}");
    assert!(former.stderr.starts_with("hiosc: note: --gpus is a number of GPUs; those of this machine are named with --on"), "{former:?}");
    assert!(bench.usage(&["verify", "out", "--on", "0", "--gpus", "0"], 2).contains("cannot be used with"));
}

#[test]
fn quiet_and_verbose() {
    let bench = bench();
    for args in [["model.onnx", "-o", "out", "-q"], ["-q", "model.onnx", "-o", "out"], ["--quiet", "compile", "model.onnx", "-oout"]] {
        assert_eq!(bench.done(&args), "");
    }
    assert!(bench.done(&["model.onnx", "--emit", "plan", "-q"]).starts_with("plan "), "what was asked for is printed");
    let run = bench.run(&["-v", "compile", "model.onnx", "-o", "out"]);
    let steps: Vec<&str> = run.stderr.lines().filter_map(|line| line.split(" s  ").nth(1)).collect();
    let passes = ["reading the model", "searching for a schedule", "planning", "computing the reference", "writing the crate"];
    assert_eq!((run.code, steps.as_slice()), (Some(0), passes.as_slice()), "{run:?}");
    assert!(bench.usage(&["model.onnx", "-o", "out", "-q", "-v"], 2).contains("cannot be used with"));
    assert_eq!(bench.run(&["-q", "nothing.onnx", "-o", "out"]).stderr, "hiosc: nothing.onnx: No such file or directory (os error 2)\n");
}

#[test]
fn json_has_a_format_number() {
    let bench = bench();
    let json = |args: &[&str]| serde_json::from_str::<serde_json::Value>(&bench.done(args)).expect("JSON");
    let inspected = json(&["inspect", "model.onnx", "--json"]);
    assert_eq!((&inspected["format"], &inspected["supported"]), (&1.into(), &true.into()), "{inspected:#}");
    let compiled = json(&compile(&["--json", "--device", "a40", "--gpus", "2"]));
    assert_eq!((&compiled["format"], &compiled["written"]["path"]), (&1.into(), &"out".into()), "{compiled:#}");
    assert_eq!(compiled["target"]["gpus"], serde_json::json!(["a40", "a40"]));
    assert_eq!(compiled["schedules"].as_array().map(Vec::len), Some(4));
    let launches = std::fs::read_to_string(bench.at("out/launches.jsonl")).expect("launches");
    let launched = launches.lines().filter(|line| line.starts_with("{\"launch\":")).count();
    assert_eq!(compiled["plan"]["launches"], launched, "{compiled:#}");
    if !hiosc::vgpu::compiler_present() {
        skipped!("SKIPPED: no C++ compiler, so no virtual GPUs");
        return;
    }
    let verified = json(&["verify", "out", "--virtual", "--json"]);
    assert_eq!((&verified["format"], &verified["passes"]), (&1.into(), &true.into()), "{verified:#}");
    assert_eq!(verified["outputs"][0]["name"], compiled_output(&bench), "{verified:#}");
    let both = json(&compile(&["--json", "--verify"]));
    assert_eq!(both["verify"]["passes"], true, "{both:#}");
}

/// The name of the model's output.
fn compiled_output(bench: &Bench) -> String {
    let inspected: serde_json::Value = serde_json::from_str(&bench.done(&["inspect", "model.onnx", "--json"])).expect("JSON");
    inspected["outputs"][0]["name"].as_str().expect("a name").to_string()
}

/// A reference whose element number 5 is wrong.
#[test]
fn a_failed_verification_names_the_worst_element() {
    let bench = bench();
    bench.done(&compile(&[]));
    if !hiosc::vgpu::compiler_present() {
        skipped!("SKIPPED: no C++ compiler, so no virtual GPUs");
        return;
    }
    let file = bench.at("out/check.safetensors");
    let bytes = fs::read(&file).expect("a reference");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("tensors");
    let name = compiled_output(&bench);
    let changed = tensors.tensors().into_iter().map(|(key, view)| {
        let mut data = view.data().to_vec();
        if key == format!("out:{name}") {
            data[5 * 4..6 * 4].copy_from_slice(&1e6f32.to_le_bytes());
        }
        (key, view.dtype(), view.shape().to_vec(), data)
    });
    let changed: Vec<_> = changed.collect();
    let shape = &changed.iter().find(|(key, ..)| key.starts_with("out:")).expect("an output").2;
    let elements: usize = shape.iter().product();
    let (last, before) = (5 % shape[shape.len() - 1], 5 / shape[shape.len() - 1]);
    let index = [vec![0; shape.len() - 2], vec![before, last]].concat();
    let views = changed
        .iter()
        .map(|(key, dtype, shape, data)| (key, safetensors::tensor::TensorView::new(*dtype, shape.clone(), data).expect("a tensor")));
    let wrong = safetensors::serialize(views, None).expect("a file");
    let hash = |bytes: &[u8]| sha256(&mut &bytes[..]).expect("bytes");
    for recorded in ["Cargo.toml", "src/lib.rs"].map(|path| bench.at("out").join(path)) {
        let text = fs::read_to_string(&recorded).expect("a text");
        fs::write(recorded, text.replace(&hash(&bytes), &hash(&wrong))).expect("written");
    }
    fs::write(&file, wrong).expect("written");

    let run = bench.run(&["verify", "out", "--virtual"]);
    let lines: Vec<&str> = run.stderr.lines().collect();
    assert_eq!((run.code, run.stdout.as_str(), lines.len()), (Some(1), "", 2), "{run:?}");
    assert_eq!(lines[0], "hiosc: verification failed: 1 of 1 outputs is wrong");
    let start = format!("  WRONG: {name}: 1 of {elements} elements differ by more than 1.00e3; worst at {index:?}: ");
    assert!(lines[1].starts_with(&start) && lines[1].ends_with(", expected 1000000"), "{run:?}");
    let run = bench.run(&["verify", "out", "--virtual", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!((run.code, &report["passes"], &report["outputs"][0]["wrong_elements"]), (Some(1), &false.into(), &1.into()), "{report:#}");
}

#[test]
fn a_stale_crate_is_recognised() {
    let bench = bench();
    let fresh = |args: &[&str], model: &str| {
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(bench.done(args), format!("check      out is what hiosc {version} makes of {model}\n"), "{args:?}");
    };
    bench.done(&compile(&["--device", "l4", "--gpus", "1", "--name", "net", "--emit", "plan"]));
    let before = bench.listing();
    fresh(&["--check", "out"], "model.onnx");
    assert_eq!(bench.done(&["-q", "--check", "out"]), "");
    fresh(&["model.onnx", "--check", "out"], "model.onnx");
    fresh(&["model.onnx", "--check", "out", "--name", "net", "--gpus", "1", "--device", "l4"], "model.onnx");
    // without a file that a repository need not have
    fs::rename(bench.at("out/weights.safetensors"), bench.at("weights")).expect("moved");
    fresh(&["--check", "out"], "model.onnx");
    fs::rename(bench.at("weights"), bench.at("out/weights.safetensors")).expect("moved");
    assert_eq!(bench.listing(), before, "nothing is written");

    let stale = |args: &[&str], message: &str| {
        let said = bench.failure(args, 1);
        assert!(said.starts_with("hiosc: out is stale: ") && said.contains(message), "{said}");
    };
    stale(&["model.onnx", "--check", "out", "--device", "a40", "--gpus", "1", "--name", "net"], "Cargo.toml (different)");
    let said = bench.failure(&["model.onnx", "--check", "out", "--gpus", "2"], 1);
    assert!(said.ends_with("; it records other options: model.onnx --gpus=1 --name=net --device=l4; compile it again\n"), "{said}");
    let message = "options without a model: name the model, too, or leave them out to use those that the crate records";
    bench.refused(&["--check", "out", "--device", "l4"], 2, message);
    fs::rename(bench.at("out/check.safetensors"), bench.at("check")).expect("moved");
    stale(&["--check", "out"], "check.safetensors (missing)");
    fs::rename(bench.at("check"), bench.at("out/check.safetensors")).expect("moved");
    let plan = fs::read(bench.at("out/src/plan.rs")).expect("a plan");
    fs::write(bench.at("out/src/plan.rs"), "// mine").expect("written");
    stale(&["--check", "out"], "1 file is not as hiosc 0.1.0 writes them for model.onnx: src/plan.rs (different); compile it again");
    fs::remove_file(bench.at("out/src/plan.rs")).expect("removed");
    stale(&["--check", "out"], "src/plan.rs (missing)");
    fs::write(bench.at("out/src/plan.rs"), plan).expect("written");
    bench.write("out/kernels/old.cu", "");
    stale(&["--check", "out"], "kernels/old.cu (no longer written)");
    fs::remove_file(bench.at("out/kernels/old.cu")).expect("removed");
    bench.write("out/notes.txt", "mine");
    fresh(&["--check", "out"], "model.onnx");

    // another model of the same name, and a model that is elsewhere
    let elsewhere = bench.at("models");
    fs::create_dir(&elsewhere).expect("a folder");
    fs::rename(bench.at("model.onnx"), elsewhere.join("model.onnx")).expect("moved");
    let said = bench.failure(&["--check", "out"], 2);
    assert!(said.starts_with("hiosc: model.onnx is not found; tried out/model.onnx, model.onnx: name the model before --check"), "{said}");
    fresh(&["models/model.onnx", "--check", "out"], "models/model.onnx");
    networks::inception().save(bench.path(), "model");
    stale(&["--check", "out"], "; compile it again");

    // costs and other files are recorded by name
    let costs = bench.done(&["models/model.onnx", "--emit", "costs", "--gpus", "1"]);
    bench.write("models/costs.txt", costs);
    bench.done(&["models/model.onnx", "-o", "models/out", "--costs", "models/costs.txt"]);
    let manifest = fs::read_to_string(bench.at("models/out/Cargo.toml")).expect("a manifest");
    assert!(manifest.contains("\ncommand = [\"model.onnx\",\"--costs=costs.txt\"]\n"), "{manifest}");
    bench.done(&["--check", "models/out"]);

    // odd names, and two files of one name
    fs::copy(bench.at("models/costs.txt"), bench.at("models/a=b.txt")).expect("a copy");
    fs::copy(bench.at("models/model.onnx"), bench.at("models/-it's \u{301}")).expect("a copy");
    bench.done(&["models/-it's \u{301}", "-o", "models/odd", "--costs", "models/a=b.txt", "--name", "odd"]);
    bench.done(&["--check", "models/odd"]);
    let manifest = fs::read_to_string(bench.at("models/odd/Cargo.toml")).expect("a manifest");
    assert!(manifest.contains("\ncommand = [\"-it's \u{301}\",\"--costs=a=b.txt\",\"--name=odd\"]\n"), "{manifest}");
    let readme = fs::read_to_string(bench.at("models/odd/README.md")).expect("a README");
    assert!(readme.contains("`hiosc '-it'\\''s \u{301}' --costs=a=b.txt --name=odd` made the crate"), "{readme}");

    bench.refused(&["--check", "models"], 2, "models is not a folder that hiosc wrote: it has no Cargo.toml");
    assert!(bench.usage(&["--check", "out", "-o", "out"], 2).contains("cannot be used with"));
}

#[test]
fn the_cache_is_shown_and_cleared() {
    let bench = bench();
    let cache = bench.at("cache");
    let run = |args: &[&str]| {
        let output = bench.command(args).env("HIOSC_CACHE", &cache).output().expect("hiosc starts");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    assert!(run(&["cache"]).contains("0.0 MiB in all"));
    let kernels = cache.join("kernels-0123456789abcdef01234567");
    fs::create_dir_all(&kernels).expect("a folder");
    fs::write(kernels.join("batch_000.so"), vec![0; 3 << 20]).expect("written");
    // none of these is hiosc's
    let foreign = ["notes.txt", "target/a", "images/cat/cat.jpg", "durations.json", "kernels-src/a.c", "vgpu-0123456789abcdef0123456f/a.c"];
    for file in foreign {
        fs::create_dir_all(cache.join(file).parent().expect("a folder")).expect("a folder");
        fs::write(cache.join(file), "mine").expect("written");
    }
    let shown = run(&["cache"]);
    assert!(shown.contains("   3.0 MiB kernels, compiled for virtual GPUs\n") && shown.contains("   3.0 MiB in all"), "{shown}");
    assert!(run(&["cache", "clear"]).starts_with("deleted    3.0 MiB in "));
    assert!(!kernels.exists() && foreign.iter().all(|file| cache.join(file).exists()), "only what is hiosc's is deleted");
}

#[test]
fn completions_and_manual_pages_know_the_commands() {
    let bench = bench();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = bench.done(&["completions", shell]);
        assert!(script.contains("verify") && script.contains("algorithm"), "{shell}: {script}");
    }
    assert!(bench.done(&["man"]).contains("hiosc\\-verify"));
    assert!(bench.done(&["man", "verify"]).contains("\\-\\-seeds"));
    assert!(bench.failure(&["man", "verfy"], 2).starts_with("hiosc: unknown command `verfy` (did you mean `verify`?); known: "));
}

/// A module for another build system: what a build script makes, and a rule for make.
#[test]
fn a_module_comes_with_the_list_of_what_was_read() {
    let bench = bench();
    let costs = bench.done(&["model.onnx", "--emit", "costs", "--gpus", "1"]);
    bench.write("costs of a.txt", costs);
    let said = bench.done(&["model.onnx", "--module", "net", "-o", "gen", "--costs", "costs of a.txt", "--depfile", "gen.d", "--no-check"]);
    assert!(said.ends_with("wrote      gen/net\n"), "{said}");
    let read = |name: &str| std::fs::read_to_string(bench.at(name)).expect("written");
    assert_eq!(read("gen.d"), "gen/net.rs: model.onnx costs\\ of\\ a.txt\n");
    assert!(read("gen/net.rs").contains("pub mod net;"));
    assert!(read("gen/net/src/lib.rs").contains("use hiosc::runtime;"));
    for absent in ["Cargo.toml", "build.rs", "src/runtime", "src/main.rs"] {
        assert!(!bench.at("gen/net").join(absent).exists(), "{absent}");
    }
    let time = |name: &str| std::fs::metadata(bench.at(name)).and_then(|m| m.modified()).expect("a time");
    let before = [time("gen/net.rs"), time("gen/net/src/plan.rs")];
    bench.done(&["model.onnx", "--module", "net", "-o", "gen", "--costs", "costs of a.txt", "--no-check"]);
    assert_eq!([time("gen/net.rs"), time("gen/net/src/plan.rs")], before, "nothing changed, and Cargo would build it anew");
    bench.write("gen/other.rs", "// mine");
    bench.refused(&["model.onnx", "--module", "other", "-o", "gen"], 2, "hiosc did not write gen/other.rs: choose another folder or name");
    assert!(bench.usage(&["model.onnx", "--module", "net", "-o", "gen", "--name", "x"], 2).contains("cannot be used with"));
    assert!(bench.usage(&["model.onnx", "--emit", "plan", "--depfile", "x"], 2).contains("--output"));
}

#[test]
fn emit_prints_each_result_and_writes_nothing() {
    let bench = bench();
    let before = bench.listing();
    let first_words = [("graph", "graph model: "), ("costs", "costs"), ("schedule", "schedule "), ("plan", "plan of model: ")];
    let mut all = String::new();
    for (pass, begin) in first_words {
        let text = bench.done(&["model.onnx", "--emit", pass]);
        assert!(text.starts_with(begin), "{text}");
        all += &text;
    }
    // in the order of the passes, not of the arguments
    assert_eq!(bench.done(&["model.onnx", "--emit", "plan,schedule", "--emit", "graph,costs"]), all);
    assert_eq!(bench.listing(), before);
    // with an output, before the summary
    let both = bench.done(&compile(&["--emit", "graph"]));
    assert!(both.starts_with("graph model: ") && both.ends_with("wrote      out\n"), "{both}");
}

#[test]
fn a_reader_that_stops_reading_has_seen_enough() {
    let bench = bench();
    let mut child = bench.command(&["model.onnx", "--emit", "graph,costs,schedule,plan"]);
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("hiosc starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("hiosc ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), said.as_ref()), (Some(0), ""));
}

#[test]
fn algorithms_and_rules_can_be_chosen() {
    let bench = bench();
    for algorithm in Algorithm::ALL {
        let text = bench.done(&["model.onnx", "--emit", "schedule", "--algorithm", algorithm.name()]);
        assert!(text.starts_with(&format!("schedule {algorithm}\n")), "{text}");
    }
    let operators = |more: &[&str]| {
        let text = bench.done(&[&["model.onnx", "--emit", "graph"], more].concat());
        text.lines().filter(|line| line.starts_with('%')).count()
    };
    assert!(
        operators(&["--no-fuse", "epilogue", "--no-fuse", "elementwise-chain"]) > operators(&["--no-fuse", "epilogue"]).min(operators(&[]))
    );
    let one = bench.done(&["model.onnx", "--emit", "plan", "--gpus", "1", "--algorithm", "scatter"]);
    assert!(one.starts_with("plan of model: gpus 1, "), "{one}");
    // Options of the algorithms: without grouping, no stage has two operators.
    let widest = |more: &[&str]| {
        let mut args = vec!["model.onnx", "--emit", "schedule", "--algorithm", "greedy"];
        args.extend(more);
        let schedule = bench.done(&args);
        schedule.split("  stage ").skip(1).map(|stage| stage.matches('%').count()).max()
    };
    assert_eq!((widest(&[]), widest(&["--no-grouping"])), (Some(2), Some(1)));
    assert!(bench.usage(&compile(&["--effort", "much"]), 2).contains("unknown effort `much`"));
}

#[test]
fn shapes_replace_what_the_model_says() {
    let bench = bench();
    let text = bench.done(&["model.onnx", "--emit", "graph", "--shapes", "image:2x3x64x64"]);
    assert!(text.contains("\ninput  t0 f32 2x3x64x64  \"image\"\n"), "{text}");
}

#[test]
fn timings_name_every_pass() {
    let bench = bench();
    let passes = |said: &str| -> Vec<String> {
        said.lines().filter_map(|l| l.strip_prefix("time ")).filter_map(|l| Some(l.split_whitespace().next()?.to_string())).collect()
    };
    let planned = ["import", "fuse", "cost", "schedule", "plan"];
    // standard output holds the text form, and may go to a file
    let run = bench.run(&["model.onnx", "--emit", "graph", "--timings"]);
    assert_eq!(run.stdout, bench.done(&["model.onnx", "--emit", "graph"]));
    assert_eq!(passes(&run.stderr), [&planned[..], &["all"]].concat());
    let all = [&planned[..], &["kernels", "reference", "emit", "all"]].concat();
    assert_eq!(passes(&bench.done(&compile(&["--timings"]))), all);
}

#[test]
fn no_check_leaves_the_reference_out() {
    let bench = bench();
    bench.done(&compile(&["--no-check"]));
    assert!(!bench.at("out/check.safetensors").exists());
    bench.refused(
        &["verify", "out"],
        2,
        "out has no check.safetensors (it was compiled with --no-check, or the file is lost): give --reference FILE.npz",
    );
}

#[test]
fn kernels_without_nvrtc() {
    let bench = bench();
    let missing = bench.at("no-nvrtc.so").display().to_string();
    // after the file's name comes the dynamic linker's text
    let said = bench.failure(&compile(&["--kernels", "binary"]), 1);
    let begin = format!("hiosc: NVRTC: HIOSC_NVRTC is set, but that file cannot be used: {missing}: ");
    assert!(said.starts_with(&begin) && said.matches(&missing).count() == 1, "{said}");
    bench.write("no-nvrtc.so", "not a library");
    let said = bench.failure(&compile(&["--kernels", "binary"]), 1);
    assert!(said.starts_with(&begin), "{said}");
    // the default does not need NVRTC, and says why there is none
    let said = bench.done(&compile(&[]));
    assert!(said.contains("shipped as sources") && said.contains("HIOSC_NVRTC is set, but that file cannot be used"), "{said}");
    let said = bench.done(&compile(&["--kernels", "source"]));
    assert!(said.contains("shipped as sources") && said.contains("as requested"), "{said}");
}

/// NVRTC opens its builtins by name. They are found beside it, also if no run path leads there.
#[test]
fn nvrtc_without_a_run_path() {
    let named = ["HIOSC_NVRTC", "HIOSC_TEST_NVRTC"].into_iter().filter_map(std::env::var_os).filter(|file| !file.is_empty());
    let files: Vec<PathBuf> = named.map(PathBuf::from).collect();
    if files.is_empty() {
        return skipped!("SKIPPED nvrtc_without_a_run_path: neither HIOSC_NVRTC nor HIOSC_TEST_NVRTC names a file");
    }
    for file in files {
        let bench = bench();
        let mut bytes = fs::read(&file).expect("a readable NVRTC");
        let run_path = b"$ORIGIN";
        let positions: Vec<usize> = (0..bytes.len() - run_path.len()).filter(|&at| bytes[at..].starts_with(run_path)).collect();
        positions.into_iter().for_each(|at| bytes[at..at + run_path.len()].copy_from_slice(b"/nobody"));
        bench.write("no-nvrtc.so", bytes); // the file that `HIOSC_NVRTC` names here
        let run = || {
            let mut command = bench.command(&compile(&["--kernels", "binary"]));
            let output = command.env("HIOSC_CACHE", bench.at("cache")).output().expect("hiosc starts");
            (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        // Unless the dynamic linker finds other ones.
        let (done, said) = run();
        let explained = said.contains("NVRTC_ERROR_BUILTIN_OPERATION_FAILURE") && said.contains("It must be in the folder of NVRTC (");
        assert!(done || explained, "{}: {said}", file.display());
        for entry in fs::read_dir(file.parent().expect("a folder")).expect("a readable folder") {
            let builtins = entry.expect("a readable folder").path();
            let name = builtins.file_name().expect("a name").to_string_lossy().into_owned();
            if name.starts_with("libnvrtc-builtins.so.") {
                fs::copy(&builtins, bench.at(&name)).expect("a copy");
            }
        }
        let (done, said) = run();
        assert!(done, "{}: {said}", file.display());
    }
}

#[test]
fn other_peoples_folders_are_refused() {
    let bench = bench();
    fs::create_dir(bench.at("theirs")).expect("a folder");
    bench.write("theirs/precious.txt", "data");
    bench.refused(&["model.onnx", "-o", "theirs"], 2, "theirs is not empty and hiosc did not write it: choose another folder");
    bench.refused(&["model.onnx", "-o", "."], 2, ". is not empty and hiosc did not write it: choose another folder");
    // a Cargo.toml alone does not make it hiosc's
    bench.write("theirs/Cargo.toml", "[package]\nname = \"theirs\"\n");
    bench.refused(&["model.onnx", "-o", "theirs"], 2, "theirs is not empty and hiosc did not write it: choose another folder");
    // the folder is checked before the model is read
    bench.refused(&["nothing.onnx", "-o", "theirs"], 2, "theirs is not empty and hiosc did not write it: choose another folder");
    // an empty one is accepted
    fs::create_dir(bench.at("empty")).expect("a folder");
    bench.done(&["model.onnx", "-o", "empty"]);
    assert!(bench.at("empty/Cargo.toml").exists());
}

/// Outputs where nobody can write, not even root.
#[test]
fn unwritable_outputs() {
    let bench = bench();
    bench.write("file", "data");
    bench.refused(&["model.onnx", "-o", "file"], 2, "file is not a folder: choose another folder");
    bench.refused(&["model.onnx", "-o", "file/out"], 1, "file/out: Not a directory (os error 20)");
    if cfg!(target_os = "linux") {
        bench.refused(&["model.onnx", "-o", "/proc/out"], 1, "/proc: cannot create a folder there: No such file or directory (os error 2)");
    }
}

#[test]
fn verify_needs_a_folder_that_hiosc_wrote() {
    let bench = bench();
    bench.refused(&["verify", "nowhere"], 2, "nowhere is not a folder that hiosc wrote: it has no Cargo.toml");
    fs::create_dir(bench.at("theirs")).expect("a folder");
    bench.write("theirs/Cargo.toml", "[package]\nname = \"theirs\"\n");
    bench.refused(&["verify", "theirs"], 2, "theirs is not a folder that this hiosc wrote: its Cargo.toml lacks hiosc's metadata");
    bench.done(&compile(&[]));
    bench.refused(&["verify", "out", "--reference", "none.npz"], 1, "none.npz: No such file or directory (os error 2)");
    bench.write("bad.npz", "not an archive");
    let said = bench.failure(&["verify", "out", "--reference", "bad.npz"], 1);
    assert!(said.starts_with("hiosc: bad.npz: "), "{said}");
    assert!(bench.usage(&["verify", "out", "--seeds", "0"], 2).contains("invalid value '0' for '--seeds <SEEDS>'"));
}

/// In another folder, at another time, and on one processor.
#[test]
fn the_same_call_gives_the_same_bytes() {
    let bench = bench();
    bench.done(&["model.onnx", "-o", "one"]);
    fs::create_dir(bench.at("elsewhere")).expect("a folder");
    fs::copy(bench.at("model.onnx"), bench.at("elsewhere/model.onnx")).expect("a copy");
    let mut command = bench.command(&[""; 0]);
    let taskset = std::process::Command::new("taskset").arg("--version").output().is_ok();
    if taskset {
        let variables: Vec<_> = command.get_envs().map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned))).collect();
        command = std::process::Command::new("taskset");
        command.args(["-c", "0", env!("CARGO_BIN_EXE_hiosc")]);
        command.envs(variables.into_iter().filter_map(|(name, value)| Some((name, value?))));
    } else {
        skipped!("SKIPPED: no program `taskset`, so the number of processors stays the same");
    }
    command.args(["model.onnx", "-o", "../two"]).current_dir(bench.at("elsewhere"));
    let output = command.output().expect("hiosc starts");
    assert!(output.status.success(), "{output:?}");
    let files = |folder: &str| -> Vec<(String, Vec<u8>)> {
        let root = bench.at(folder);
        let below = |path: &std::path::PathBuf| path.strip_prefix(&root).ok().filter(|_| path.is_file()).map(|p| p.display().to_string());
        bench.listing().iter().filter_map(|p| Some((below(p)?, fs::read(p).expect("a file")))).collect()
    };
    let (one, two) = (files("one"), files("two"));
    assert!(one.len() > 10);
    assert_eq!(one.iter().map(|(name, _)| name).collect::<Vec<_>>(), two.iter().map(|(name, _)| name).collect::<Vec<_>>());
    for ((name, one), (_, two)) in one.iter().zip(&two) {
        assert!(one == two, "{name} differs");
    }
}

#[test]
fn files_with_costs_and_topologies() {
    let bench = bench();
    let with = |flag: &'static str| ["model.onnx", "-o", "out", flag, "file.txt"];
    for flag in ["--costs", "--topology"] {
        bench.refused(&with(flag), 1, "file.txt: No such file or directory (os error 2)");
    }
    bench.write("file.txt", "garbage\n");
    let said = bench.run(&with("--costs")).stderr;
    assert!(said.starts_with("hiosc: file.txt: costs, line 1: `garbage`"), "{said}");
    let said = bench.run(&with("--topology")).stderr;
    assert!(said.starts_with("hiosc: ") && said.contains("file.txt, line 1: ") && said.contains("`garbage`"), "{said}");
    assert!(bench.usage(&["model.onnx", "-o", "out", "--topology", "file.txt", "--gpus", "2"], 2).contains("cannot be used with"));
    // a table that hiosc printed is read back: the same schedule from it
    bench.write("costs.txt", bench.done(&["model.onnx", "--emit", "costs"]));
    let schedule = bench.done(&["model.onnx", "--emit", "schedule"]);
    assert_eq!(bench.done(&["model.onnx", "--emit", "schedule", "--costs", "costs.txt"]), schedule);
}

/// The planning arguments are the same for a crate and for plans that run in this process.
#[test]
fn plans_in_this_process_take_what_a_compilation_takes() {
    let bench = bench();
    for command in [&["bench", "model.onnx"][..], &["check", "model.onnx", "--reference", "none.npz"]] {
        let with = |more: &[&'static str]| [command, more].concat();
        assert!(bench.failure(&with(&["--link", "none"]), 2).contains("unknown link `none`"));
        bench.refused(&with(&["--topology", "file.txt"]), 1, "file.txt: No such file or directory (os error 2)");
        assert!(bench.usage(&with(&["--topology", "file.txt", "--gpus", "2"]), 2).contains("cannot be used with"));
        bench.refused(&with(&["--constant", "image=none.npy"]), 1, "none.npy: No such file or directory (os error 2)");
        assert!(bench.failure(&with(&["--no-fuse", "none"]), 2).contains("no fuse rule \"none\""));
    }
    bench.refused(
        &["profile", "model.onnx", "-o", "costs.txt", "--constant", "image=none.npy"],
        1,
        "none.npy: No such file or directory (os error 2)",
    );
}
