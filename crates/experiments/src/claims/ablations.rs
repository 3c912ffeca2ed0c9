//! C6: STAR without each of its parts, and with other weight decays.

use lopt_eval::{Score, stats::Interval};
use lopt_plot::{Axis, Color, Figure, Item, Marker, Panel, Shape};
use lopt_tasks::suite::Suite;

use super::{
    Claim, Criterion, Report,
    compared::STAR,
    distribution::{Pooled, diverged, speed_up},
    spread::{Diverged, Spread, held_out},
};
use crate::{
    Lab, Result, Run, Table, Variant, interval,
    lab::{EVALUATION_SEEDS, Evaluated, horizon},
};

/// Outer steps of each of the many meta-trainings.
const OUTER_STEPS: u64 = 1000;

/// The groups of the quick suite for the evaluation out of distribution.
const GROUPS: [&str; 5] = ["width", "depth", "nonlinearity", "dataset", "image-size"];

static NO_NOMINAL: Variant = Variant {
    name: "no nominal term",
    // Nothing would move with a last layer of zeros.
    overrides: &[
        "optimizer.star.nominal=off",
        "optimizer.last-layer-scale=1.0",
    ],
};
static NO_BLACKBOX: Variant = Variant {
    name: "no blackbox term",
    overrides: &["optimizer.star.blackbox-term=false"],
};
static NO_CONTROL: Variant = Variant {
    name: "no magnitude control",
    overrides: &["optimizer.star.magnitude-control=false"],
};
static NO_PRECONDITIONER: Variant = Variant {
    name: "no preconditioner on the blackbox term",
    overrides: &["optimizer.star.precondition-blackbox=false"],
};

/// STAR without each of the parts that matter according to the paper.
static PARTS: [&Variant; 4] = [&NO_NOMINAL, &NO_BLACKBOX, &NO_CONTROL, &NO_PRECONDITIONER];

/// STAR with other choices.
static CHOICES: [Variant; 7] = [
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

/// STAR with other weight decays λ.
static DECAYS: [(f64, Variant); 3] = [
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

/// The λ of STAR in the preset.
const STARS_DECAY: f64 = 0.1;

/// A value for STAR and for each variant.
struct Ablations<T> {
    star: T,
    /// The values of [`PARTS`].
    parts: Vec<T>,
    /// The values of [`CHOICES`].
    choices: Vec<T>,
    /// The values of [`DECAYS`], with λ.
    decays: Vec<(f64, T)>,
}

fn variants() -> Ablations<&'static Variant> {
    Ablations {
        star: &STAR,
        parts: PARTS.to_vec(),
        choices: CHOICES.iter().collect(),
        decays: DECAYS.iter().map(|(decay, v)| (*decay, v)).collect(),
    }
}

impl<T> Ablations<T> {
    fn try_map<U>(self, mut f: impl FnMut(T) -> Result<U>) -> Result<Ablations<U>> {
        let star = f(self.star)?;
        let mut each = |values: Vec<T>| values.into_iter().map(&mut f).collect::<Result<_>>();
        let (parts, choices) = (each(self.parts)?, each(self.choices)?);
        let decays = self.decays.into_iter();
        let decays = decays.map(|(decay, value)| Ok((decay, f(value)?)));
        Ok(Ablations {
            star,
            parts,
            choices,
            decays: decays.collect::<Result<_>>()?,
        })
    }

    fn all(&self) -> impl Iterator<Item = &T> {
        let decays = self.decays.iter().map(|(_, value)| value);
        std::iter::once(&self.star)
            .chain(&self.parts)
            .chain(&self.choices)
            .chain(decays)
    }

    /// The values by ascending λ.
    fn by_decay(&self) -> Vec<(f64, &T)> {
        let others = self.decays.iter().map(|(decay, value)| (*decay, value));
        let star = std::iter::once((STARS_DECAY, &self.star));
        let mut all: Vec<_> = star.chain(others).collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        all
    }
}

/// A meta-trained variant on the task of the preset.
struct Trained {
    variant: &'static Variant,
    runs: Vec<Run>,
    /// For each meta-training seed.
    scores: Vec<Score>,
}

impl Trained {
    fn new(lab: &mut Lab, variant: &'static Variant) -> Result<Self> {
        let runs = lab.runs(variant, OUTER_STEPS)?;
        let curves = lab.train_by(&runs, horizon())?;
        let scores = curves.iter().map(|c| Score::of(c, horizon() as usize));
        Ok(Self {
            variant,
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

/// A meta-trained variant and its results out of distribution.
struct Ablation {
    trained: Trained,
    speed_up: Interval,
    diverged: Diverged,
}

impl Ablation {
    fn new(trained: Trained, tasks: &[Evaluated]) -> Self {
        let pooled = tasks.iter().map(|task| Pooled::new(task, trained.variant));
        let tasks: Vec<Pooled> = pooled.collect();
        Self {
            trained,
            speed_up: speed_up(&tasks),
            diverged: diverged(&tasks),
        }
    }

    fn name(&self) -> &'static str {
        self.trained.variant.name
    }

    /// The median of the mean training loss on the task of the preset.
    fn loss(&self) -> f64 {
        self.trained.mean_losses().median
    }

    fn row(&self, star: &Self) -> [String; 6] {
        let (trained, star) = (&self.trained, &star.trained);
        let pairs = trained.scores.iter().zip(&star.scores);
        let worse = pairs.filter(|(ours, star)| ours.mean_loss > star.mean_loss);
        [
            self.name().to_owned(),
            trained.mean_losses().to_string(),
            trained.final_losses().to_string(),
            format!("{}/{}", worse.count(), trained.scores.len()),
            interval(self.speed_up),
            self.diverged.to_string(),
        ]
    }
}

/// C6.
pub fn every_part_helps(lab: &mut Lab) -> Result<Report> {
    let trained = variants().try_map(|variant| Trained::new(lab, variant))?;
    let runs: Vec<Run> = trained.all().flat_map(|of| of.runs.clone()).collect();
    let tasks = lab.evaluate(Suite::Quick, &GROUPS, EVALUATION_SEEDS, &runs)?;
    let ablations = trained.try_map(|trained| Ok(Ablation::new(trained, &tasks)))?;
    let header = [
        "variant",
        "mean training loss",
        "final training loss",
        "seeds worse",
        "speed-up out of distribution",
        "diverged",
    ];
    let mut table = Table::new(header, 1);
    for ablation in ablations.all() {
        table.row(ablation.row(&ablations.star));
    }
    Ok(Report {
        claim: Claim::C6,
        criteria: [of_parts(&ablations), of_decays(&ablations)].concat(),
        table,
        legend: format!(
            "Own task: median over {} meta-training seeds [lowest, highest] of the best θ, \
             {EVALUATION_SEEDS} fresh networks each. Seeds worse: with a higher mean training loss \
             than STAR's same seed. Out of distribution: the quick suite's groups {}; \
             interquartile mean over tasks of the speed-up over tuned Adam [95 %].",
            lab.seeds,
            GROUPS.join(", ")
        ),
        figure: figure(&ablations),
    })
}

/// Whether each part of STAR helps.
fn of_parts(ablations: &Ablations<Ablation>) -> Vec<Criterion> {
    let star = &ablations.star;
    let mut criteria = vec![];
    for part in &ablations.parts {
        let name = part.name();
        let (loss, stars) = (part.loss(), star.loss());
        criteria.push(Criterion::new(
            format!("{name}: worse on its own task (mean loss {loss:.4}, STAR {stars:.4})"),
            loss > stars,
        ));
        let (speed_up, stars) = (part.speed_up.estimate, star.speed_up.estimate);
        criteria.push(Criterion::new(
            format!("{name}: worse out of distribution ({speed_up:.2}, STAR {stars:.2})"),
            speed_up < stars,
        ));
    }
    let no_blackbox = |part: &&Ablation| part.trained.variant == &NO_BLACKBOX;
    let with = held_out(&star.trained.runs);
    for part in ablations.parts.iter().filter(no_blackbox) {
        let without = held_out(&part.trained.runs);
        let pairs = with.iter().zip(&without);
        let below = pairs.filter(|((_, with), (_, without))| with.median < without.median);
        let (below, points) = (below.count(), with.len());
        let text =
            format!("the blackbox term helps at all points of meta-training ({below} of {points})");
        criteria.push(Criterion::new(text, below == points));
    }
    criteria
}

/// Whether the best weight decays are those of the paper.
fn of_decays(ablations: &Ablations<Ablation>) -> Vec<Criterion> {
    let by_decay = ablations.by_decay();
    let best = |value: &dyn Fn(&Ablation) -> f64| {
        let best = by_decay
            .iter()
            .min_by(|(_, a), (_, b)| value(a).total_cmp(&value(b)));
        best.map_or(f64::NAN, |(decay, _)| *decay)
    };
    let criterion = |place: &str, decay: f64| {
        Criterion::new(
            format!("the best λ {place} is 0.1 or 0.5 (it is {decay})"),
            (0.1..=0.5).contains(&decay),
        )
    };
    vec![
        criterion("on its own task", best(&Ablation::loss)),
        criterion("out of distribution", best(&|of| -of.speed_up.estimate)),
    ]
}

/// A row for each variant: its loss on its own task, and its speed-up on others.
fn figure(ablations: &Ablations<Ablation>) -> Figure {
    let panel = |title: &str, x: Axis, interval: &dyn Fn(&Ablation) -> (f64, f64, f64)| {
        let names = ablations.all().map(|of| of.name().to_owned());
        let y = Axis::of_rows(names.collect());
        let mut items = vec![];
        for (index, ablation) in ablations.all().enumerate() {
            let (low, middle, high) = interval(ablation);
            let row = y.row(index);
            let color = Color::nth(usize::from(index > 0));
            items.push(Item::new(color, Shape::Line(vec![(low, row), (high, row)])));
            let point = Shape::Points(vec![(middle, row)], Marker::Circle);
            items.push(Item::new(color, point));
        }
        let star = interval(&ablations.star).1;
        items.push(Item::new(Color::nth(0), y.line_at(star)).labelled(STAR.name));
        Panel {
            title: title.to_owned(),
            x,
            y,
            items,
        }
    };
    Figure {
        title: "C6: ablations".to_owned(),
        caption: "Own task: medians and ranges over meta-training seeds. Other tasks: \
                  interquartile means over tasks and 95 % intervals."
            .to_owned(),
        panels: vec![
            panel("own task", Axis::logarithmic("mean training loss"), &|of| {
                let losses = of.trained.mean_losses();
                (losses.lowest, losses.median, losses.highest)
            }),
            panel(
                "other tasks",
                Axis::linear("speed-up over tuned Adam"),
                &|of| {
                    let Interval { estimate, bounds } = of.speed_up;
                    let (low, high) = bounds.map_or((estimate, estimate), |b| (b[0], b[1]));
                    (low, estimate, high)
                },
            ),
        ],
        columns: 1,
    }
}

#[cfg(test)]
mod tests {
    use lopt_meta::{Preset, RunConfig};

    use super::*;
    use crate::claims::compared;

    /// The meta-trainings are valid and all different.
    #[test]
    fn all_variants_are_configurations() {
        let compared = compared::variants();
        let others = [compared.paper_star, compared.blackbox];
        let ablations = variants();
        let mut known: Vec<RunConfig> = vec![];
        for variant in ablations.all().copied().chain(others) {
            let overrides: Vec<String> =
                variant.overrides.iter().map(|o| (*o).to_owned()).collect();
            let text = Preset::Quick.text();
            let config = RunConfig::parse(text, variant.name, None, &overrides).unwrap();
            assert!(!known.contains(&config), "{}", variant.name);
            known.push(config);
        }
        assert_eq!(known[0].trainer.outer.weight_decay, STARS_DECAY);
    }
}
