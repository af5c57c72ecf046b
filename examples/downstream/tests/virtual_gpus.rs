//! The classifier on two virtual GPUs, in this process, against the reference that hiosc stored
//! with the model. No GPU is needed.

use std::error::Error;
use std::path::Path;

use downstream::{Classifier, MODEL_FOLDER};
use safetensors::SafeTensors;

#[test]
fn the_classifier_agrees_with_the_reference() -> Result<(), Box<dyn Error>> {
    if !hiosc::vgpu::compiler_present() {
        eprintln!("SKIPPED: no C++ compiler, so no virtual GPUs");
        return Ok(());
    }
    let folder = Path::new(MODEL_FOLDER);
    // before anything touches CUDA: from here on, this process finds the virtual driver
    let kernels = hiosc::vgpu::compile_crate_kernels(folder)?;
    hiosc::vgpu::load(&kernels, &[("HIOSC_VGPU_COUNT", "2")])?;

    let check = std::fs::read(folder.join("check.safetensors"))?;
    let check = SafeTensors::deserialize(&check)?;
    let values = |name: &str| -> Result<Vec<f32>, Box<dyn Error>> {
        Ok(check.tensor(name)?.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    };
    let (image, expected) = (values("in:input")?, values("out:output")?);

    let mut classifier = Classifier::load()?;
    let scores = classifier.scores(&image)?;
    let scale = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    assert_eq!(scores.len(), expected.len());
    for (class, (score, expected)) in scores.iter().zip(&expected).enumerate() {
        assert!((score - expected).abs() <= 1e-3 * scale, "class {class}: {score}, expected {expected}");
    }
    let best = (0..expected.len()).max_by(|&a, &b| expected[a].total_cmp(&expected[b]));
    assert_eq!(Some(classifier.classify(&image)?), best);
    assert!(classifier.scores(&image[1..]).is_err(), "an image of the wrong size must be refused");
    println!("{} classes on two virtual GPUs", scores.len());
    Ok(())
}
