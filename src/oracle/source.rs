//! Who computed a reference, and which one the user wants.

use std::path::{Path, PathBuf};

/// Who computed the reference outputs of a crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// rten, which read the model independently.
    Rten,
    /// tract, which is the importer's own reader.
    Tract,
    /// A file of the user's.
    File,
}

impl Source {
    /// Its name, as crates record it and as `--reference` takes it.
    pub const fn name(self) -> &'static str {
        match self {
            Source::Rten => "rten",
            Source::Tract => "tract",
            Source::File => "file",
        }
    }

    /// The source with this name.
    pub fn named(name: &str) -> Option<Source> {
        [Source::Rten, Source::Tract, Source::File].into_iter().find(|source| source.name() == name)
    }

    /// What a reference of this source is worth, in words.
    pub const fn words(self) -> &'static str {
        match self {
            Source::Rten => "reference by rten, which reads the model independently of hiosc's importer",
            Source::Tract => "reference by the importer itself: attributes not checked independently",
            Source::File => "reference from a file",
        }
    }
}

/// Which reference outputs to use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// rten's where it runs the model, else tract's; both where they disagree.
    #[default]
    Both,
    /// rten's.
    Rten,
    /// tract's.
    Tract,
    /// Those of an npz file with arrays `in:NAME` and `out:NAME`.
    File(PathBuf),
}

impl Choice {
    /// What `rten`, `tract` or the path of a file means. `./rten` is a file.
    pub fn parse(text: &Path) -> Choice {
        match text.to_str() {
            Some("rten") => Choice::Rten,
            Some("tract") => Choice::Tract,
            _ => Choice::File(text.to_path_buf()),
        }
    }
}
