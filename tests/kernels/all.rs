//! Tests across all kernels: they compile with C++ and NVRTC, every kind of operator is tested,
//! every family has its files, and a whole model runs. Also tests how the threads of a block
//! synchronise on the CPU, which all kernels rely on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use hiosc::graph::{Concat, Constant, Elementwise, Expr, OpKind, Pool, PoolKind, PoolNd, Reshape, Softmax, WindowAxis};
use hiosc::kernel::Kernel;

use crate::support::harness::{KernelCase, Objects, Random, graph_of, graph_with, run_graph};
use crate::support::operators::{KINDS, kind_name, one_of_each};
use crate::support::{a40, relative_error, sanitized, scenario, skipped};

/// Kernels that use all barriers, collectives and kinds of shared memory that `cpu_cuda.h`
/// supports.
const THREADS: &str = r#"
#include "hiosc.cuh"

// Every shuffle, in a warp and in the 18 lanes of an incomplete one.
HIOSC_KERNEL(shuffles, 50, (int *out)) {
  const int t = threadIdx.x, lane = t % 32;
  const unsigned mask = t < 32 ? 0xffffffffu : 0x3ffffu;
  out += t * 8;
  out[0] = __shfl_sync(mask, t, 3);
  out[1] = __shfl_sync(mask, t, lane + 1, 8);
  out[2] = __shfl_xor_sync(mask, t, 1);
  out[3] = __shfl_xor_sync(mask, t, 8, 16);
  out[4] = __shfl_down_sync(mask, t, 2, 4);
  out[5] = __shfl_up_sync(mask, t, 1);
  const double wide = __shfl_xor_sync(mask, t + 0.25, 3);
  out[6] = int(wide * 4);
  __syncwarp(mask);
  out[7] = t;
}

// Threads that leave early, barriers in a loop, and warps that do different numbers of collectives
// between two barriers.
HIOSC_KERNEL(barriers, 96, (int *out, int rounds)) {
  __shared__ int values[96];
  const int t = threadIdx.x;
  if (t >= 80) return;
  int mine = t;
  for (int round = 0; round < rounds; ++round) {
    for (int i = 0; i < t / 32; ++i) mine = __shfl_xor_sync(t < 64 ? 0xffffffffu : 0xffffu, mine, 1);
    values[t] = mine;
    __syncthreads();
    mine = values[79 - t] + 1;
    __syncthreads();
  }
  out[blockIdx.x * 80 + t] = mine;
}

// The halves of a warp go different ways.
HIOSC_KERNEL(halves, 32, (int *out)) {
  const int t = threadIdx.x;
  int sum = t;
  if (t < 16) {
    for (int d = 8; d > 0; d /= 2) sum += __shfl_xor_sync(0x0000ffffu, sum, d);
  } else {
    sum = __shfl_sync(0xffff0000u, sum, 20);
  }
  __syncthreads();
  out[t] = __shfl_down_sync(0xffffffffu, sum, 8);
}

struct Triple {
  int a;
  double b;
  char c;
};

// Parameters of any size, three dimensions, dynamic shared memory.
HIOSC_KERNEL(dimensions, 12, (Triple triple, double *out, short offset)) {
  HIOSC_DYNAMIC_SHARED(double, shared);
  const int t = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const int b = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  shared[t] = triple.a + triple.b + triple.c + b;
  __syncthreads();
  out[b * 12 + t] = shared[(t + 1) % 12] + t + offset;
}

// Wrong: half of the threads wait at a barrier, the others in a collective that needs all.
HIOSC_KERNEL(deadlock, 32, (int *out)) {
  if (threadIdx.x < 16) __syncthreads();
  out[threadIdx.x] = __shfl_sync(0xffffffffu, 1, 0);
}
"#;

#[test]
fn threads_of_a_block_synchronise() {
    use std::ffi::c_void;
    if !hiosc::vgpu::compiler_present() {
        return skipped!("SKIPPED threads_of_a_block_synchronise: no C++ compiler");
    }
    let objects = Objects::load(&[("threads", THREADS)]);
    let run = |name: &str, grid: [u32; 3], block: [u32; 3], shared: u32, arguments: &[*const c_void]| {
        let blocks = grid.iter().map(|&n| u64::from(n)).product();
        // SAFETY: each call below passes what its kernel declares.
        unsafe { objects.run(name, grid, block, shared, arguments, (0, blocks)) }
    };
    fn at<T>(value: &T) -> *const c_void {
        std::ptr::from_ref(value).cast()
    }

    if std::env::var_os("HIOSC_TEST_DEADLOCK").is_some() {
        let mut out = [0i32; 32];
        run("deadlock", [1, 1, 1], [32, 1, 1], 0, &[at(&out.as_mut_ptr())]);
        return;
    }

    let mut out = [0i32; 50 * 8];
    run("shuffles", [1, 1, 1], [50, 1, 1], 0, &[at(&out.as_mut_ptr())]);
    for (t, got) in (0i32..).zip(out.chunks(8)) {
        let (first, lane) = (t / 32 * 32, t % 32);
        let lanes = if first == 0 { 32 } else { 18 };
        let or_own = |from: i32| if (0..lanes).contains(&from) { first + from } else { t };
        let in_group = |from: i32, width: i32| if from / width == lane / width { or_own(from) } else { t };
        let want = [
            first + 3,
            or_own(lane / 8 * 8 + (lane + 1) % 8),
            or_own(lane ^ 1),
            or_own(lane ^ 8),
            in_group(lane + 2, 4),
            or_own(lane - 1),
            or_own(lane ^ 3) * 4 + 1,
            t,
        ];
        assert_eq!(got, want, "thread {t}");
    }

    let mut out = [0i32; 3 * 80];
    run("barriers", [3, 1, 1], [96, 1, 1], 0, &[at(&out.as_mut_ptr()), at(&7i32)]);
    let mut values: Vec<i32> = (0..80).collect();
    for _ in 0..7 {
        let swapped: Vec<i32> = (0..80usize).map(|t| if t / 32 % 2 == 1 { values[t ^ 1] } else { values[t] }).collect();
        values = (0..80).map(|t| swapped[79 - t] + 1).collect();
    }
    out.chunks(80).for_each(|block| assert_eq!(block, values));

    let mut out = [0i32; 32];
    run("halves", [1, 1, 1], [32, 1, 1], 0, &[at(&out.as_mut_ptr())]);
    assert_eq!(out, std::array::from_fn(|t| if t < 8 { 120 } else { 20 }));

    #[repr(C)]
    struct Triple {
        a: i32,
        b: f64,
        c: i8,
    }
    assert_eq!(objects.param_sizes("dimensions"), [24, 8, 2]);
    let mut out = [0f64; 12 * 12];
    let triple = Triple { a: 1, b: 0.5, c: 2 };
    run("dimensions", [2, 3, 2], [2, 3, 2], 96, &[at(&triple), at(&out.as_mut_ptr()), at(&100i16)]);
    for (i, got) in out.into_iter().enumerate() {
        assert_eq!(got, 3.5 + (i / 12) as f64 + (i % 12) as f64 + 100.0);
    }

    // A kernel that deadlocks ends the process with a message.
    let mut child = scenario::only(module_path!(), "threads_of_a_block_synchronise");
    let child = child.env("HIOSC_TEST_DEADLOCK", "1").output().expect("the test runs");
    let message = String::from_utf8_lossy(&child.stderr);
    assert!(!child.status.success() && message.contains("deadlock"), "{message}");
}

#[test]
fn the_list_has_every_kind_of_operator() {
    let found: BTreeSet<&str> = one_of_each().iter().filter_map(|case| kind_name(&case.kind)).collect();
    let missing: Vec<_> = KINDS.iter().filter(|name| !found.contains(**name)).collect();
    assert!(missing.is_empty(), "{missing:?} is not in tests/support/operators.rs");
}

#[test]
fn the_list_has_every_family() {
    let mut found: Vec<&str> = one_of_each().iter().map(|case| case.kind.family()).collect();
    found.dedup();
    assert_eq!(found, OpKind::FAMILIES, "the families of tests/support/operators.rs, in their order");
}

/// The folders with one file per operator family: the path, the extension of the files, and the
/// other files in the folder.
const FOLDERS: &[(&str, &str, &[&str])] = &[
    (
        "src/graph/op",
        ".rs",
        &[
            "mod",    // the table of operators
            "window", // conv and pool share it
        ],
    ),
    (
        "src/import/lower",
        ".rs",
        &[
            "mod",       // the pass itself
            "window",    // conv and pool share it
            "empty",     // tensors without elements
            "fourier",   // Fourier transforms, as matrix products
            "quantised", // quantised arithmetic, from several operators
            "scan",      // unrolled loops
            "bfloat16",  // a type that is converted
        ],
    ),
    (
        "src/kernel",
        ".rs",
        &[
            "mod",         // the pass itself
            "window",      // conv and pool share it
            "depthwise",   // conv, for groups of few filters
            "gather_gemm", // conv and matmul, on GPUs with asynchronous copies
            "tile",        // conv and matmul, on others
            "packing",     // layouts of packed constants
            "expr",        // epilogues of all families
            "loops",       // iteration counts of main loops, for all families
            "spec",        // names and sources of all families
            "traffic",     // bytes, whatever the family
        ],
    ),
    (
        "kernels",
        ".cuh",
        &[
            "hiosc",       // the prelude of all headers
            "types",       // element types
            "small_float", // those of 16 bits
            "index",       // shapes
            "expr",        // expressions
            "window",      // conv and pool share it
            "depthwise",   // conv, for groups of few filters
            "gather_gemm", // conv and matmul, on GPUs with asynchronous copies
            "async_copy",  // those copies
            "tile",        // conv and matmul, on others
        ],
    ),
    (
        "tests/kernels",
        ".rs",
        &[
            "main",        // the program
            "all",         // tests across all families
            "common",      // shared by the families
            "depthwise",   // a part of conv
            "gather_gemm", // a part of conv and matmul
            "sweep",       // models of ONNX operators
        ],
    ),
    (
        "tests/support/interpret",
        ".rs",
        &[
            "window", // conv and pool share it
        ],
    ),
];

#[test]
fn every_family_has_one_file_in_every_pass() {
    for (folder, ending, further) in FOLDERS {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let entries = std::fs::read_dir(path).unwrap_or_else(|e| panic!("{folder}: {e}")).map(|entry| entry.expect("an entry").path());
        let found: BTreeSet<String> = entries
            .filter(|path| path.is_file())
            .map(|path| path.file_name().expect("a file has a name").to_string_lossy().into_owned())
            .collect();
        let expected = OpKind::FAMILIES.iter().chain(*further).map(|name| format!("{name}{ending}")).collect();
        assert_eq!(found, expected, "the files of {folder}");
    }
}

#[test]
fn headers_compile_without_warnings() {
    if !hiosc::vgpu::compiler_present() {
        return skipped!("SKIPPED headers_compile_without_warnings: no C++ compiler");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut sources = BTreeMap::new();
    for case in &one_of_each() {
        let (graph, op) = graph_of(case);
        sources
            .extend(hiosc::kernel::candidates(&graph, op, &a40()).expect("a supported operator").into_iter().map(|k| (k.name, k.source)));
    }
    let unit: String = sources.into_values().collect();
    std::fs::write(folder.path().join("all.cpp"), unit).expect("written");
    for from in ["kernels", "vgpu"] {
        for (name, text) in hiosc::embedded::folder(from) {
            std::fs::write(folder.path().join(name), text).expect("written");
        }
    }
    let compiler = std::env::var("CXX").ok().filter(|c| !c.trim().is_empty()).unwrap_or_else(|| "c++".into());
    let mut words = compiler.split_whitespace();
    let output = std::process::Command::new(words.next().expect("not empty"))
        .args(words)
        .args(["-std=c++17", "-Wall", "-Wextra", "-Werror", "-O1", "-c", "-I.", "all.cpp", "-o", "all.o"])
        .current_dir(folder.path())
        .output();
    match output {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
        Err(e) => skipped!("SKIPPED headers_compile_without_warnings: {compiler}: {e}"),
    }
}

/// Runs all kernels of a model, one after the other, and compares the outputs with the reference.
/// `HIOSC_TEST_MODEL` names another model.
#[test]
fn a_whole_model() {
    use hiosc::graph::Graph;
    if !hiosc::vgpu::compiler_present() {
        return skipped!("SKIPPED a_whole_model: no C++ compiler");
    }
    let path = std::env::var("HIOSC_TEST_MODEL").unwrap_or_else(|_| "testdata/squeezenet1_1.onnx".into());
    let model = hiosc::import::import(std::path::Path::new(&path), &Default::default()).expect("a supported model");
    let graph: Graph = hiosc::fuse::fuse(model.graph.clone(), &[]).expect("fusable");
    let kernels: Vec<_> =
        graph.op_ids().map(|op| hiosc::kernel::select(&graph, op, &a40()).expect("a kernel for every operator")).collect();
    let files = hiosc::kernel::sources(&kernels);
    let sources: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.trim_end_matches(".cu"), &text[..])).collect();
    let objects = Objects::load(&sources);

    let mut r = Random(12);
    let inputs: Vec<Constant> = graph.inputs.iter().map(|&t| r.tensor(&graph.tensor(t).shape).values).collect();
    let outputs = run_graph(&objects, &graph, &kernels, &inputs);
    let references = model.reference(&inputs).expect("the reference runs");
    for (got, want) in outputs.iter().zip(&references) {
        assert!(want.bytes().iter().any(|&byte| byte != 0), "{path}: an output of zeros");
        assert!(relative_error(got, want) <= 1e-4, "{path}: outputs differ");
    }
}

/// The harness gives a kernel its workspace and its counters, and sees counters that are left.
#[test]
fn workspaces_and_counters() {
    if !hiosc::vgpu::compiler_present() {
        return skipped!("SKIPPED workspaces_and_counters: no C++ compiler");
    }
    let source = |name: &str, last: &str| {
        let parameters = "const float *x, float *y, float *workspace, unsigned *counters";
        let sum = "workspace[threadIdx.x] = x[threadIdx.x]; y[threadIdx.x] = workspace[threadIdx.x] + counters[threadIdx.x] + 1;";
        format!("#include \"hiosc.cuh\"\nHIOSC_KERNEL_NO_SYNC({name}, 4, ({parameters})) {{ {sum} counters[threadIdx.x] = {last}; }}\n")
    };
    let (tidy, untidy) = (source("tidy", "0"), source("untidy", "threadIdx.x"));
    let objects = Objects::load(&[("tidy", &tidy), ("untidy", &untidy)]);
    let x = Random(3).tensor(&[4]);
    let expected: Vec<u8> = x.values.f32().expect("f32").iter().flat_map(|v| (v + 1.0).to_le_bytes()).collect();
    let kind = OpKind::Elementwise(Elementwise { expr: Expr::Input(0) });
    let case = KernelCase { kind, inputs: vec![x], out: vec![4], expected: Default::default() };
    let (graph, _) = graph_of(&case);
    let run = |name: &str| {
        let kernel = Kernel { name: name.into(), block: [4, 1, 1], workspace_bytes: 16, counters: 4, ..Kernel::default() };
        run_graph(&objects, &graph, &[kernel], &[case.inputs[0].values.clone()])
    };
    assert_eq!(run("tidy")[0].bytes(), expected);
    let failure = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run("untidy"))).expect_err("it leaves counters");
    assert_eq!(failure.downcast_ref::<String>().expect("a message"), "untidy: it leaves counters that are not zero");
}

#[test]
fn what_has_no_kernel_is_an_error() {
    use hiosc::Error;
    let mut r = Random(9);
    let mut case = |kind: OpKind, shape: &[usize], out: &[usize]| {
        let x = r.tensor(shape);
        let (graph, op) = graph_of(&KernelCase { kind, inputs: vec![x], out: out.to_vec(), expected: Default::default() });
        hiosc::kernel::select(&graph, op, &a40()).expect_err("no kernel computes this")
    };
    assert!(matches!(case(OpKind::Reshape(Reshape), &[2, 3], &[6]), Error::Internal { .. }));
    assert!(matches!(case(OpKind::Softmax(Softmax { axis: 1, log: false }), &[2, 0], &[2, 0]), Error::Unsupported(_)));
    assert!(matches!(case(OpKind::Softmax(Softmax { axis: 2, log: false }), &[2, 3], &[2, 3]), Error::Internal { .. }));
    // Steps and padding that 32-bit indices cannot count.
    let pool = Pool { kind: PoolKind::Max, kernel: [1, 2], strides: [1, 1 << 31], dilations: [1, 1], pads_begin: [0; 2], pads_end: [0; 2] };
    let wide = WindowAxis { kernel: 1, stride: 1 << 31, dilation: 1, pad_begin: 1 << 31, pad_end: 0 };
    let error = case(OpKind::Pool(pool), &[1, 1, 3, 3], &[1, 1, 3, 1]);
    assert!(matches!(&error, Error::Unsupported(what) if what[0].contains("32-bit indices")), "{error}");
    let error = case(OpKind::PoolNd(PoolNd { kind: PoolKind::Max, axes: vec![wide] }), &[1, 1, 3], &[1, 1, 2]);
    assert!(matches!(&error, Error::Unsupported(what) if what[0].contains("32-bit indices")), "{error}");
    assert!(matches!(case(OpKind::Concat(Concat { axis: 0 }), &[2, 3], &[3, 3]), Error::Internal { .. }));
    assert!(matches!(case(OpKind::Elementwise(Elementwise { expr: Expr::Input(1) }), &[2, 3], &[2, 3]), Error::Internal { .. }));
}

#[test]
fn blocks_suit_the_device() {
    let mut r = Random(13);
    let expr = Expr::Input(0).then(hiosc::graph::Unary::Relu);
    let shape = [4 * 256 * 2 * 84];
    let kind = OpKind::Elementwise(Elementwise { expr });
    let (graph, op) = graph_of(&KernelCase { kind, inputs: vec![r.tensor(&shape)], out: shape.to_vec(), expected: Default::default() });
    let threads = |device: &str| {
        let device = hiosc::device::device(device).expect("a known device");
        hiosc::kernel::select(&graph, op, &device).expect("a kernel").block[0]
    };
    assert_eq!(threads("a40"), 256, "two blocks on each of 84 multiprocessors");
    assert_eq!(threads("h100"), 128, "132 multiprocessors need smaller blocks");
}

#[test]
fn nvrtc_compiles_every_family() {
    use hiosc::runtime::nvrtc::Nvrtc;
    let nvrtc = match Nvrtc::load() {
        Ok(nvrtc) => nvrtc,
        Err(e) => return skipped!("SKIPPED nvrtc_compiles_every_family: {e}"),
    };
    let mut kernels: Vec<_> = one_of_each()
        .iter()
        .flat_map(|case| {
            // the weights of products as a constant, too
            let constants: &[&[usize]] = if matches!(case.kind, OpKind::Conv(_) | OpKind::MatMul(_)) { &[&[], &[1]] } else { &[&[]] };
            constants.iter().flat_map(|constants| {
                let (graph, op) = graph_with(case, constants);
                hiosc::kernel::candidates(&graph, op, &a40()).expect("a supported operator")
            })
        })
        .collect();
    kernels.sort();
    kernels.dedup();
    let archs = ["sm_86".to_string(), "compute_75".to_string()];
    let images = hiosc::program::compile_images(&kernels.iter().collect::<Vec<_>>(), &archs, &nvrtc).expect("NVRTC takes our kernels");
    assert_eq!(images.len(), 2 * kernels.len());
    for (image, kernel) in images.iter().zip(kernels.iter().flat_map(|k| [k, k])) {
        assert_eq!(image.kernel, kernel.name);
        if image.arch == "sm_86" {
            assert!(image.data.starts_with(b"\x7fELF"), "{}", image.file_name());
        } else {
            let ptx = String::from_utf8(image.data.clone()).expect("PTX is text");
            let target = if kernel.min_capability > (7, 5) { ".target sm_80" } else { ".target sm_75" };
            assert!(ptx.contains(&format!(".entry {}", kernel.name)) && ptx.contains(target), "{}", image.file_name());
        }
    }
    let error = nvrtc.compile("broken.cu", "__global__ void k( {", &[], "sm_86").expect_err("not a valid program");
    assert!(error.contains("broken.cu"), "{error}");
}

#[test]
fn every_family_passes_under_sanitizers() {
    // the sweep has its own sanitizer test
    sanitized::run_all_but("", &["sweep::", "nvrtc", "a_whole_model", "headers_compile"]);
}
