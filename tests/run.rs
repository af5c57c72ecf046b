//! Plans run in-process, on virtual GPUs.
//!
//! A virtual driver is loaded once a process and reads its settings then, so each test that needs settings of its own runs this program again
//! (`HIOSC_TEST_SCENARIO`). Without a C++ compiler there are no virtual GPUs: the tests say so and pass.

#[macro_use]
mod common;

use std::process::Command;

use common::small::{Compiled, compiled, inputs};
use hiosc::Error;
use hiosc::graph::Constant;
use hiosc::run::runtime::Options;
use hiosc::run::{Session, run};
use hiosc::schedule::Algorithm;
use hiosc::vgpu;

const SCENARIOS: [(&str, fn()); 4] =
    [("right", right), ("through-host-memory", right), ("sessions", sessions), ("too-few-gpus", too_few_gpus)];

#[test]
fn scenario() {
    let Ok(name) = std::env::var("HIOSC_TEST_SCENARIO") else { return };
    SCENARIOS.iter().find(|(known, _)| *known == name).expect("a known scenario").1();
    println!("scenario {name} done");
}

/// Runs a scenario in a process of its own; its output, or nothing without a compiler.
fn child(scenario: &str, variables: &[(&str, &str)]) -> Option<String> {
    if !vgpu::compiler_present() {
        skipped!("SKIPPED: no C++ compiler, so no virtual GPUs");
        return None;
    }
    let Compiled { shipped, .. } = compiled(Algorithm::Scatter, 2);
    let sources: Vec<(&str, &str)> = shipped.kernels.iter().map(|k| (k.name.as_str(), k.source.as_str())).collect();
    let kernels = vgpu::compile_kernels(&sources, None).expect("the kernels compile");
    let mut command = Command::new(std::env::current_exe().expect("the test program"));
    command.args(["--exact", "scenario", "--nocapture"]).env("HIOSC_TEST_SCENARIO", scenario).envs(variables.iter().copied());
    command.env("HIOSC_VGPU_STRICT", "1");
    vgpu::command_env(&mut command, &kernels).expect("the virtual driver builds");
    let output = command.output().expect("the child starts");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains(&format!("scenario {scenario} done")), "{scenario} failed:\n{text}");
    Some(text)
}

#[test]
fn outputs_are_right_in_every_order_of_execution() {
    for seed in 0..20 {
        child("right", &[("HIOSC_VGPU_SEED", &seed.to_string())]);
    }
}

#[test]
fn tensors_travel_through_host_memory_where_gpus_are_no_peers() {
    for seed in 0..5 {
        let variables = [("HIOSC_VGPU_PEER", "none"), ("HIOSC_VGPU_SEED", &*seed.to_string())];
        let Some(text) = child("through-host-memory", &variables) else { return };
        assert!(text.contains("gpu0 to gpu1: through host memory"), "{text}");
    }
    let one_way = child("through-host-memory", &[("HIOSC_VGPU_PEER", "0-1")]).expect("a compiler");
    assert!(one_way.contains("gpu0 to gpu1: peer copy") && one_way.contains("gpu1 to gpu0: through host memory"), "{one_way}");
}

#[test]
fn several_sessions_live_in_one_process_and_give_back_their_memory() {
    child("sessions", &[]);
}

#[test]
fn too_few_gpus_is_an_error_with_a_remedy() {
    child("too-few-gpus", &[("HIOSC_VGPU_COUNT", "1")]);
}

/// Two runs agree with the interpreter and with each other.
fn right() {
    let Compiled { graph, costs, plan, shipped, .. } = compiled(Algorithm::Scatter, 2);
    let inputs = inputs(&graph);
    let mut session = Session::load(&graph, &costs, &plan, &shipped, &Options::default()).expect("it loads");
    println!("{}", session.summary());
    let found = session.run(&inputs).expect("it runs");
    for (found, expected) in found.iter().zip(common::interpret::interpret(&graph, &inputs)) {
        let error = common::relative_error(found, &expected);
        assert!(error < 1e-5, "{error}");
    }
    let other: Vec<Constant> = inputs.iter().map(|v| Constant::F32(v.f32().expect("f32").iter().map(|x| -x).collect())).collect();
    session.run(&other).expect("it runs again");
    assert_eq!(session.run(&inputs).expect("and again"), found);
}

fn sessions() {
    let Compiled { graph, costs, plan, shipped, .. } = compiled(Algorithm::Scatter, 2);
    let inputs = inputs(&graph);
    let load = |options: Options| Session::load(&graph, &costs, &plan, &shipped, &options).expect("it loads");
    let free = || cudarc::driver::CudaContext::new(0).and_then(|context| context.mem_get_info()).expect("its free memory").0;
    let before = free();
    let (mut one, mut two, mut folded) =
        (load(Options::default()), load(Options::default().gpus(&[1, 0])), load(Options::default().gpus(&[0, 0])));
    assert!(free() < before);
    let expected = one.run(&inputs).expect("it runs");
    assert_eq!(two.run(&inputs).expect("it runs"), expected);
    assert_eq!(folded.run(&inputs).expect("it runs"), expected);
    let short = one.run(&[inputs[0].clone(), inputs[1].f32().expect("f32")[1..].to_vec().into()]).expect_err("too short").to_string();
    assert_eq!(short, "GPU: input `type` has shape 1x24x8x8: expected 1536 elements, found 1535");
    assert!(one.run(&inputs[..1]).is_err());
    let other = one.run(&[inputs[0].clone(), Constant::I32([0; 1536].into())]).expect_err("another type").to_string();
    assert_eq!(other, "input `type` has type f32, and i32 was given");
    assert_eq!(one.run(&inputs).expect("a refused call does no harm"), expected);
    std::thread::spawn(move || drop((one, two, folded))).join().expect("dropped in another thread");
    assert_eq!(free(), before);
}

fn too_few_gpus() {
    let Compiled { graph, costs, plan, shipped, .. } = compiled(Algorithm::Scatter, 2);
    let inputs = inputs(&graph);
    let refused = run(&graph, &costs, &plan, &shipped, &Options::default(), &inputs).expect_err("one GPU is not two");
    assert!(matches!(refused, Error::Device(_)));
    assert_eq!(
        refused.to_string(),
        "GPU: the plan uses 2 GPUs, and the machine has 1: put several on one with Options::gpus(&[0, 0]) (--gpus 0,0), or let it fold them with Options::fold(true) (--fold)"
    );
    let folded = run(&graph, &costs, &plan, &shipped, &Options::default().fold(true), &inputs).expect("folded, it runs");
    let expected = common::interpret::interpret(&graph, &inputs);
    assert!(folded.iter().zip(&expected).all(|(a, b)| common::relative_error(a, b) < 1e-5));
}
