//! Rules 10 to 14: happens-before, as vector clocks, and every order that the plan needs.

use super::{Accesses, Subject};
use crate::error::Result;
use crate::ids::BufferId;
use crate::plan::{Contents, PlanOptions, SectionKind, Step};

/// Happens-before of all steps, and of one more at the end of the origin stream: the host's wait
/// for the whole inference.
///
/// The clock of a step says how many steps of each stream are certainly done when it starts. Step
/// `a` is before step `b` iff `b`'s clock counts more steps of `a`'s stream than `a`'s position in
/// it.
pub(super) struct HappensBefore {
    /// The stream of each step.
    pub stream: Vec<usize>,
    /// Its position in the stream.
    pub position: Vec<u32>,
    /// The step before it on the stream.
    pub previous: Vec<Option<usize>>,
    /// For a wait, its record.
    pub record: Vec<Option<usize>>,
    /// The clock of each step.
    pub clocks: Vectors,
}

/// One vector per step, with one number per stream.
pub(super) struct Vectors {
    width: usize,
    numbers: Vec<u32>,
}

impl Vectors {
    pub fn new(rows: usize, width: usize) -> Self {
        Vectors { width, numbers: vec![0; rows * width] }
    }

    pub fn row(&self, i: usize) -> &[u32] {
        &self.numbers[i * self.width..(i + 1) * self.width]
    }

    pub fn row_mut(&mut self, i: usize) -> &mut [u32] {
        &mut self.numbers[i * self.width..(i + 1) * self.width]
    }

    /// Raises row `i` to `others`, element by element.
    fn raise(&mut self, i: usize, others: &[u32]) {
        self.row_mut(i).iter_mut().zip(others).for_each(|(mine, &other)| *mine = other.max(*mine));
    }
}

impl HappensBefore {
    fn new(s: &Subject, accesses: &Accesses) -> Self {
        let (steps, streams) = (s.plan.steps.len(), s.plan.streams.len());
        let mut order = HappensBefore {
            stream: s.plan.steps.iter().map(|step| step.stream().index()).chain([s.plan.origin_stream.index()]).collect(),
            position: vec![0; steps + 1],
            previous: vec![None; steps + 1],
            record: vec![None; steps + 1],
            clocks: Vectors::new(steps + 1, streams),
        };
        let mut latest = vec![None; streams];
        for i in 0..=steps {
            order.previous[i] = latest[order.stream[i]].replace(i);
            order.position[i] = order.previous[i].map_or(0, |p| order.position[p] + 1);
            if let Some(Step::Wait { event, .. }) = s.plan.steps.get(i) {
                order.record[i] = Some(accesses.record[event.index()]);
            }
            let mut clock = vec![0; streams];
            for before in [order.previous[i], order.record[i]].into_iter().flatten() {
                order.advance(&mut clock, before, order.clocks.row(before));
            }
            order.clocks.row_mut(i).copy_from_slice(&clock);
        }
        order
    }

    /// Adds to `clock` that step `before`, whose own clock is `its_clock`, is done.
    pub fn advance(&self, clock: &mut [u32], before: usize, its_clock: &[u32]) {
        clock.iter_mut().zip(its_clock).for_each(|(mine, &other)| *mine = other.max(*mine));
        let own = &mut clock[self.stream[before]];
        *own = (self.position[before] + 1).max(*own);
    }

    /// Whether step `a` is done when step `b` starts.
    fn before(&self, a: usize, b: usize) -> bool {
        self.clocks.row(b)[self.stream[a]] > self.position[a]
    }
}

/// Whether `clock` counts at least what is `needed`.
pub(super) fn covers(clock: &[u32], needed: &[u32]) -> bool {
    clock.iter().zip(needed).all(|(have, need)| have >= need)
}

/// Checks rules 10 to 14. Returns happens-before, and the order that these rules require, as the
/// least clock of each step.
pub(super) fn check(s: &Subject, accesses: &Accesses, options: &PlanOptions) -> Result<(HappensBefore, Vectors)> {
    let order = HappensBefore::new(s, accesses);
    let mut checker = OrderChecker { s, order: &order, needs: Vectors::new(s.plan.steps.len() + 1, s.plan.streams.len()) };
    checker.fork()?;
    checker.join()?;
    checker.reads(accesses)?;
    checker.shared_bytes(accesses)?;
    if options.stage_barriers {
        checker.barriers()?;
    }
    let needs = checker.needs;
    Ok((order, needs))
}

struct OrderChecker<'a> {
    s: &'a Subject<'a>,
    order: &'a HappensBefore,
    needs: Vectors,
}

impl OrderChecker<'_> {
    /// Requires that `a` comes before `b`, and returns whether it does.
    fn need(&mut self, a: usize, b: usize) -> bool {
        let (stream, count) = (self.order.stream[a], self.order.position[a] + 1);
        let need = &mut self.needs.row_mut(b)[stream];
        *need = count.max(*need);
        self.order.before(a, b)
    }

    /// Rule 10. It is required of every step outside the origin stream, not only of the first of
    /// each stream: `minimality.rs` may remove the first one.
    fn fork(&mut self) -> Result<()> {
        let origin_stream = self.s.plan.origin_stream.index();
        let start = (0..self.s.plan.steps.len()).find(|&i| self.order.stream[i] == origin_stream);
        for i in (0..self.s.plan.steps.len()).filter(|&i| self.order.stream[i] != origin_stream) {
            if !start.is_some_and(|start| self.need(start, i)) {
                return self.s.broken(
                    10,
                    format_args!("{} may run before the first step of the origin stream {}", self.s.step(i), self.s.plan.origin_stream),
                );
            }
        }
        Ok(())
    }

    /// Rule 11.
    fn join(&mut self) -> Result<()> {
        let steps = &self.s.plan.steps;
        for stream in self.s.stream_ids() {
            let last = (0..steps.len()).rev().find(|&i| steps[i].stream() == stream && !steps[i].is_synchronisation());
            if let Some(last) = last
                && !self.need(last, steps.len())
            {
                return self
                    .s
                    .broken(11, format_args!("{} may outlast the origin stream {}", self.s.step(last), self.s.plan.origin_stream));
            }
        }
        Ok(())
    }

    /// Rule 12.
    fn reads(&mut self, accesses: &Accesses) -> Result<()> {
        for (b, &writer) in accesses.writer.iter().enumerate() {
            for &reader in &accesses.readers[b] {
                if !self.need(writer, reader) {
                    let (reader, writer) = (self.s.step(reader), self.s.step(writer));
                    return self.s.broken(12, format_args!("{reader} reads {}, but not after {writer}", self.s.buffer(BufferId::new(b))));
                }
            }
        }
        Ok(())
    }

    /// Rule 13.
    fn shared_bytes(&mut self, accesses: &Accesses) -> Result<()> {
        let buffers = &self.s.plan.buffers;
        // For each buffer, the least clock that counts every access of it.
        let mut closed = Vectors::new(buffers.len(), self.s.plan.streams.len());
        for b in 0..buffers.len() {
            for &access in accesses.readers[b].iter().chain([&accesses.writer[b]]) {
                let count = &mut closed.row_mut(b)[self.order.stream[access]];
                *count = (self.order.position[access] + 1).max(*count);
            }
        }
        let mut by_offset: Vec<usize> = (0..buffers.len()).filter(|&b| buffers[b].bytes > 0).collect();
        by_offset.sort_by_key(|&b| (buffers[b].gpu, buffers[b].offset, b));
        for (i, &a) in by_offset.iter().enumerate() {
            let end = buffers[a].offset + buffers[a].bytes;
            let sharing = |b: &&usize| buffers[**b].gpu == buffers[a].gpu && buffers[**b].offset < end;
            for &b in by_offset[i + 1..].iter().take_while(sharing) {
                if let Some(&counters) = [a, b].iter().find(|&&of| matches!(buffers[of].contents, Contents::Counters(_))) {
                    let (counters, other) = (self.s.buffer(BufferId::new(counters)), self.s.buffer(BufferId::new(a + b - counters)));
                    return self.s.broken(13, format_args!("{counters} must keep their bytes, but {other} shares them"));
                }
                let opens_after = |first: usize, second: usize| covers(self.order.clocks.row(accesses.writer[second]), closed.row(first));
                let (first, second) = match (opens_after(a, b), opens_after(b, a)) {
                    (true, _) => (a, b),
                    (_, true) => (b, a),
                    _ => return self.clash(accesses, a, b),
                };
                self.needs.raise(accesses.writer[second], closed.row(first));
            }
        }
        Ok(())
    }

    /// Reports which accesses of two buffers that share bytes are not ordered.
    fn clash(&self, accesses: &Accesses, a: usize, b: usize) -> Result<()> {
        let late = |a: usize, b: usize| {
            let all = accesses.readers[a].iter().chain([&accesses.writer[a]]);
            all.copied().find(|&access| !self.order.before(access, accesses.writer[b]))
        };
        let (a, b) = if accesses.writer[a] < accesses.writer[b] { (a, b) } else { (b, a) };
        let access = late(a, b).map_or(String::new(), |access| self.s.step(access));
        let (first, second) = (self.s.buffer(BufferId::new(a)), self.s.buffer(BufferId::new(b)));
        let writer = self.s.step(accesses.writer[b]);
        self.s.broken(
            13,
            format_args!("{first} and {second} share bytes, but {writer} does not come after {access}, nor the other way round"),
        )
    }

    /// Rule 14.
    fn barriers(&mut self) -> Result<()> {
        let plan = self.s.plan;
        let mut previous: Vec<Vec<usize>> = vec![Vec::new(); plan.gpus.len()];
        for section in &plan.sections {
            let SectionKind::Stage { gpu, index } = section.kind else { continue };
            let launches: Vec<usize> = (section.first..section.end).filter(|&i| matches!(plan.steps[i], Step::Launch { .. })).collect();
            for &launch in &launches {
                for &earlier in &previous[gpu.index()] {
                    if !self.need(earlier, launch) {
                        let (launch, earlier) = (self.s.step(launch), self.s.step(earlier));
                        return self.s.broken(14, format_args!("{launch}, of stage {index} on {gpu}, does not wait for {earlier}"));
                    }
                }
            }
            previous[gpu.index()] = launches;
        }
        Ok(())
    }
}
