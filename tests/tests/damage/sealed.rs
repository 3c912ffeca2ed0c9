//! θ files and optimizer states.

use std::fs;

use candle_core::{DType, Device, Tensor, Var, backprop::GradStore};
use lopt_core::{
    Chosen, DropIn, DropInConfig, Grads, LearnedOptimizer, Params, StepContext, Theta, file,
};
use lopt_meta::registry;
use lopt_star::Star;
use lopt_tests::{Attack, Checksum, Sealed, temporary_folder};
use serde_json::json;

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

#[test]
fn files_are_sealed_as_lopt_does() {
    let bytes = theta();
    assert!(Sealed::open(&bytes).bytes() == bytes);
    let mut forged = Sealed::open(&bytes);
    forged.tensors[0].data.fill(0);
    file::parse(&forged.bytes(), "forged".as_ref(), "theta").unwrap();
}

#[test]
fn damaged_theta() {
    let attack = Attack {
        kind: "theta",
        original: &theta(),
        rounds: 10_000,
        prefixes: usize::MAX,
        memory: [100_000, 50],
        checksum: Checksum::Sealed,
    };
    attack.run(read_theta);
}

/// A model with the optimizer's state after two steps.
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

#[test]
fn damaged_optimizer_state() {
    let folder = temporary_folder();
    let path = folder.path().join("state");
    let mut model = Model::new();
    (0..2).for_each(|_| model.drop_in.try_step(&model.grads).unwrap());
    model.drop_in.save_state(&path).unwrap();
    let attack = Attack {
        kind: "optimizer-state",
        original: &fs::read(&path).unwrap(),
        rounds: 10_000,
        prefixes: usize::MAX,
        memory: [100_000, 50],
        checksum: Checksum::Sealed,
    };
    let mut model = Model::new();
    attack.run(|bytes| {
        fs::write(&path, bytes).unwrap();
        let drop_in = &mut model.drop_in;
        drop_in.load_state(&path).map_err(|e| e.to_string())?;
        let stepped = drop_in.try_step(&model.grads).map_err(|e| e.to_string());
        model = Model::new();
        stepped.map(|()| Sealed::open(bytes).meaning())
    });
}
