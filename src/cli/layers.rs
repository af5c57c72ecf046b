//! `--layers` and `--dump` of `hiosc verify` and `hiosc check`.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{parse_compile, recorded};
use crate::Error;
use crate::acceptance::CrateMetadata;
use crate::import::ImportOptions;

/// What to do with intermediate tensors.
#[derive(Args)]
pub struct LayersArgs {
    /// Compare every intermediate tensor with rten's, and name the first operator that differs.
    #[arg(long)]
    pub layers: bool,
    /// Write the tensor of this ONNX name as NAME.npy; can be repeated.
    #[arg(long, value_name = "NAME")]
    pub dump: Vec<String>,
    /// The folder for what --dump writes.
    #[arg(long, value_name = "DIR", default_value = ".", requires = "dump")]
    pub dump_dir: PathBuf,
}

impl LayersArgs {
    /// What is to be written, and where.
    pub fn dump(&self) -> Option<(Vec<String>, PathBuf)> {
        (!self.dump.is_empty()).then(|| (self.dump.clone(), self.dump_dir.clone()))
    }
}

/// The options that say what the inputs of a model are.
const INPUT_OPTIONS: [&str; 3] = ["--shapes=", "--dim=", "--constant="];

/// The model of the crate in `folder`: `model` if that is given, else the one that the crate
/// records, which is looked for as by `--check`. Also the options that the crate records about its
/// inputs.
pub fn model_of(folder: &Path, model: Option<&Path>) -> anyhow::Result<(PathBuf, ImportOptions)> {
    let about = CrateMetadata::read(folder)?;
    let above = match (folder.file_name(), folder.parent()) {
        (Some(_), Some(parent)) => parent.to_path_buf(),
        _ => folder.join(".."),
    };
    let mut folders = vec![folder, &above, Path::new("")];
    let (name, options) = match (about.command.as_deref().and_then(<[String]>::split_first), model) {
        (Some((name, options)), _) => (Some(name), options),
        (None, Some(_)) => (None, &[][..]),
        (None, None) => {
            let message = format!("{} does not say which model it was compiled from: name it with --model MODEL.onnx", folder.display());
            return Err(Error::Usage(message).into());
        }
    };
    let path = match (model, name) {
        (Some(model), _) => model.to_path_buf(),
        (None, name) => recorded::found(name.map_or("", String::as_str), &folders, "name the model with --model MODEL.onnx")?,
    };
    // files may also be beside the model
    folders.extend(path.parent());
    let inputs: Vec<String> = options.iter().filter(|word| INPUT_OPTIONS.iter().any(|name| word.starts_with(name))).cloned().collect();
    let mut words = recorded::with_paths(&inputs, &folders)?;
    // a model may be called like an option or a command
    words.extend(["--check".into(), folder.as_os_str().to_owned(), "--".into(), path.clone().into_os_string()]);
    let import = parse_compile(words.into_iter())?.compiler()?.import_options().clone();
    Ok((path, import))
}
