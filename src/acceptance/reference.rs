//! What the outputs of a crate are compared with.

use std::fs;
use std::path::{Path, PathBuf};

use super::values::{convert, read, write};
use super::{CHECK, CrateMetadata, VerifyOptions};
use crate::emit::RecordedCheck;
use crate::error::{Error, Result};
use crate::graph::Constant;
use crate::oracle::{Choice, Input, NamedValues, Source, onnxruntime};

/// Inputs and expected outputs of one inference.
pub struct Reference {
    /// The file that the crate's program reads.
    pub file: PathBuf,
    /// What is in it.
    pub expected: NamedValues,
    /// Who computed the outputs.
    pub by: String,
    /// Who disagrees, and what the outputs are according to them, as `out:NAME`.
    pub other: Option<(String, NamedValues)>,
}

impl Reference {
    /// The reference that `options` ask for; by default that of the crate in `folder`. `scratch` is
    /// a folder for files.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if the crate has no such reference; [`Error::Model`] if its file was
    /// changed.
    pub fn read(folder: &Path, about: &CrateMetadata, options: &VerifyOptions, scratch: &Path) -> Result<Reference> {
        let choice = options.reference.as_deref().map_or(Choice::Both, Choice::parse);
        let reference = match &choice {
            Choice::File(npz) => {
                let file = convert(npz, &about.inputs, &about.outputs, &scratch.join("reference.safetensors"))?;
                Reference { expected: read(&file)?, file, by: Source::File.name().into(), other: None }
            }
            _ => Reference::stored(folder, about)?,
        };
        match (&options.onnxruntime, &choice) {
            (Some(model), Choice::Both | Choice::File(_)) => reference.by_onnxruntime(model, about, scratch),
            (Some(_), _) => Err(Error::Usage("--onnxruntime and --reference name different references: give one".into())),
            (None, Choice::Rten) => reference.chosen(Source::Rten, folder, scratch),
            (None, Choice::Tract) => reference.chosen(Source::Tract, folder, scratch),
            (None, _) => Ok(reference),
        }
    }

    /// The crate's own, with both where two disagree.
    fn stored(folder: &Path, about: &CrateMetadata) -> Result<Reference> {
        let file = folder.join(CHECK);
        if !file.is_file() {
            let message = format!(
                "{} has no {CHECK} (it was compiled with --no-check, or the file is lost): give --reference FILE.npz",
                folder.display()
            );
            return Err(Error::Usage(message));
        }
        if let (Some(recorded), Some(now)) = (&about.check, about.check(folder)?)
            && recorded.sha256 != now.sha256
        {
            let message = format!(
                "it was changed: its sha256 is {}, expected {}; compile the model again, or give --reference FILE.npz",
                now.sha256, recorded.sha256
            );
            return Err(Error::Model { path: file, message });
        }
        let mut expected = read(&file)?;
        let (source, disputed_by) = match about.check {
            Some(RecordedCheck { source, disputed_by, .. }) => (source, disputed_by),
            None => (Source::Tract, None), // an older hiosc wrote it
        };
        let others: Vec<String> = expected.keys().filter(|key| key.starts_with("other:")).cloned().collect();
        let mut other = NamedValues::new();
        for key in others {
            if let (Some(values), Some(name)) = (expected.remove(&key), key.strip_prefix("other:")) {
                other.insert(format!("out:{name}"), values);
            }
        }
        let other = disputed_by.map(|by| (by.name().to_string(), other));
        Ok(Reference { file, expected, by: source.name().into(), other })
    }

    /// The one by `source`, of two that disagree.
    fn chosen(mut self, source: Source, folder: &Path, scratch: &Path) -> Result<Reference> {
        match self.other.take() {
            Some((by, other)) if by == source.name() => {
                self.expected.extend(other);
                self.by = by;
            }
            _ if self.by == source.name() => {}
            _ => {
                let message = format!(
                    "{} has no reference by {}, only one by {}, which nobody disputes: leave out --reference, or give a file",
                    folder.display(),
                    source.name(),
                    self.by
                );
                return Err(Error::Usage(message));
            }
        }
        self.written(scratch)
    }

    /// The same inputs, with outputs that ONNX Runtime computes from the model.
    fn by_onnxruntime(mut self, model: &Path, about: &CrateMetadata, scratch: &Path) -> Result<Reference> {
        fs::metadata(model).map_err(Error::io(model))?;
        let input = |name: &String| {
            let values = self.expected.get(&format!("in:{name}"));
            let values = values.ok_or_else(|| Error::Mismatch(format!("input {name:?} is not in the reference")))?;
            Ok((name.clone(), values.shape.clone(), Constant::from_bytes(values.dtype, &values.bytes)))
        };
        let inputs = about.inputs.iter().map(input).collect::<Result<Vec<_>>>()?;
        let feeds: Vec<Input> = inputs.iter().map(|(name, shape, values)| (name.as_str(), shape.as_slice(), values)).collect();
        let wanted: Vec<&str> = about.outputs.iter().map(String::as_str).collect();
        let (outputs, version) = onnxruntime::outputs(model, &feeds, &wanted, scratch)?;
        self.expected.extend(about.outputs.iter().map(|name| format!("out:{name}")).zip(outputs));
        self.by = format!("onnxruntime {version}");
        self.other = None;
        self.written(scratch)
    }

    /// The same, in a file of its own.
    fn written(mut self, scratch: &Path) -> Result<Reference> {
        self.file = scratch.join("reference.safetensors");
        write(&self.expected, &self.file)?;
        Ok(self)
    }
}
