//! Checkpoints that the original wrote, and what becomes of them.

use std::{fs, path::PathBuf};

use lopt_core::Theta;
use lopt_jax::{export, import};
use lopt_star::{Config, Magnitude, Nominal, Star};
use safetensors::SafeTensors;

fn golden(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/flax");
    fs::read(folder.join(name)).unwrap()
}

/// The values of a part of θ.
fn part<'a>(theta: &'a Theta, name: &str) -> &'a [f32] {
    let mut parts = theta.layout().parts();
    let (_, shape, start) = parts.find(|(part, ..)| *part == name).unwrap();
    &theta.values()[start..start + shape.iter().product::<usize>()]
}

#[test]
fn values_are_those_of_the_original_and_an_export_has_the_same_bytes() {
    for (name, heads) in [("star", 3), ("star_h8", 3), ("blackbox", 2)] {
        let params = golden(&format!("{name}.params"));
        let theta = import(&params, "").unwrap();
        let expected = golden(&format!("{name}.expected.safetensors"));
        let expected = SafeTensors::deserialize(&expected).unwrap();
        assert_eq!(theta.layout().parts().count(), expected.len());
        for (part_name, tensor) in expected.tensors() {
            let (words, _) = tensor.data().as_chunks::<4>();
            let values: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
            let last = part_name == "nn/w2" || part_name == "nn/b2";
            let columns = tensor.shape().last().copied().unwrap();
            let kept = if last { heads } else { columns };
            let values: Vec<f32> = values
                .chunks(columns)
                .flat_map(|row| row[..kept].to_vec())
                .collect();
            assert_eq!(part(&theta, &part_name), values, "{name}: {part_name}");
        }
        let exported = export(&theta, false).unwrap();
        assert!(exported.params == params, "{name}");
        let again = import(&exported.params, &exported.gin).unwrap();
        assert_eq!(
            (again.values(), again.config()),
            (theta.values(), theta.config())
        );
        // After a file of ours too.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("theta.safetensors");
        theta.save(&path).unwrap();
        let loaded = Theta::load(&path).unwrap();
        assert_eq!(export(&loaded, false).unwrap(), exported);
    }
}

#[test]
fn the_form_of_the_zoo_is_read() {
    for name in ["star", "star_h8", "blackbox"] {
        let plain = import(&golden(&format!("{name}.params")), "").unwrap();
        let zoo = import(&golden(&format!("{name}_zoo.params")), "").unwrap();
        assert_eq!(plain, zoo);
    }
}

const GIN: &str = "
MLPNomLOpt.exp_mult = (0.1, 0.2, 0.3)
MLPNomLOpt.step_mult = 0.01
MLPNomLOpt.nominal_stepsize = 0.02
MLPNomLOpt.nominal_controller = True
MLPNomLOpt.normalize_blackbox = True
MLPNomLOpt.nominal_grad_estimator = 'Adam'
MLPNomLOpt.aggregate_nom_magnitude = True
MLPNomLOpt.weight_decay = 0
MLPNomLOpt.hidden_size = 4
MLPNomLOpt.concat_weights = False
";

#[test]
fn settings_are_translated_both_ways() {
    let params = golden("star.params");
    let theta = import(&params, GIN).unwrap();
    let star = Star::new(theta.clone()).unwrap();
    let Config {
        nominal,
        magnitude_control,
        nominal_magnitude,
        precondition_blackbox,
        blackbox_magnitude,
        multipliers,
        ..
    } = star.config();
    assert_eq!(*nominal, Nominal::Adam);
    assert!(*magnitude_control && *precondition_blackbox);
    assert_eq!(*nominal_magnitude, Magnitude::PerTensor);
    assert_eq!(*blackbox_magnitude, Magnitude::PerParameter);
    let found = [
        multipliers.nominal_step,
        multipliers.nominal_exp,
        multipliers.blackbox_step,
        multipliers.blackbox_exp,
    ];
    assert_eq!(found, [0.02, 0.2, 0.01, 0.1]);
    let exported = export(&theta, false).unwrap();
    let again = import(&exported.params, &exported.gin).unwrap();
    assert_eq!(again.config(), theta.config());
    // Without settings the original has no nominal term.
    let plain = Star::new(import(&params, "").unwrap()).unwrap();
    assert_eq!(plain.config().multipliers.nominal_step, 0.0);
    assert!(!plain.config().magnitude_control && !plain.config().precondition_blackbox);
}

#[test]
fn what_has_no_counterpart_is_refused_by_name() {
    let params = golden("star.params");
    for (line, words) in [
        (
            "regularization_controller = True",
            "regularization_controller",
        ),
        ("weight_decay = 0.01", "weight_decay"),
        ("selfnormalize_blackbox = True", "selfnormalize_blackbox"),
        ("initial_rms_decays = (0.9,)", "initial_rms_decays"),
        ("nominal_grad_estimator = 'Lion'", "AdamAggMo"),
        ("exp_mult = 0.1", "three numbers"),
        ("step_mult = %SCALE", "%SCALE"),
        ("hidden_size = 8", "[4, 4]"),
        ("hidden_size = 4.5", "[4, 4]"),
        ("hidden_layers = 1e19", "[4, 4]"),
        ("new_setting = 1", "new_setting"),
    ] {
        let error = import(&params, &format!("MLPNomLOpt.{line}")).unwrap_err();
        let error = error.to_string();
        assert!(error.contains(words), "{line}: {error}");
    }
    let star = Star::pretrained();
    let error = export(lopt_core::LearnedOptimizer::theta(&star), false).unwrap_err();
    assert!(error.to_string().contains("time-limit"), "{error}");
    let exported = export(lopt_core::LearnedOptimizer::theta(&star), true).unwrap();
    let theta = import(&exported.params, &exported.gin).unwrap();
    assert_eq!(
        theta.values(),
        lopt_core::LearnedOptimizer::theta(&star).values()
    );
}

/// Damaged checkpoints are errors.
#[test]
fn damage_is_told() {
    // Lengths of 4 GiB, and 10,000 nested lists.
    for start in [0xdd, 0xdf, 0xc6, 0xc9, 0xdb] {
        let bytes = [start, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert!(import(&bytes, "").is_err(), "{start:x}");
    }
    assert!(import(&[0x91; 10_000], "").is_err());
    let params = golden("star_zoo.params");
    for end in 0..params.len() {
        assert!(import(&params[..end], "").is_err(), "{end} bytes");
    }
    let longer = [&params[..], b"x"].concat();
    assert!(import(&longer, "").is_err());
    for index in 0..params.len() {
        for bit in [0, 3, 7] {
            let mut damaged = params.clone();
            damaged[index] ^= 1 << bit;
            // It may be a valid checkpoint with another number in it.
            let _ = import(&damaged, "");
        }
    }
}
