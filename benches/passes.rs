//! How long hiosc itself takes: `cargo bench`, or `cargo bench -- schedule` for a part.
//!
//! * `import`: the model file in `testdata/`, imported; and the same, also fused.
//! * `schedule`: every algorithm, on the problem of that model and on a synthetic scheduling graph:
//!   a published one if the shared graphs are present (in `HIOSC_DAGS`, or beside the checkout),
//!   else a generated one. The name of the benchmark says which.
//! * `pipeline`: from the model file to the crate in memory, with kernels as sources and no check.
//!
//! Times depend on the machine. Criterion compares with the previous run, which it keeps in
//! `target/criterion`. `examples/growth.rs` measures how times grow with the number of operators.

use std::path::{Path, PathBuf};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode, criterion_group, criterion_main};

use hiosc::Compiler;
use hiosc::compiler::Passes;
use hiosc::program::KernelMode;
use hiosc::schedule::{Algorithm, Effort, LinkMode, Problem, ScheduleOptions, schedule_with};

#[allow(dead_code)]
#[path = "../examples/common/layered.rs"]
mod layered;

/// The evaluations that `best` may spend here: enough to time one evaluation.
const EVALUATIONS: u64 = 5_000;

/// A compiler for the model in `testdata/`, for two GPUs.
fn compiler() -> Compiler {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/squeezenet1_1.onnx");
    Compiler::new(model).device("a40").gpus(2).check(false).kernels(KernelMode::Source)
}

/// The published scheduling graph of 200 operators.
const PUBLISHED: &str = "default_n200_e400_l14_c0.8_0";

/// A synthetic problem, and its name: the published graph, or a generated one of the same size.
fn synthetic() -> (&'static str, Problem) {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/dags");
    let folder = std::env::var_os("HIOSC_DAGS").map_or_else(beside, PathBuf::from);
    let published = std::fs::read_to_string(folder.join("random").join(format!("{PUBLISHED}.txt")));
    let name = if published.is_ok() { PUBLISHED } else { "layered_200" };
    let text = published.unwrap_or_else(|_| layered::graph(200));
    (name, Problem::from_dag_text(&text, 2, LinkMode::Serial).expect("a scheduling graph"))
}

fn import(c: &mut Criterion) {
    let mut group = c.benchmark_group("import");
    group.sampling_mode(SamplingMode::Flat);
    let options = hiosc::import::ImportOptions::default();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/squeezenet1_1.onnx");
    group.bench_function("squeezenet1_1", |b| b.iter(|| hiosc::import::import(&model, &options).expect("a model")));
    group.bench_function("squeezenet1_1 and fuse", |b| b.iter(|| compiler().import().expect("a model")));
    group.finish();
}

fn schedule(c: &mut Criterion) {
    let model = compiler();
    let problem = model.import().and_then(|imported| model.problem(&imported)).expect("a problem");
    let options = ScheduleOptions::default().effort(Effort::Evaluations(EVALUATIONS));
    for (name, problem) in [("squeezenet1_1", problem), synthetic()] {
        let mut group = c.benchmark_group(format!("schedule/{name}"));
        for algorithm in Algorithm::ALL {
            let id = BenchmarkId::from_parameter(algorithm);
            group.bench_function(id, |b| b.iter(|| schedule_with(&problem, algorithm, &options).expect("a schedule")));
        }
        group.finish();
    }
}

fn pipeline(c: &mut Criterion) {
    let mut group = c.benchmark_group("pipeline");
    group.sampling_mode(SamplingMode::Flat);
    for algorithm in [Algorithm::Sequential, Algorithm::HiosLp] {
        let options = ScheduleOptions::default().effort(Effort::Evaluations(EVALUATIONS));
        let compiler = compiler().algorithm(algorithm).scheduling(options);
        group.bench_function(BenchmarkId::new("squeezenet1_1", algorithm), |b| b.iter(|| compiler.compile().expect("a crate")));
    }
    group.finish();
}

/// Few samples: each takes milliseconds to seconds.
fn settings() -> Criterion {
    Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3))
}

criterion_group! { name = passes; config = settings(); targets = import, schedule, pipeline }
criterion_main!(passes);
