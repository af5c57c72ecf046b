//! The target: which GPUs, of which kind, and what connects them.
//!
//! [`Target::new`] makes it from names, as `--device`, `--gpus` and `--link` give them;
//! `topology.rs` reads it from a file. Without a requested link, two GPUs of one kind use the
//! fastest link of their device model, as far as it reaches (an A40's bridge joins two). All others
//! use the slower of the two links that reach every GPU: the buses. A link that joins only equal
//! GPUs counts its groups among the GPUs of a kind, in the order in which they are named.

use super::model::{self, DeviceModel, LinkModel};
use super::{Link, TargetGpu};
use crate::error::{Error, Result};

/// The most GPUs of one target.
pub(super) const MAX_GPUS: usize = 64;

/// How many GPUs one device name stands for by default.
const DEFAULT_COUNT: usize = 2;

/// What a model is compiled for.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The GPUs.
    pub gpus: Vec<DeviceModel>,
    /// `links[from][to]`; `None` on the diagonal.
    pub links: Vec<Vec<Option<Link>>>,
    /// What connects them, in words: `links nvlink, pcie4`. Empty for one GPU.
    pub connection: String,
}

impl Target {
    /// The target that `devices` (`a40`, or several separated by commas), `gpus` and `link`
    /// describe. One device is repeated `gpus` times, 2 by default. If several are named, `gpus`
    /// must be absent or agree.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for unknown names, numbers that disagree, and a link that none of the
    /// devices has.
    pub fn new(devices: &str, gpus: Option<usize>, link: Option<&str>) -> Result<Target> {
        let names: Vec<&str> = devices.split(',').map(str::trim).collect();
        if names.contains(&"") {
            return Err(Error::Usage(format!("device `{devices}`: a name is missing")));
        }
        let mut models = names.iter().map(|name| model::device(name)).collect::<Result<Vec<_>>>()?;
        match gpus {
            Some(count) if names.len() > 1 && count != names.len() => {
                return Err(Error::Usage(format!(
                    "device `{devices}` names {} GPUs, but {count} are requested: leave out --gpus",
                    names.len()
                )));
            }
            _ if names.len() > 1 => {}
            count => {
                let count = count.unwrap_or(DEFAULT_COUNT);
                within_limits(count)?;
                models = vec![models.swap_remove(0); count];
            }
        }
        within_limits(models.len())?;
        let link = link.map(model::link).transpose()?;
        if let Some(link) = &link
            && link.equal_only
            && !models.iter().any(|model| model.links.contains(&link.name))
        {
            let mut choices: Vec<String> = models.iter().map(|m| format!("{} ({})", m.name, m.links.join(", "))).collect();
            choices.dedup();
            let message = format!(
                "link `{}` is on none of the devices: {}; other connections go into a --topology file",
                link.name,
                choices.join(", ")
            );
            return Err(Error::Usage(message));
        }
        let mut names: Vec<String> = Vec::new();
        let mut links = vec![vec![None; models.len()]; models.len()];
        for (from, row) in links.iter_mut().enumerate() {
            for (to, slot) in row.iter_mut().enumerate().filter(|(to, _)| *to != from) {
                let found = connection(&models, from, to, link.as_ref())?;
                *slot = Some(found.cost());
                if !names.contains(&found.name) {
                    names.push(found.name);
                }
            }
        }
        let connection = match &names[..] {
            [] => String::new(),
            [one] => format!("link {one}"),
            several => format!("links {}", several.join(", ")),
        };
        Ok(Target { gpus: models, links, connection })
    }

    /// `count` GPUs of one kind, connected by one link as far as it reaches:
    /// `Target::uniform("a40", 2, "nvlink")`.
    pub fn uniform(name: &str, count: usize, link_name: &str) -> Result<Target> {
        Target::new(name, Some(count), Some(link_name))
    }

    /// The source that a cost table of estimates for this target names:
    /// `estimated from device model a40, link nvlink`.
    pub fn source(&self) -> String {
        let mut names: Vec<&str> = Vec::new();
        for gpu in &self.gpus {
            if !names.contains(&gpu.name.as_str()) {
                names.push(&gpu.name);
            }
        }
        let models = if names.len() > 1 { "models" } else { "model" };
        let connection = if self.connection.is_empty() { String::new() } else { format!(", {}", self.connection) };
        format!("estimated from device {models} {}{connection}", names.join(", "))
    }

    /// Its GPUs, as a cost table lists them.
    pub fn table_gpus(&self) -> Vec<TargetGpu> {
        let gpu = |model: &DeviceModel| TargetGpu {
            device: model.name.clone(),
            compute_capability: model.compute_capability,
            memory: model.memory_bytes,
        };
        self.gpus.iter().map(gpu).collect()
    }
}

fn within_limits(count: usize) -> Result<()> {
    let possible = (1..=MAX_GPUS).contains(&count);
    if possible { Ok(()) } else { Err(Error::Usage(format!("{count} GPUs: between 1 and {MAX_GPUS} are possible"))) }
}

/// The link between two different GPUs. `wanted` is the requested link, if any.
fn connection(gpus: &[DeviceModel], a: usize, b: usize, wanted: Option<&LinkModel>) -> Result<LinkModel> {
    let equal = gpus[a].name == gpus[b].name;
    let fastest = match wanted {
        Some(link) => link.clone(),
        None => model::link(&gpus[a].links[0])?,
    };
    let has = wanted.is_none() || !fastest.equal_only || gpus[a].links.contains(&fastest.name);
    let position = |gpu: usize| if fastest.equal_only { gpus[..gpu].iter().filter(|g| g.name == gpus[gpu].name).count() } else { gpu };
    let reaches = (equal || wanted.is_some() && !fastest.equal_only) && has && position(a) / fastest.group == position(b) / fastest.group;
    if reaches {
        return Ok(fastest);
    }
    let bus = |gpu: usize| model::link(gpus[gpu].links.last().map_or("", String::as_str));
    let (first, second) = (bus(a)?, bus(b)?);
    // the slower one; if they are equal, that of the lower GPU, so that both directions are alike
    let (first, second) = if a < b { (first, second) } else { (second, first) };
    Ok(if second.cost().bandwidth < first.cost().bandwidth { second } else { first })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bandwidths(target: &Target, pairs: &[(usize, usize)]) -> Vec<f64> {
        pairs.iter().map(|&(a, b)| target.links[a][b].unwrap().bandwidth).collect()
    }

    fn rate(name: &str) -> f64 {
        model::link(name).unwrap().cost().bandwidth
    }

    fn error(devices: &str, gpus: Option<usize>, link: Option<&str>) -> String {
        Target::new(devices, gpus, link).unwrap_err().to_string()
    }

    #[test]
    fn a_bridge_joins_two_cards() {
        let target = Target::uniform("a40", 4, "nvlink").unwrap();
        let [nvlink, pcie] = [rate("nvlink"), rate("pcie4")];
        assert_eq!(bandwidths(&target, &[(0, 1), (1, 2), (3, 2), (0, 3)]), [nvlink, pcie, nvlink, pcie]);
        assert_eq!(target.connection, "links nvlink, pcie4");
        assert_eq!(Target::new("a40", None, None).unwrap(), Target::uniform("a40", 2, "nvlink").unwrap());
        assert_eq!(Target::new("a40,a40", Some(2), None).unwrap(), Target::uniform("a40", 2, "nvlink").unwrap());
    }

    #[test]
    fn unequal_gpus_meet_on_the_slower_bus() {
        let target = Target::new("a40,l4,a40", None, None).unwrap();
        assert_eq!(target.source(), "estimated from device models a40, l4, links pcie4, nvlink");
        assert_eq!(bandwidths(&target, &[(0, 1), (0, 2), (2, 0), (2, 1)]), [rate("pcie4"), rate("nvlink"), rate("nvlink"), rate("pcie4")]);
        let target = Target::new("h100, v100", None, None).unwrap();
        assert_eq!(bandwidths(&target, &[(0, 1), (1, 0)]), [rate("pcie3"), rate("pcie3")]);
        let target = Target::new("rtx4090,l4,l4", None, None).unwrap();
        assert_eq!(bandwidths(&target, &[(0, 1), (1, 0), (1, 2)]), [rate("host4"), rate("host4"), rate("pcie4")]);
    }

    #[test]
    fn every_device_has_its_own_default() {
        for (device, link) in [("v100", "nvlink2"), ("a100", "nvlink3"), ("h200", "nvlink4"), ("l4", "pcie4"), ("rtx4090", "host4")] {
            assert_eq!(Target::new(device, None, None).unwrap().connection, format!("link {link}"));
        }
        assert_eq!(Target::new("l4", Some(1), None).unwrap().source(), "estimated from device model l4");
    }

    #[test]
    fn a_wanted_link_is_used_where_it_can_be() {
        let target = Target::new("a40,a40,l4", None, Some("nvlink")).unwrap();
        assert_eq!(bandwidths(&target, &[(0, 1), (1, 2)]), [rate("nvlink"), rate("pcie4")]);
        let target = Target::new("a40,a40,l4", None, Some("pcie3")).unwrap();
        assert_eq!(bandwidths(&target, &[(0, 1), (1, 2)]), [rate("pcie3"), rate("pcie3")]);
        let target = Target::new("l4,l4,a40,a40", None, Some("nvlink")).unwrap();
        assert_eq!(bandwidths(&target, &[(0, 1), (2, 3)]), [rate("pcie4"), rate("nvlink")]);
    }

    #[test]
    fn wrong_targets() {
        assert_eq!(error("a40", Some(0), None), "0 GPUs: between 1 and 64 are possible");
        assert_eq!(error("a40", Some(65), None), "65 GPUs: between 1 and 64 are possible");
        assert_eq!(error("a40,l4", Some(3), None), "device `a40,l4` names 2 GPUs, but 3 are requested: leave out --gpus");
        assert_eq!(error("a40,,l4", None, None), "device `a40,,l4`: a name is missing");
        assert_eq!(
            error("l4,rtx4090", None, Some("nvlink")),
            "link `nvlink` is on none of the devices: l4 (pcie4), rtx4090 (host4); other connections go into a --topology file"
        );
    }
}
