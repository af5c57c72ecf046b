//! External data of a model, as buffers that rten reads in place.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Component, Path, PathBuf};

use memmap2::Mmap;
use rten::ModelOptions;

/// rten reads elements in place if they begin at a multiple of this.
const ALIGNMENT: u64 = 8;

/// The external data that a model refers to.
pub struct ExternalData {
    /// The folder of the model.
    folder: PathBuf,
    /// The files by location, each mapped once, with their names for rten.
    files: BTreeMap<String, (String, Mmap)>,
    /// Copies of what is misaligned in its file.
    copies: Vec<(String, Vec<u8>)>,
}

/// A piece of external data: rten's name of the buffer, where it begins, and its bytes.
pub struct Location {
    pub name: String,
    pub offset: u64,
    pub length: u64,
}

impl ExternalData {
    /// The external data of the model at `path`, none of which is open yet.
    pub fn beside(path: &Path) -> ExternalData {
        let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
        ExternalData { folder, files: BTreeMap::new(), copies: Vec::new() }
    }

    /// Where rten finds what these entries of a tensor describe.
    pub fn address(&mut self, entries: &[(String, String)]) -> Result<Location, String> {
        let entry = |wanted: &str| entries.iter().find(|(key, _)| key == wanted).map(|(_, value)| value.as_str());
        let number = |key: &str| entry(key).map(|text| text.parse::<u64>().map_err(|_| format!("{key} {text:?} is no number"))).transpose();
        let location = entry("location").ok_or("external data without a location")?;
        let (name, map) = self.open(location)?;
        let available = map.len() as u64;
        let offset = number("offset")?.unwrap_or(0);
        let length = number("length")?.map_or_else(|| available.checked_sub(offset), Some);
        let end = length.and_then(|length| offset.checked_add(length)).filter(|&end| end <= available);
        let (Some(length), Some(end)) = (length, end) else { return Err(format!("{location} is too short")) };
        if offset.is_multiple_of(ALIGNMENT) {
            return Ok(Location { name: name.clone(), offset, length });
        }
        let copy = map[offset as usize..end as usize].to_vec();
        let name = format!("copy{}.data", self.copies.len());
        self.copies.push((name.clone(), copy));
        Ok(Location { name, offset: 0, length })
    }

    /// The file at `location`, relative to the model's folder and not above it.
    fn open(&mut self, location: &str) -> Result<&(String, Mmap), String> {
        let below = |part: Component| matches!(part, Component::Normal(_) | Component::CurDir);
        if !Path::new(location).components().all(below) {
            return Err(format!("external data in {location:?}, which is not below the model's folder"));
        }
        let name = format!("file{}.data", self.files.len());
        let slot = match self.files.entry(location.into()) {
            std::collections::btree_map::Entry::Occupied(found) => return Ok(found.into_mut()),
            std::collections::btree_map::Entry::Vacant(slot) => slot,
        };
        let file = File::open(self.folder.join(location)).map_err(|error| format!("{location}: {error}"))?;
        // SAFETY: the map lives as long as the model that reads it. A program that changes the file
        // meanwhile breaks its own model.
        let map = unsafe { Mmap::map(&file) }.map_err(|error| format!("{location}: {error}"))?;
        Ok(slot.insert((name, map)))
    }

    /// Lends all buffers to a model that is about to be loaded. The maps, which must live longer
    /// than that model, remain.
    pub fn lend(self, options: &mut ModelOptions) -> Vec<Mmap> {
        for (name, copy) in self.copies {
            options.external_data(&name, copy);
        }
        let lend = |(name, map): (String, Mmap)| {
            // SAFETY: the caller keeps the map until the model is dropped, and a map's address does
            // not change when it is moved.
            let bytes: &'static [u8] = unsafe { std::slice::from_raw_parts(map.as_ptr(), map.len()) };
            options.external_data_static(&name, bytes);
            map
        };
        self.files.into_values().map(lend).collect()
    }
}
