//! Finds the weights file, reads or maps it, and checks its hash before anything of it is used.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::ops::Deref;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::SafeTensors;
use sha2::{Digest, Sha256};

use super::error::{Error, Result};
use super::options::RuntimeOptions;

/// The weights file of a model, and where it may be.
#[derive(Clone, Copy, Debug)]
pub struct WeightsFile<'a> {
    /// Name of the crate or module.
    pub name: &'a str,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: &'a str,
    /// Where it is on the machines that run the model, if that was said when the model was
    /// compiled.
    pub path: Option<&'a str>,
    /// Its contents, if the executable contains them.
    pub embedded: Option<&'a [u8]>,
}

/// The contents of a weights file.
pub enum WeightsBytes<'a> {
    /// Memory of the caller or of the executable.
    Borrowed(&'a [u8]),
    /// A file that was read.
    Read(Vec<u8>),
    /// A file that is mapped.
    Mapped(Mmap),
}

impl Deref for WeightsBytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            WeightsBytes::Borrowed(bytes) => bytes,
            WeightsBytes::Read(bytes) => bytes,
            WeightsBytes::Mapped(map) => map,
        }
    }
}

impl<'a> WeightsFile<'a> {
    /// The name of the copy that a build puts beside the executables. It depends on the contents:
    /// two models, or two versions of one, never overwrite one another.
    pub fn built_name(&self) -> String {
        format!("{}-{}.safetensors", self.name, self.sha256.get(..8).unwrap_or(self.sha256))
    }

    /// The contents of the file that `options` name. Otherwise those in the executable, or the
    /// first of these files that has the right hash: `path`; beside the executable
    /// [`built_name`](Self::built_name), `NAME.safetensors` and `weights.safetensors`; and
    /// `weights.safetensors` in the folder of the package that Cargo runs.
    pub fn read(&self, options: &RuntimeOptions) -> Result<WeightsBytes<'a>> {
        if let (Some(bytes), None) = (self.embedded, &options.weights) {
            return self.from_bytes(bytes);
        }
        let mut looked = Vec::new();
        let mut mismatch = None;
        for path in self.search_paths(options) {
            match open(&path, options.map_weights) {
                Ok(bytes) => match self.mismatch(&bytes) {
                    None => return Ok(bytes),
                    Some(message) => {
                        mismatch.get_or_insert(Error::WeightsMismatch { path, message });
                    }
                },
                Err(error) if error.kind() == ErrorKind::NotFound => looked.push(path),
                Err(error) => {
                    mismatch.get_or_insert(Error::WeightsMismatch { path, message: format!("it cannot be read: {error}") });
                }
            }
        }
        Err(mismatch.unwrap_or(Error::WeightsMissing { looked }))
    }

    /// `bytes`, if they are the contents of the weights file.
    pub fn from_bytes(&self, bytes: &'a [u8]) -> Result<WeightsBytes<'a>> {
        match self.mismatch(bytes) {
            None => Ok(WeightsBytes::Borrowed(bytes)),
            Some(message) => Err(Error::WeightsMismatch { path: "(weights in memory)".into(), message }),
        }
    }

    /// What is wrong with the contents of a file.
    fn mismatch(&self, bytes: &[u8]) -> Option<String> {
        let found = hex(&Sha256::digest(bytes));
        (found != self.sha256).then(|| format!("its sha256 is {found}, expected {}", self.sha256))
    }

    fn search_paths(&self, options: &RuntimeOptions) -> Vec<PathBuf> {
        if let Some(path) = &options.weights {
            return vec![path.clone()];
        }
        let mut paths: Vec<PathBuf> = self.path.map(PathBuf::from).into_iter().collect();
        if let Some(folder) = std::env::current_exe().ok().as_deref().and_then(Path::parent) {
            let names = [self.built_name(), format!("{}.safetensors", self.name), "weights.safetensors".into()];
            paths.extend(names.iter().map(|name| folder.join(name)));
            // tests and examples are in folders below those of the programs
            if folder.ends_with("deps") || folder.ends_with("examples") {
                paths.extend(folder.parent().map(|programs| programs.join(&names[0])));
            }
        }
        paths.extend(std::env::var_os("CARGO_MANIFEST_DIR").map(|folder| Path::new(&folder).join("weights.safetensors")));
        paths
    }
}

fn open(path: &Path, map: bool) -> io::Result<WeightsBytes<'static>> {
    if !map {
        return fs::read(path).map(WeightsBytes::Read);
    }
    // SAFETY: whoever asks for a mapping promises that nobody changes the file meanwhile
    // (`RuntimeOptions::map_weights`).
    unsafe { Mmap::map(&File::open(path)?) }.map(WeightsBytes::Mapped)
}

/// The bytes of the tensors `names` in a weights file.
pub fn find<'a>(file: &'a [u8], names: &[&str]) -> Result<Vec<&'a [u8]>> {
    let broken = |message: String| Error::WeightsMismatch { path: "weights.safetensors".into(), message };
    let tensors = SafeTensors::deserialize(file).map_err(|error| broken(error.to_string()))?;
    let data = |name: &&str| tensors.tensor(name).map(|view| view.data()).map_err(|_| broken(format!("it has no tensor `{name}`")));
    names.iter().map(data).collect()
}

/// SHA-256 of what `reader` gives, in hexadecimal.
pub fn sha256(reader: &mut impl io::Read) -> io::Result<String> {
    let mut hash = Sha256::new();
    io::copy(reader, &mut hash)?;
    Ok(hex(&hash.finalize()))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_read_mapped_or_given_and_always_checked() {
        // std only: generated crates contain these tests, too
        let folder = std::env::temp_dir().join(format!("hiosc-weights-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("w");
        fs::write(&path, "right").expect("written");
        let sha256 = sha256(&mut &b"right"[..]).expect("a hash");
        let file = WeightsFile { name: "net", sha256: &sha256, path: None, embedded: None };
        assert_eq!(file.built_name(), format!("net-{}.safetensors", &sha256[..8]));
        let plain = RuntimeOptions::default().weights(&path);
        for options in [plain.clone(), plain.clone().map_weights(true)] {
            assert_eq!(&*file.read(&options).expect("the file"), b"right");
        }
        let built_in = WeightsFile { path: path.to_str(), ..file };
        assert_eq!(&*built_in.read(&RuntimeOptions::default()).expect("where it was said to be"), b"right");
        let embedded = WeightsFile { embedded: Some(b"right"), ..file };
        assert!(matches!(embedded.read(&RuntimeOptions::default()), Ok(WeightsBytes::Borrowed(b"right"))));
        assert!(matches!(embedded.read(&plain), Ok(WeightsBytes::Read(_))), "a file that is named goes first");

        fs::write(&path, "wrong").expect("written");
        for options in [plain.clone(), plain.clone().map_weights(true)] {
            assert!(matches!(file.read(&options), Err(Error::WeightsMismatch { .. })));
        }
        assert!(matches!(file.from_bytes(b"wrong"), Err(Error::WeightsMismatch { .. })));
        let missing = plain.weights(folder.join("none"));
        assert!(matches!(file.read(&missing), Err(Error::WeightsMissing { looked }) if looked.len() == 1));
        fs::remove_dir_all(&folder).expect("removable");
    }
}
