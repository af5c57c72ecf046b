//! `hiosc verify --layers`: models in each of which one kernel, weight or argument is damaged after
//! compilation. The report names that operator, its kernel, and the worst element.

use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::support::cli::{Bench, Run};
use crate::support::onnx::{Attr, Model};
use crate::support::{networks, npz, skipped};
/// What is damaged, and what should be found.
struct Case {
    name: &'static str,
    model: Model,
    /// Changes a crate.
    damage: fn(&Path),
    /// The operator that is named, and the ONNX name of its wrong result.
    operator: &'static str,
    value: &'static str,
    /// What the name of its kernel begins with.
    kernel: &'static str,
}

/// A convolution with a bias.
fn conv(model: Model, name: &str, x: &str, [from, to]: [i64; 2], window: i64) -> Model {
    let (w, b) = (format!("{name}.weight"), format!("{name}.bias"));
    let pad = window / 2;
    model.random_weight(&w, &[to, from, window, window]).random_weight(&b, &[to]).node(
        "Conv",
        &[x, &w, &b],
        name,
        &[Attr::Ints("kernel_shape", &[window, window]), Attr::Ints("pads", &[pad; 4])],
    )
}

/// Replaces `old`, which occurs once or more, in the one file of `folder/kernels` whose name begins
/// with `kernel`.
fn in_kernel(folder: &Path, kernel: &str, old: &str, new: &str) {
    let files = fs::read_dir(folder.join("kernels")).expect("kernels").map(|entry| entry.expect("a kernel").path());
    let named = |path: &std::path::PathBuf| {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        name.starts_with(kernel) && name.ends_with(".cu")
    };
    let found: Vec<_> = files.filter(named).collect();
    let [file] = &found[..] else { panic!("{kernel}: {found:?}") };
    replace(file, old, new);
}

fn replace(file: &Path, old: &str, new: &str) {
    let text = fs::read_to_string(file).expect("a file");
    assert!(text.contains(old), "{old:?} is not in {}:\n{text}", file.display());
    fs::write(file, text.replace(old, new)).expect("written");
}

/// Exchanges two arguments in plan.rs, in all launches from that of `kernel` on.
fn exchange(folder: &Path, kernel: &str, a: &str, b: &str) {
    let plan = folder.join("src/plan.rs");
    let text = fs::read_to_string(&plan).expect("the plan");
    let [a, b] = [a, b].map(|name| format!("            {name},"));
    let (before, after) = text.split_at(text.find(kernel).expect("a launch of the kernel"));
    assert!(after.contains(&a) && after.contains(&b), "{text}");
    fs::write(plan, before.to_string() + &after.replace(&a, "\u{1}").replace(&b, &a).replace('\u{1}', &b)).expect("written");
}

/// Changes one number of a weight, and the hash of the file.
fn change_weight(folder: &Path, name: &str, index: usize) {
    let path = folder.join("weights.safetensors");
    let mut bytes = fs::read(&path).expect("the weights");
    let old = hash(&bytes);
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("tensors");
    let names: Vec<&str> = file.names();
    let name = names.iter().find(|known| known.contains(name)).unwrap_or_else(|| panic!("{names:?}"));
    let data = file.tensor(name).expect("a weight").data();
    let at = data.as_ptr().addr() - bytes.as_ptr().addr() + 4 * index;
    bytes[at..at + 4].copy_from_slice(&5f32.to_le_bytes());
    replace(&folder.join("src/plan.rs"), &old, &hash(&bytes));
    fs::write(path, bytes).expect("written");
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn cases() -> Vec<Case> {
    let image = || Model::new().input("x", &[1, 4, 10, 10]);
    let three = |window: i64| {
        let model = conv(image(), "first", "x", [4, 8], 3).node("Relu", &["first"], "positive", &[]);
        let model = conv(model, "second", "positive", [8, 8], window);
        conv(model, "third", "second", [8, 4], 1).output("third", &[1, 4, 10, 10])
    };
    let vectors = || Model::new().input("x", &[6, 16]);
    vec![
        Case {
            name: "a weight of the second convolution",
            model: three(1),
            damage: |folder| change_weight(folder, "second.weight", 0),
            operator: "/second/Conv",
            value: "second",
            kernel: "conv_",
        },
        Case {
            name: "a convolution that is shifted by a row",
            model: three(3),
            damage: |folder| in_kernel(folder, "conv_n1c8h10w10_k8r3s3", "PAD_H = 1", "PAD_H = 0"),
            operator: "/second/Conv",
            value: "second",
            kernel: "conv_n1c8h10w10_k8r3s3",
        },
        Case {
            name: "a bias that is left out, in the first of a fused pair",
            model: three(1),
            damage: |folder| in_kernel(folder, "conv_n1c4h10w10_k8r3s3", "BIAS = 1", "BIAS = 0"),
            operator: "/first/Conv",
            value: "positive",
            kernel: "conv_n1c4h10w10_k8r3s3",
        },
        Case {
            name: "a pooling with another stride",
            model: conv(image(), "wide", "x", [4, 8], 1)
                .node("MaxPool", &["wide"], "pooled", &[Attr::Ints("kernel_shape", &[2, 2]), Attr::Ints("strides", &[2, 2])])
                .node("Sigmoid", &["pooled"], "y", &[])
                .output("y", &[1, 8, 5, 5]),
            damage: |folder| in_kernel(folder, "pool_max", "STRIDE_W = 2", "STRIDE_W = 1"),
            operator: "/pooled/MaxPool",
            value: "pooled",
            kernel: "pool_max",
        },
        Case {
            name: "another epsilon",
            model: vectors()
                .random_weight("w", &[16, 16])
                .node("MatMul", &["x", "w"], "product", &[])
                .random_weight("scale", &[16])
                .random_weight("bias", &[16])
                .node("LayerNormalization", &["product", "scale", "bias"], "normal", &[Attr::Float("epsilon", 1e-5)])
                .random_weight("v", &[16, 4])
                .node("MatMul", &["normal", "v"], "y", &[])
                .output("y", &[6, 4]),
            damage: |folder| in_kernel(folder, "norm", "0x3727c5acu", "0x3f800000u"),
            operator: "/normal/LayerNormalization",
            value: "normal",
            kernel: "norm",
        },
        Case {
            name: "the operands of a difference, exchanged in the plan",
            model: vectors()
                .input("z", &[6, 16])
                .node("Softmax", &["x"], "likely", &[])
                .node("Softmax", &["z"], "other", &[])
                .node("Sub", &["likely", "other"], "apart", &[])
                .node("Softmax", &["apart"], "y", &[])
                .output("y", &[6, 16]),
            damage: |folder| exchange(folder, "&ELEMENTWISE_SUB", "gpu0::LIKELY", "gpu0::OTHER"),
            operator: "/apart/Sub",
            value: "apart",
            kernel: "elementwise",
        },
        Case {
            name: "a softmax of two rows together",
            model: vectors()
                .random_weight("w", &[16, 16])
                .node("MatMul", &["x", "w"], "product", &[])
                .node("Softmax", &["product"], "likely", &[])
                .random_weight("v", &[16, 4])
                .node("MatMul", &["likely", "v"], "y", &[])
                .output("y", &[6, 4]),
            damage: |folder| in_kernel(folder, "softmax", "<6, 16,", "<3, 32,"),
            operator: "/likely/Softmax",
            value: "likely",
            kernel: "softmax",
        },
        Case {
            name: "the weights of two products, exchanged in the plan",
            model: vectors()
                .random_weight("w", &[16, 16])
                .random_weight("v", &[16, 16])
                .node("MatMul", &["x", "w"], "one", &[])
                .node("Softmax", &["one"], "likely", &[])
                .node("MatMul", &["likely", "v"], "y", &[])
                .output("y", &[6, 16]),
            damage: |folder| exchange(folder, "", "weights0::W", "weights0::V"),
            operator: "/one/MatMul",
            value: "one",
            kernel: "matmul",
        },
        Case {
            name: "a mean over too few",
            model: conv(image(), "wide", "x", [4, 8], 1)
                .node("GlobalAveragePool", &["wide"], "mean", &[])
                .node("Softmax", &["mean"], "y", &[Attr::Int("axis", 1)])
                .output("y", &[1, 8, 1, 1]),
            damage: |folder| in_kernel(folder, "reduce_mean", "Reduced, 100,", "Reduced, 90,"),
            operator: "/mean/GlobalAveragePool",
            value: "mean",
            kernel: "reduce_mean",
        },
        Case {
            name: "a stride of a transposition",
            model: vectors()
                .node("Softmax", &["x"], "likely", &[])
                .node("Transpose", &["likely"], "turned", &[Attr::Ints("perm", &[1, 0])])
                .node("Softmax", &["turned"], "y", &[])
                .output("y", &[16, 6]),
            damage: |folder| in_kernel(folder, "copy", "Ints<1, 16>", "Ints<1, 15>"),
            operator: "/turned/Transpose",
            value: "turned",
            kernel: "copy",
        },
    ]
}

/// `hiosc verify out --layers` on virtual GPUs.
fn verify(bench: &Bench, also: &[&str]) -> Run {
    bench.run(&[&["verify", "out", "--layers", "--virtual", "--json"], also].concat())
}

#[test]
fn the_wrong_operator_is_found() {
    if !hiosc::vgpu::compiler_present() {
        skipped!("SKIPPED: no C++ compiler, so no virtual GPUs");
        return;
    }
    for Case { name, model, damage, operator, value, kernel } in cases() {
        let bench = Bench::new();
        model.save(bench.path(), "model");
        bench.done(&["model.onnx", "-o", "out", "--quiet", "--name", "layers", "--gpus", "1", "--algorithm", "sequential"]);
        damage(&bench.at("out"));
        let Run { code, stdout, stderr } = verify(&bench, &[]);
        assert_eq!(code, Some(1), "{name}: {stdout}{stderr}");
        let json: serde_json::Value = serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{name}: {e}: {stderr}"));
        let first = &json["layers"]["first"];
        let text = |value: &serde_json::Value| value.as_str().map(str::to_string).unwrap_or_default();
        assert_eq!((text(&first["operator"]), text(&first["result"]["name"])), (operator.into(), value.into()), "{name}: {stderr}");
        assert!(text(&first["kernel"]).starts_with(&format!("kernels/{kernel}")), "{name}: {stderr}");
        assert!(first["result"]["worst"]["index"].is_array() && stderr.contains("; worst at ["), "{name}: {stderr}");
    }
}

/// Values of an npy file.
fn npy(file: &Path) -> (Vec<usize>, Vec<f32>) {
    let (_, shape, bytes) = hiosc::runtime::npy::open(&fs::read(file).expect("a file")).expect("an npy file");
    (shape, bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}

#[test]
fn nothing_is_wrong_where_nothing_is_damaged() {
    if !hiosc::vgpu::compiler_present() {
        skipped!("SKIPPED: no C++ compiler, so no virtual GPUs");
        return;
    }
    let bench = Bench::new();
    networks::fire().save(bench.path(), "model");
    bench.done(&["model.onnx", "-o", "out", "--quiet", "--name", "layers", "--gpus", "2", "--algorithm", "sequential"]);
    let names = ["image", "stem", "fire", "label"];
    let dump: Vec<String> = names.iter().flat_map(|name| ["--dump".to_string(), name.to_string()]).collect();
    let dump: Vec<&str> = dump.iter().map(String::as_str).collect();
    let said = bench.done(&[&["verify", "out", "--layers", "--virtual", "--dump-dir", "tensors"], &dump[..]].concat());
    let line = said.lines().find(|line| line.starts_with("layers ")).expect("a line");
    assert!(line.contains(" tensors compared with rten: all agree, the worst, `"), "{said}");
    let tensors = names.map(|name| npy(&bench.at(&format!("tensors/{name}.npy"))));
    assert_eq!(tensors.each_ref().map(|(shape, _)| &shape[..]), [&[1, 3, 32, 32][..], &[1, 16, 32, 32], &[1, 32, 32, 32], &[1, 10]]);
    assert!((tensors[3].1.iter().sum::<f32>() - 1.0).abs() < 1e-5, "a softmax");
    assert!(tensors[1].1.iter().all(|&v| v >= 0.0) && tensors[1].1.iter().any(|&v| v > 0.0), "behind a Relu");

    let refused = |args: &[&str], message: &str| {
        let run = bench.run(&[&["verify", "out", "--virtual"], args].concat());
        assert!(run.code == Some(2) && run.stderr.contains(message), "{message}: {run:?}");
    };
    refused(&["--dump", "stem.sum"], "no memory holds this tensor: `/stem.sum/Conv` computes it on the way (kernels/conv_");
    refused(&["--dump", "steam"], "The nearest names are `stem`, `");
    refused(&["--dump", "classes"], "it is a constant: see weights.safetensors");
    networks::inception().save(bench.path(), "other");
    refused(&["--layers", "--model", "other.onnx"], "other.onnx is not the model that out was compiled from: its SHA-256 is ");
    fs::rename(bench.at("model.onnx"), bench.at("moved.onnx")).expect("moved");
    refused(&["--layers"], "model.onnx is not found; tried out/model.onnx, model.onnx: name the model with --model MODEL.onnx");

    // the same without a crate
    npz(&bench.at("reference.npz"), &fs::read(bench.at("out/check.safetensors")).expect("a reference"));
    let check =
        ["check", "moved.onnx", "--reference", "reference.npz", "--virtual", "2", "--layers", "--dump", "stem", "--dump-dir", "again"];
    let said = bench.done(&check);
    assert!(said.contains(" tensors compared with rten: all agree, the worst, `"), "{said}");
    assert_eq!(npy(&bench.at("again/stem.npy")).0, [1, 16, 32, 32]);
    assert_eq!(fs::read(bench.at("again/stem.npy")).expect("a file"), fs::read(bench.at("tensors/stem.npy")).expect("a file"));
}

/// A model that rten refuses.
#[test]
fn without_the_oracle_there_is_a_clear_error() {
    if !hiosc::vgpu::compiler_present() {
        skipped!("SKIPPED: no C++ compiler, so no virtual GPUs");
        return;
    }
    let bench = Bench::new();
    let cube: &[i64] = &[1, 2, 4, 4, 4];
    let model = Model::new().input("x", cube).output("y", cube).random_weight("w", &[2, 2, 1, 1, 1]);
    model.node("ConvTranspose", &["x", "w"], "y", &[]).save(bench.path(), "model");
    bench.done(&["model.onnx", "-o", "out", "--quiet", "--name", "layers", "--gpus", "1"]);
    let Run { code, stderr, .. } = verify(&bench, &[]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.starts_with("hiosc: rten: cannot compute the tensors to compare with: "), "{stderr}");
    assert!(stderr.contains("Without --layers, only outputs are compared"), "{stderr}");
}
