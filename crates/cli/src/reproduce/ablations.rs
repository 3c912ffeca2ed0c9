//! C6: without each part of STAR, and with other weight decays.

use anyhow::Result;
use lopt_eval::Score;
use lopt_plot::{Axis, Color, Figure, Panel};
use lopt_tasks::suite::Suite;

use super::{
    distribution::{contenders, diverged, pooled, speed_up},
    lab::{EVALUATION_SEEDS, Lab, Run, STAR, Variant, horizon},
    report::Report,
    seeds::{held_out, lines},
    spread::Spread,
};
use crate::table::{interval, new_table};

/// Outer steps of each of the many meta-trainings.
const OUTER_STEPS: u64 = 1000;

/// The groups of the quick suite that all are evaluated on.
const GROUPS: [&str; 5] = ["width", "depth", "nonlinearity", "dataset", "image-size"];

const NO_NOMINAL: Variant = Variant {
    name: "no nominal term",
    // Nothing would move with a last layer of zeros.
    overrides: &[
        "optimizer.star.nominal=off",
        "optimizer.last-layer-scale=1.0",
    ],
};
const NO_BLACKBOX: Variant = Variant {
    name: "no blackbox term",
    overrides: &["optimizer.star.blackbox-term=false"],
};
const NO_CONTROL: Variant = Variant {
    name: "no magnitude control",
    overrides: &["optimizer.star.magnitude-control=false"],
};
const NO_PRECONDITIONER: Variant = Variant {
    name: "no preconditioner on the blackbox term",
    overrides: &["optimizer.star.precondition-blackbox=false"],
};

/// What the paper finds to matter.
const PARTS: [Variant; 4] = [NO_NOMINAL, NO_BLACKBOX, NO_CONTROL, NO_PRECONDITIONER];

/// Other choices.
const CHOICES: [Variant; 7] = [
    Variant {
        name: "nominal SGD",
        overrides: &["optimizer.star.nominal=sgd"],
    },
    Variant {
        name: "nominal SGDM",
        overrides: &["optimizer.star.nominal=sgdm"],
    },
    Variant {
        name: "nominal AggMo",
        overrides: &["optimizer.star.nominal=aggmo"],
    },
    Variant {
        name: "nominal Adam",
        overrides: &["optimizer.star.nominal=adam"],
    },
    Variant {
        name: "nominal magnitude per tensor",
        overrides: &["optimizer.star.nominal-magnitude=per-tensor"],
    },
    Variant {
        name: "blackbox magnitude per tensor",
        overrides: &["optimizer.star.blackbox-magnitude=per-tensor"],
    },
    Variant {
        name: "coupled decay",
        overrides: &["outer.decay=coupled"],
    },
];

/// STAR's own λ is 0.1.
const DECAYS: [(f64, Variant); 3] = [
    (
        0.0,
        Variant {
            name: "λ 0",
            overrides: &["outer.weight-decay=0.0"],
        },
    ),
    (
        0.5,
        Variant {
            name: "λ 0.5",
            overrides: &["outer.weight-decay=0.5"],
        },
    ),
    (
        1.0,
        Variant {
            name: "λ 1",
            overrides: &["outer.weight-decay=1.0"],
        },
    ),
];
const STARS_DECAY: f64 = 0.1;

/// A variant, meta-trained, on the preset's task.
struct Trained {
    name: &'static str,
    runs: Vec<Run>,
    /// Of each meta-training seed.
    scores: Vec<Score>,
}

impl Trained {
    fn new(lab: &mut Lab, variant: &Variant) -> Result<Self> {
        let runs = lab.runs(variant, OUTER_STEPS)?;
        let curves = lab.train_by(&runs, horizon())?;
        let scores = curves.iter().map(|c| Score::of(c, horizon() as usize));
        Ok(Self {
            name: variant.name,
            scores: scores.collect(),
            runs,
        })
    }

    fn mean_losses(&self) -> Spread {
        Spread::of(self.scores.iter().map(|score| score.mean_loss))
    }

    fn final_losses(&self) -> Spread {
        Spread::of(self.scores.iter().map(|score| score.final_loss))
    }
}

/// C6.
pub fn every_part_helps(lab: &mut Lab) -> Result<Report> {
    let decays = DECAYS.iter().map(|(_, variant)| variant);
    let variants = std::iter::once(&STAR)
        .chain(&PARTS)
        .chain(&CHOICES)
        .chain(decays);
    let trained = variants.map(|variant| Trained::new(lab, variant));
    let trained: Vec<Trained> = trained.collect::<Result<_>>()?;
    let mut all = vec![];
    for variant in &trained {
        all.extend(contenders(variant.name, variant.runs.clone()));
    }
    let reports = lab.evaluate(Suite::Quick, &GROUPS, EVALUATION_SEEDS, &all)?;
    let star = &trained[0];
    let mut table = new_table(
        &[
            "variant",
            "mean training loss",
            "final training loss",
            "seeds worse",
            "speed-up out of distribution",
            "diverged",
        ],
        1,
    );
    let mut speed_ups = vec![];
    for variant in &trained {
        let tasks = pooled(&reports, variant.name);
        let found = speed_up(&tasks);
        let pairs = variant.scores.iter().zip(&star.scores);
        let worse = pairs
            .filter(|(ours, star)| ours.mean_loss > star.mean_loss)
            .count();
        let [diverged, runs] = diverged(&tasks);
        table.add_row(vec![
            variant.name.to_owned(),
            variant.mean_losses().to_string(),
            variant.final_losses().to_string(),
            format!("{worse}/{}", variant.scores.len()),
            interval(found),
            format!("{diverged}/{runs}"),
        ]);
        speed_ups.push(found.estimate);
    }
    let mut criteria = vec![];
    for index in 1..=PARTS.len() {
        let (name, loss) = (trained[index].name, trained[index].mean_losses().median);
        let stars = star.mean_losses().median;
        criteria.push((
            format!("{name}: worse on its own task (mean loss {loss:.4}, STAR {stars:.4})"),
            loss > stars,
        ));
        criteria.push((
            format!(
                "{name}: worse out of distribution ({:.2}, STAR {:.2})",
                speed_ups[index], speed_ups[0]
            ),
            speed_ups[index] < speed_ups[0],
        ));
    }
    let without = &trained[2];
    let (with, without) = (held_out(&star.runs), held_out(&without.runs));
    let points = with.len();
    let pairs = with.iter().zip(&without);
    let below = pairs
        .filter(|((_, with), (_, without))| with.median < without.median)
        .count();
    criteria.push((
        format!("the blackbox term helps at all points of meta-training ({below} of {points})"),
        below == points,
    ));
    // λ, losses, speed-ups.
    let first_decay = trained.len() - DECAYS.len();
    let of_decays = DECAYS
        .iter()
        .enumerate()
        .map(|(k, (decay, _))| (*decay, first_decay + k));
    let mut by_decay: Vec<(f64, usize)> =
        std::iter::once((STARS_DECAY, 0)).chain(of_decays).collect();
    by_decay.sort_by(|a, b| a.0.total_cmp(&b.0));
    let best = |value: &dyn Fn(usize) -> f64| {
        let best = by_decay
            .iter()
            .min_by(|a, b| value(a.1).total_cmp(&value(b.1)));
        best.map_or(f64::NAN, |(decay, _)| *decay)
    };
    let by_loss = best(&|index| trained[index].mean_losses().median);
    let by_speed_up = best(&|index| -speed_ups[index]);
    let between = |decay: f64| (0.1..=0.5).contains(&decay);
    criteria.push((
        format!("the best λ on its own task is 0.1 or 0.5 (it is {by_loss})"),
        between(by_loss),
    ));
    criteria.push((
        format!("the best λ out of distribution is 0.1 or 0.5 (it is {by_speed_up})"),
        between(by_speed_up),
    ));
    Ok(Report {
        claim: "every part of STAR helps, and a weight decay of 0.1 to 0.5".to_owned(),
        criteria,
        table,
        legend: format!(
            "Own task: median over {} meta-training seeds [lowest, highest] of the best θ, {EVALUATION_SEEDS} \
             fresh networks each. Seeds worse: with a higher mean training loss than STAR's same seed. \
             Out of distribution: the quick suite's groups {}; interquartile mean over tasks of \
             the speed-up over tuned Adam [95 %].",
            star.runs.len(),
            GROUPS.join(", ")
        ),
        figure: figure(&trained, &by_decay),
    })
}

fn figure(trained: &[Trained], by_decay: &[(f64, usize)]) -> Figure {
    let mut parts = vec![];
    for (index, variant) in trained[..=PARTS.len()].iter().enumerate() {
        parts.extend(lines(
            Color::nth(index),
            variant.name,
            &held_out(&variant.runs),
        ));
    }
    let of_decay = |(decay, index): &(f64, usize)| (*decay, trained[*index].mean_losses());
    let losses: Vec<(f64, Spread)> = by_decay.iter().map(of_decay).collect();
    Figure {
        title: "C6: ablations".to_owned(),
        caption: "Lines: medians over meta-training seeds. Bands: from the lowest to the highest."
            .to_owned(),
        panels: vec![
            Panel {
                title: "without a part".to_owned(),
                x: Axis::linear("outer step"),
                y: Axis::logarithmic("held-out training loss"),
                items: parts,
            },
            Panel {
                title: "weight decay".to_owned(),
                x: Axis::linear("λ"),
                y: Axis::linear("mean training loss"),
                items: lines(Color::nth(0), STAR.name, &losses).to_vec(),
            },
        ],
        columns: 2,
    }
}

#[cfg(test)]
mod tests {
    use lopt_meta::{Preset, RunConfig};

    use super::*;
    use crate::reproduce::lab::VARIANTS;

    /// A meta-training for each of them, none like another.
    #[test]
    fn all_variants_are_configurations() {
        let decays = DECAYS.iter().map(|(_, variant)| variant);
        let all = VARIANTS.iter().chain(&PARTS).chain(&CHOICES).chain(decays);
        let mut known: Vec<RunConfig> = vec![];
        for variant in all {
            let overrides: Vec<String> =
                variant.overrides.iter().map(|o| (*o).to_owned()).collect();
            let text = Preset::Quick.text();
            let config = RunConfig::parse(text, variant.name, None, &overrides).unwrap();
            assert!(!known.contains(&config), "{}", variant.name);
            known.push(config);
        }
        assert_eq!(known[0].outer.weight_decay, STARS_DECAY);
    }
}
