//! Plans run in-process, on virtual GPUs.
//!
//! Every scenario runs in a separate process. Without a C++ compiler there are no virtual GPUs: the
//! tests say so and pass.

use crate::support::interpret::interpret;
use crate::support::relative_error;
use crate::support::scenario::{self, Scenario};
use crate::support::small::{self, Compiled, compiled, inputs};
use hiosc::Error;
use hiosc::graph::Constant;
use hiosc::kernel::{Kernel, Member};
use hiosc::program::Program;
use hiosc::run::{Session, run};
use hiosc::runtime::RuntimeOptions;
use hiosc::schedule::Algorithm;

const SCENARIOS: [Scenario<()>; 11] = [
    ("demanding", demanding),
    ("grouped", grouped),
    ("right", right),
    ("through-host-memory", right),
    ("sessions", sessions),
    ("too-few-gpus", too_few_gpus),
    ("graph-and-streams", graph_and_streams),
    ("on-device", on_device),
    ("threads", threads),
    ("contexts", contexts),
    ("timed", timed),
];

#[test]
fn scenario() {
    scenario::play(&SCENARIOS);
}

/// Runs a scenario in a separate process. Returns its output, or nothing without a compiler.
fn child(scenario: &str, variables: &[(&str, &str)]) -> Option<String> {
    child_with(&compiled(Algorithm::Scatter, 2), scenario, variables)
}

/// The same with the kernels of this model.
fn child_with(Compiled { shipped, .. }: &Compiled, scenario: &str, variables: &[(&str, &str)]) -> Option<String> {
    let kernels: Vec<(&str, &str)> = shipped.kernels.iter().map(|k| (k.name.as_str(), k.source.as_str())).collect();
    let variables = [&[("HIOSC_VGPU_STRICT", "1")], variables].concat();
    scenario::run(module_path!(), scenario, &kernels, &variables).map(|(out, err)| out + &err)
}

#[test]
fn outputs_are_right_in_every_order_of_execution() {
    for seed in 0..20 {
        child("right", &[("HIOSC_VGPU_SEED", &seed.to_string())]);
    }
}

/// Weights are packed when the program is made, workspaces and counters are planned, and in no
/// order of execution does anything else overwrite them. Counters are zero at first, and stay.
#[test]
fn kernels_may_need_workspaces_counters_packed_weights_and_shared_memory() {
    for seed in 0..10 {
        child_with(&small::demanding(Algorithm::Scatter, 2), "demanding", &[("HIOSC_VGPU_SEED", &seed.to_string())]);
    }
}

fn demanding() {
    let compiled = small::demanding(Algorithm::Scatter, 2);
    let inputs = inputs(&compiled.graph);
    let expected = interpret(&compiled.graph, &inputs);
    // The first inference is the first launch of its kernels only without a warm-up. Where GPUs are
    // tested for copies at load, that overwrites the arenas.
    let options = RuntimeOptions::default;
    for options in [options(), options().warm_up(false), options().graph(false), options().warm_up(false).graph(false)] {
        let mut session = Session::load(&compiled.program(), &options).expect("it loads");
        for _ in 0..3 {
            let found = session.run(&inputs).expect("it runs");
            assert!(found.iter().zip(&expected).all(|(a, b)| relative_error(a, b) < 1e-5));
        }
    }
    // The plan must give a kernel what it needs.
    let Compiled { graph, schedule, timeline, plan, shipped, .. } = &compiled;
    let damages: [fn(&mut Kernel); 4] = [
        |kernel| kernel.workspace_bytes += 4,
        |kernel| kernel.counters += 1,
        |kernel| kernel.counters = 0,
        |kernel| kernel.packings.clear(),
    ];
    for damage in damages {
        let mut costs = compiled.costs.clone();
        let kernels = costs.operators.iter_mut().flatten().map(|cost| &mut cost.kernel);
        kernels.filter(|kernel| kernel.workspace_bytes > 0).for_each(damage);
        let error = Program::new(graph, &costs, schedule, timeline, plan, shipped).expect_err("another kernel").to_string();
        assert!(error.starts_with("internal error in program: kernel demanding_"), "{error}");
    }
}

/// Two convolutions in one launch, each of which needs packed weights and a part of the workspace.
#[test]
fn one_launch_may_compute_several_operators() {
    for seed in 0..10 {
        child_with(&small::grouped(2, 1, small::by_hand), "grouped", &[("HIOSC_VGPU_SEED", &seed.to_string())]);
    }
}

fn grouped() {
    let compiled = small::grouped(2, 1, small::by_hand);
    let inputs = inputs(&compiled.graph);
    let found = run(&compiled.program(), &RuntimeOptions::default(), &inputs).expect("it runs");
    let expected = interpret(&compiled.graph, &inputs);
    assert!(found.iter().zip(&expected).all(|(a, b)| relative_error(a, b) < 1e-5));
    let Compiled { graph, schedule, timeline, plan, shipped, .. } = &compiled;
    let mut costs = compiled.costs.clone();
    for damage in [|members: &mut Vec<Member>| members.truncate(1), |members: &mut Vec<Member>| members[0].blocks += 1] {
        let mut costs = costs.clone();
        costs.grouped_launches[0].costs.iter_mut().for_each(|cost| damage(&mut cost.kernel.members));
        let error = Program::new(graph, &costs, schedule, timeline, plan, shipped).expect_err("other members").to_string();
        assert!(error.starts_with("internal error in program: kernel grouped_c8k8w1_c8k8w3 of members"), "{error}");
    }
    costs.grouped_launches.clear();
    let error = Program::new(graph, &costs, schedule, timeline, plan, shipped).expect_err("no kernel").to_string();
    assert!(error.contains("no kernel computes [%1, %2] on gpu0"), "{error}");
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
fn a_plan_is_replayed_as_one_graph_or_says_why_not() {
    for (refuse, expected) in [
        ("", "replay: one CUDA graph of "),
        ("capture-cold", "replay: one CUDA graph of "),
        ("capture", "plain streams (the CUDA driver refused to begin a capture: CUDA_ERROR_NOT_SUPPORTED"),
        ("capture-across", "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"),
        ("instantiate", "plain streams (the CUDA driver refused to make a graph: CUDA_ERROR_OUT_OF_MEMORY"),
    ] {
        for peer in ["all", "none"] {
            let variables = [("HIOSC_VGPU_REFUSE", refuse), ("HIOSC_VGPU_PEER", peer)];
            let Some(text) = child("graph-and-streams", &variables) else { return };
            assert!(text.contains(expected), "{refuse}: {text}");
        }
    }
}

#[test]
fn four_gpus_with_unequal_links() {
    let peer = "0-1,1-0,2-3,3-2,0-2";
    for seed in 0..3 {
        child("graph-and-streams", &[("HIOSC_VGPU_COUNT", "4"), ("HIOSC_VGPU_PEER", peer), ("HIOSC_VGPU_SEED", &*seed.to_string())]);
    }
}

#[test]
fn inputs_and_outputs_may_live_on_the_gpu() {
    for refuse in ["", "capture"] {
        for peer in ["all", "none"] {
            child("on-device", &[("HIOSC_VGPU_REFUSE", refuse), ("HIOSC_VGPU_PEER", peer), ("HIOSC_VGPU_SEED", "3")]);
        }
    }
}

#[test]
fn models_on_several_threads_do_not_disturb_one_another() {
    for seed in 0..5 {
        child("threads", &[("HIOSC_VGPU_SEED", &*seed.to_string())]);
    }
}

#[test]
fn two_logical_gpus_on_one_device_in_one_context_and_in_two() {
    for seed in 0..5 {
        let Some(text) = child("contexts", &[("HIOSC_VGPU_COUNT", "1"), ("HIOSC_VGPU_SEED", &*seed.to_string())]) else { return };
        for expected in ["gpu0 to gpu1: same device\n", "gpu0 to gpu1: same device, another context\n", "folded: 2 logical GPUs share 1"] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }
}

#[test]
fn runs_are_timed_as_a_whole_and_step_by_step() {
    child("timed", &[]);
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
    let compiled = compiled(Algorithm::Scatter, 2);
    let (graph, program) = (&compiled.graph, compiled.program());
    let inputs = inputs(graph);
    let mut session = Session::load(&program, &RuntimeOptions::default()).expect("it loads");
    println!("{}", session.summary());
    let found = session.run(&inputs).expect("it runs");
    for (found, expected) in found.iter().zip(interpret(graph, &inputs)) {
        let error = relative_error(found, &expected);
        assert!(error < 1e-5, "{error}");
    }
    let other: Vec<Constant> = inputs.iter().map(|v| Constant::F32(v.f32().expect("f32").iter().map(|x| -x).collect())).collect();
    session.run(&other).expect("it runs again");
    assert_eq!(session.run(&inputs).expect("and again"), found);
}

/// As a graph and on plain streams, in any sequence, the bits are the same, and right.
fn graph_and_streams() {
    let gpus = std::env::var("HIOSC_VGPU_COUNT").map_or(2, |n| n.parse().expect("a number"));
    let compiled = compiled(Algorithm::Scatter, gpus);
    let (graph, program) = (&compiled.graph, compiled.program());
    assert_eq!(compiled.plan.gpus.len(), gpus);
    let inputs = inputs(graph);
    let load = |options: RuntimeOptions| Session::load(&program, &options).expect("it loads");
    let mut session = load(RuntimeOptions::default());
    println!("{}", session.summary());
    let refused = std::env::var("HIOSC_VGPU_REFUSE").unwrap_or_default();
    assert_eq!(session.replays(), refused.is_empty() || refused == "capture-cold");
    let expected = interpret(graph, &inputs);
    let first = session.run(&inputs).expect("it runs");
    assert!(first.iter().zip(&expected).all(|(a, b)| relative_error(a, b) < 1e-5));
    session.use_graph(false);
    assert!(!session.replays());
    assert_eq!(session.run(&inputs).expect("it runs on streams"), first);
    session.use_graph(true);
    assert_eq!(session.run(&inputs).expect("and again as before"), first);
    let mut plain = load(RuntimeOptions::default().graph(false).warm_up(false));
    assert!(plain.summary().contains("plain streams (as requested)") && !plain.replays());
    assert_eq!(plain.run(&inputs).expect("it runs"), first);
}

/// The same from and to device memory, mixed with runs from and to host memory.
fn on_device() {
    let compiled = compiled(Algorithm::Scatter, 2);
    let (graph, program) = (&compiled.graph, compiled.program());
    let inputs = inputs(graph);
    let mut session = Session::load(&program, &RuntimeOptions::default()).expect("it loads");
    let context = cudarc::driver::CudaContext::new(0).expect("a context");
    // SAFETY: one stream, which is synchronised.
    unsafe { context.disable_event_tracking() };
    let stream = context.new_stream().expect("a stream");
    let outputs = session.run(&inputs).expect("it runs");
    for negated in [false, true] {
        let sign = if negated { -1.0 } else { 1.0 };
        let values: Vec<Vec<f32>> = inputs.iter().map(|v| v.f32().expect("f32").iter().map(|x| sign * x).collect()).collect();
        let there: Vec<_> = values.iter().map(|v| stream.clone_htod(v).expect("memory")).collect();
        let back: Vec<_> = outputs.iter().map(|v| stream.alloc_zeros::<f32>(v.bytes().len() / 4).expect("memory")).collect();
        stream.synchronize().expect("all there");
        use cudarc::driver::DevicePtr;
        let address = |slices: &[cudarc::driver::CudaSlice<f32>]| slices.iter().map(|s| s.device_ptr(&stream).0).collect::<Vec<u64>>();
        let (from, to) = (address(&there), address(&back));
        // SAFETY: the buffers are on the plan's first GPU and hold the tensors.
        unsafe { session.run_device(&from, &to) }.expect("it runs on device memory");
        let found: Vec<Constant> = back.iter().map(|b| stream.clone_dtoh(b).expect("values").into()).collect();
        let expected = session.run(&values.into_iter().map(Constant::from).collect::<Vec<_>>()).expect("it runs");
        assert_eq!(found, expected);
        // SAFETY: refused before anything is touched.
        let refused = unsafe { session.run_device(&from[1..], &to) }.expect_err("an input is missing").to_string();
        assert_eq!(refused, "GPU: expected 2 inputs, found 1");
    }
}

/// Models are loaded (which captures) and run on separate threads, at the same time.
fn threads() {
    let compiled = compiled(Algorithm::Scatter, 2);
    let (graph, program) = (&compiled.graph, compiled.program());
    let inputs = inputs(graph);
    let work = || {
        let mut session = Session::load(&program, &RuntimeOptions::default()).expect("it loads");
        assert!(session.replays(), "{}", session.summary());
        (0..3).map(|_| session.run(&inputs).expect("it runs")).collect::<Vec<_>>()
    };
    let expected = work();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(work)).collect();
        assert!(threads.into_iter().all(|thread| thread.join().expect("no panic") == expected));
    });
}

fn contexts() {
    let compiled = compiled(Algorithm::Scatter, 2);
    let (graph, program) = (&compiled.graph, compiled.program());
    let inputs = inputs(graph);
    let run = |separate: bool| {
        let options = RuntimeOptions::default().on(&[0, 0]).separate_contexts(separate);
        let mut session = Session::load(&program, &options).expect("it loads");
        println!("{}", session.summary());
        assert!(session.replays());
        (0..3).map(|_| session.run(&inputs).expect("it runs")).collect::<Vec<_>>()
    };
    let expected = run(false);
    assert_eq!(run(true), expected);
    let reference = interpret(graph, &inputs);
    assert!(expected[0].iter().zip(&reference).all(|(a, b)| relative_error(a, b) < 1e-5));
}

fn timed() {
    let compiled = compiled(Algorithm::Scatter, 2);
    let (graph, program) = (&compiled.graph, compiled.program());
    let inputs = inputs(graph);
    let mut session = Session::load(&program, &RuntimeOptions::default()).expect("it loads");
    for replay in [true, false] {
        session.use_graph(replay);
        let timing = session.time(&inputs).expect("it runs");
        assert!(timing.device > 0 && timing.host >= timing.device, "{timing:?}");
        let resident = session.time_resident().expect("it runs");
        assert!(resident.device > 0 && resident.host >= resident.device, "{resident:?}");
    }
    let spans = session.trace(&inputs).expect("it runs");
    let predicted = &program.predictions;
    assert_eq!(spans.len(), predicted.len());
    assert!(spans.iter().zip(predicted).all(|(s, p)| (s.kind, s.gpu, s.stream) == (p.kind, p.gpu, p.stream) && s.end >= s.start));
    assert!(predicted.iter().all(|p| p.start <= p.end && p.end <= compiled.plan.latency));
    assert_eq!(predicted.iter().filter(|p| p.stage.is_some()).count(), graph.operators.len());
    // By the measured times, too, what a step reads was complete before it started.
    let launches: Vec<_> = predicted.iter().zip(&spans).filter(|(p, _)| p.stage.is_some()).collect();
    let end_of = |name: &str| launches.iter().find(|(p, _)| p.label == name).expect("launched").1.end;
    let start_of = |name: &str| launches.iter().find(|(p, _)| p.label == name).expect("launched").1.start;
    assert!(end_of("/stem") <= start_of("/scaled") && end_of("/fire/deep") <= start_of("/pool"));
}

fn sessions() {
    let compiled = compiled(Algorithm::Scatter, 2);
    let (graph, program) = (&compiled.graph, compiled.program());
    let inputs = inputs(graph);
    let load = |options: RuntimeOptions| Session::load(&program, &options).expect("it loads");
    let free = || cudarc::driver::CudaContext::new(0).and_then(|context| context.mem_get_info()).expect("its free memory").0;
    let before = free();
    let (mut one, mut two, mut folded) =
        (load(RuntimeOptions::default()), load(RuntimeOptions::default().on(&[1, 0])), load(RuntimeOptions::default().on(&[0, 0])));
    assert!(free() < before);
    let expected = one.run(&inputs).expect("it runs");
    assert_eq!(two.run(&inputs).expect("it runs"), expected);
    assert_eq!(folded.run(&inputs).expect("it runs"), expected);
    let short = one.run(&[inputs[0].clone(), inputs[1].f32().expect("f32")[1..].to_vec().into()]).expect_err("too short").to_string();
    assert_eq!(short, "GPU: input `type` has shape 1x24x8x8: expected 1536 elements, found 1535");
    assert!(one.run(&inputs[..1]).is_err());
    let other = one.run(&[inputs[0].clone(), Constant::I32([0; 1536].into())]).expect_err("another type").to_string();
    assert_eq!(other, "input `type` has type f32, but i32 was given");
    assert_eq!(one.run(&inputs).expect("a refused call does no harm"), expected);
    std::thread::spawn(move || drop((one, two, folded))).join().expect("dropped in another thread");
    assert_eq!(free(), before);
}

fn too_few_gpus() {
    let compiled = compiled(Algorithm::Scatter, 2);
    let (graph, program) = (&compiled.graph, compiled.program());
    let inputs = inputs(graph);
    let refused = run(&program, &RuntimeOptions::default(), &inputs).expect_err("one GPU is not two");
    assert!(matches!(refused, Error::Device(_)));
    assert_eq!(
        refused.to_string(),
        "GPU: the plan uses 2 GPUs, but the machine has 1: put several on one with RuntimeOptions::on(&[0, 0]) (--on 0,0), or let it fold them with RuntimeOptions::fold(true) (--fold)"
    );
    let folded = run(&program, &RuntimeOptions::default().fold(true), &inputs).expect("folded, it runs");
    let expected = interpret(graph, &inputs);
    assert!(folded.iter().zip(&expected).all(|(a, b)| relative_error(a, b) < 1e-5));
}
