//! Tests the schedulers through their public API: random problems go through every algorithm to the
//! verifier, mutants must be rejected, and tiny problems are compared with all their schedules.

use hiosc::device::Nanos;
use hiosc::ids::{OpId, TensorId};
use hiosc::schedule::{
    Algorithm, Edge, Effort, LinkMode, Memory, MergeCost, Problem, Schedule, ScheduleOptions, Stage, StageCost, Timeline, compare,
    compare_with, evaluate, lower_bound, lower_bound_ungrouped, parse, schedule_with, to_text, verify,
};
use proptest::prelude::*;

/// Failing inputs are printed, not kept in files.
fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// Options for many small problems: a small budget of evaluations.
fn quick(max_streams: usize) -> ScheduleOptions {
    ScheduleOptions::default().max_streams(max_streams).effort(Effort::Evaluations(500))
}

/// Random numbers, which [`build`] uses in turn to make a problem of any size.
#[derive(Clone, Debug)]
struct Raw {
    operators: usize,
    gpus: usize,
    links: LinkMode,
    numbers: Vec<u64>,
}

fn raw(max_operators: usize, max_gpus: usize) -> impl Strategy<Value = Raw> {
    let links = prop_oneof![Just(LinkMode::Free), Just(LinkMode::Serial)];
    (1..=max_operators, 1..=max_gpus, links, prop::collection::vec(any::<u64>(), 64..512))
        .prop_map(|(operators, gpus, links, numbers)| Raw { operators, gpus, links, numbers })
}

/// A problem with unequal GPUs and links, tensors with several readers, operators with several
/// outputs, and ids that are not topological. Times are small, so that ties are common. With
/// `missing`, some ordered GPU pairs have no link.
fn build(raw: &Raw, missing: bool) -> Problem {
    let mut next = 0;
    let mut draw = |limit: u64| {
        next += 1;
        // When the numbers are used up, they are used again, varied.
        (raw.numbers[next % raw.numbers.len()] ^ (next as u64 / raw.numbers.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)) % limit
    };
    let (n, gpus) = (raw.operators, raw.gpus);
    // A random topological order: an insertion shuffle.
    let mut order: Vec<OpId> = Vec::new();
    for op in 0..n {
        order.insert(draw(op as u64 + 1) as usize, OpId::new(op));
    }
    let unequal = draw(2) == 1;
    let per_gpu = |draw: &mut dyn FnMut(u64) -> u64, limit: u64| -> Vec<u64> {
        let first = draw(limit);
        (0..gpus).map(|_| if unequal { draw(limit) } else { first }).collect()
    };
    let time = (0..n).map(|_| per_gpu(&mut draw, 20).into_iter().map(|t| t + 1).collect()).collect();
    let utilisation = (0..n).map(|_| per_gpu(&mut draw, 10).into_iter().map(|u| (u + 1) as f64 / 10.0).collect()).collect();
    let linked: Vec<Vec<bool>> = (0..gpus).map(|a| (0..gpus).map(|b| a != b && (!missing || draw(4) > 0)).collect()).collect();
    let mut edges = Vec::new();
    for index in 0..n {
        for _ in 0..1 + draw(2) {
            let mut consumers: Vec<OpId> = Vec::new();
            for _ in 0..draw(4) {
                let later = (n - index - 1) as u64;
                if later > 0 {
                    // Mostly near successors: long paths.
                    let step = if draw(3) > 0 { draw(later.min(3)) } else { draw(later) };
                    consumers.push(order[index + 1 + step as usize]);
                }
            }
            consumers.sort_unstable();
            consumers.dedup();
            if consumers.is_empty() {
                continue;
            }
            let size = draw(12);
            let transfer = (0..gpus)
                .map(|a| (0..gpus).map(|b| linked[a][b].then_some(if unequal { size + ((a * 3 + b) % 5) as u64 } else { size })).collect())
                .collect();
            edges.push(Edge { tensor: TensorId::new(edges.len() * 7919 % 10_000), producer: order[index], consumers, transfer });
        }
    }
    let problem = Problem {
        time,
        utilisation,
        edges,
        links: raw.links,
        order,
        gpus,
        memory: Memory::default(),
        cost_classes: Vec::new(),
        stages: Vec::new(),
        operator_merges: Vec::new(),
    };
    problem.check().unwrap();
    problem
}

/// `schedule` with neighbouring stages of a GPU joined wherever `choices` says so and the result
/// can still run.
fn join_stages(problem: &Problem, schedule: &Schedule, choices: &[u64]) -> Schedule {
    let position = problem.positions();
    let mut result = schedule.clone();
    for (i, choice) in choices.iter().enumerate() {
        let gpu = i % result.gpus.len();
        let stages = result.gpus[gpu].len();
        if stages < 2 {
            continue;
        }
        let at = *choice as usize % (stages - 1);
        let mut grouped = result.clone();
        let moved = grouped.gpus[gpu].remove(at + 1).operators;
        grouped.gpus[gpu][at].operators.extend(moved);
        grouped.gpus[gpu][at].operators.sort_by_key(|op| position[op.index()]);
        if evaluate(problem, &grouped).is_ok() {
            result = grouped;
        }
    }
    result
}

proptest! {
    #![proptest_config(config(256))]

    #[test]
    fn every_schedule_passes_the_verifier(
        raw in raw(40, 5), missing in any::<bool>(), max_streams in 1usize..4, choices in prop::collection::vec(any::<u64>(), 0..12)
    ) {
        let problem = build(&raw, missing);
        prop_assert!(lower_bound_ungrouped(&problem) >= lower_bound(&problem));
        let bound = if max_streams == 1 { lower_bound_ungrouped(&problem) } else { lower_bound(&problem) };
        let all = compare_with(&problem, &Algorithm::ALL, &quick(max_streams)).unwrap();
        let latency = |algorithm: Algorithm| all.iter().find(|(s, _)| s.algorithm == algorithm.name()).unwrap().1.latency;
        prop_assert!(latency(Algorithm::HiosLp) <= latency(Algorithm::InterLp));
        prop_assert!(latency(Algorithm::HiosMr) <= latency(Algorithm::InterMr));
        prop_assert!(latency(Algorithm::IntraGpu) <= latency(Algorithm::Sequential));
        for (schedule, timeline) in &all {
            prop_assert!(timeline.latency >= bound);
            prop_assert!(timeline.latency >= latency(Algorithm::Best), "{}", schedule.algorithm);
            prop_assert_eq!(schedule.gpus.len(), problem.gpus);
            prop_assert!(schedule.gpus.iter().flatten().all(|s| s.operators.len() <= max_streams));
            let (schedule, timeline) = (schedule.clone(), timeline.clone());
            // To text and back.
            prop_assert_eq!(&parse(&to_text(None, &schedule, &timeline), &problem, None).unwrap(), &schedule);
            // Stages of several operators obey the same rules.
            let grouped = join_stages(&problem, &schedule, &choices);
            let timeline = evaluate(&problem, &grouped).unwrap();
            verify(&problem, &grouped, &timeline).unwrap();
            prop_assert_eq!(&parse(&to_text(None, &grouped, &timeline), &problem, None).unwrap(), &grouped);
        }
    }

    /// With relaxed paths or not, what HIOS-LP finds passes the verifier, and `best` is never
    /// worse.
    #[test]
    fn relaxed_paths_obey_the_same_rules(raw in raw(30, 4), missing in any::<bool>()) {
        let problem = build(&raw, missing);
        let relaxed = quick(2).relaxed_paths(true);
        let best = compare_with(&problem, &[Algorithm::Best], &quick(2)).unwrap()[0].1.latency;
        for options in [&relaxed, &quick(2)] {
            for (schedule, timeline) in compare_with(&problem, &[Algorithm::InterLp, Algorithm::HiosLp], options).unwrap() {
                prop_assert!(timeline.latency >= best, "{}", schedule.algorithm);
            }
        }
    }

    #[test]
    fn the_same_problem_gives_the_same_schedule(raw in raw(30, 4)) {
        let problem = build(&raw, false);
        let run = || compare_with(&problem, &Algorithm::ALL, &quick(2)).unwrap();
        prop_assert_eq!(run(), run());
    }

    #[test]
    fn every_changed_timeline_is_rejected(raw in raw(25, 4), choices in prop::collection::vec(any::<u64>(), 0..8)) {
        let problem = build(&raw, false);
        for algorithm in Algorithm::ALL {
            let schedule = join_stages(&problem, &schedule_with(&problem, algorithm, &quick(2)).unwrap().schedule, &choices);
            let good = evaluate(&problem, &schedule).unwrap();
            verify(&problem, &schedule, &good).unwrap();
            for mutant in timeline_mutants(&good) {
                prop_assert!(verify(&problem, &schedule, &mutant).is_err(), "accepted {:?} of {:?}", mutant, schedule);
            }
        }
    }

    /// A changed schedule with the old timeline breaks a rule. With a timeline of its own, it obeys
    /// all rules; or it has no timeline.
    #[test]
    fn every_changed_schedule_is_rejected_or_evaluated_anew(raw in raw(12, 3), choices in prop::collection::vec(any::<u64>(), 0..8)) {
        let problem = build(&raw, false);
        for algorithm in Algorithm::ALL {
            let schedule = join_stages(&problem, &schedule_with(&problem, algorithm, &quick(2)).unwrap().schedule, &choices);
            let timeline = evaluate(&problem, &schedule).unwrap();
            for mutant in schedule_mutants(&schedule) {
                let complete = operators(&mutant) == operators(&schedule);
                match evaluate(&problem, &mutant) {
                    Ok(anew) => {
                        prop_assert!(complete);
                        let judged = verify(&problem, &mutant, &anew);
                        // The evaluator accepts any order within a stage; the verifier does not.
                        let ordered = mutant.gpus.iter().flatten().all(|s| s.operators.is_sorted_by_key(|op| problem.order.iter().position(|o| o == op)));
                        prop_assert_eq!(judged.is_ok(), ordered, "{:?} {:?}", mutant, judged);
                        if anew != timeline {
                            prop_assert!(verify(&problem, &mutant, &timeline).is_err());
                        }
                    }
                    Err(_) => prop_assert!(verify(&problem, &mutant, &timeline).is_err(), "accepted {:?}", mutant),
                }
            }
        }
    }
}

/// Every number of a timeline changed by one, and every transfer omitted, duplicated or sent
/// elsewhere.
fn timeline_mutants(good: &Timeline) -> Vec<Timeline> {
    let mut mutants = Vec::new();
    let mut with = |change: &dyn Fn(&mut Timeline)| {
        let mut mutant = good.clone();
        change(&mut mutant);
        mutants.push(mutant);
    };
    let by = [1, 1u64.wrapping_neg()];
    for delta in by {
        with(&|t| t.latency = t.latency.wrapping_add(delta));
        for gpu in 0..good.stages.len() {
            for stage in 0..good.stages[gpu].len() {
                with(&|t| t.stages[gpu][stage].start = t.stages[gpu][stage].start.wrapping_add(delta));
                with(&|t| t.stages[gpu][stage].finish = t.stages[gpu][stage].finish.wrapping_add(delta));
                with(&|t| {
                    let s = &mut t.stages[gpu][stage];
                    (s.start, s.finish) = (s.start.wrapping_add(delta), s.finish.wrapping_add(delta));
                });
            }
        }
        for i in 0..good.transfers.len() {
            with(&|t| t.transfers[i].start = t.transfers[i].start.wrapping_add(delta));
            with(&|t| t.transfers[i].finish = t.transfers[i].finish.wrapping_add(delta));
            with(&|t| {
                let s = &mut t.transfers[i];
                (s.start, s.finish) = (s.start.wrapping_add(delta), s.finish.wrapping_add(delta));
            });
        }
        // Everything later, with all relative times kept.
        if delta == 1 && !good.stages.iter().all(Vec::is_empty) {
            with(&|t| {
                t.latency += 1;
                t.stages.iter_mut().flatten().for_each(|s| (s.start, s.finish) = (s.start + 1, s.finish + 1));
                t.transfers.iter_mut().for_each(|s| (s.start, s.finish) = (s.start + 1, s.finish + 1));
            });
        }
    }
    for i in 0..good.transfers.len() {
        with(&|t| t.transfers.retain(|other| *other != good.transfers[i]));
        with(&|t| t.transfers.insert(i, t.transfers[i]));
        with(&|t| (t.transfers[i].from, t.transfers[i].to) = (t.transfers[i].to, t.transfers[i].from));
        with(&|t| t.transfers[i].tensor.0 += 1);
        with(&|t| t.transfers[i].to.0 += 1);
    }
    with(&|t| t.stages.push(vec![]));
    with(&|t| drop(t.stages.pop()));
    mutants
}

/// Each operator omitted, duplicated, moved to the end of the next GPU or joined to the previous
/// stage; each two neighbouring stages swapped.
fn schedule_mutants(good: &Schedule) -> Vec<Schedule> {
    let mut mutants = Vec::new();
    let mut with = |change: &dyn Fn(&mut Schedule)| {
        let mut mutant = good.clone();
        change(&mut mutant);
        mutants.push(mutant);
    };
    let gpus = good.gpus.len();
    for gpu in 0..gpus {
        for stage in 0..good.gpus[gpu].len() {
            with(&|s| drop(s.gpus[gpu].remove(stage)));
            with(&|s| {
                let copy = s.gpus[gpu][stage].clone();
                s.gpus[gpu].push(copy);
            });
            with(&|s| {
                let moved = s.gpus[gpu].remove(stage);
                s.gpus[(gpu + 1) % gpus].push(moved);
            });
            with(&|s| s.gpus[gpu].insert(stage, Stage { operators: vec![] }));
            with(&|s| s.gpus[gpu][stage].operators.reverse());
            if stage > 0 {
                with(&|s| s.gpus[gpu].swap(stage - 1, stage));
                with(&|s| {
                    let moved = s.gpus[gpu].remove(stage).operators;
                    s.gpus[gpu][stage - 1].operators.extend(moved);
                });
            }
        }
    }
    mutants
}

/// All operators of a schedule, sorted. Empty if a stage is empty.
fn operators(schedule: &Schedule) -> Vec<OpId> {
    if schedule.gpus.iter().flatten().any(|s| s.operators.is_empty()) {
        return Vec::new();
    }
    let mut all: Vec<OpId> = schedule.gpus.iter().flatten().flat_map(|s| s.operators.clone()).collect();
    all.sort_unstable();
    all
}

/// The lowest latency below `known` of any mapping, order and grouping of at most `max_stage`
/// operators per stage, if there is one. An independent exhaustive search, which builds each
/// schedule stage by stage in the order in which its stages would start if links were free (ties:
/// the lower GPU). A branch is pruned when it cannot end below the best latency, because of the
/// longest path behind a stage or of the remaining work. Serial links only delay stages, so this
/// also holds for them. Complete schedules are timed by the evaluator.
fn optimum_below(problem: &Problem, max_stage: usize, known: Nanos) -> Option<Nanos> {
    struct All<'a> {
        problem: &'a Problem,
        max_stage: usize,
        /// Bit sets of the producers of each operator's inputs.
        reads: Vec<u32>,
        /// The longest path behind each operator.
        tail: Vec<Nanos>,
        /// The least work of each operator.
        work: Vec<f64>,
        position: Vec<usize>,
        gpu_of: Vec<usize>,
        finish: Vec<Nanos>,
        free: Vec<Nanos>,
        gpus: Vec<Vec<Stage>>,
        best: Nanos,
    }
    impl All<'_> {
        fn extend(&mut self, done: u32, last: (Nanos, usize)) {
            let n = self.reads.len();
            if done.count_ones() as usize == n {
                let candidate = Schedule { algorithm: "exhaustive".into(), gpus: self.gpus.clone() };
                let used = self.problem.memory.used(self.problem.gpus, |op| self.gpu_of[op.index()]);
                if used.iter().zip(&self.problem.memory.capacity).all(|(used, capacity)| used <= capacity) {
                    self.best = self.best.min(evaluate(self.problem, &candidate).unwrap().latency);
                }
                return;
            }
            let work_left: f64 = (0..n).filter(|i| done >> i & 1 == 0).map(|i| self.work[i]).sum();
            let time_left: f64 = self.free.iter().map(|&free| self.best.saturating_sub(free.max(last.0)) as f64).sum();
            if work_left - 1e-3 > time_left {
                return;
            }
            let ready: Vec<usize> = (0..n).filter(|&i| done >> i & 1 == 0 && self.reads[i] & !done == 0).collect();
            for choice in 1u32..1 << ready.len() {
                if choice.count_ones() as usize > self.max_stage {
                    continue;
                }
                let members: Vec<usize> = (0..ready.len()).filter(|i| choice >> i & 1 == 1).map(|i| ready[i]).collect();
                for gpu in 0..self.problem.gpus {
                    self.append(gpu, &members, done, last);
                }
            }
        }

        fn append(&mut self, gpu: usize, members: &[usize], done: u32, last: (Nanos, usize)) {
            let arrival = |edge: &Edge| {
                let producer = edge.producer.index();
                let from = self.gpu_of[producer];
                self.finish[producer] + if from == gpu { 0 } else { edge.transfer[from][gpu].unwrap() }
            };
            let read = self.problem.edges.iter().filter(|e| e.consumers.iter().any(|c| members.contains(&c.index())));
            let start = read.map(arrival).max().unwrap_or(0).max(self.free[gpu]);
            let alone: Vec<f64> = members.iter().map(|&op| self.problem.time[op][gpu] as f64).collect();
            let busy: f64 = members.iter().map(|&op| self.problem.time[op][gpu] as f64 * self.problem.utilisation[op][gpu]).sum();
            let (sum, longest) = (alone.iter().sum::<f64>(), alone.iter().copied().fold(0.0, f64::max));
            let finish = start + if members.len() == 1 { sum as Nanos } else { ((sum + busy.max(longest)) / 2.0).round() as Nanos };
            let tail = members.iter().map(|&op| self.tail[op]).max().unwrap_or(0);
            if (start, gpu) < last || finish + tail >= self.best {
                return;
            }
            let mut operators: Vec<OpId> = members.iter().map(|&op| OpId::new(op)).collect();
            operators.sort_by_key(|op| self.position[op.index()]);
            let before = std::mem::replace(&mut self.free[gpu], finish);
            members.iter().for_each(|&op| (self.gpu_of[op], self.finish[op]) = (gpu, finish));
            self.gpus[gpu].push(Stage { operators });
            self.extend(members.iter().fold(done, |done, op| done | 1 << op), (start, gpu));
            self.gpus[gpu].pop();
            self.free[gpu] = before;
        }
    }
    let n = problem.operators();
    let mut reads = vec![0u32; n];
    for edge in &problem.edges {
        edge.consumers.iter().for_each(|c| reads[c.index()] |= 1 << edge.producer.0);
    }
    let mut tail: Vec<Nanos> = vec![0; n];
    for op in problem.order.iter().rev().map(|op| op.index()) {
        let path = tail[op] + problem.time[op].iter().min().unwrap();
        (0..n).filter(|p| reads[op] >> p & 1 == 1).for_each(|p| tail[p] = tail[p].max(path));
    }
    let share =
        |op: usize, gpu: usize| problem.time[op][gpu] as f64 * if max_stage > 1 { (1.0 + problem.utilisation[op][gpu]) / 2.0 } else { 1.0 };
    // Half a nanosecond for the rounding of a stage's time.
    let work = (0..n).map(|op| (0..problem.gpus).map(|gpu| share(op, gpu)).fold(f64::INFINITY, f64::min) - 0.5).collect();
    let mut all = All {
        problem,
        max_stage,
        reads,
        tail,
        work,
        position: problem.positions(),
        gpu_of: vec![0; n],
        finish: vec![0; n],
        free: vec![0; problem.gpus],
        gpus: vec![Vec::new(); problem.gpus],
        best: known,
    };
    all.extend(0, (0, 0));
    (all.best < known).then_some(all.best)
}

proptest! {
    #![proptest_config(config(150))]

    /// Up to 7 operators on 2 GPUs: no mapping, order and grouping is below `best`, and no
    /// algorithm is.
    #[test]
    fn best_is_the_optimum_of_mapping_order_and_grouping(raw in raw(7, 2), max_streams in 1usize..4) {
        let problem = build(&raw, false);
        let options = ScheduleOptions::default().max_streams(max_streams).effort(Effort::Evaluations(1_000_000));
        let found = compare_with(&problem, &Algorithm::ALL, &options).unwrap();
        let best = found.iter().find(|(s, _)| s.algorithm == "best").unwrap().1.latency;
        prop_assert_eq!(optimum_below(&problem, max_streams, best), None);
        // The search itself works: it finds the optimum when it does not know it.
        prop_assert_eq!(optimum_below(&problem, max_streams, best + 1), Some(best));
        for (schedule, timeline) in &found {
            prop_assert!(timeline.latency >= best, "{}: {} < {best}", schedule.algorithm, timeline.latency);
        }
        if max_streams == 1 {
            prop_assert!(lower_bound_ungrouped(&problem) <= best);
            if problem.gpus == 1 {
                prop_assert_eq!(compare_with(&problem, &[Algorithm::HiosLp], &options).unwrap()[0].1.latency, best);
            }
        }
    }

    /// Memory is a constraint of every algorithm. What it finds fits (the verifier checks that),
    /// and `best` is the best of what fits.
    #[test]
    fn memory_is_a_constraint(raw in raw(7, 2), sizes in prop::collection::vec(1u64..100, 7), capacities in prop::collection::vec(60u64..300, 2)) {
        let mut problem = build(&raw, false);
        let n = problem.operators();
        // Every operator has weights of its own. Every other one also reads the first constant.
        let reads = (0..n as u32).map(|op| if op % 2 == 0 && op > 0 { vec![0, op] } else { vec![op] }).collect();
        problem.memory = Memory { constants: sizes[..n].to_vec(), reads, capacity: capacities[..problem.gpus].to_vec() };
        let options = ScheduleOptions::default().effort(Effort::Evaluations(1_000_000));
        for algorithm in Algorithm::ALL {
            match compare_with(&problem, &[algorithm], &options) {
                Ok(found) => {
                    let schedule = &found[0].0;
                    let at = |op: OpId| schedule.gpus.iter().position(|g| g.iter().any(|s| s.operators.contains(&op))).unwrap();
                    let used = problem.memory.used(problem.gpus, at);
                    prop_assert!(used.iter().zip(&problem.memory.capacity).all(|(used, capacity)| used <= capacity), "{}", algorithm);
                    if algorithm == Algorithm::Best {
                        prop_assert_eq!(optimum_below(&problem, 2, found[0].1.latency), None);
                    }
                }
                Err(error) => {
                    let message = error.to_string();
                    prop_assert!(algorithm.one_gpu() || !problem.fits_one_gpu(), "{}: {}", algorithm, message);
                    prop_assert!(message.contains("the model does not fit"), "{}", message);
                    prop_assert!(message.contains("bytes are missing on gpu") || message.contains("too few"), "{}", message);
                }
            }
        }
    }

    /// Stages measured to take less or more than the model says, merges, and chains in the stages
    /// of IOS: all schedules pass the verifier, and `best` is never worse.
    #[test]
    fn known_stages_and_chains(raw in raw(14, 3), factors in prop::collection::vec(20u64..150, 64), max_chain in 1usize..4) {
        let mut problem = build(&raw, false);
        let n = problem.operators() as u32;
        // Every other operator is of the same kind as the previous one.
        problem.cost_classes = (0..n).map(|op| op / 2).collect();
        for op in (1..n as usize).step_by(2) {
            problem.time[op] = problem.time[op - 1].clone();
        }
        let times = |a: u32, b: u32, percent: u64| -> Vec<Nanos> {
            (0..problem.gpus).map(|g| ((problem.time[a as usize][g] + problem.time[b as usize][g]) * percent / 100).max(1)).collect()
        };
        let (mut stages, mut operator_merges) = (Vec::new(), Vec::new());
        for a in 0..n {
            for b in a + 1..n {
                let pair = [OpId(a), OpId(b)];
                let linked = |e: &Edge| pair.contains(&e.producer) && e.consumers.iter().any(|c| pair.contains(c));
                let factor = factors[((a * 31 + b) % 64) as usize];
                if factor % 3 == 0 && !problem.edges.iter().any(linked) {
                    operator_merges.push(MergeCost { operators: pair.to_vec(), times: times(a, b, factor) });
                }
            }
        }
        for a in 0..n.div_ceil(2) {
            for b in a..n.div_ceil(2) {
                let factor = factors[((a * 17 + b) % 64) as usize];
                // Not on every GPU, and not every stage.
                let measured = times(2 * a, 2 * b, factor).into_iter().enumerate().map(|(g, t)| (!(factor as usize + g).is_multiple_of(3)).then_some(t));
                if factor % 4 > 0 {
                    stages.push(StageCost { cost_classes: vec![a, b], times: measured.collect() });
                }
            }
        }
        (problem.stages, problem.operator_merges) = (stages, operator_merges);
        problem.check().unwrap();
        let options = quick(2).max_chain(max_chain);
        let found = compare_with(&problem, &Algorithm::ALL, &options).unwrap();
        let best = found.iter().find(|(s, _)| s.algorithm == "best").unwrap().1.latency;
        for (schedule, timeline) in &found {
            prop_assert!(timeline.latency >= best.max(lower_bound(&problem)), "{}", schedule.algorithm);
        }
    }
}

/// Two independent chains: two GPUs halve the latency. One chain: one GPU is best, and HIOS-LP
/// finds that.
#[test]
fn hios_lp_on_chains() {
    let chains = "4\n0 3 1\n1 3 1\n2 2 1\n3 3 1\n2\n0 2 9\n1 3 9\n";
    let problem = Problem::from_dag_text(chains, 3, LinkMode::Serial).unwrap();
    let (schedule, timeline) = compare(&problem, &[Algorithm::HiosLp]).unwrap().remove(0);
    assert_eq!(timeline.latency, 6_000_000);
    assert!(timeline.transfers.is_empty());
    assert_eq!(schedule.gpus.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 0]);

    let chain = "3\n0 1 1\n1 1 1\n2 1 1\n2\n0 1 1\n1 2 1\n";
    let problem = Problem::from_dag_text(chain, 4, LinkMode::Free).unwrap();
    let (schedule, _) = compare(&problem, &[Algorithm::HiosLp]).unwrap().remove(0);
    assert_eq!(schedule.gpus.iter().map(Vec::len).collect::<Vec<_>>(), [3, 0, 0, 0]);
}
