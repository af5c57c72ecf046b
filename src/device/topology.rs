//! A target as text: `--topology FILE`, for machines that names alone cannot describe.
//!
//! ```text
//! gpu0: a40
//! gpu1: a40, 40000000000 bytes          # memory that a plan may use, if not all of it
//! gpu2: l4
//! link gpu0 <-> gpu1: nvlink            # both directions, by name
//! link gpu1 -> gpu2: 6000 ns, 12500000000 bytes/s
//! link others: pcie4                    # every pair not named
//! ```
//!
//! First the GPUs, counted from 0, by device model; then the links, by name or by latency and
//! bandwidth. Each ordered pair needs exactly one link, so that none is forgotten or given twice.
//! `#` starts a comment. The links may be in any order.

use super::model;
use super::target::{MAX_GPUS, Target};
use super::{DeviceModel, Link};
use crate::error::{Error, Result};

impl Target {
    /// The target that `text` describes. Messages and cost tables call it `name`, a file's name.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] with the line.
    pub fn from_topology(text: &str, name: &str) -> Result<Target> {
        let mut gpus: Vec<DeviceModel> = Vec::new();
        let mut links: Vec<Vec<Option<Link>>> = Vec::new();
        let mut others: Option<Link> = None;
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            let at = |message: String| Error::Usage(format!("topology {name}, line {}: {message}", number + 1));
            if line.is_empty() {
                continue;
            }
            let Some((head, value)) = line.split_once(':').map(|(head, value)| (head.trim(), value.trim())) else {
                return Err(at(format!("`gpu0: DEVICE` or `link gpu0 <-> gpu1: LINK` expected, found `{line}`")));
            };
            if let Some(ends) = head.strip_prefix("link ").map(str::trim) {
                let link = link(value).map_err(at)?;
                if links.is_empty() {
                    links = vec![vec![None; gpus.len()]; gpus.len()];
                }
                if ends == "others" {
                    if others.replace(link).is_some() {
                        return Err(at("`link others` appears twice".into()));
                    }
                    continue;
                }
                for (from, to) in directions(ends, gpus.len()).map_err(at)? {
                    if links[from][to].replace(link).is_some() {
                        return Err(at(format!("a second link gpu{from} -> gpu{to}")));
                    }
                }
            } else if head == format!("gpu{}", gpus.len()) {
                if !links.is_empty() || others.is_some() {
                    return Err(at("GPUs come before links".into()));
                }
                if gpus.len() == MAX_GPUS {
                    return Err(at(format!("more than {MAX_GPUS} GPUs")));
                }
                gpus.push(gpu(value).map_err(at)?);
            } else {
                return Err(at(format!("`{head}` is neither `gpu{}` nor a link", gpus.len())));
            }
        }
        if gpus.is_empty() {
            return Err(Error::Usage(format!("topology {name}: there is no GPU")));
        }
        links.resize(gpus.len(), vec![None; gpus.len()]);
        for (from, row) in links.iter_mut().enumerate() {
            for (to, slot) in row.iter_mut().enumerate().filter(|(to, _)| *to != from) {
                *slot = slot.or(others);
                if slot.is_none() {
                    let message =
                        format!("topology {name}: nothing links gpu{from} -> gpu{to}; `link others: LINK` would link every pair not named");
                    return Err(Error::Usage(message));
                }
            }
        }
        Ok(Target { gpus, links, connection: format!("topology {name}") })
    }
}

/// `a40`, or `a40, 40000000000 bytes`.
fn gpu(text: &str) -> Result<DeviceModel, String> {
    let (name, memory) = text.split_once(',').map_or((text, None), |(name, memory)| (name.trim(), Some(memory.trim())));
    let mut model = model::device(name).map_err(|e| e.to_string())?;
    if let Some(memory) = memory {
        let bytes = memory.strip_suffix("bytes").and_then(|n| n.trim().parse::<u64>().ok()).filter(|&n| n > 0);
        let bytes = bytes.ok_or_else(|| format!("`{memory}` is not a memory size such as `40000000000 bytes`"))?;
        if bytes > model.memory_bytes {
            return Err(format!("{bytes} bytes are more than {name} has: {}", model.memory_bytes));
        }
        model.memory_bytes = bytes;
    }
    Ok(model)
}

/// `nvlink`, or `3000 ns, 47250000000 bytes/s`.
fn link(text: &str) -> Result<Link, String> {
    let Some((latency, bandwidth)) = text.split_once(',') else {
        return model::link(text).map(|model| model.cost()).map_err(|e| e.to_string());
    };
    let latency = latency.trim().strip_suffix("ns").and_then(|n| n.trim().parse().ok()).filter(|&l: &u64| l <= 1_000_000_000_000);
    let bandwidth = bandwidth.trim().strip_suffix("bytes/s").and_then(|n| n.trim().parse::<f64>().ok());
    match (latency, bandwidth.filter(|b| b.is_finite() && *b >= 1.0)) {
        (Some(latency), Some(bandwidth)) => Ok(Link { latency, bandwidth }),
        _ => Err(format!("`{text}` is not a link such as `nvlink` or `3000 ns, 25000000000 bytes/s`")),
    }
}

/// `gpu0 <-> gpu1` as two ordered pairs, `gpu0 -> gpu1` as one.
fn directions(text: &str, gpus: usize) -> Result<Vec<(usize, usize)>, String> {
    let gpu = |name: &str| name.trim().strip_prefix("gpu").and_then(|n| n.parse::<usize>().ok());
    let (both, ends) = match text.split_once("<->") {
        Some(ends) => (true, Some(ends)),
        None => (false, text.split_once("->")),
    };
    let Some((Some(from), Some(to))) = ends.map(|(a, b)| (gpu(a), gpu(b))) else {
        return Err(format!("`{text}` is not a pair such as `gpu0 <-> gpu1` or `gpu0 -> gpu1`"));
    };
    if let Some(missing) = [from, to].into_iter().find(|&g| g >= gpus) {
        return Err(format!("there is no gpu{missing} above this line"));
    }
    if from == to {
        return Err(format!("a link from gpu{from} to itself"));
    }
    Ok(if both { vec![(from, to), (to, from)] } else { vec![(from, to)] })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = "# a machine\ngpu0: a40\ngpu1: a40, 40000000000 bytes # shared with a display\ngpu2: l4\n\nlink gpu0 <-> gpu1: nvlink\n\
        link gpu1 -> gpu2: 6000 ns, 12500000000 bytes/s\nlink others: pcie4\n";

    #[test]
    fn a_full_one() {
        let target = Target::from_topology(FULL, "box.txt").unwrap();
        let names: Vec<_> = target.gpus.iter().map(|g| (g.name.as_str(), g.memory_bytes)).collect();
        assert_eq!(names, [("a40", 48_000_000_000), ("a40", 40_000_000_000), ("l4", 24_000_000_000)]);
        assert_eq!(target.source(), "estimated from device models a40, l4, topology box.txt");
        let known = |name: &str| Some(model::link(name).unwrap().cost());
        assert_eq!(target.links[1], [known("nvlink"), None, Some(Link { latency: 6000, bandwidth: 12.5e9 })]);
        assert_eq!(target.links[2], [known("pcie4"), known("pcie4"), None]);
        assert_eq!(Target::from_topology("gpu0: l4", "t").unwrap().links, [[None]]);
    }

    #[test]
    fn broken_ones_name_the_line() {
        let two = "gpu0: l4\ngpu1: l4\n";
        let cases = [
            ("".to_string(), "topology t: there is no GPU"),
            ("gpu0 = a40".into(), "topology t, line 1: `gpu0: DEVICE` or `link gpu0 <-> gpu1: LINK` expected, found `gpu0 = a40`"),
            ("\ngpu1: a40".into(), "topology t, line 2: `gpu1` is neither `gpu0` nor a link"),
            ("gpu0: b40".into(), "topology t, line 1: unknown device `b40` (did you mean `a40`?); known: a40, "),
            ("gpu0: l4, 8 GB".into(), "topology t, line 1: `8 GB` is not a memory size such as `40000000000 bytes`"),
            ("gpu0: l4, 25000000000 bytes".into(), "topology t, line 1: 25000000000 bytes are more than l4 has: 24000000000"),
            (two.into(), "topology t: nothing links gpu0 -> gpu1; `link others: LINK` would link every pair not named"),
            (format!("{two}link gpu0 -> gpu1: pcie4"), "topology t: nothing links gpu1 -> gpu0"),
            (format!("{two}link gpu0 gpu1: pcie4"), "topology t, line 3: `gpu0 gpu1` is not a pair such as `gpu0 <-> gpu1`"),
            (format!("{two}link gpu0 -> gpu2: pcie4"), "topology t, line 3: there is no gpu2 above this line"),
            (format!("{two}link gpu0 -> gpu0: pcie4"), "topology t, line 3: a link from gpu0 to itself"),
            (format!("{two}link gpu0 <-> gpu1: pcie4\nlink gpu1 -> gpu0: pcie4"), "topology t, line 4: a second link gpu1 -> gpu0"),
            (format!("{two}link others: pcie4\nlink others: pcie4"), "topology t, line 4: `link others` appears twice"),
            (format!("{two}link others: ib"), "topology t, line 3: unknown link `ib`; known: nvlink, "),
            (format!("{two}link others: 3 us, 1 bytes/s"), "topology t, line 3: `3 us, 1 bytes/s` is not a link such as"),
            (format!("{two}link others: 3 ns, inf bytes/s"), "topology t, line 3: `3 ns, inf bytes/s` is not a link such as"),
            (format!("{two}link others: pcie4\ngpu2: l4"), "topology t, line 4: GPUs come before links"),
        ];
        for (text, expected) in cases {
            let message = Target::from_topology(&text, "t").unwrap_err().to_string();
            assert!(message.starts_with(expected), "{text:?}\nexpected {expected}\nfound    {message}");
        }
    }
}
