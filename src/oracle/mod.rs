//! What a model should compute, by a reader of ONNX that is not the importer.
//!
//! **In**: the bytes of a model, and values of its inputs. **Out**: values of any of its tensors,
//! or why there are none.
//!
//! The importer's reader can drop an attribute. A reference that comes from the same reader drops
//! it, too, and agrees with wrong numbers. So the reference comes from
//! [rten](https://docs.rs/rten), which reads the file itself and refuses what it does not know.
//! Nothing here uses the passes that it is there to check.
//!
//! * `rten.rs`: loads a model in rten and runs it (feature `oracle`).
//! * `rewrite.rs`: brings a file into a form that rten takes: names, external data, shapes.
//! * `source.rs`: who computed a reference, in words.
//! * `values.rs`: values of tensors, and conversions from the few types that rten has.
//! * `onnxruntime.rs`: asks ONNX Runtime instead, where Python has it.

#[cfg(feature = "oracle")]
mod external;
pub mod onnxruntime;
#[cfg(feature = "oracle")]
mod rewrite;
#[cfg(feature = "oracle")]
mod rten;
mod source;
mod values;

#[cfg(feature = "oracle")]
pub use rten::Oracle;
pub use source::{Choice, Source};
pub use values::{NamedValues, Values};

/// An input of a model: ONNX name, shape, values.
pub type Input<'a> = (&'a str, &'a [usize], &'a crate::graph::Constant);

/// In place of rten, where hiosc was built without it.
#[cfg(not(feature = "oracle"))]
#[derive(Debug)]
pub struct Oracle(());

#[cfg(not(feature = "oracle"))]
impl Oracle {
    /// Never succeeds.
    pub fn load(_: &std::path::Path, _: &crate::import::ImportOptions) -> Result<Oracle, String> {
        Err("hiosc was built without the feature `oracle`".into())
    }

    /// Never called: there is no such value.
    pub fn run(&self, _: &[Input<'_>], wanted: &[&str]) -> Result<Vec<Option<Values>>, String> {
        Ok(wanted.iter().map(|_| None).collect())
    }
}
