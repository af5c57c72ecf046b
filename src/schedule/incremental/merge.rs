//! What the sliding window does to a sequence: it takes an operator into an earlier stage, and asks whether that can pay.

use super::sequence::Timed;
use crate::device::Nanos;

/// What it takes to undo a merge.
pub(in crate::schedule) struct Merge {
    begin: usize,
    op: u32,
    old: Vec<u32>,
}

impl Timed<'_> {
    /// Takes the operator at place `op_at`, alone in its stage, into the stage that begins at `begin` on the same GPU, without timing. Stages between that must come before
    /// the operator are put before the stage; `None`, and nothing changed, if one of them must also come after it.
    pub fn merge(&mut self, begin: usize, op_at: usize) -> Option<Merge> {
        let order = &self.sequence.order;
        let op = order[op_at];
        let end = self.stage_end(begin);
        // From the operator back: whatever one of the stages to be moved depends on, or follows on its GPU, moves too.
        let mut needed = vec![false; op_at - begin];
        let mut gpu_needed = vec![false; self.flat.gpus];
        let need = |of: u32, needed: &mut Vec<bool>| {
            for input in self.flat.inputs(of as usize) {
                let at = self.place[input.producer as usize] as usize;
                if at >= begin {
                    needed[at - begin] = true;
                }
            }
        };
        need(op, &mut needed);
        let mut last = op_at;
        while last > end {
            let mut first = last - 1;
            while self.sequence.joined[order[first] as usize] {
                first -= 1;
            }
            let gpu = self.sequence.gpu[order[first] as usize] as usize;
            if gpu_needed[gpu] || needed[first - begin..last - begin].contains(&true) {
                if gpu == self.sequence.gpu[op as usize] as usize {
                    return None;
                }
                gpu_needed[gpu] = true;
                for at in first..last {
                    needed[at - begin] = true;
                    need(order[at], &mut needed);
                }
            }
            last = first;
        }
        if needed[..end - begin].contains(&true) {
            return None;
        }
        let old = order[begin..=op_at].to_vec();
        let (before, after): (Vec<u32>, Vec<u32>) = {
            let (mut before, mut after) = (Vec::new(), Vec::new());
            for at in end..op_at {
                if needed[at - begin] { before.push(order[at]) } else { after.push(order[at]) }
            }
            (before, after)
        };
        let new = before.iter().chain(&old[..end - begin]).chain([&op]).chain(&after);
        for (offset, &op) in new.enumerate() {
            self.sequence.order[begin + offset] = op;
            self.place[op as usize] = (begin + offset) as u32;
        }
        self.sequence.joined[op as usize] = true;
        Some(Merge { begin, op, old })
    }

    /// Takes back a [`merge`](Timed::merge).
    pub fn unmerge(&mut self, merge: Merge) {
        for (offset, &op) in merge.old.iter().enumerate() {
            self.sequence.order[merge.begin + offset] = op;
            self.place[op as usize] = (merge.begin + offset) as u32;
        }
        self.sequence.joined[merge.op as usize] = false;
    }

    /// For each operator of places `begin..end`, the longest way from its stage's start to the end of the schedule; the ways from later places are known.
    pub fn update_ways(&self, begin: usize, end: usize, ways: &mut [Nanos]) {
        let mut next = self.ways_after(end, ways);
        let mut last = end;
        while last > begin {
            let mut first = last - 1;
            while self.sequence.joined[self.sequence.order[first] as usize] {
                first -= 1;
            }
            let members = &self.sequence.order[first..last];
            let gpu = self.sequence.gpu[members[0] as usize] as usize;
            let rest = members.iter().map(|&op| self.way_out(op as usize, 0, ways)).max().unwrap_or(0).max(next[gpu]);
            next[gpu] = rest + self.flat.stage_time(gpu, members);
            for &op in members {
                ways[op as usize] = next[gpu];
            }
            last = first;
        }
    }

    /// For each GPU, the way from the first stage at or after place `at`.
    fn ways_after(&self, at: usize, ways: &[Nanos]) -> Vec<Nanos> {
        let mut next = vec![None; self.flat.gpus];
        let mut missing = next.len();
        for &op in &self.sequence.order[at..] {
            let slot = &mut next[self.sequence.gpu[op as usize] as usize];
            if slot.is_none() {
                *slot = Some(ways[op as usize]);
                missing -= 1;
                if missing == 0 {
                    break;
                }
            }
        }
        next.into_iter().map(|way| way.unwrap_or(0)).collect()
    }

    /// The longest way from the finish of `op` through a reader at or after place `from`.
    fn way_out(&self, op: usize, from: usize, ways: &[Nanos]) -> Nanos {
        let flat = self.flat;
        let gpu = self.sequence.gpu[op] as usize;
        let mut longest = 0;
        for &flow in &flat.flows[flat.first_flow[op] as usize..flat.first_flow[op + 1] as usize] {
            for &reader in &flat.flow_readers[flow as usize] {
                if self.place[reader as usize] as usize >= from {
                    let to = self.sequence.gpu[reader as usize] as usize;
                    let transfer = if to == gpu { 0 } else { flat.transfer[(flow as usize * flat.gpus + gpu) * flat.gpus + to] };
                    longest = longest.max(transfer + ways[reader as usize]);
                }
            }
        }
        longest
    }

    /// Whether, even with free links, some path through the places `begin..end`, which alone have changed, is longer than `limit`. `ways` is right from `end` on.
    pub fn exceeds(&mut self, begin: usize, end: usize, ways: &[Nanos], limit: Nanos) -> bool {
        let flat = self.flat;
        let mut free = self.free_before(begin);
        let mut exceeded = false;
        let mut at = begin;
        while at < end {
            let next = self.stage_end(at);
            let members = &self.sequence.order[at..next];
            let gpu = self.sequence.gpu[members[0] as usize] as usize;
            let ready = members.iter().map(|&op| flat.ready(op as usize, gpu, &self.sequence.gpu, &self.bound.trial)).max().unwrap_or(0);
            let finish = free[gpu].max(ready) + flat.stage_time(gpu, members);
            free[gpu] = finish;
            for &op in members {
                self.bound.trial[op as usize] = finish;
                exceeded |= finish + self.way_out(op as usize, end, ways) > limit;
            }
            if exceeded {
                break;
            }
            at = next;
        }
        for &op in &self.sequence.order[begin..end] {
            self.bound.trial[op as usize] = self.bound.finish[op as usize];
        }
        exceeded || self.ways_after(end, ways).iter().zip(&free).any(|(way, free)| way + free > limit)
    }
}
