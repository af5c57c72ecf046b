//! An image classifier around a model that hiosc compiled: an example of a project that uses hiosc
//! from its `build.rs`.

include!(concat!(env!("OUT_DIR"), "/squeezenet.rs"));

use squeezenet::{Error, Inputs, Model, RuntimeOptions};

/// The folder with the weights and the stored check. A program for another machine ships
/// `weights.safetensors`, beside its executable or where [`RuntimeOptions::weights`] says.
pub const MODEL_FOLDER: &str = concat!(env!("OUT_DIR"), "/squeezenet");

/// SqueezeNet 1.1, loaded on the GPUs.
pub struct Classifier {
    model: Model,
}

impl Classifier {
    /// Loads the model. If there are fewer GPUs than planned, they share the work.
    pub fn load() -> Result<Classifier, Error> {
        let weights = format!("{MODEL_FOLDER}/weights.safetensors");
        Ok(Classifier { model: Model::load(RuntimeOptions::default().weights(weights).fold(true))? })
    }

    /// The score of each class, for a normalised image of 3 x 224 x 224.
    pub fn scores(&mut self, image: &[f32]) -> Result<Vec<f32>, Error> {
        Ok(self.model.run(&Inputs { input: image })?.output)
    }

    /// The class with the highest score.
    pub fn classify(&mut self, image: &[f32]) -> Result<usize, Error> {
        let scores = self.scores(image)?;
        Ok((0..scores.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap_or(0))
    }
}
