//! The planner and its verifier, against each other and against brute force.
//!
//! * Random graphs and schedules: every plan is accepted, and every plan that lacks one wait,
//!   record or copy is rejected.
//! * Small plans: the verifier agrees with a brute force over all execution orders, on plans and on
//!   plans damaged in many ways.
//! * Every rule of the verifier rejects something.

mod brute;
mod random;
mod rules;

use std::time::Instant;

use crate::support::small;
use brute::{Verdict, judge};
use hiosc::error::Error;
use hiosc::graph::{Graph, Origin};
use hiosc::ids::{BufferId, EventId, GpuId, OpId, StreamId, TensorId};
use hiosc::plan::{Operand, Plan, PlanOptions, Step, mutants, plan, verify};
use hiosc::schedule::{Algorithm, LinkMode, Problem, Schedule, Stage, schedule};
use proptest::prelude::*;
use random::{NumberTape, PlanCase, constant, input, seeded, sum, tensor, view};

/// Without stage barriers.
fn plain() -> PlanOptions {
    PlanOptions::default()
}

/// With stage barriers.
fn barriers() -> PlanOptions {
    PlanOptions::default().stage_barriers(true)
}

fn make(case: &PlanCase, options: &PlanOptions) -> Plan {
    plan(&case.graph, &case.costs, &case.schedule, &case.timeline, options).unwrap()
}

/// The number of the first rule that the verifier finds violated; 0 for a good plan.
fn rule(result: hiosc::Result<()>) -> u32 {
    match result {
        Ok(()) => 0,
        Err(Error::Internal { pass: "plan", message }) => {
            let number = message.strip_prefix("rule ").and_then(|rest| rest.split(' ').next()).and_then(|n| n.parse().ok());
            number.unwrap_or_else(|| panic!("no rule in {message:?}"))
        }
        Err(other) => panic!("{other}"),
    }
}

/// From this rule on, the rules are about minimality.
const MINIMALITY: u32 = 15;

/// Plans `case`, checks the plan and all its mutants. Returns the numbers of steps and mutants.
fn check(case: &PlanCase, options: &PlanOptions) -> (usize, usize) {
    let plan = make(case, options);
    assert_eq!(plan, make(case, options), "not deterministic");
    let judge = |plan: &Plan| verify(&case.graph, Some(&case.schedule), options, plan);
    if let Err(error) = judge(&plan) {
        panic!("{error}\n{}", plan.text(&case.graph));
    }
    let mut count = 0;
    for (step, mutant) in mutants(&plan) {
        count += 1;
        let rule = rule(judge(&mutant));
        // Not only because an event has lost its last wait: an order must be missing.
        assert!((1..MINIMALITY).contains(&rule), "without step {step}: rule {rule}\n{}", plan.text(&case.graph));
    }
    (plan.steps.len(), count)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_plans_are_right_and_minimal(numbers in prop::collection::vec(any::<u32>(), 0..400), stage_barriers in any::<bool>()) {
        check(&random::case(&mut NumberTape(numbers.into_iter()), 30, 4), &PlanOptions::default().stage_barriers(stage_barriers));
    }
}

/// Plans with one defect each.
fn damaged(plan: &Plan, tape: &mut NumberTape<impl Iterator<Item = u32>>) -> Vec<Plan> {
    let mut all: Vec<Plan> = mutants(plan).map(|(_, mutant)| mutant).collect();
    let mut changed = |change: &dyn Fn(&mut Plan)| {
        let mut mutant = plan.clone();
        change(&mut mutant);
        all.push(mutant);
    };
    for i in 1..plan.steps.len() {
        changed(&|mutant| mutant.steps.swap(i - 1, i));
    }
    for (i, step) in plan.steps.iter().enumerate() {
        for other in (0..plan.events.len()).map(EventId::new) {
            if let Step::Wait { event, .. } | Step::Record { event, .. } = step
                && *event != other
            {
                changed(&|mutant| {
                    if let Step::Wait { event, .. } | Step::Record { event, .. } = &mut mutant.steps[i] {
                        *event = other;
                    }
                });
            }
        }
    }
    for (b, buffer) in plan.buffers.iter().enumerate() {
        let others = plan.buffers.iter().filter(|other| other.gpu == buffer.gpu).map(|other| other.offset);
        let mut offsets: Vec<u64> = others.chain([buffer.offset + 256, buffer.offset.saturating_sub(256)]).collect();
        offsets.sort_unstable();
        offsets.dedup();
        for offset in offsets.into_iter().filter(|&offset| offset != buffer.offset) {
            changed(&|mutant| mutant.buffers[b].offset = offset);
        }
    }
    for event in (0..plan.events.len()).map(EventId::new) {
        let (at, stream) = (tape.pick(plan.steps.len() + 1), StreamId::new(tape.pick(plan.streams.len())));
        changed(&|mutant| insert(mutant, at, Step::Wait { event, stream }));
    }
    // Two buffers on the same bytes, with an event that may make that right: a wait for memory
    // alone.
    let touches = |step: &Step, b: BufferId| match step {
        Step::Launch { reads, writes, .. } => writes.contains(&b) || reads.iter().any(|operand| operand.buffers().contains(&b)),
        Step::Upload { to, .. } => *to == b,
        Step::Copy { from, to, .. } => *from == b || *to == b,
        Step::Download { from, .. } => *from == b,
        Step::Record { .. } | Step::Wait { .. } => false,
    };
    for (a, b) in (0..plan.buffers.len()).flat_map(|a| (0..plan.buffers.len()).map(move |b| (a, b))).filter(|(a, b)| a != b) {
        let last = plan.steps.iter().rposition(|step| touches(step, BufferId::new(a))).unwrap();
        let first = plan.steps.iter().position(|step| touches(step, BufferId::new(b))).unwrap();
        if plan.buffers[a].gpu == plan.buffers[b].gpu && last < first {
            changed(&|mutant| {
                let (event, stream, waiting) =
                    (EventId::new(mutant.events.len()), mutant.steps[last].stream(), mutant.steps[first].stream());
                mutant.buffers[b].offset = mutant.buffers[a].offset;
                mutant.events.push(mutant.streams[stream.index()].gpu);
                insert(mutant, first, Step::Wait { event, stream: waiting });
                insert(mutant, last + 1, Step::Record { event, stream });
            });
        }
    }
    let (at, later) = (tape.pick(plan.steps.len() + 1), tape.pick(4));
    let (from, to) = (tape.pick(plan.streams.len()), StreamId::new(tape.pick(plan.streams.len())));
    changed(&|mutant| {
        let event = EventId::new(mutant.events.len());
        mutant.events.push(mutant.streams[from].gpu);
        insert(mutant, at, Step::Record { event, stream: StreamId::new(from) });
        let end = mutant.steps.len();
        insert(mutant, (at + 1 + later).min(end), Step::Wait { event, stream: to });
    });
    all
}

fn insert(plan: &mut Plan, at: usize, step: Step) {
    plan.steps.insert(at, step);
    let section_of_step = plan.sections.iter().position(|section| section.end > at).unwrap_or(plan.sections.len() - 1);
    for (i, section) in plan.sections.iter_mut().enumerate() {
        section.first += usize::from(i > section_of_step);
        section.end += usize::from(i >= section_of_step);
    }
}

/// Compares the verifier with brute force. Returns the verdict of both.
fn agree(graph: &Graph, plan: &Plan) -> Verdict {
    let (brute, result) = (judge(graph, plan), verify(graph, None, &plain(), plan));
    let text = || format!("brute force: {brute:?}; verifier: {result:?}\n{}", plan.text(graph));
    let class = match &result {
        Ok(()) => 0,
        Err(Error::Internal { message, .. }) => {
            if ["rule 15", "rule 16", "rule 17"].iter().any(|r| message.starts_with(r)) {
                1
            } else {
                2
            }
        }
        Err(_) => 3,
    };
    match &brute {
        Verdict::Good => assert_eq!(class, 0, "{}", text()),
        // A wait for an event that is not yet recorded does nothing: brute force finds it
        // redundant, the verifier forbids it.
        Verdict::NotMinimal(_) if brute::has_unbound_wait(plan) => assert!(class > 0, "{}", text()),
        Verdict::NotMinimal(_) => assert_eq!(class, 1, "{}", text()),
        Verdict::Wrong(_) => assert_eq!(class, 2, "{}", text()),
    }
    brute
}

#[test]
fn verifier_agrees_with_brute_force() {
    let (mut plans, mut mutants, mut counts) = (0, 0, [0; 3]);
    let (mut copies, mut sharing, mut groups) = (0, 0, 0);
    for seed in 0.. {
        let mut tape = seeded(seed);
        let case = random::case(&mut tape, 4, 3);
        let plan = make(&case, &plain());
        let has_copy = plan.steps.iter().any(|step| matches!(step, Step::Copy { .. }));
        let shares = (0..plan.gpus.len()).any(|g| plan.gpus[g].arena_bytes < plan.buffer_bytes(GpuId::new(g)));
        // A few plans with one stream, or with neither a copy nor shared bytes, are enough.
        let plain = plan.streams.len() < 2 || !has_copy && !shares;
        if plan.steps.len() > 12 || plain && !tape.once_in(20) {
            continue;
        }
        assert_eq!(agree(&case.graph, &plan), Verdict::Good);
        let once = damaged(&plan, &mut tape);
        let twice: Vec<Plan> = (0..20)
            .filter_map(|_| {
                let again = damaged(once.get(tape.pick(once.len().max(1)))?, &mut tape);
                again.get(tape.pick(again.len().max(1))).cloned()
            })
            .collect();
        for mutant in once.iter().chain(&twice) {
            mutants += 1;
            counts[match agree(&case.graph, mutant) {
                Verdict::Good => 0,
                Verdict::NotMinimal(_) => 1,
                Verdict::Wrong(_) => 2,
            }] += 1;
        }
        plans += 1;
        copies += usize::from(has_copy);
        sharing += usize::from(shares);
        groups += usize::from(plan.steps.iter().any(|step| matches!(step, Step::Launch { operators, .. } if operators.len() > 1)));
        if plans == 1000 {
            break;
        }
    }
    let [good, wasteful, wrong] = counts;
    println!("compared {plans} plans ({copies} with copies, {sharing} with shared bytes, {groups} with grouped launches)");
    println!("and {mutants} damaged ones: {good} good, {wasteful} wasteful, {wrong} wrong");
    assert!(
        copies >= plans / 5 && sharing >= plans / 5 && groups >= plans / 20,
        "the plans must try copies, shared bytes and grouped launches"
    );
    assert!(good > 100 && wasteful > 100 && wrong > 100, "each verdict must occur often enough to mean something: {counts:?}");
}

/// Two GPUs, a stage of two operators, a copy, a constant, a view, shared bytes:
///
/// ```text
/// gpu0:  x ─▶ op0 (+c) ─▶ a ─┬─▶ op2 ─▶ d ─▶ op3 ─▶ e ─▶ op4 ─▶ f (output, as a view)
///        x ─▶ op1 ──────▶ b ─┘
/// gpu1:                   a ───▶ op5 ─▶ g (output)
/// ```
fn specimen() -> PlanCase {
    let mut g = Graph { name: "specimen".into(), ..Graph::default() };
    let x = input(&mut g, "x", 64);
    let c = constant(&mut g, [1, 64]);
    let a = sum(&mut g, &[x, c], 1)[0];
    let b = sum(&mut g, &[x], 1)[0];
    let d = sum(&mut g, &[b, a], 1)[0];
    let e = sum(&mut g, &[d], 1)[0];
    let f = sum(&mut g, &[e], 1)[0];
    let out = sum(&mut g, &[a], 1)[0];
    g.outputs = vec![view(&mut g, f), out];
    PlanCase::new(g, &[&[&[0, 1], &[2], &[3], &[4]], &[&[5]]])
}

#[test]
fn specimen_as_text() {
    let case = specimen();
    let text = make(&case, &plain()).text(&case.graph);
    let expected = r#"plan of specimen: gpus 2, streams 4, events 5, steps 20, latency 4000 ns

gpu0, planned for gpu0 of the target
  weights 256 bytes
    @0 t1 "t1" 1x64 f32
  streams
    s0 compute 0, origin
    s1 compute 1
    s2 copy to gpu1
  arena 768 bytes, without sharing 1536 bytes
    b0 @0 256 bytes t0 "x" 1x64 f32
    b1 @256 256 bytes t2 "t2" 1x64 f32
    b2 @512 256 bytes t3 "t3" 1x64 f32
    b4 @0 256 bytes t4 "t4" 1x64 f32
    b6 @512 256 bytes t5 "t5" 1x64 f32
    b7 @0 256 bytes t6 "t6" 1x64 f32

gpu1, planned for gpu1 of the target
  weights 0 bytes
  streams
    s3 compute 0
  arena 512 bytes, without sharing 512 bytes
    b3 @0 256 bytes t2 "t2" 1x64 f32
    b5 @256 256 bytes t7 "t7" 1x64 f32

begin
  s0 upload input 0 -> b0 "x"
  s0 record e0

stage 0 of gpu0, 0 to 1000 ns
  s0 launch %0 "op0" elementwise(b0 "x", t1 "t1") -> b1 "t2"
  s0 record e1
  s1 wait e0
  s1 launch %1 "op1" elementwise(b0 "x") -> b2 "t3"
  s1 record e2
  s2 wait e1
  s2 copy b1 "t2" -> b3 on gpu1
  s2 record e3

stage 1 of gpu0, 1000 to 2000 ns
  s0 wait e2
  s0 launch %2 "op2" elementwise(b2 "t3", b1 "t2") -> b4 "t4"

stage 0 of gpu1, 1500 to 2500 ns
  s3 wait e3
  s3 launch %5 "op5" elementwise(b3 "t2") -> b5 "t7"

stage 2 of gpu0, 2000 to 3000 ns
  s0 launch %3 "op3" elementwise(b4 "t4") -> b6 "t5"

stage 3 of gpu0, 3000 to 4000 ns
  s0 launch %4 "op4" elementwise(b6 "t5") -> b7 "t6"

end
  s0 download b7 "t6" -> output 0 "t8"
  s3 download b5 "t7" -> output 1 "t7"
  s3 record e4
  s0 wait e4
"#;
    assert_eq!(text, expected);
}

/// Four operators on one GPU, in two stages; 2 follows 0 and 3 follows 1.
fn two_wide_stages() -> PlanCase {
    let mut g = Graph::default();
    let x = input(&mut g, "x", 64);
    let (a, b) = (sum(&mut g, &[x], 1)[0], sum(&mut g, &[x], 1)[0]);
    g.outputs = vec![sum(&mut g, &[a], 1)[0], sum(&mut g, &[b], 1)[0]];
    PlanCase::new(g, &[&[&[0, 1], &[3, 2]]])
}

fn count(plan: &Plan, wanted: impl Fn(&Step) -> bool) -> usize {
    plan.steps.iter().filter(|step| wanted(step)).count()
}

fn waits(plan: &Plan) -> usize {
    count(plan, |step| matches!(step, Step::Wait { .. }))
}

/// A stage is one launch if the schedule assumes that: if it is faster than its operators run
/// concurrently.
#[test]
fn a_stage_is_one_launch_where_that_is_faster() {
    let groups = |plan: &Plan| count(plan, |step| matches!(step, Step::Launch { operators, .. } if operators.len() > 1));
    for (time, expected) in [(1, 1), (1_000_000, 0)] {
        let planned = small::grouped(2, time, |problem| schedule(problem, Algorithm::IntraGpu).unwrap());
        assert_eq!(groups(&planned.plan), expected, "intra-gpu, {time} ns");
        // In this schedule they are a stage, however long it takes.
        let planned = small::grouped(2, time, small::by_hand);
        assert_eq!(groups(&planned.plan), expected, "by hand, {time} ns");
        assert!(planned.plan.latency < 1_000_000, "{} ns", planned.plan.latency);
    }
}

/// The schedulers count the weights with their real size, packed or not.
#[test]
fn weights_are_counted_as_they_are_placed() {
    for planned in [small::compiled(Algorithm::Scatter, 2), small::demanding(Algorithm::Scatter, 2)] {
        let problem = Problem::new(&planned.graph, &planned.costs, LinkMode::Serial).unwrap();
        let gpu = |op: OpId| planned.schedule.gpus.iter().position(|list| list.iter().any(|stage| stage.operators.contains(&op))).unwrap();
        let placed: Vec<u64> = planned.plan.gpus.iter().map(|gpu| gpu.weights_bytes).collect();
        assert_eq!(problem.memory.used(2, gpu), placed);
    }
}

#[test]
fn wide_stages_keep_data_in_its_stream() {
    let case = two_wide_stages();
    check(&case, &plain());
    let plan = make(&case, &plain());
    assert_eq!(plan.streams.len(), 2);
    let stream = |op: u32| {
        plan.steps.iter().find(|s| matches!(s, Step::Launch { operators, .. } if operators.contains(&OpId(op)))).unwrap().stream()
    };
    assert_eq!((stream(0), stream(1)), (stream(2), stream(3)));
    // The second stream waits for the upload, the origin for the second stream. Barriers add one
    // wait each way, and one of them serves the join.
    assert_eq!(waits(&plan), 2);
    check(&case, &barriers());
    assert_eq!(waits(&make(&case, &barriers())), 4);
}

#[test]
fn a_chain_on_one_gpu_needs_no_events_and_two_buffers() {
    let mut g = Graph::default();
    let mut t = input(&mut g, "x", 100);
    for _ in 0..10 {
        t = sum(&mut g, &[t], 1)[0];
    }
    g.outputs = vec![t];
    let stages: Vec<Vec<u32>> = (0..10).map(|op| vec![op]).collect();
    let stages: Vec<&[u32]> = stages.iter().map(Vec::as_slice).collect();
    // The schedule's first GPU is empty: the plan has one GPU, which stands for the second.
    let case = PlanCase::new(g, &[&[], &stages]);
    check(&case, &plain());
    let plan = make(&case, &plain());
    assert_eq!((plan.gpus.len(), &plan.targets[..], plan.streams.len(), plan.events.len()), (1, &[GpuId(1)][..], 1, 0));
    assert_eq!((plan.gpus[0].arena_bytes, plan.buffer_bytes(GpuId(0))), (1024, 11 * 512));
    assert_eq!(plan.steps.len(), 12);
}

#[test]
fn copies_go_once_to_each_gpu_and_keep_the_timelines_order() {
    // op0 and op1 on gpu0; both results are read twice on gpu1 and once on gpu2.
    let mut g = Graph::default();
    let x = input(&mut g, "x", 64);
    let (a, b) = (sum(&mut g, &[x], 1)[0], sum(&mut g, &[x], 1)[0]);
    let results: Vec<_> = (0..3).map(|_| sum(&mut g, &[a, b], 1)[0]).collect();
    g.outputs = results;
    let mut case = PlanCase::new(g, &[&[&[0, 1]], &[&[2], &[3]], &[&[4]]]);
    let copies = |case: &PlanCase| -> Vec<_> {
        let steps = make(case, &plain()).steps;
        steps.iter().filter_map(|s| if let Step::Copy { tensor, stream, .. } = s { Some((*tensor, *stream)) } else { None }).collect()
    };
    check(&case, &plain());
    let (s2, s3) = (StreamId(2), StreamId(3));
    assert_eq!(copies(&case), [(a, s2), (a, s3), (b, s2), (b, s3)]);
    // By the timeline, b is copied to gpu1 first.
    let transfer = case.timeline.transfers.iter_mut().find(|t| t.tensor == a && t.to == GpuId(1)).unwrap();
    transfer.start += 1;
    check(&case, &plain());
    assert_eq!(copies(&case), [(a, s3), (b, s2), (b, s3), (a, s2)]);
}

#[test]
fn inputs_as_outputs_views_and_repeated_outputs() {
    let mut g = Graph::default();
    let (x, y) = (input(&mut g, "x", 64), input(&mut g, "y", 64));
    let unread = input(&mut g, "unread", 64);
    let a = sum(&mut g, &[y], 1)[0];
    let turned = view(&mut g, y);
    g.outputs = vec![a, x, turned, a];
    let case = PlanCase::new(g, &[&[], &[&[0]]]);
    check(&case, &plain());
    let plan = make(&case, &plain());
    assert_eq!(count(&plan, |s| matches!(s, Step::Upload { .. })), 2);
    assert_eq!(count(&plan, |s| matches!(s, Step::Download { .. })), 4);
    assert!(plan.buffers.iter().all(|b| b.tensor() != Some(unread)));

    // No operators at all.
    let mut g = Graph::default();
    g.outputs = vec![input(&mut g, "x", 64)];
    let case = PlanCase::new(g, &[&[], &[]]);
    check(&case, &plain());
    assert_eq!(make(&case, &plain()).steps.len(), 2);

    // tensors without elements are neither uploaded nor downloaded
    let mut g = Graph::default();
    let (x, nothing) = (input(&mut g, "x", 64), input(&mut g, "nothing", 0));
    g.outputs = vec![nothing, x];
    let case = PlanCase::new(g, &[&[], &[]]);
    check(&case, &plain());
    assert_eq!(make(&case, &plain()).steps.len(), 2);
}

/// a on gpu0 and b on gpu1 are joined; one operator on each GPU reads the whole. Each part is
/// copied once, straight to its destination.
#[test]
fn parts_of_a_joined_tensor_are_adjacent() {
    let mut g = Graph::default();
    let x = input(&mut g, "x", 64);
    let (a, b) = (sum(&mut g, &[x], 1)[0], sum(&mut g, &[x], 1)[0]);
    let whole = tensor(&mut g, "whole", [1, 128], Origin::Joined(vec![b, a]));
    let turned = view(&mut g, whole);
    let (c, d) = (sum(&mut g, &[whole], 1)[0], sum(&mut g, &[turned], 1)[0]);
    g.outputs = vec![c, d, a];
    g.verify().unwrap();
    let case = PlanCase::new(g, &[&[&[0], &[2]], &[&[1], &[3]]]);
    for options in [plain(), barriers()] {
        check(&case, &options);
    }
    let plan = make(&case, &plain());
    assert_eq!(count(&plan, |s| matches!(s, Step::Copy { .. })), 2);
    let buffer_of =
        |t: TensorId, gpu: u32| plan.buffers.iter().position(|other| other.tensor() == Some(t) && other.gpu == GpuId(gpu)).unwrap();
    for gpu in 0..2 {
        assert_eq!(plan.buffers[buffer_of(b, gpu)].offset + 256, plan.buffers[buffer_of(a, gpu)].offset);
    }
    // Parts that are not adjacent, or in another order, are refused.
    let judged = |change: &dyn Fn(&mut Plan)| {
        let mut damaged = plan.clone();
        change(&mut damaged);
        rule(verify(&case.graph, None, &plain(), &damaged))
    };
    let launch = plan.steps.iter().position(|s| matches!(s, Step::Launch { operators, .. } if operators[..] == [OpId(2)])).unwrap();
    let reads = |p: &mut Plan, new: Operand| {
        let Step::Launch { reads, .. } = &mut p.steps[launch] else { unreachable!() };
        reads[0] = new;
    };
    let (first, second) = (BufferId::new(buffer_of(b, 0)), BufferId::new(buffer_of(a, 0)));
    assert_eq!(judged(&|_| ()), 0);
    assert_eq!(judged(&|p| p.gpus[0].arena_bytes += 1024), 0);
    let away = |p: &mut Plan| {
        p.gpus[0].arena_bytes += 1024;
        p.buffers[buffer_of(a, 0)].offset = p.gpus[0].arena_bytes - 512;
    };
    assert_eq!(judged(&away), 5);
    assert_eq!(judged(&|p| p.buffers[buffer_of(a, 0)].offset -= 8), 3);
    assert_eq!(judged(&|p| reads(p, Operand::Joined(vec![second, first]))), 5);
    assert_eq!(judged(&|p| reads(p, Operand::Joined(vec![first]))), 5);
    assert_eq!(judged(&|p| reads(p, Operand::Joined(vec![]))), 1);
    assert_eq!(judged(&|p| reads(p, Operand::Buffer(first))), 5);
}

/// b reads some elements of a slice of a, on another GPU: a is copied as a whole, and b reads from
/// the right byte on.
#[test]
fn slices_are_read_in_place() {
    let mut g = Graph::default();
    let x = input(&mut g, "x", 256);
    let a = sum(&mut g, &[x], 1)[0];
    let outer = tensor(&mut g, "outer", [1, 128], Origin::Slice { of: a, begin: 64 });
    let turned = view(&mut g, outer);
    let inner = tensor(&mut g, "inner", [1, 64], Origin::Slice { of: turned, begin: 32 });
    let b = sum(&mut g, &[inner], 1)[0];
    g.outputs = vec![b];
    g.verify().unwrap();
    let case = PlanCase::new(g, &[&[&[0]], &[&[1]]]);
    check(&case, &plain());
    let plan = make(&case, &plain());
    let launch = plan.steps.iter().position(|s| matches!(s, Step::Launch { operators, .. } if operators[..] == [OpId(1)])).unwrap();
    let Step::Launch { reads, .. } = &plan.steps[launch] else { unreachable!() };
    let &Operand::Slice { buffer, begin: 384, bytes: 256 } = &reads[0] else { panic!("{reads:?}") };
    assert_eq!((plan.buffers[buffer.index()].tensor(), plan.buffers[buffer.index()].bytes), (Some(a), 1024));
    let judged = |operand: Operand| {
        let mut damaged = plan.clone();
        let Step::Launch { reads, .. } = &mut damaged.steps[launch] else { unreachable!() };
        reads[0] = operand;
        rule(verify(&case.graph, None, &plain(), &damaged))
    };
    assert_eq!(judged(Operand::Slice { buffer, begin: 384, bytes: 256 }), 0);
    for (begin, bytes) in [(256, 256), (384, 252), (388, 256), (384, u64::MAX), (u64::MAX, 256)] {
        assert_eq!(judged(Operand::Slice { buffer, begin, bytes }), 5, "{bytes} bytes from {begin}");
    }
    assert_eq!(judged(Operand::Buffer(buffer)), 5);
    assert_eq!(judged(Operand::Joined(vec![buffer])), 5);
}

#[test]
fn refusals_say_what_and_why() {
    let refuse = |case: &PlanCase| plan(&case.graph, &case.costs, &case.schedule, &case.timeline, &plain()).unwrap_err().to_string();
    let mut case = specimen();
    let c = case.graph.operators[0].inputs[1];
    case.graph.outputs.push(c);
    assert!(refuse(&case).contains("\"t1\" is read on gpu0, but nothing writes it there"), "{}", refuse(&case));

    let mut case = specimen();
    case.costs.gpus[0].memory = 1023;
    let text = "gpu0 (test) would need 1024 bytes (256 of weights, 768 of activations) but has 1023: \
                spread the model over more GPUs (--gpus) or choose a larger device (--device)";
    assert_eq!(refuse(&case), text);

    let internal = |change: &dyn Fn(&mut PlanCase), text: &str| {
        let mut case = specimen();
        change(&mut case);
        let refusal = refuse(&case);
        assert!(refusal.starts_with("internal error in ") && refusal.contains(text), "{refusal}");
    };
    internal(&|case| drop(case.schedule.gpus[0].pop()), "operator %4 \"op4\" is not scheduled");
    internal(&|case| case.schedule.gpus[1][0].operators.push(OpId(4)), "operator %4 \"op4\" is scheduled twice");
    internal(&|case| case.schedule.gpus[1][0].operators.push(OpId(9)), "no operator %9");
    internal(&|case| case.schedule.gpus[1].push(Stage { operators: vec![] }), "the timeline lacks stage 1 of gpu1");
    internal(&|case| case.schedule.gpus[0].swap(1, 2), "depends on itself through other stages");
    internal(&|case| case.costs.links[0][1] = None, "no link");
    internal(&|case| case.timeline.stages.clear(), "the timeline lacks stage 0 of gpu0");
    internal(&|case| case.costs.gpus.clear(), "which the costs do not know");
    internal(&|case| case.graph.inputs.clear(), "nothing writes it there");
}

/// Large graphs are planned quickly: one operator per stage, each on the next GPU.
#[test]
fn two_thousand_operators() {
    let mut tape = seeded(7);
    for (operators, gpus) in [(100, 2), (2000, 4)] {
        let mut graphs = std::iter::repeat_with(|| random::graph(&mut tape, operators + operators / 10));
        let graph = graphs.find(|graph| graph.operators.len() >= operators).unwrap();
        let order = graph.topological_order().unwrap();
        let stages = |gpu: usize| order.iter().skip(gpu).step_by(gpus).map(|&op| Stage { operators: vec![op] }).collect();
        let schedule = Schedule { algorithm: "scatter".into(), gpus: (0..gpus).map(stages).collect() };
        let case = PlanCase::timed(graph, schedule, |_| 1000, 500);
        let start = Instant::now();
        let plan = make(&case, &plain());
        let planned = Instant::now();
        assert_eq!(rule(verify(&case.graph, Some(&case.schedule), &plain(), &plan)), 0);
        let verified = planned.elapsed();
        let (steps, waits) = (plan.steps.len(), waits(&plan));
        println!("{} operators, {steps} steps, {waits} waits: planned in {:?}, verified in {verified:?}", order.len(), planned - start);
        assert!(start.elapsed().as_secs() < 20, "far slower than it should be");
    }
}
