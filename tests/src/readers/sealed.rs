//! θ files and optimizer states.

use std::{fs, path::PathBuf};

use candle_core::{DType, Device, Tensor, Var, backprop::GradStore};
use lopt_core::{
    Chosen, DropIn, DropInConfig, Grads, LearnedOptimizer, Params, StepContext, Theta,
};
use lopt_meta::registry;
use lopt_star::Star;
use serde_json::json;
use tempfile::TempDir;

use crate::{Sealed, temporary_folder};

/// Reads θ, and takes a step with its optimizer.
pub fn read_theta(bytes: &[u8]) -> Result<String, String> {
    let theta = Theta::parse(bytes, "theta".as_ref()).map_err(|e| e.to_string())?;
    assert!(theta.values().iter().all(|value| value.is_finite()));
    let meaning = format!("{} {}", theta.digest(), theta.provenance());
    let kind = registry::kind(theta.kind()).map_err(|e| e.to_string())?;
    let optimizer = kind.of_theta(theta).map_err(|e| e.to_string())?;
    step(&*optimizer).map_err(|e| e.to_string())?;
    Ok(meaning)
}

fn step(optimizer: &dyn LearnedOptimizer) -> lopt_core::Result<()> {
    let ones = Tensor::ones((3, 2), DType::F32, &Device::Cpu)?;
    let params = Params::new([("w".to_owned(), ones.copy()?)])?;
    let grads = Grads::new(vec![Some(ones)]);
    let mut backend = Chosen::new(optimizer, &params)?.into_backend();
    backend.step(optimizer, &StepContext::new(0, 1.0), &params, &grads)?;
    Ok(())
}

/// A θ file.
pub fn theta() -> Vec<u8> {
    let folder = temporary_folder();
    let path = folder.path().join("theta");
    let theta = Star::untrained().theta().clone();
    let theta = theta.with_provenance(json!({"seed": 3, "list": [1.5, null, "β"]}));
    theta.save(&path).unwrap();
    fs::read(path).unwrap()
}

/// A model and its optimizer.
struct Model {
    drop_in: DropIn<Star>,
    grads: GradStore,
}

impl Model {
    fn new() -> Self {
        let ones = |shape| Var::ones(shape, DType::F32, &Device::Cpu).unwrap();
        let vars = [ones((3, 2)), ones((2, 1))];
        let product = vars[0].matmul(&vars[1]).unwrap();
        let grads = product.sqr().unwrap().mean_all().unwrap();
        let grads = grads.backward().unwrap();
        let config = DropInConfig::new(Star::pretrained());
        let named = ["a", "b"].map(str::to_owned).into_iter().zip(vars);
        let drop_in = DropIn::with_names(named, config).unwrap();
        Self { drop_in, grads }
    }
}

/// A file with the state of an optimizer after two steps, and a model that reads others.
pub struct State {
    folder: TempDir,
    original: Vec<u8>,
    model: Model,
}

impl State {
    /// # Panics
    /// Panics if the disk is full.
    #[expect(clippy::new_without_default, reason = "it writes a file")]
    pub fn new() -> Self {
        let folder = temporary_folder();
        let mut model = Model::new();
        (0..2).for_each(|_| model.drop_in.try_step(&model.grads).unwrap());
        let path = folder.path().join("state");
        model.drop_in.save_state(&path).unwrap();
        Self {
            original: fs::read(path).unwrap(),
            model: Model::new(),
            folder,
        }
    }

    /// The valid state.
    pub fn original(&self) -> Vec<u8> {
        self.original.clone()
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Loads a state and takes a step.
    ///
    /// # Errors
    /// Returns why it cannot be loaded.
    ///
    /// # Panics
    /// Panics if the disk is full.
    pub fn read(&mut self, bytes: &[u8]) -> Result<String, String> {
        fs::write(self.path(), bytes).unwrap();
        let path = self.path();
        let Model { drop_in, grads } = &mut self.model;
        drop_in.load_state(&path).map_err(|e| e.to_string())?;
        let stepped = drop_in.try_step(grads).map_err(|e| e.to_string());
        self.model = Model::new();
        stepped.map(|()| Sealed::open(bytes).meaning())
    }
}
