//! Damaged plans for every rule of the verifier: each rule must be the first one that some plan
//! violates.

use hiosc::cost::{GroupedLaunch, OperatorCost};
use hiosc::ids::{BufferId, EventId, GpuId, OpId, StreamId};
use hiosc::kernel::{Kernel, Packing};
use hiosc::plan::{Contents, GpuPlan, Operand, Plan, SectionKind, Step, StreamKind, mutants, verify};

use super::{barriers, insert, make, plain, rule, specimen, two_wide_stages};

/// Operator 0 needs its constant packed, a workspace and counters, operator 1 a workspace. Both run
/// concurrently. Operator 2 needs counters, and runs after operator 0 on the same stream.
#[test]
fn workspaces_counters_and_packed_weights_are_verified() {
    let mut case = specimen();
    let packing = Packing::TapMajor { groups: 1, rows: 64, channels: 1, taps: 1, transposed: false };
    let kernels = [
        Kernel { workspace_bytes: 512, counters: 3, packings: vec![(1, packing)], ..Kernel::default() },
        Kernel { workspace_bytes: 256, ..Kernel::default() },
        Kernel { counters: 64, ..Kernel::default() },
    ];
    for (row, kernel) in case.costs.operators.iter_mut().zip(kernels) {
        row.iter_mut().for_each(|cost| cost.kernel = kernel.clone());
    }
    let good = make(&case, &plain());
    let text = good.text(&case.graph);
    assert!(text.contains("  weights 8192 bytes\n    @0 t1 \"t1\" 1x64 f32, packed tap-major 1x64x1x1\n"), "{text}");
    assert!(text.contains(" 512 bytes workspace of %0 \"op0\"\n") && text.contains(" 256 bytes workspace of %1 \"op1\"\n"), "{text}");
    assert!(text.contains(" 12 bytes counters of %0 \"op0\"\n") && text.contains(" 256 bytes counters of %2 \"op2\"\n"), "{text}");
    let holding = |contents: Contents| {
        let own = good.buffers.iter().position(|b| b.contents == contents);
        BufferId::new(own.expect("a buffer"))
    };
    let (workspace, counters) = (|op: u32| holding(Contents::Workspace(OpId(op))), |op: u32| holding(Contents::Counters(OpId(op))));
    let launch = |op: u32| {
        let is = |step: &Step| matches!(step, Step::Launch { operators, .. } if operators.contains(&OpId(op)));
        good.steps.iter().position(is).expect("a launch")
    };
    let (first, second) = (workspace(0), workspace(1));
    let (count, count2) = (counters(0), counters(2));
    assert!(text.contains(&format!("{first} workspace, {count} counters\n")), "{text}");
    type Damage<'a> = Box<dyn Fn(&mut Plan) + 'a>;
    let at = |p: &mut Plan, b: BufferId, offset: u64| p.buffers[b.index()].offset = offset;
    let table: [(u32, &str, Damage); 23] = [
        (0, "nothing", Box::new(|_| ())),
        (1, "of no operator", Box::new(|p| p.buffers[first.index()].contents = Contents::Workspace(OpId(99)))),
        (3, "end of the arena", Box::new(|p| p.buffers[first.index()].bytes += p.gpus[0].arena_bytes)),
        (3, "alignment", Box::new(|p| p.buffers[first.index()].offset += 16)),
        (4, "packed otherwise", Box::new(|p| p.gpus[0].weights[0].0.packing = None)),
        (4, "too small", Box::new(|p| p.gpus[0].weights_bytes -= 256)),
        (5, "of another launch", Box::new(|p| with_launch(p, launch(0), |_, _, writes| writes[1] = second))),
        (5, "two", Box::new(|p| with_launch(p, launch(0), |_, _, writes| writes.push(second)))),
        (13, "on its own result", Box::new(|p| p.buffers[first.index()].offset = p.buffers[result(p, launch(0))].offset)),
        (13, "on the other's", Box::new(|p| p.buffers[second.index()].offset = p.buffers[first.index()].offset)),
        (1, "counters of no operator", Box::new(|p| p.buffers[count.index()].contents = Contents::Counters(OpId(99)))),
        (3, "counters beyond the arena", Box::new(|p| at(p, count, p.gpus[0].arena_bytes))),
        (3, "counters askew", Box::new(|p| p.buffers[count.index()].offset += 16)),
        (3, "no counters", Box::new(|p| p.buffers[count.index()].bytes = 0)),
        (3, "a part of a counter", Box::new(|p| p.buffers[count.index()].bytes = 10)),
        (5, "counters of another launch", Box::new(|p| with_launch(p, launch(0), |_, _, writes| writes[2] = count2))),
        (5, "counters first", Box::new(|p| with_launch(p, launch(0), |_, _, writes| writes.swap(1, 2)))),
        (5, "counters as a result", Box::new(|p| with_launch(p, launch(2), |_, _, writes| writes.swap(0, 1)))),
        (5, "counters that are read", Box::new(|p| with_launch(p, launch(2), |_, reads, _| reads[0] = Operand::Buffer(count)))),
        (8, "counters of no launch", Box::new(|p| with_launch(p, launch(0), |_, _, writes| writes.truncate(2)))),
        // Every order allows these: their accesses come one after the other.
        (13, "counters on others", Box::new(|p| at(p, count2, p.buffers[count.index()].offset))),
        (13, "counters on an earlier tensor", Box::new(|p| at(p, count2, p.buffers[0].offset))),
        (
            13,
            "a later tensor on counters",
            Box::new(|p| {
                let (end, later) = (p.gpus[0].arena_bytes, result(p, launch(4)));
                p.gpus[0].arena_bytes += 256;
                at(p, count, end);
                at(p, BufferId::new(later), end);
            }),
        ),
    ];
    for (expected, name, damage) in &table {
        let mut plan = good.clone();
        damage(&mut plan);
        let result = verify(&case.graph, None, &plain(), &plan);
        let text = format!("{name}: {result:?}");
        assert_eq!(rule(result), *expected, "{text}");
    }
}

/// Operators 0 and 1 are one launch with one workspace. Operators 2 and 3 must not be one launch,
/// since one reads what the other writes.
#[test]
fn launches_of_several_operators_are_verified() {
    let mut case = specimen();
    let packing = Packing::TapMajor { groups: 1, rows: 64, channels: 1, taps: 1, transposed: false };
    let kernel = Kernel { workspace_bytes: 512, packings: vec![(1, packing)], ..Kernel::default() };
    let cost = OperatorCost { time: 1000, utilisation: 1.0, kernel };
    case.costs.grouped_launches = vec![GroupedLaunch { operators: vec![OpId(0), OpId(1)], costs: vec![cost; 2] }];
    let good = make(&case, &plain());
    assert_eq!(good.streams.len(), 3, "one compute stream per GPU, and a copy stream");
    let text = good.text(&case.graph);
    let line = "  s0 launch %0 \"op0\" elementwise + %1 \"op1\" elementwise(b0 \"x\", t1 \"t1\", packed tap-major 1x64x1x1, b0 \"x\") -> \
                b1 \"t2\", b2 \"t3\", b3 workspace\n";
    assert!(text.contains(line), "{text}");
    let launch = |op: u32| {
        let is = |step: &Step| matches!(step, Step::Launch { operators, .. } if operators.contains(&OpId(op)));
        good.steps.iter().position(is).expect("a launch")
    };
    assert_eq!(launch(0), launch(1));
    type Damage<'a> = Box<dyn Fn(&mut Plan) + 'a>;
    let table: [(u32, &str, Damage); 9] = [
        (0, "nothing", Box::new(|_| ())),
        (2, "one of another stage", Box::new(|p| with_launch(p, launch(0), |ops, _, _| ops[1] = OpId(2)))),
        (5, "one twice", Box::new(|p| with_launch(p, launch(0), |ops, _, _| ops[1] = OpId(0)))),
        (5, "the other order", Box::new(|p| with_launch(p, launch(0), |ops, _, _| ops.swap(0, 1)))),
        (5, "results of each other", Box::new(|p| with_launch(p, launch(0), |_, _, writes| writes.swap(0, 1)))),
        (5, "arguments of one", Box::new(|p| with_launch(p, launch(0), |_, reads, _| reads.truncate(2)))),
        (
            5,
            "the second is never launched",
            Box::new(|p| {
                with_launch(p, launch(0), |ops, reads, writes| {
                    ops.truncate(1);
                    reads.truncate(2);
                    writes.remove(1);
                })
            }),
        ),
        (
            12,
            "one reads what another writes",
            Box::new(|p| {
                let (at, second) = (launch(2), p.steps[launch(3)].clone());
                let Step::Launch { reads: more, writes: results, .. } = second else { unreachable!("a launch") };
                with_launch(p, at, |ops, reads, writes| {
                    ops.push(OpId(3));
                    reads.extend(more);
                    writes.extend(results);
                });
                p.steps.remove(launch(3));
                let section_of_launch = p.sections.iter().position(|s| (s.first..s.end).contains(&launch(3))).expect("a section");
                for (i, section) in p.sections.iter_mut().enumerate() {
                    section.first -= usize::from(i > section_of_launch);
                    section.end -= usize::from(i >= section_of_launch);
                }
            }),
        ),
        (
            13,
            "results on the same bytes",
            Box::new(|p| {
                let Step::Launch { writes, .. } = &good.steps[launch(0)] else { unreachable!("a launch") };
                p.buffers[writes[1].index()].offset = p.buffers[writes[0].index()].offset;
            }),
        ),
    ];
    for (expected, name, damage) in &table {
        let mut plan = good.clone();
        damage(&mut plan);
        let result = verify(&case.graph, (*expected == 2).then_some(&case.schedule), &plain(), &plan);
        let text = format!("{name}: {result:?}");
        assert_eq!(rule(result), *expected, "{text}");
    }
}

/// The buffer of the first result of a launch.
fn result(plan: &Plan, at: usize) -> usize {
    let Step::Launch { writes, .. } = &plan.steps[at] else { unreachable!("a launch") };
    writes[0].index()
}

#[test]
fn every_rule_rejects_something() {
    let case = specimen();
    let good = make(&case, &plain());
    let find = |wanted: &dyn Fn(&Step) -> bool| good.steps.iter().position(wanted).unwrap();
    let launch = |op: u32| find(&|step| matches!(step, Step::Launch { operators, .. } if operators.contains(&OpId(op))));
    let copy = find(&|step| matches!(step, Step::Copy { .. }));
    let wait = find(&|step| matches!(step, Step::Wait { .. }));
    let record = find(&|step| matches!(step, Step::Record { .. }));
    let download = find(&|step| matches!(step, Step::Download { .. }));
    let upload = find(&|step| matches!(step, Step::Upload { .. }));
    let unused = |plan: &mut Plan| {
        plan.events.push(GpuId(0));
        EventId::new(plan.events.len() - 1)
    };
    type Damage<'a> = Box<dyn Fn(&mut Plan) + 'a>;
    let table: Vec<(u32, &str, Damage)> = vec![
        (0, "nothing", Box::new(|_| ())),
        (1, "targets", Box::new(|p| p.targets[1] = p.targets[0])),
        (1, "a target too few", Box::new(|p| p.targets.truncate(1))),
        (1, "stream of no GPU", Box::new(|p| p.streams[3].gpu = GpuId(2))),
        (1, "streams out of order", Box::new(|p| p.streams.swap(0, 3))),
        (1, "copy stream to itself", Box::new(|p| p.streams[2].kind = StreamKind::Copy { to: GpuId(0) })),
        (1, "gap between compute streams", Box::new(|p| p.streams[1].kind = StreamKind::Compute(2))),
        (1, "another origin", Box::new(|p| p.origin_stream = StreamId(1))),
        (1, "unknown buffer", Box::new(|p| with_download(p, download, |_, from| *from = BufferId(99)))),
        (1, "unknown output", Box::new(|p| with_download(p, download, |output, _| *output = 9))),
        (1, "unknown event", Box::new(|p| p.steps[wait] = Step::Wait { event: EventId(99), stream: StreamId(1) })),
        (1, "unknown stream", Box::new(|p| p.steps[record] = Step::Record { event: EventId(0), stream: StreamId(99) })),
        (1, "unknown operator", Box::new(|p| with_launch(p, launch(2), |ops, _, _| ops[0] = OpId(99)))),
        (1, "launch of nothing", Box::new(|p| with_launch(p, launch(2), |ops, _, _| ops.clear()))),
        (2, "gap", Box::new(|p| p.sections[2].first += 1)),
        (2, "steps left over", Box::new(|p| p.sections.truncate(6))),
        (2, "end too early", Box::new(|p| p.sections[1].kind = SectionKind::End)),
        (2, "stage twice", Box::new(|p| p.sections[3].kind = p.sections[1].kind)),
        (
            2,
            "launch in another stage",
            Box::new(|p| {
                let at = p.sections.iter().position(|s| (s.first..s.end).contains(&launch(4))).unwrap();
                p.sections[at].end = p.sections[at].first;
                p.sections[at + 1].first = p.sections[at].first;
            }),
        ),
        (3, "size", Box::new(|p| p.buffers[0].bytes += 4)),
        (3, "alignment", Box::new(|p| p.buffers[1].offset += 128)),
        (3, "end of the arena", Box::new(|p| p.gpus[1].arena_bytes -= 1)),
        (3, "overflow", Box::new(|p| p.buffers[1].offset = u64::MAX - 255)),
        (3, "constant", Box::new(|p| p.buffers[0].contents = Contents::Tensor(p.gpus[0].weights[0].0.tensor))),
        (3, "two of one tensor", Box::new(|p| p.buffers[1].contents = p.buffers[0].contents)),
        (4, "missing weight", Box::new(|p| p.gpus[0].weights.clear())),
        (
            4,
            "unread weight",
            Box::new(|p| {
                p.gpus[1] = GpuPlan { arena_bytes: p.gpus[1].arena_bytes, ..p.gpus[0].clone() };
            }),
        ),
        (4, "weight outside", Box::new(|p| p.gpus[0].weights_bytes -= 1)),
        (
            4,
            "weight askew",
            Box::new(|p| {
                p.gpus[0].weights[0].1 = 4;
                p.gpus[0].weights_bytes += 256;
            }),
        ),
        (5, "wrong operand", Box::new(|p| with_launch(p, launch(2), |_, reads, _| reads.swap(0, 1)))),
        (5, "missing operand", Box::new(|p| with_launch(p, launch(2), |_, reads, _| reads.truncate(1)))),
        (5, "wrong result", Box::new(|p| with_launch(p, launch(2), |_, _, writes| writes[0] = BufferId(0)))),
        (5, "operator launched twice", Box::new(|p| with_launch(p, launch(3), |ops, _, _| ops[0] = OpId(4)))),
        (5, "copy stream", Box::new(|p| with_stream(p, launch(1), StreamId(2)))),
        (5, "other GPU", Box::new(|p| with_stream(p, launch(1), StreamId(3)))),
        (6, "wrong output", Box::new(|p| with_download(p, download, |output, _| *output = 1))),
        (6, "no download", Box::new(|p| p.steps[download] = p.steps[wait].clone())),
        (6, "upload elsewhere", Box::new(|p| with_stream(p, upload, StreamId(3)))),
        (7, "copy on a compute stream", Box::new(|p| with_stream(p, copy, StreamId(0)))),
        (
            7,
            "copy of another tensor",
            Box::new(|p| {
                if let Step::Copy { from, .. } = &mut p.steps[copy] {
                    *from = BufferId(0);
                }
            }),
        ),
        (8, "no upload", Box::new(|p| p.steps[upload] = p.steps[wait].clone())),
        (8, "two uploads", Box::new(|p| insert(p, upload, p.steps[upload].clone()))),
        (9, "event of another GPU", Box::new(|p| p.events[0] = GpuId(1))),
        (9, "two records", Box::new(|p| insert(p, record, p.steps[record].clone()))),
        (9, "no record", Box::new(|p| p.events.push(GpuId(0)))),
        (9, "wait before record", Box::new(|p| insert(p, 0, p.steps[wait].clone()))),
        (
            10,
            "a stream that starts alone",
            Box::new(|p| {
                let event = unused(p);
                insert(p, 0, Step::Record { event, stream: StreamId(1) });
            }),
        ),
        (
            11,
            "no join",
            Box::new(|p| {
                let last = p.steps.len() - 1;
                assert!(matches!(p.steps[last], Step::Wait { stream: StreamId(0), .. }));
                let (_, mutant) = mutants(p).find(|(step, _)| *step == last).unwrap();
                *p = mutant;
            }),
        ),
        (12, "read before write", Box::new(|p| p.steps.swap(launch(3), launch(4)))),
        (13, "bytes in use", Box::new(|p| p.buffers.iter_mut().for_each(|b| b.offset = 0))),
        (15, "wait twice", Box::new(|p| insert(p, wait, p.steps[wait].clone()))),
        (
            15,
            "wait in vain",
            Box::new(|p| {
                let event = unused(p);
                insert(p, launch(3), Step::Wait { event, stream: StreamId(0) });
                insert(p, launch(3), Step::Record { event, stream: StreamId(0) });
            }),
        ),
        (
            16,
            "record in vain",
            Box::new(|p| {
                let event = unused(p);
                insert(p, launch(3), Step::Record { event, stream: StreamId(0) });
            }),
        ),
        (
            17,
            "upload in vain",
            Box::new(|p| {
                let to = BufferId::new(p.buffers.len());
                p.buffers.push(p.buffers[0].clone());
                p.buffers[to.index()].gpu = GpuId(1);
                p.buffers[to.index()].offset = p.gpus[1].arena_bytes;
                p.gpus[1].arena_bytes += 256;
                insert(p, launch(5), Step::Upload { input: 0, to, stream: StreamId(3) });
            }),
        ),
    ];
    for (expected, name, damage) in &table {
        let mut plan = good.clone();
        damage(&mut plan);
        // If rule 2 (sections) knew the schedule, it would find much of the other damage first.
        let schedule = (*expected == 2).then_some(&case.schedule);
        let result = verify(&case.graph, schedule, &plain(), &plan);
        let text = format!("{name}: {result:?}");
        assert_eq!(rule(result), *expected, "{text}");
    }
    for rule in (1..=17).filter(|&rule| rule != 14) {
        assert!(table.iter().any(|(number, ..)| *number == rule), "rule {rule} is not tried");
    }
    // Rule 14: stages that only barriers order.
    let case = two_wide_stages();
    assert_eq!(rule(verify(&case.graph, None, &barriers(), &make(&case, &plain()))), 14);
    assert_eq!(rule(verify(&case.graph, None, &plain(), &make(&case, &barriers()))), 15);
}

fn with_launch(plan: &mut Plan, at: usize, change: impl FnOnce(&mut Vec<OpId>, &mut Vec<Operand>, &mut Vec<BufferId>)) {
    if let Step::Launch { operators, reads, writes, .. } = &mut plan.steps[at] {
        change(operators, reads, writes);
    }
}

fn with_download(plan: &mut Plan, at: usize, change: impl FnOnce(&mut usize, &mut BufferId)) {
    if let Step::Download { output, from, .. } = &mut plan.steps[at] {
        change(output, from);
    }
}

fn with_stream(plan: &mut Plan, at: usize, new: StreamId) {
    match &mut plan.steps[at] {
        Step::Launch { stream, .. } | Step::Copy { stream, .. } | Step::Upload { stream, .. } => *stream = new,
        _ => unreachable!("nothing else is moved"),
    }
}
