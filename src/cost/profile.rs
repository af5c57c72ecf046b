//! Measured costs as a file: what `hiosc profile` writes and `--costs` reads.
//!
//! ```text
//! costs: measured by hiosc 0.1.0
//! gpu0: NVIDIA A40, compute capability 8.6, 48000000000 bytes
//! measured gpu0: 84 SMs, 1740 MHz, memory 7251 MHz, driver 12.8, kernels 0123456789abcdef
//! link gpu0 -> gpu1: 3000 ns, 47250000000 bytes/s
//! kernel conv_n1c64h56w56_...: 12345 ns, busy 0.75, spread 0.01 | 12345 ns, busy 0.75, spread 0.01
//! stage conv_n1c64h56w56_... + pool_max_n1c64h56w56_...: 15000 ns | 15000 ns
//! ```
//!
//! The first lines are those of a cost table (`text.rs`). Costs are kept by kernel name, which
//! spells out signature and candidate, so one file serves any model with these operators. A line
//! has one group per GPU, separated by `|`; `-` if the kernel does not run there or was not
//! measured. Stages are kernels that ran side by side. GPUs are identified by what determines their
//! speed, not by their serial numbers: the file is valid for any machine with the same GPUs in the
//! same order.
//!
//! * A file is *stale* if it was measured with other kernel sources: its times are those of other
//!   code.
//! * Files *merge* if they have the same hiosc version, GPUs, clocks, drivers and kernels; where
//!   both have a figure, the later file counts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::text::{gpu_text, kernel_name, link_text, parse_gpu, parse_link, parse_stage, stages_text};
use super::{CostTable, MeasuredStages, OperatorCost};
use crate::device::{DeviceModel, Link, Nanos, TargetGpu};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::ids::OpId;
use crate::kernel::Kernel;

/// What the times of a GPU depend on, besides the GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// Multiprocessors.
    pub sms: u32,
    /// Highest clock of the multiprocessors, in MHz.
    pub clock: u32,
    /// Highest clock of the memory, in MHz.
    pub memory_clock: u32,
    /// CUDA version of the driver, as the driver encodes it: 12080 is 12.8.
    pub driver: i32,
    /// Hash of the kernel sources.
    pub kernels: String,
}

/// Measured time of one kernel on one GPU.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Median, launch gap included.
    pub time: Nanos,
    /// Share of the GPU that it keeps busy, in (0, 1]; estimated.
    pub utilisation: f64,
    /// Interquartile range, as a share of the median.
    pub spread: f64,
}

/// Measured costs of kernels, stages and links on the GPUs of one machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Version of hiosc that measured them.
    pub version: String,
    /// The GPUs.
    pub gpus: Vec<TargetGpu>,
    /// The conditions on each.
    pub conditions: Vec<Conditions>,
    /// `links[from][to]`; `None` on the diagonal.
    pub links: Vec<Vec<Option<Link>>>,
    /// The time of each kernel, by name, on each GPU.
    pub kernels: BTreeMap<String, Vec<Option<Measured>>>,
    /// Times of kernels side by side.
    pub stages: MeasuredStages,
}

/// The hash of the kernel sources of this hiosc.
pub fn kernels_hash() -> String {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    for (name, text) in crate::kernel::headers() {
        hash.update(name);
        hash.update([0]);
        hash.update(text);
        hash.update([0]);
    }
    hash.finalize()[..8].iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

impl Profile {
    /// Whether `text` is a profile, rather than the cost table of one graph.
    pub fn is_one(text: &str) -> bool {
        text.lines().any(|line| line.trim_start().starts_with("kernel ") || line.trim_start().starts_with("measured "))
    }

    /// The text of the file.
    pub fn to_text(&self) -> String {
        let mut out = format!("costs: measured by hiosc {}\n", self.version);
        // Writing to a String cannot fail.
        for (index, (gpu, c)) in self.gpus.iter().zip(&self.conditions).enumerate() {
            let Conditions { sms, clock, memory_clock, driver, kernels } = c;
            let _ = writeln!(out, "{}", gpu_text(index, gpu));
            let _ = writeln!(
                out,
                "measured gpu{index}: {sms} SMs, {clock} MHz, memory {memory_clock} MHz, driver {}.{}, kernels {kernels}",
                driver / 1000,
                driver % 1000 / 10
            );
        }
        out += &link_text(&self.links);
        for (name, row) in &self.kernels {
            let cost = |c: &Option<Measured>| {
                c.map_or("-".into(), |Measured { time, utilisation, spread }| format!("{time} ns, busy {utilisation}, spread {spread}"))
            };
            let _ = writeln!(out, "kernel {name}: {}", row.iter().map(cost).collect::<Vec<String>>().join(" | "));
        }
        out + &stages_text(&self.stages)
    }

    /// Reads the text of the file.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] with the line.
    pub fn parse(text: &str) -> Result<Profile> {
        let mut profile = Profile {
            version: String::new(),
            gpus: Vec::new(),
            conditions: Vec::new(),
            links: Vec::new(),
            kernels: BTreeMap::new(),
            stages: MeasuredStages::new(),
        };
        for (number, line) in text.lines().enumerate().map(|(i, line)| (i + 1, line.trim())) {
            let error = || Error::Usage(format!("costs, line {number}: `{line}` is not understood"));
            let count = profile.gpus.len();
            if line.is_empty() || line.starts_with('#') {
                continue;
            } else if let Some(version) = line.strip_prefix("costs: measured by hiosc ") {
                profile.version = version.trim().into();
            } else if line.starts_with("gpu") {
                profile.gpus.push(parse_gpu(line, count).ok_or_else(error)?);
                profile.links = vec![vec![None; count + 1]; count + 1];
            } else if let Some(rest) = line.strip_prefix("measured ") {
                let expected = profile.conditions.len();
                profile.conditions.push(parse_conditions(rest, expected).ok_or_else(error)?);
            } else if line.starts_with("link ") {
                let (from, to, link) = parse_link(line, count).ok_or_else(error)?;
                profile.links[from][to] = Some(link);
            } else if line.starts_with("stage ") {
                profile.stages.extend([parse_stage(line, count).ok_or_else(error)?]);
            } else {
                let (name, row) = line.strip_prefix("kernel ").and_then(|rest| rest.split_once(": ")).ok_or_else(error)?;
                let row: Option<Vec<_>> = row.split(" | ").map(parse_measured).collect();
                let row = row.filter(|row| row.len() == count).ok_or_else(error)?;
                profile.kernels.insert(kernel_name(name).ok_or_else(error)?, row);
            }
        }
        if profile.version.is_empty() {
            return Err(Error::Usage(
                "costs: a line `costs: measured by hiosc VERSION` must name the hiosc version that measured them".into(),
            ));
        }
        if profile.gpus.is_empty() || profile.conditions.len() != profile.gpus.len() {
            return Err(Error::Usage("costs: each GPU needs a line `gpu0: ...` and a line `measured gpu0: ...`".into()));
        }
        Ok(profile)
    }

    /// Checks that the kernels are those of this hiosc.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] that says what differs.
    pub fn check_fresh(&self) -> Result<()> {
        let now = kernels_hash();
        match self.conditions.iter().position(|c| c.kernels != now) {
            Some(gpu) => Err(Error::Usage(format!(
                "costs: stale: gpu{gpu} was measured by hiosc {} with kernels {}, and this hiosc {} has kernels {now}: profile again, or continue with --allow-foreign-costs",
                self.version,
                self.conditions[gpu].kernels,
                env!("CARGO_PKG_VERSION")
            ))),
            None => Ok(()),
        }
    }

    /// Checks that the GPUs are the first of `present`, under the same conditions, kernels aside.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] that says what differs.
    pub fn check_gpus(&self, present: &[(TargetGpu, Conditions)]) -> Result<()> {
        let hint = "profile here, or continue with --allow-foreign-costs";
        if self.gpus.len() > present.len() {
            return Err(Error::Usage(format!(
                "costs: foreign: the table has {} GPUs, this machine {}: {hint}",
                self.gpus.len(),
                present.len()
            )));
        }
        for (index, ((gpu, conditions), (here, now))) in self.gpus.iter().zip(&self.conditions).zip(present).enumerate() {
            let facts = |gpu: &TargetGpu, c: &Conditions| {
                let Conditions { sms, clock, memory_clock, driver, .. } = c;
                let driver = format!("driver {}.{}", driver / 1000, driver % 1000 / 10);
                [gpu_text(index, gpu), format!("{sms} SMs"), format!("{clock} MHz"), format!("memory {memory_clock} MHz"), driver]
            };
            let differs = facts(gpu, conditions).into_iter().zip(facts(here, now)).find(|(table, machine)| table != machine);
            if let Some((table, machine)) = differs {
                return Err(Error::Usage(format!(
                    "costs: foreign: the table has `{table}` for gpu{index}, this machine `{machine}`: {hint}"
                )));
            }
        }
        Ok(())
    }

    /// Adds the figures of `later`; where both have one, the later one counts.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if they differ in hiosc version, GPUs, clocks, drivers or kernels.
    pub fn merge(&mut self, later: Profile) -> Result<()> {
        let head = |profile: &Profile| {
            Profile { kernels: BTreeMap::new(), links: Vec::new(), stages: MeasuredStages::new(), ..profile.clone() }.to_text()
        };
        let (mine, theirs) = (head(self), head(&later));
        if mine != theirs {
            let differs = mine.lines().zip(theirs.lines()).find(|(a, b)| a != b);
            let (a, b) = differs.unwrap_or(("the end", "another GPU"));
            return Err(Error::Usage(format!("costs: these tables do not merge: one has `{a}`, the other `{b}`")));
        }
        for (name, row) in later.kernels {
            let mine = self.kernels.entry(name).or_insert_with(|| vec![None; row.len()]);
            mine.iter_mut().zip(row).for_each(|(mine, theirs)| *mine = theirs.or(*mine));
        }
        for (kernels, times) in later.stages {
            let mine = self.stages.entry(kernels).or_insert_with(|| vec![None; times.len()]);
            mine.iter_mut().zip(times).for_each(|(mine, theirs)| *mine = theirs.or(*mine));
        }
        for (mine, theirs) in self.links.iter_mut().flatten().zip(later.links.into_iter().flatten()) {
            *mine = theirs.or(*mine);
        }
        Ok(())
    }

    /// The costs of `graph`: for each operator and GPU the fastest of its `candidates` that was
    /// measured; ties go to the earlier. Keeps only the stages of these kernels.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] with all operators that have no measured kernel on some GPU.
    pub fn table(&self, graph: &Graph, mut candidates: impl FnMut(OpId, &DeviceModel) -> Result<Vec<Kernel>>) -> Result<CostTable> {
        let (mut operators, mut missing) = (Vec::new(), Vec::new());
        let models = self.gpus.iter().map(TargetGpu::model).collect::<Result<Vec<_>>>()?;
        for op in graph.op_ids() {
            let kernels = super::by_kind(&models, |device| candidates(op, device))?;
            let fastest = |gpu: usize| {
                let measured = kernels[gpu].iter().filter_map(|k| Some((k, self.kernels.get(&k.name)?.get(gpu).copied().flatten()?)));
                measured.min_by_key(|(_, m)| m.time)
            };
            let row: Option<Vec<OperatorCost>> = (0..self.gpus.len())
                .map(|gpu| {
                    let (kernel, m) = fastest(gpu)?;
                    Some(OperatorCost { time: m.time, utilisation: m.utilisation, kernel: kernel.clone() })
                })
                .collect();
            match row {
                Some(row) => operators.push(row),
                None => missing.push(format!("{op} {:?}", graph.operator(op).name)),
            }
        }
        if !missing.is_empty() {
            let shown = missing.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
            let more = if missing.len() > 5 { format!(" and {} more", missing.len() - 5) } else { String::new() };
            return Err(Error::Usage(format!(
                "costs: the table has no times for {shown}{more}: run hiosc profile on this model, with --merge to keep the times it has"
            )));
        }
        let source = format!("measured by hiosc {}", self.version);
        let chosen: BTreeSet<&str> = operators.iter().flatten().map(|cost| cost.kernel.name.as_str()).collect();
        let mut stages = self.stages.clone();
        stages.retain(|kernels, _| kernels.iter().all(|kernel| chosen.contains(kernel.as_str())));
        Ok(CostTable { source, gpus: self.gpus.clone(), operators, links: self.links.clone(), stages, grouped_launches: Vec::new() })
    }
}

fn parse_conditions(text: &str, index: usize) -> Option<Conditions> {
    let mut fields = text.strip_prefix(&format!("gpu{index}: "))?.split(", ");
    let sms = fields.next()?.strip_suffix(" SMs")?.parse().ok()?;
    let clock = fields.next()?.strip_suffix(" MHz")?.parse().ok()?;
    let memory_clock = fields.next()?.strip_prefix("memory ")?.strip_suffix(" MHz")?.parse().ok()?;
    let (major, minor) = fields.next()?.strip_prefix("driver ")?.split_once('.')?;
    let (major, minor): (i32, i32) = (major.parse().ok()?, minor.parse().ok()?);
    let driver = major.checked_mul(1000)?.checked_add(minor.checked_mul(10)?)?;
    let kernels = fields.next()?.strip_prefix("kernels ")?.into();
    fields.next().is_none().then_some(Conditions { sms, clock, memory_clock, driver, kernels })
}

fn parse_measured(text: &str) -> Option<Option<Measured>> {
    if text == "-" {
        return Some(None);
    }
    let mut fields = text.split(", ");
    let time = fields.next()?.strip_suffix(" ns")?.parse().ok().filter(|&t| t > 0)?;
    let utilisation = fields.next()?.strip_prefix("busy ")?.parse::<f64>().ok().filter(|u| *u > 0.0 && *u <= 1.0)?;
    let spread = fields.next()?.strip_prefix("spread ")?.parse::<f64>().ok().filter(|s| s.is_finite() && *s >= 0.0)?;
    fields.next().is_none().then_some(Some(Measured { time, utilisation, spread }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(kernels: &[(&str, Nanos)]) -> Profile {
        let gpu = TargetGpu { device: "NVIDIA A40".into(), compute_capability: (8, 6), memory: 1 << 30 };
        let conditions = Conditions { sms: 84, clock: 1740, memory_clock: 7251, driver: 12080, kernels: kernels_hash() };
        let link = Some(Link { latency: 3000, bandwidth: 2.5e10 });
        let measured = |time| Measured { time, utilisation: 0.5, spread: 0.01 };
        Profile {
            version: "0.1.0".into(),
            gpus: vec![gpu.clone(), gpu],
            conditions: vec![conditions.clone(), conditions],
            links: vec![vec![None, link], vec![link, None]],
            kernels: kernels.iter().map(|&(name, time)| (name.into(), vec![Some(measured(time)), None])).collect(),
            stages: MeasuredStages::from([(vec!["a".into(), "b".into()], vec![None, Some(25)])]),
        }
    }

    #[test]
    fn there_and_back() {
        let profile = profile(&[("a", 10), ("b", 20)]);
        let text = profile.to_text();
        assert!(Profile::is_one(&text) && text.contains("\nkernel a: 10 ns, busy 0.5, spread 0.01 | -\n"), "{text}");
        assert!(text.ends_with("\nstage a + b: - | 25 ns\n"), "{text}");
        assert_eq!(Profile::parse(&text).unwrap(), profile);
        for line in [
            "kernel a: 10 ns",
            "stage a: 1 ns | -",
            "stage a +  + b: 1 ns | -",
            "kernel a b: 10 ns, busy 1, spread 0 | -",
            "stage a + b: 1 ns",
            "kernel a: 0 ns, busy 1, spread 0 | -",
            "measured gpu2: 1 SMs",
            "hello",
        ] {
            let error = Profile::parse(&format!("{text}{line}\n")).unwrap_err().to_string();
            assert!(error.contains(&format!("`{line}` is not understood")), "{error}");
        }
        let nameless = text.replacen("costs: measured by hiosc 0.1.0\n", "", 1);
        let error = Profile::parse(&nameless).unwrap_err().to_string();
        assert!(error.contains("the hiosc version that measured them"), "{error}");
    }

    #[test]
    fn tables_merge_if_they_are_of_the_same_gpus() {
        let mut one = profile(&[("a", 10), ("b", 20)]);
        let mut later = profile(&[("b", 30), ("c", 40)]);
        later.stages = MeasuredStages::from([(vec!["a".into(), "b".into()], vec![Some(26), None])]);
        one.merge(later).unwrap();
        let mut both = profile(&[("a", 10), ("b", 30), ("c", 40)]);
        both.stages = MeasuredStages::from([(vec!["a".into(), "b".into()], vec![Some(26), Some(25)])]);
        assert_eq!(one, both);
        let mut other = profile(&[]);
        other.conditions[1].driver = 12040;
        let error = one.merge(other).unwrap_err().to_string();
        assert!(error.contains("driver 12.8, kernels") && error.contains("driver 12.4, kernels"), "{error}");
    }

    #[test]
    fn stale_and_foreign_tables_say_what_differs() {
        let mut one = profile(&[]);
        one.check_fresh().unwrap();
        let here: Vec<_> = one.gpus.iter().cloned().zip(one.conditions.iter().cloned()).collect();
        one.check_gpus(&here).unwrap();
        let error = one.check_gpus(&here[..1]).unwrap_err().to_string();
        assert!(error.contains("the table has 2 GPUs, this machine 1"), "{error}");
        let mut slower = here.clone();
        slower[1].1.clock = 1500;
        let error = one.check_gpus(&slower).unwrap_err().to_string();
        assert!(error.contains("the table has `1740 MHz` for gpu1, this machine `1500 MHz`"), "{error}");
        one.conditions[1].kernels = "0".into();
        let error = one.check_fresh().unwrap_err().to_string();
        assert!(error.contains("stale: gpu1 was measured by hiosc 0.1.0 with kernels 0"), "{error}");
    }
}
