//! The shared models: real architectures with onnxruntime references, in a folder beside the
//! checkout. Without them, tests print a line and skip.
//!
//! Their weights are external data made from a recipe: element `i` of a tensor is the `i`th output
//! of SplitMix64 with the tensor's seed, as a 24-bit integer, times a scale.

use std::fs;
use std::path::{Path, PathBuf};

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

use super::skipped;

/// A model ready to compile, with its reference.
pub struct SharedModel {
    pub model: PathBuf,
    pub reference: PathBuf,
}

impl SharedModel {
    /// Whether the reference has the inputs as well as the outputs.
    pub fn has_inputs(&self) -> bool {
        let file = fs::File::open(&self.reference).expect("a readable reference");
        zip::ZipArchive::new(file).expect("an archive").file_names().any(|name| name.starts_with("in:"))
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/models")
}

/// The names of all shared models, in order. Without the folder there are none, and a line is
/// printed.
pub fn shared_models() -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder()) else {
        skipped!("SKIPPED: no {}", folder().display());
        return Vec::new();
    };
    let files = entries.map(|entry| entry.expect("a readable folder").file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = files.filter_map(|file| file.strip_suffix(".onnx").map(str::to_string)).collect();
    names.sort();
    names
}

/// The shared model `name`, with its weights generated if missing. If there is no such model,
/// `None`, and a line is printed.
pub fn shared_model(name: &str) -> Option<SharedModel> {
    let source = folder();
    let original = source.join(format!("{name}.onnx"));
    if !original.is_file() {
        skipped!("SKIPPED {name}: no {}", original.display());
        return None;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("models");
    fs::create_dir_all(&folder).expect("a writable target folder");
    let lock = fs::File::create(folder.join("lock")).expect("a writable target folder");
    lock.lock().expect("a lock on the models folder");
    let model = folder.join(format!("{name}.onnx"));
    copy_whole(&original, &model);
    let recipe = source.join(format!("{}.recipe.json", name.trim_end_matches(".folded")));
    if recipe.is_file() {
        make_weights(&recipe, &folder);
    }
    let reference = source.join(format!("{}.ref.npz", name.trim_end_matches(".folded")));
    Some(SharedModel { model, reference })
}

/// Copies a file atomically: a concurrent test that reads the copy never sees half of it.
fn copy_whole(from: &Path, to: &Path) {
    let part = to.with_extension("part");
    fs::copy(from, &part).and_then(|_| fs::rename(&part, to)).expect("copying the model");
}

fn make_weights(recipe: &Path, folder: &Path) {
    let recipe: serde_json::Value = serde_json::from_slice(&fs::read(recipe).expect("a readable recipe")).expect("a recipe in JSON");
    let path = folder.join(recipe["weights_file"].as_str().expect("a file name"));
    let total = recipe["total_bytes"].as_u64().expect("a size") as usize;
    if fs::metadata(&path).is_ok_and(|m| m.len() == total as u64) {
        return;
    }
    let mut bytes = vec![0u8; total];
    for tensor in recipe["tensors"].as_array().expect("tensors") {
        let field = |name: &str| tensor[name].as_u64().expect("a number");
        let (offset, seed, scale) = (field("offset") as usize, field("seed"), tensor["scale"].as_f64().expect("a scale") as f32);
        let mut rng = SplitMix64::seed_from_u64(seed);
        for weight in bytes[offset..][..field("length") as usize].chunks_exact_mut(4) {
            let value = ((rng.next_u64() >> 40) as i32 - 8_388_608) as f32 * scale;
            weight.copy_from_slice(&value.to_le_bytes());
        }
    }
    let hash: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(Some(hash.as_str()), recipe["sha256"].as_str(), "the weights of {} are not what the recipe says", path.display());
    let part = path.with_extension("part");
    fs::write(&part, bytes).and_then(|()| fs::rename(&part, &path)).expect("writing the weights");
}
