//! Device and link models: the figures that estimates are computed from, each with its source.
//!
//! They are text files under `devices/` and `links/`, part of hiosc itself. A line is
//! `key = value # source`, and the source is required. Empty lines and lines that start with `#`
//! are allowed. Every key must appear exactly once, and an unknown one is an error.

use std::collections::BTreeMap;

use super::{Link, Nanos};
use crate::error::{Error, Result};

/// The device models by name.
const DEVICES: &[(&str, &str)] = &[
    ("a40", include_str!("devices/a40.txt")),
    ("a100", include_str!("devices/a100.txt")),
    ("a100-40gb", include_str!("devices/a100-40gb.txt")),
    ("h100", include_str!("devices/h100.txt")),
    ("h200", include_str!("devices/h200.txt")),
    ("l4", include_str!("devices/l4.txt")),
    ("rtx4090", include_str!("devices/rtx4090.txt")),
    ("v100", include_str!("devices/v100.txt")),
];

/// The link models by name.
const LINKS: [(&str, &str); 8] = [
    ("nvlink", include_str!("links/nvlink.txt")),
    ("nvlink2", include_str!("links/nvlink2.txt")),
    ("nvlink3", include_str!("links/nvlink3.txt")),
    ("nvlink4", include_str!("links/nvlink4.txt")),
    ("pcie3", include_str!("links/pcie3.txt")),
    ("pcie4", include_str!("links/pcie4.txt")),
    ("pcie5", include_str!("links/pcie5.txt")),
    ("host4", include_str!("links/host4.txt")),
];

/// A kind of GPU. The sources of the figures are in the model's file.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceModel {
    /// As `--device` names it: `a40`.
    pub name: String,
    /// Compute capability: (8, 6).
    pub compute_capability: (u32, u32),
    /// Streaming multiprocessors.
    pub sms: u64,
    /// Clock of the SMs under load, cycles per second.
    pub clock_hz: f64,
    /// Single precision multiply-adds that an SM starts per cycle.
    pub fp32_lanes_per_sm: u64,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Bandwidth of the memory, bytes per second.
    pub bandwidth: f64,
    /// Size of the L2 cache. Estimates do not use it: every operator is assumed to read from
    /// memory.
    pub l2_bytes: u64,
    /// Threads of a warp.
    pub warp: u64,
    /// The most threads per block.
    pub max_threads_per_block: u64,
    /// The most threads resident on an SM.
    pub max_threads_per_sm: u64,
    /// The most blocks resident on an SM.
    pub max_blocks_per_sm: u64,
    /// Registers of an SM.
    pub registers_per_sm: u64,
    /// A warp gets registers in multiples of this.
    pub register_unit: u64,
    /// Shared memory of an SM.
    pub shared_bytes_per_sm: u64,
    /// The most shared memory of a block.
    pub shared_bytes_per_block: u64,
    /// Shared memory that the system keeps for each block.
    pub shared_reserved_per_block: u64,
    /// A block gets shared memory in multiples of this.
    pub shared_unit: u64,
    /// Warp schedulers of an SM.
    pub schedulers_per_sm: u64,
    /// Cycles from an arithmetic instruction to one that uses its result.
    pub arithmetic_latency_cycles: u64,
    /// Time of a memory access.
    pub memory_latency_ns: Nanos,
    /// Fraction of the arithmetic peak that a good kernel sustains.
    pub compute_efficiency: f64,
    /// Fraction of the memory bandwidth that a good kernel sustains.
    pub bandwidth_efficiency: f64,
    /// Time from the end of a kernel to the start of the next one in its stream.
    pub launch_gap_ns: Nanos,
    /// Names of the links it has, the fastest first; the last one reaches every other GPU of the
    /// machine.
    pub links: Vec<String>,
}

impl DeviceModel {
    /// Peak of single precision operations per second.
    pub fn peak_flops(&self) -> f64 {
        (self.sms * self.fp32_lanes_per_sm * 2) as f64 * self.clock_hz
    }

    /// Blocks that fit on one SM at a time, by the CUDA occupancy calculator; `None` if none does.
    /// `shared` is the shared memory of a block in bytes, static and dynamic.
    pub fn blocks_per_sm(&self, threads: u64, registers: u64, shared: u64) -> Option<u64> {
        if threads == 0 || threads > self.max_threads_per_block || shared > self.shared_bytes_per_block {
            return None;
        }
        let warps = threads.div_ceil(self.warp);
        let by_threads = self.max_threads_per_sm / self.warp / warps;
        let per_warp = (registers.max(1) * self.warp).next_multiple_of(self.register_unit);
        let by_registers = self.registers_per_sm / per_warp / warps;
        let shared = shared.next_multiple_of(self.shared_unit) + self.shared_reserved_per_block;
        // a V100 reserves none
        let by_shared = self.shared_bytes_per_sm.checked_div(shared).unwrap_or(u64::MAX);
        let blocks = by_threads.min(by_registers).min(by_shared).min(self.max_blocks_per_sm);
        (blocks > 0).then_some(blocks)
    }

    fn parse(name: &str, text: &str) -> Result<DeviceModel> {
        let mut figures = Figures::read(&format!("device model {name}"), text)?;
        let capability = figures.text("compute_capability")?;
        let compute_capability =
            capability
                .1
                .split_once('.')
                .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)))
                .ok_or_else(|| figures.error(capability.0, format!("`{}` is not a compute capability like 8.6", capability.1)))?;
        let (number, links) = figures.text("links")?;
        let links: Vec<String> = links.split(',').map(|link| link.trim().to_string()).collect();
        if let Some(unknown) = links.iter().find(|link| find("link", link, &LINKS).is_err()) {
            return Err(figures.error(number, format!("links: unknown link `{unknown}`")));
        }
        let model = DeviceModel {
            name: name.into(),
            compute_capability,
            sms: figures.count("sms")?,
            clock_hz: figures.positive("clock_hz")?,
            fp32_lanes_per_sm: figures.count("fp32_lanes_per_sm")?,
            memory_bytes: figures.count("memory_bytes")?,
            bandwidth: figures.positive("bandwidth")?,
            l2_bytes: figures.count("l2_bytes")?,
            warp: figures.count("warp")?,
            max_threads_per_block: figures.count("max_threads_per_block")?,
            max_threads_per_sm: figures.count("max_threads_per_sm")?,
            max_blocks_per_sm: figures.count("max_blocks_per_sm")?,
            registers_per_sm: figures.count("registers_per_sm")?,
            register_unit: figures.count("register_unit")?,
            shared_bytes_per_sm: figures.count("shared_bytes_per_sm")?,
            shared_bytes_per_block: figures.count("shared_bytes_per_block")?,
            shared_reserved_per_block: figures.count_or_none("shared_reserved_per_block")?,
            shared_unit: figures.count("shared_unit")?,
            schedulers_per_sm: figures.count("schedulers_per_sm")?,
            arithmetic_latency_cycles: figures.count("arithmetic_latency_cycles")?,
            memory_latency_ns: figures.count("memory_latency_ns")?,
            compute_efficiency: figures.share("compute_efficiency")?,
            bandwidth_efficiency: figures.share("bandwidth_efficiency")?,
            launch_gap_ns: figures.count("launch_gap_ns")?,
            links,
        };
        figures.end()?;
        Ok(model)
    }
}

/// A kind of connection between GPUs, the same in both directions.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkModel {
    /// As `--link` names it: `nvlink`.
    pub name: String,
    /// Raw bandwidth in one direction, bytes per second.
    pub line_rate: f64,
    /// Fraction of it that a large copy sustains.
    pub efficiency: f64,
    /// Time of an empty copy.
    pub latency_ns: Nanos,
    /// How many GPUs one such connection joins: GPUs 0 to `group - 1`, the next `group`, and so on.
    pub group: usize,
    /// Whether it joins only GPUs of one kind: then groups are counted among the GPUs of a kind.
    pub equal_only: bool,
}

impl LinkModel {
    /// The latency and sustained bandwidth of transfers over it.
    pub fn cost(&self) -> Link {
        Link { latency: self.latency_ns, bandwidth: self.line_rate * self.efficiency }
    }

    fn parse(name: &str, text: &str) -> Result<LinkModel> {
        let mut figures = Figures::read(&format!("link model {name}"), text)?;
        let model = LinkModel {
            name: name.into(),
            line_rate: figures.positive("line_rate")?,
            efficiency: figures.share("efficiency")?,
            latency_ns: figures.count("latency_ns")?,
            group: figures.count("group")? as usize,
            equal_only: match figures.text("joins")? {
                (_, "equal") => true,
                (_, "any") => false,
                (number, other) => return Err(figures.error(number, format!("joins: `{other}` is neither `equal` nor `any`"))),
            },
        };
        figures.end()?;
        Ok(model)
    }
}

/// The device model of this name.
pub fn device(name: &str) -> Result<DeviceModel> {
    let (name, text) = find("device", name, DEVICES)?;
    DeviceModel::parse(name, text)
}

/// The device model of a GPU whose driver calls it `name`, such as `NVIDIA A40`; the default model
/// if none fits.
pub fn closest(name: &str) -> Result<DeviceModel> {
    let name = name.to_lowercase().replace(' ', "");
    let known = DEVICES.iter().map(|&(known, _)| known).find(|known| name.contains(known));
    device(known.unwrap_or("a40"))
}

/// The link model of this name.
pub fn link(name: &str) -> Result<LinkModel> {
    let (name, text) = find("link", name, &LINKS)?;
    LinkModel::parse(name, text)
}

/// The entry of this name, in any case of letters.
fn find(what: &str, name: &str, known: &[(&'static str, &'static str)]) -> Result<(&'static str, &'static str)> {
    let found = known.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).copied();
    found.ok_or_else(|| Error::unknown(what, name, known.iter().map(|(name, _)| *name)))
}

/// The lines of a model file, by key.
struct Figures<'t> {
    title: String,
    values: BTreeMap<&'t str, (usize, &'t str)>,
}

impl<'t> Figures<'t> {
    fn read(title: &str, text: &'t str) -> Result<Figures<'t>> {
        let mut figures = Figures { title: title.into(), values: BTreeMap::new() };
        for (number, line) in text.lines().enumerate().map(|(i, line)| (i + 1, line.trim())) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((key, rest)) = line.split_once('=') else {
                return Err(figures.error(number, format!("`key = value  # source` expected, found `{line}`")));
            };
            let (value, source) = rest.split_once('#').unwrap_or((rest, ""));
            if source.trim().is_empty() {
                return Err(figures.error(number, format!("`{}` has no source", key.trim())));
            }
            if figures.values.insert(key.trim(), (number, value.trim())).is_some() {
                return Err(figures.error(number, format!("`{}` appears twice", key.trim())));
            }
        }
        Ok(figures)
    }

    fn error(&self, number: usize, message: String) -> Error {
        Error::Usage(format!("{}, line {number}: {message}", self.title))
    }

    fn text(&mut self, key: &str) -> Result<(usize, &'t str)> {
        self.values.remove(key).ok_or_else(|| Error::Usage(format!("{}: `{key}` is missing", self.title)))
    }

    fn positive(&mut self, key: &str) -> Result<f64> {
        let (number, text) = self.text(key)?;
        match text.parse::<f64>() {
            Ok(value) if value > 0.0 && value.is_finite() => Ok(value),
            _ => Err(self.error(number, format!("{key}: `{text}` is not a positive number"))),
        }
    }

    fn share(&mut self, key: &str) -> Result<f64> {
        let number = self.values.get(key).map_or(0, |v| v.0);
        match self.positive(key)? {
            value if value <= 1.0 => Ok(value),
            value => Err(self.error(number, format!("{key}: {value} is above 1"))),
        }
    }

    fn count(&mut self, key: &str) -> Result<u64> {
        let number = self.values.get(key).map_or(0, |v| v.0);
        match self.positive(key)? {
            value if value.fract() == 0.0 && value < 1e18 => Ok(value as u64),
            value => Err(self.error(number, format!("{key}: {value} is not a whole number"))),
        }
    }

    /// A count that may be 0.
    fn count_or_none(&mut self, key: &str) -> Result<u64> {
        match self.values.get(key) {
            Some((_, "0")) => self.values.remove(key).map_or(Ok(0), |_| Ok(0)),
            _ => self.count(key),
        }
    }

    fn end(&self) -> Result<()> {
        match self.values.iter().next() {
            Some((key, &(number, _))) => Err(self.error(number, format!("unknown key `{key}`"))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_model_is_sound() {
        for (name, _) in DEVICES {
            device(name).unwrap();
        }
        for (name, _) in LINKS {
            assert!(link(name).unwrap().group >= 2);
        }
    }

    /// (device, fp32 TFLOPS and memory bandwidth of its datasheet, compute capability)
    #[test]
    fn every_device_has_its_datasheets_peaks() {
        let sheets = [
            ("v100", 15.7e12, 900e9, (7, 0)),
            ("a40", 37.4e12, 696e9, (8, 6)),
            ("a100", 19.5e12, 2039e9, (8, 0)),
            ("a100-40gb", 19.5e12, 1555e9, (8, 0)),
            ("h100", 67e12, 3350e9, (9, 0)),
            ("h200", 67e12, 4800e9, (9, 0)),
            ("l4", 30.3e12, 300e9, (8, 9)),
            ("rtx4090", 82.6e12, 1008e9, (8, 9)),
        ];
        assert_eq!(sheets.len(), DEVICES.len());
        for (name, flops, bandwidth, capability) in sheets {
            let model = device(name).unwrap();
            assert_eq!((model.compute_capability, model.bandwidth), (capability, bandwidth), "{name}");
            assert!((model.peak_flops() / flops - 1.0).abs() < 0.003, "{name}: {}", model.peak_flops());
        }
    }

    #[test]
    fn the_last_link_of_a_device_reaches_everybody() {
        for (name, _) in DEVICES {
            let links = device(name).unwrap().links;
            assert!(!link(links.last().unwrap()).unwrap().equal_only, "{name}");
        }
    }

    #[test]
    fn unknown_names_list_the_known_ones() {
        assert_eq!(
            device("a41").unwrap_err().to_string(),
            "unknown device `a41` (did you mean `a40`?); known: a40, a100, a100-40gb, h100, h200, l4, rtx4090, v100"
        );
        let known = "nvlink, nvlink2, nvlink3, nvlink4, pcie3, pcie4, pcie5, host4";
        assert_eq!(link("ib").unwrap_err().to_string(), format!("unknown link `ib`; known: {known}"));
    }

    #[test]
    fn broken_models_are_errors_that_name_the_line() {
        let a40 = DEVICES[0].1;
        let line = |key: &str| a40.lines().find(|l| l.starts_with(key)).unwrap();
        let number = |key: &str| a40.lines().position(|l| l.starts_with(key)).unwrap() + 1;
        let cases = [
            (a40.replace(line("sms"), ""), "device model x: `sms` is missing".to_string()),
            (a40.replace(line("sms"), "sms = 84"), format!("line {}: `sms` has no source", number("sms"))),
            (a40.replace(line("sms"), "sms = 1.5 # me"), format!("line {}: sms: 1.5 is not a whole number", number("sms"))),
            (a40.replace(line("sms"), "sms = -1 # me"), format!("line {}: sms: `-1` is not a positive number", number("sms"))),
            (a40.replace(line("sms"), "sms 84"), format!("line {}: `key = value  # source` expected", number("sms"))),
            (a40.replace(line("warp"), line("sms")), format!("line {}: `sms` appears twice", number("warp"))),
            (a40.replace(line("compute_eff"), "compute_efficiency = 2 # me"), "compute_efficiency: 2 is above 1".to_string()),
            (a40.replace(line("compute_cap"), "compute_capability = 86 # me"), "`86` is not a compute capability".to_string()),
            (a40.replace(line("links"), "links = ib # me"), format!("line {}: links: unknown link `ib`", number("links"))),
            (format!("{a40}\ncores = 1 # me"), "unknown key `cores`".to_string()),
        ];
        for (text, expected) in cases {
            let error = DeviceModel::parse("x", &text).unwrap_err().to_string();
            assert!(error.contains(&expected), "{expected}: {error}");
        }
    }
}
