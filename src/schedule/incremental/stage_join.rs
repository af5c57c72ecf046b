//! The change that the sliding window makes: an operator joins an earlier stage of its GPU. Bottom
//! levels (the longest paths to the end) give a bound that rejects most joins early.

use super::evaluator::IncrementalEvaluator;
use crate::device::Nanos;

/// How to undo a join.
pub(in crate::schedule) struct StageJoin {
    begin: usize,
    op: u32,
    old: Vec<u32>,
}

impl IncrementalEvaluator<'_> {
    /// Lets the operator at position `op_at`, alone in its stage, join the stage that begins at
    /// `begin` on the same GPU. Does not update times. Stages in between that must precede the
    /// operator are moved before the stage that it joins. If one of them must also follow that
    /// stage, the result is `None` and nothing has changed.
    pub fn join_stage(&mut self, begin: usize, op_at: usize) -> Option<StageJoin> {
        let order = &self.sequence.order;
        let op = order[op_at];
        let end = self.stage_end(begin);
        // Backwards from the operator: whatever a stage to be moved depends on, or follows on its
        // GPU, moves too.
        let mut needed = vec![false; op_at - begin];
        let mut gpu_needed = vec![false; self.flat.gpus];
        let need = |of: u32, needed: &mut Vec<bool>| {
            for input in self.flat.inputs(of as usize) {
                let at = self.position[input.producer as usize] as usize;
                if at >= begin {
                    needed[at - begin] = true;
                }
            }
        };
        need(op, &mut needed);
        let mut last = op_at;
        while last > end {
            let mut first = last - 1;
            while self.sequence.grouped[order[first] as usize] {
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
            self.position[op as usize] = (begin + offset) as u32;
        }
        self.sequence.grouped[op as usize] = true;
        Some(StageJoin { begin, op, old })
    }

    /// Undoes a [`join_stage`](IncrementalEvaluator::join_stage).
    pub fn undo_join(&mut self, join: StageJoin) {
        for (offset, &op) in join.old.iter().enumerate() {
            self.sequence.order[join.begin + offset] = op;
            self.position[op as usize] = (join.begin + offset) as u32;
        }
        self.sequence.grouped[join.op as usize] = false;
    }

    /// Recomputes the bottom levels of the operators at positions `begin..end`: the longest path
    /// from the start of an operator's stage to the end of the schedule. Those at later positions
    /// must be up to date.
    pub fn update_bottom_levels(&self, begin: usize, end: usize, bottom_levels: &mut [Nanos]) {
        let mut next = self.next_bottom_levels(end, bottom_levels);
        let mut last = end;
        while last > begin {
            let mut first = last - 1;
            while self.sequence.grouped[self.sequence.order[first] as usize] {
                first -= 1;
            }
            let members = &self.sequence.order[first..last];
            let gpu = self.sequence.gpu[members[0] as usize] as usize;
            let rest = members.iter().map(|&op| self.longest_exit(op as usize, 0, bottom_levels)).max().unwrap_or(0).max(next[gpu]);
            next[gpu] = rest + self.flat.stage_time(gpu, members);
            for &op in members {
                bottom_levels[op as usize] = next[gpu];
            }
            last = first;
        }
    }

    /// For each GPU, the bottom level of its first stage at or after position `at`.
    fn next_bottom_levels(&self, at: usize, bottom_levels: &[Nanos]) -> Vec<Nanos> {
        let mut levels = vec![None; self.flat.gpus];
        let mut gpus_left = levels.len();
        for &op in &self.sequence.order[at..] {
            let slot = &mut levels[self.sequence.gpu[op as usize] as usize];
            if slot.is_none() {
                *slot = Some(bottom_levels[op as usize]);
                gpus_left -= 1;
                if gpus_left == 0 {
                    break;
                }
            }
        }
        levels.into_iter().map(|level| level.unwrap_or(0)).collect()
    }

    /// The longest path from the finish of `op` to the end, through a reader at or after position
    /// `from`.
    fn longest_exit(&self, op: usize, from: usize, bottom_levels: &[Nanos]) -> Nanos {
        let flat = self.flat;
        let gpu = self.sequence.gpu[op] as usize;
        let mut longest = 0;
        for &edge in &flat.outputs[flat.first_output[op] as usize..flat.first_output[op + 1] as usize] {
            for &reader in &flat.edge_readers[edge as usize] {
                if self.position[reader as usize] as usize >= from {
                    let to = self.sequence.gpu[reader as usize] as usize;
                    let transfer = if to == gpu { 0 } else { flat.transfer[(edge as usize * flat.gpus + gpu) * flat.gpus + to] };
                    longest = longest.max(transfer + bottom_levels[reader as usize]);
                }
            }
        }
        longest
    }

    /// Whether, even with free links, some path through the positions `begin..end` is longer than
    /// `limit`. Only these positions have changed; `bottom_levels` are valid from `end` on.
    pub fn exceeds(&mut self, begin: usize, end: usize, bottom_levels: &[Nanos], limit: Nanos) -> bool {
        let flat = self.flat;
        let mut free = self.free_before(begin);
        let mut exceeded = false;
        let mut at = begin;
        while at < end {
            let next = self.stage_end(at);
            let members = &self.sequence.order[at..next];
            let gpu = self.sequence.gpu[members[0] as usize] as usize;
            let ready = members
                .iter()
                .map(|&op| flat.ready(op as usize, gpu, &self.sequence.gpu, &self.free_links.trial_finish))
                .max()
                .unwrap_or(0);
            let finish = free[gpu].max(ready) + flat.stage_time(gpu, members);
            free[gpu] = finish;
            for &op in members {
                self.free_links.trial_finish[op as usize] = finish;
                exceeded |= finish + self.longest_exit(op as usize, end, bottom_levels) > limit;
            }
            if exceeded {
                break;
            }
            at = next;
        }
        for &op in &self.sequence.order[begin..end] {
            self.free_links.trial_finish[op as usize] = self.free_links.finish[op as usize];
        }
        exceeded || self.next_bottom_levels(end, bottom_levels).iter().zip(&free).any(|(level, free)| level + free > limit)
    }
}
