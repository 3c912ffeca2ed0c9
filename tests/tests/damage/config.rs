//! Configurations and overrides.

use lopt_meta::{Preset, RunConfig};
use lopt_tests::{Attack, Checksum, readers::parsed};

fn attack(
    kind: &str,
    original: &str,
    rounds: usize,
    read: impl Fn(&str) -> Result<String, String>,
) {
    let attack = Attack {
        kind,
        original: original.as_bytes(),
        rounds,
        prefixes: 500,
        memory: [200_000, 100],
        checksum: Checksum::None,
    };
    attack.run(|bytes| read(&String::from_utf8_lossy(bytes)));
}

#[test]
fn damaged_toml() {
    // Comments are longer than what they explain, and damage in them has no effect.
    for preset in Preset::ALL {
        let config = RunConfig::parse(preset.text(), "preset", None, &[]).unwrap();
        let text = config.to_toml().unwrap();
        attack("toml", &text, 3_500, |text| parsed(text, &[]));
    }
}

/// Overrides of every kind of value.
const OVERRIDES: [&str; 8] = [
    "seed=7",
    "outer.learning-rate=3e-4",
    "outer.schedule=cosine",
    "estimator.horizon={ kind = \"log-uniform\", min = 100, max = 2000 }",
    "task.hidden=[[8], [16, 16]]",
    "optimizer.star.hidden=[4, 4]",
    "optimizer.last-layer-scale=0.5",
    "optimizer.star.time-limit=",
];

#[test]
fn damaged_overrides() {
    for text in OVERRIDES {
        attack("set", text, 1_250, |text| {
            parsed(Preset::Quick.text(), &[text.to_owned()])
        });
    }
}
