//! The verifier of generated code: faults planted in the text of a crate, one at a time, are found,
//! and the message names the step.
//!
//! The crate is a small model on two GPUs with copies, events, packed weights, workspaces, counters
//! and a launch of two operators.

use crate::support::small::{self, Compiled};
use hiosc::emit::{self, Crate, CrateOptions, EmitInput, Form, verify};
use hiosc::program::{CompiledImage, Shipped};

const PLAN: &str = "src/plan.rs";
const BUFFERS: &str = "src/buffers.rs";
const KERNELS: &str = "src/kernels.rs";

/// The model with an image for each kernel.
fn compiled() -> (Compiled, Shipped) {
    let c = small::grouped(2, 1, small::by_hand);
    let image =
        |name: &str, arch: &str| CompiledImage { kernel: name.into(), arch: arch.into(), data: format!("{name} for {arch}").into() };
    let images = c.shipped.kernels.iter().map(|k| (k.name.clone(), vec![image(&k.name, "sm_86"), image(&k.name, "compute_80")])).collect();
    let shipped = Shipped { kernels: c.shipped.kernels.clone(), images, nvrtc: Some((12, 8)), note: None };
    (c, shipped)
}

fn emitted(c: &Compiled, shipped: &Shipped, form: Form) -> Crate {
    let program = c.program_with(shipped);
    let (model_file, model_hash, options) = ("small.onnx".into(), "0".repeat(64), &CrateOptions::default());
    let input = EmitInput { program: &program, model_file, model_hash, onnx_nodes: 11, check: None, form, options, command: None };
    emit::emit(&input).expect("a crate, which is right")
}

/// The text of a file.
fn text<'a>(krate: &'a Crate, path: &str) -> &'a str {
    std::str::from_utf8(&krate.files[path]).expect("text")
}

/// What the verifier says of the crate with this text in place of a file's.
fn said(c: &Compiled, shipped: &Shipped, krate: &Crate, path: &str, text: String) -> Option<String> {
    let mut krate = krate.clone();
    krate.files.insert(path.into(), text.into_bytes());
    verify(&c.graph, &c.costs, &c.plan, shipped, &krate).err().map(|error| error.to_string())
}

/// `text` with the one `old` after `after` replaced.
fn replaced(text: &str, after: &str, old: &str, new: &str) -> String {
    let start = text.find(after).unwrap_or_else(|| panic!("no {after} in:\n{text}"));
    let at = start + text[start..].find(old).unwrap_or_else(|| panic!("no {old} after {after} in:\n{text}"));
    format!("{}{new}{}", &text[..at], &text[at + old.len()..])
}

/// `text` with the first lines after `after` that contain `a` and `b` exchanged.
fn exchanged(text: &str, after: &str, a: &str, b: &str) -> String {
    let (before, text) = text.split_at(text.find(after).unwrap_or_else(|| panic!("no {after} in:\n{text}")));
    let mut lines: Vec<&str> = text.lines().collect();
    let at = |part: &str| lines.iter().position(|line| line.contains(part)).unwrap_or_else(|| panic!("no {part} in:\n{text}"));
    let (a, b) = (at(a), at(b));
    lines.swap(a, b);
    format!("{before}{}", lines.join("\n"))
}

#[test]
fn sound_code_is_accepted() {
    let (c, shipped) = compiled();
    for form in [Form::Crate, Form::Module("small_net".into())] {
        emitted(&c, &shipped, form.clone());
        emitted(&c, &c.shipped, form);
    }
}

/// A fault: what it is called, the file, its text with the fault, and what the message says.
type Fault = (&'static str, &'static str, String, [&'static str; 2]);

/// Faults of the calls.
fn wrong_calls(plan: &str) -> Vec<Fault> {
    let edit = |name, after, old, new, says| (name, PLAN, replaced(plan, after, old, new), says);
    const WAIT: &str = "wait of stream 2 of GPU 0 for event 0, recorded after the launch of `/stem` on GPU 0";
    const LAUNCH: &str = "step 9 (launch of `/fire/deep` on GPU 1): ";
    const COPY: &str = "step 5 (copy of `/stem_output_0` from GPU 0 to GPU 1): ";
    let stem = "        &[\n            gpu0::DATA_0,";
    let bias = "            weights0::FIRE_LEFT_BIAS,";
    vec![
        edit("a wait is left out", "", "x.wait(GPU0_TO_GPU1, E0)?;", "", [WAIT, "`gpu0_stage0` in src/plan.rs has a copy of"]),
        edit(
            "a record is left out",
            "",
            "x.record(E1, GPU0_TO_GPU1)?;",
            "",
            ["step 6 (record of event 1", "has a launch of grouped_c8k8w1_c8k8w3"],
        ),
        edit("the last wait is left out", "", "x.wait(GPU0_COMPUTE0, E5)?;", "", ["step 26 (wait of stream 0", "has only 26 calls"]),
        edit(
            "a wait for another event",
            "",
            "x.wait(GPU0_TO_GPU1, E0)",
            "x.wait(GPU0_TO_GPU1, E2)",
            [WAIT, "event 0, but `gpu0_stage0` in src/plan.rs has event 2"],
        ),
        edit(
            "a wait more",
            "x.wait(GPU0_COMPUTE0, E5)?;",
            "    Ok(())",
            "x.wait(GPU0_COMPUTE0, E0)?; Ok(())",
            ["step 27: the plan ends", "a wait of stream 0 for event 0"],
        ),
        edit(
            "a statement of another kind",
            "",
            "x.wait(GPU0_TO_GPU1, E0)?;",
            "let _ = x.wait(GPU0_TO_GPU1, E0);",
            [WAIT, "has statement 3, which is no call"],
        ),
        edit(
            "a call that is compiled under a condition",
            "",
            "x.wait(GPU0_TO_GPU1, E0)?;",
            "#[cfg(test)] x.wait(GPU0_TO_GPU1, E0)?;",
            [WAIT, "has statement 3"],
        ),
        edit(
            "a stream of another number",
            "",
            "GPU0_TO_GPU1: Stream = Stream(2)",
            "GPU0_TO_GPU1: Stream = Stream(4)",
            [WAIT, "stream 2, but `gpu0_stage0` in src/plan.rs has stream 4"],
        ),
        edit(
            "an event of another number",
            "",
            "E0: Event = Event(0)",
            "E0: Event = Event(5)",
            ["step 3 (record of event 0 on stream 0", "has event 5"],
        ),
        edit(
            "a wrong stream",
            "fn gpu0_stage4",
            "GPU0_COMPUTE0",
            "GPU0_COMPUTE1",
            ["step 18 (launch of `/scaled` on GPU 0): ", "has stream 1"],
        ),
        edit("another kernel", "fn gpu1_stage0", "&DEMANDING_C8K8W3", "&DEMANDING_C8K8W1", [LAUNCH, "launches demanding_c8k8w1"]),
        edit("an argument is left out", bias, bias, "", ["step 7 (launch of `/fire/left` and `/fire/right` on GPU 0): ", "has 9"]),
        edit(
            "a constant that does not exist",
            "fn gpu1_stage0",
            "gpu1::STEM_OUTPUT_0,",
            "gpu1::STEM,",
            [LAUNCH, "a call of `launch` whose arguments"],
        ),
        edit(
            "a copy to another buffer",
            "x.copy(",
            "gpu1::STEM_OUTPUT_0,",
            "gpu1::FIRE_DEEP_OUTPUT_0,",
            [COPY, "the destination is bytes 0..8192"],
        ),
        edit("a copy to its source", "x.copy(", "gpu1::STEM_OUTPUT_0,", "gpu0::STEM_OUTPUT_0,", [COPY, "`gpu0::STEM_OUTPUT_0`"]),
        edit("a copy from another buffer", "x.copy(", "gpu0::STEM_OUTPUT_0,", "gpu0::DATA_0,", [COPY, "the source is bytes 16384..24576"]),
        edit(
            "a download from another region",
            "x.download(",
            "gpu0::OUT_1_OUTPUT_0",
            "gpu0::TYPE_OUTPUT_0",
            ["step 23 (download of output `/out/1_output_0` from GPU 0): ", "the source is"],
        ),
        edit(
            "a download of another output",
            "",
            "x.download(GPU0_COMPUTE0, 0",
            "x.download(GPU0_COMPUTE0, 1",
            ["step 23 (download", "has output 1"],
        ),
        edit(
            "an upload of another input",
            "",
            "x.upload(GPU0_COMPUTE0, 0",
            "x.upload(GPU0_COMPUTE0, 1",
            ["step 0 (upload of input `data:0` to GPU 0): ", "has input 1"],
        ),
        edit(
            "a function is not called",
            "",
            "    gpu0_stage4(x)?;\n",
            "",
            ["step 18 (launch of `/scaled` on GPU 0): ", "`gpu0_stage5` in src/plan.rs"],
        ),
        edit("a function is called twice", "", "    end(x)?;\n", "    begin(x)?;\n    end(x)?;\n", ["step 23: `begin`", "is called twice"]),
        edit("another function is called", "", "    end(x)?;\n", "    ending(x)?;\n", ["step 23: `ending`", "does not exist"]),
        edit("an early return", stem, "    )?;\n", "    )?; return Ok(());\n", ["step 3 (record of event 0", "has statement 2"]),
        (
            "operands are swapped",
            PLAN,
            exchanged(plan, "fn gpu1_stage0", "gpu1::STEM_OUTPUT_0,", "weights1::FIRE_DEEP_WEIGHT,"),
            [LAUNCH, "argument 0, which reads `/stem_output_0`, is bytes 0..8192 of the arena"],
        ),
        (
            "results are swapped",
            PLAN,
            exchanged(plan, "fn gpu0_stage1", "gpu0::FIRE_LEFT_OUTPUT_0,", "gpu0::FIRE_RIGHT_OUTPUT_0,"),
            ["step 7 (launch of `/fire/left` and", "argument 6, which writes `/fire/left_output_0`,"],
        ),
        (
            "weights of a launch are swapped",
            PLAN,
            exchanged(plan, "", "weights0::FIRE_LEFT_WEIGHT,", "weights0::FIRE_RIGHT_WEIGHT,"),
            ["step 7 (launch of `/fire/left` and", "argument 1, which reads `/fire/left.weight`,"],
        ),
        (
            "a step before another",
            PLAN,
            exchanged(plan, "", "x.record(E0", "x.wait(GPU0_TO_GPU1"),
            ["step 3 (record of event 0 on stream 0 of GPU 0", "has a wait of stream 2 for event 0 instead"],
        ),
        (
            "two functions are swapped",
            PLAN,
            exchanged(plan, "", "    gpu0_stage1(x)?;", "    gpu1_stage0(x)?;"),
            ["step 7 (launch of `/fire/left` and `/fire/right` on GPU 0): ", "`gpu1_stage0` in src/plan.rs has a wait"],
        ),
    ]
}

/// Faults of the tables of `plan.rs`.
fn wrong_layout(plan: &str) -> Vec<Fault> {
    let edit = |name, old, new, says| (name, PLAN, replaced(plan, "", old, new), says);
    vec![
        edit(
            "an arena is too small",
            "arena_bytes: 79872",
            "arena_bytes: 79616",
            ["step 1 (upload of input `type` to GPU 0): ", "the arena of GPU 0 is 79872"],
        ),
        edit(
            "a weights region is too small",
            "weights_bytes: 49664",
            "weights_bytes: 49408",
            ["step 10 (launch of `/fire/deeper` on GPU 1): ", "the weights of GPU 1"],
        ),
        edit(
            "weights of another GPU",
            "weights: UPLOADS1",
            "weights: UPLOADS0",
            ["step 9 (launch of `/fire/deep` on GPU 1): ", "`11:/fire/deep.weight, tap-major 1x8x8x9` of GPU 1"],
        ),
        edit(
            "counters are not zeroed",
            "counters: COUNTERS1",
            "counters: &[]",
            ["step 9 (launch of `/fire/deep` on GPU 1): ", "nothing is zeroed"],
        ),
        edit(
            "an event of another GPU",
            "events: &[0, 0, 1,",
            "events: &[0, 1, 1,",
            ["step 6 (record of event 1 on stream 2", "the GPU of event 1 is 0 in the plan"],
        ),
        edit(
            "a stream of another GPU",
            "&[\n        StreamLayout::Compute { gpu: 0 }",
            "&[\n        StreamLayout::Compute { gpu: 1 }",
            ["step 0 (upload", "stream 0 is"],
        ),
        edit("a copy stream to another GPU", "Copy { gpu: 0, to: 1", "Copy { gpu: 0, to: 0", ["step 4 (wait of stream 2", "stream 2 is"]),
        edit("too little staging", "to: 1, largest: 8192", "to: 1, largest: 4096", ["step 4 (wait of stream 2", "largest: 4096"]),
        edit(
            "another origin stream",
            "origin_stream: GPU0_COMPUTE0",
            "origin_stream: GPU0_COMPUTE1",
            ["step 0 (upload", "the origin stream is 0 in the plan, but 1"],
        ),
        edit(
            "another shape",
            "shape: &[1, 3, 16, 16]",
            "shape: &[1, 3, 16, 8]",
            ["step 0 (upload of input `data:0`", "input 0 of the model is"],
        ),
        edit(
            "another type",
            "name: \"Type_output_0\", dtype: DType::F32",
            "name: \"Type_output_0\", dtype: DType::F16",
            ["step 24 (download", "output 1 of the model is"],
        ),
        edit("an older driver", "driver: 12000", "driver: 11000", ["the driver", "11000"]),
        edit("other kernels", "kernels: KERNELS", "kernels: &[]", ["`LAYOUT.kernels`", "src/plan.rs"]),
        edit("a name of something else", "super::kernels::*", "super::kernels::KERNELS as OTHER", ["`use`", "src/plan.rs"]),
        edit("a part is compiled under a condition", "/// The fork", "#[cfg(test)]\n/// The fork", ["`begin`", "src/plan.rs"]),
    ]
}

/// Faults of `buffers.rs`.
fn wrong_memory(buffers: &str) -> Vec<Fault> {
    let edit = |name, after, old, new, says| (name, BUFFERS, replaced(buffers, after, old, new), says);
    const STEM: &str = "step 2 (launch of `/stem` on GPU 0): ";
    const DEEP: &str = "step 9 (launch of `/fire/deep` on GPU 1): ";
    let exchange = |name, a, b, says| (name, BUFFERS, exchanged(buffers, "", a, b), says);
    vec![
        edit(
            "an offset",
            "STEM_WORKSPACE",
            "arena(0, 8192)",
            "arena(256, 8192)",
            [STEM, "argument 4, which writes workspace of `/stem`, is bytes 0..8192 of the arena of GPU 0"],
        ),
        edit(
            "a size",
            "STEM_OUTPUT_0",
            "arena(16384, 8192)",
            "arena(16384, 4096)",
            [STEM, "bytes 16384..20480 of the arena of GPU 0 in src/buffers.rs"],
        ),
        edit(
            "an arena of another GPU",
            "",
            "Region::arena(1,",
            "Region::arena(0,",
            ["step 5 (copy", "bytes 0..8192 of the arena of GPU 0 in"],
        ),
        edit(
            "an arena for weights",
            "",
            "Region::weights(0,",
            "Region::arena(0,",
            [STEM, "which reads `/stem.weight`, is bytes 0..16384 of the weights of GPU 0"],
        ),
        edit("offset and size are swapped", "", "arena(0, offset, bytes)", "arena(0, bytes, offset)", ["`gpu0::arena`", "src/buffers.rs"]),
        edit(
            "an upload is left out",
            "",
            "    (9, weights1::FIRE_DEEPER_BIAS),\n",
            "",
            ["step 10 (launch of `/fire/deeper` on GPU 1): ", "`15:/fire/deeper.bias` of GPU 1 is not uploaded"],
        ),
        edit(
            "an upload more",
            "(9, weights1::FIRE_DEEPER_BIAS)",
            ",\n];",
            ", (0, weights1::FIRE_DEEPER_BIAS)];",
            ["`weights1::FIRE_DEEPER_BIAS` is uploaded", "no step reads it"],
        ),
        edit(
            "an upload from another tensor",
            "",
            "(6, weights1::",
            "(4, weights1::",
            [DEEP, "is uploaded from `8:/fire/right.weight, tap-major 1x8x8x9`"],
        ),
        edit("an upload from nowhere", "", "(6, weights1::", "(60, weights1::", [DEEP, "from number 60"]),
        edit(
            "a tensor that is not packed",
            "pub const WEIGHTS",
            "8:/fire/right.weight, tap-major 1x8x8x9",
            "8:/fire/right.weight",
            ["step 7 (launch", "is uploaded from `8:/fire/right.weight`"],
        ),
        edit("a counter is not zeroed", "", "    gpu0::STEM_COUNTERS,\n", "", [STEM, "the counters of `/stem` are bytes 40960..49152"]),
        edit(
            "more is zeroed",
            "COUNTERS0",
            "    gpu0::FIRE_LEFT_COUNTERS,",
            "    gpu0::FIRE_LEFT_COUNTERS, gpu0::DATA_0,",
            ["`gpu0::DATA_0` is zeroed", "holds no counters"],
        ),
        edit("a constant twice", "", "pub const TYPE:", "pub const DATA_0:", ["define `gpu0::DATA_0`", "src/buffers.rs"]),
        exchange(
            "weights of uploads are swapped",
            "(7, weights1::FIRE_DEEP_BIAS)",
            "(9, weights1::FIRE_DEEPER_BIAS)",
            [DEEP, "the weight `12:/fire/deep.bias` of GPU 1"],
        ),
        exchange(
            "keys are swapped",
            "\"3:/stem.bias\"",
            "\"6:/fire/left.bias\"",
            [STEM, "the weight `3:/stem.bias` of GPU 0 is uploaded from `6:/fire/left.bias`"],
        ),
    ]
}

/// Faults of `kernels.rs`.
fn wrong_kernels(kernels: &str) -> Vec<Fault> {
    let edit = |name, after, old, new, says| (name, KERNELS, replaced(kernels, after, old, new), says);
    const STEM: &str = "step 2 (launch of `/stem` on GPU 0): ";
    vec![
        edit(
            "a grid",
            "DEMANDING_C3K8W3",
            "grid: [32, 1, 1]",
            "grid: [31, 1, 1]",
            [STEM, "the grid of its kernel is [32, 1, 1], but [31, 1, 1]"],
        ),
        edit("a block", "DEMANDING_C3K8W3", "block: [64, 1, 1]", "block: [1, 64, 1]", [STEM, "the block of its kernel"]),
        edit("shared memory", "DEMANDING_C3K8W3", "shared_bytes: 256", "shared_bytes: 0", [STEM, "bytes of shared memory"]),
        edit("another name", "DEMANDING_C3K8W3", "\"demanding_c3k8w3\"", "\"demanding_c8k8w3\"", [STEM, "launches demanding_c8k8w3"]),
        edit("an index", "DEMANDING_C3K8W3", "index: 1", "index: 2", [STEM, "kernel demanding_c3k8w3: its index"]),
        edit("GPUs", "DEMANDING_C3K8W3", "gpus: &[0]", "gpus: &[1]", [STEM, "kernel demanding_c3k8w3: its GPUs"]),
        edit(
            "an image of another kernel",
            "DEMANDING_C3K8W3",
            "demanding_c3k8w3.sm_86",
            "demanding_c8k8w3.sm_86",
            [STEM, "kernel demanding_c3k8w3: its images"],
        ),
        edit("an image for another architecture", "DEMANDING_C3K8W3", "(8, 6)", "(9, 0)", [STEM, "kernel demanding_c3k8w3: its images"]),
        edit(
            "a source of another kernel",
            "SOURCES",
            "include_str!(\"../kernels/demanding_c3k8w3.cu\")",
            "include_str!(\"../kernels/demanding_c8k8w3.cu\")",
            [STEM, "its source is not ../kernels/demanding_c3k8w3.cu"],
        ),
        edit(
            "a header is left out",
            "HEADERS",
            "    (\"hiosc.cuh\", include_str!(\"../kernels/hiosc.cuh\")),\n",
            "",
            ["step ", "the header hiosc.cuh, which it includes"],
        ),
        edit("headers and sources are swapped", "pub fn compile", "SOURCES, HEADERS", "HEADERS, SOURCES", ["`compile`", "src/kernels.rs"]),
        edit(
            "a kernel is left out",
            "pub const KERNELS",
            "    DEMANDING_C8K8W3,\n",
            "",
            ["step 9 (launch of `/fire/deep` on GPU 1): ", "whose arguments are of the wrong kind"],
        ),
    ]
}

#[test]
fn planted_faults_are_found_and_their_step_is_named() {
    let (c, shipped) = compiled();
    let krate = emitted(&c, &shipped, Form::Crate);
    let [plan, buffers, kernels] = [PLAN, BUFFERS, KERNELS].map(|path| text(&krate, path));
    let faults = [wrong_calls(plan), wrong_layout(plan), wrong_memory(buffers), wrong_kernels(kernels)].concat();
    let mut unnoticed = Vec::new();
    for (name, path, text, says) in &faults {
        assert!(is_rust(text), "{name} is not Rust, so a compiler would find it");
        let said = said(&c, &shipped, &krate, path, text.clone()).unwrap_or_default();
        println!("{name}: {said}");
        if !says.iter().all(|part| said.contains(part)) {
            unnoticed.push(format!("{name}: {said:?} does not contain {says:?}"));
        }
    }
    assert!(faults.len() > 60, "{} faults", faults.len());
    assert!(unnoticed.is_empty(), "{} of {}:\n{}", unnoticed.len(), faults.len(), unnoticed.join("\n"));
}

/// Whether a text consists of tokens of Rust, with balanced brackets.
fn is_rust(text: &str) -> bool {
    text.parse::<proc_macro2::TokenStream>().is_ok()
}

/// Files that the three texts refer to, and the weights file.
#[test]
fn other_files_are_compared_too() {
    let (c, shipped) = compiled();
    let krate = emitted(&c, &shipped, Form::Crate);
    let changed = |change: &dyn Fn(&mut Crate)| {
        let mut krate = krate.clone();
        change(&mut krate);
        verify(&c.graph, &c.costs, &c.plan, &shipped, &krate).expect_err("a fault").to_string()
    };
    let exchange = |a: &str, b: &str| {
        changed(&|krate| {
            let (first, second) = (krate.files[a].clone(), krate.files[b].clone());
            krate.files.extend([(a.to_string(), second), (b.to_string(), first)]);
        })
    };
    let other = small::plan_of(small::typed(), hiosc::schedule::Algorithm::Scatter, 2);
    let other = emitted(&other, &other.shipped, Form::Crate);
    for (said, says) in [
        (
            exchange("kernels/demanding_c3k8w3.sm_86.cubin", "kernels/demanding_c8k8w3.sm_86.cubin"),
            "demanding_c3k8w3.sm_86.cubin is not its image",
        ),
        (exchange("kernels/demanding_c3k8w3.cu", "kernels/demanding_c8k8w3.cu"), "demanding_c3k8w3.cu is not its source"),
        (exchange("kernels/hiosc.cuh", "kernels/types.cuh"), "the header "),
        (
            changed(&|krate| drop(krate.files.remove("kernels/demanding_c3k8w3.compute_80.ptx"))),
            "demanding_c3k8w3.compute_80.ptx is not its image",
        ),
        (changed(&|krate| drop(krate.files.remove(BUFFERS))), "there is no src/buffers.rs"),
        (changed(&|krate| drop(krate.files.insert(PLAN.into(), vec![0xff]))), "src/plan.rs is not text"),
        (changed(&|krate| drop(krate.files.insert(PLAN.into(), b"fn".into()))), "src/plan.rs is not Rust"),
        (changed(&|krate| krate.weights = None), "there is no weights file"),
        (
            changed(&|krate| krate.weights = other.weights.clone()),
            "the weight `2:/stem.weight, tap-major 1x8x3x9` of GPU 0 is not in weights.safetensors",
        ),
    ] {
        println!("{said}");
        assert!(said.contains(says), "{said} does not contain {says}");
    }
}
