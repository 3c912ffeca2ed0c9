use lopt_tasks::suite::IN_DISTRIBUTION;
use serde::Serialize;

use crate::{
    Baseline, ContenderResult, Settings, SpeedUp, TaskReport,
    stats::{Interval, Resampled, interquartile_mean, mean, seed_resamples, stratified_bootstrap},
};

/// The results of one contender over the tasks of a group.
///
/// The intervals are over the seeds within each task; see
/// [`stratified_bootstrap`](crate::stats::stratified_bootstrap).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GroupSummary {
    /// A group of the suite, [`Self::ALL_BUT_BASE`] or [`Self::ALL`].
    pub group: String,
    /// The name of the contender.
    pub contender: String,
    /// Number of tasks that were run.
    pub tasks: usize,
    /// Interquartile mean over tasks of the speed-up over tuned Adam, each counted as at most
    /// [`SpeedUp::CAP`].
    pub capped_speed_up: Option<Interval>,
    /// Interquartile mean over tasks of the speed-up over tuned Adam. A lower bound if
    /// [`Self::unmatched`] is not 0.
    pub speed_up: Option<Interval>,
    /// Number of tasks on which Adam does not reach the contender's final loss in
    /// [`Settings::adam_horizons`].
    pub unmatched: usize,
    /// The comparison with each tuned baseline, in the order of the settings.
    pub versus: Vec<Versus>,
    /// Number of training runs that diverged.
    pub diverged: u64,
    /// Number of training runs.
    pub runs: u64,
}

/// A contender against a tuned baseline, over tasks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Versus {
    /// The baseline.
    pub baseline: Baseline,
    /// Interquartile mean over tasks of the contender's mean final loss over the baseline's.
    pub loss_ratio: Option<Interval>,
    /// The share of tasks on which the contender's mean final loss is below the baseline's.
    pub share_below: Option<Interval>,
}

impl GroupSummary {
    /// The group of all tasks except the base task of a suite, which the others vary. Whether they are
    /// out of distribution depends on what θ was meta-trained on.
    pub const ALL_BUT_BASE: &str = "all but the base task";
    /// The group of all tasks.
    pub const ALL: &str = "all";
}

/// The results of an evaluation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The settings of the evaluation.
    pub settings: Settings,
    /// Each contender in each group, then over all tasks but the base task, then over all tasks.
    pub groups: Vec<GroupSummary>,
    /// The result of each task.
    pub tasks: Vec<TaskReport>,
}

impl Summary {
    /// Summarizes the results of each contender in each group.
    pub fn new(settings: Settings, tasks: Vec<TaskReport>) -> Self {
        let mut names: Vec<String> = tasks.iter().map(|task| task.entry.group.clone()).collect();
        names.dedup();
        let indexed: Vec<Task> = (0..)
            .zip(&tasks)
            .map(|(i, t)| Task::new(i, t, &settings))
            .collect();
        let mut groups = vec![];
        let mut add = |group: &str, belongs: &dyn Fn(&str) -> bool| {
            let of_group = indexed.iter();
            let of_group: Vec<&Task> = of_group
                .filter(|task| belongs(&task.report.entry.group))
                .collect();
            let contenders = settings.contenders.iter();
            let summaries =
                contenders.map(|(name, _)| summarize(&settings, group, name, &of_group));
            groups.extend(summaries.filter(|summary| summary.tasks > 0));
        };
        for name in &names {
            add(name, &|group| group == name);
        }
        add(GroupSummary::ALL_BUT_BASE, &|group| {
            group != IN_DISTRIBUTION
        });
        add(GroupSummary::ALL, &|_| true);
        Self {
            settings,
            groups,
            tasks,
        }
    }
}

/// A task and its resamples of the seeds.
struct Task<'a> {
    report: &'a TaskReport,
    resamples: Vec<Vec<usize>>,
}

impl<'a> Task<'a> {
    fn new(index: u64, report: &'a TaskReport, settings: &Settings) -> Self {
        Self {
            report,
            resamples: seed_resamples(index, settings.seeds),
        }
    }

    fn result(&self, name: &str) -> Option<&'a ContenderResult> {
        self.report.outcome.result(name)
    }

    /// The speed-up over tuned Adam.
    fn speed_up(&self, result: &ContenderResult) -> Option<Resampled> {
        let speed_up = result.speed_up.as_ref()?;
        let resampled = self.resamples.iter().map(|seeds| speed_up.of_seeds(seeds));
        Some(Resampled {
            estimate: speed_up.ratio,
            resampled: resampled.collect::<Option<_>>()?,
        })
    }

    /// The mean final loss over the baseline's. Both are resampled together, because they start
    /// from the same networks and see the same batches.
    fn loss_ratio(&self, result: &ContenderResult, baseline: Baseline) -> Option<Resampled> {
        let other = self.result(baseline.name())?;
        let over = |seeds: &Vec<usize>| {
            let of = |losses: &[f64]| mean(seeds.iter().map(|&seed| losses[seed]));
            of(&result.final_losses) / of(&other.final_losses)
        };
        Some(Resampled {
            estimate: result.final_loss() / other.final_loss(),
            resampled: self.resamples.iter().map(over).collect(),
        })
    }
}

fn summarize(settings: &Settings, group: &str, contender: &str, tasks: &[&Task]) -> GroupSummary {
    let done: Vec<(&Task, &ContenderResult)> = tasks
        .iter()
        .filter_map(|task| Some((*task, task.result(contender)?)))
        .collect();
    let speed_ups: Vec<Resampled> = done
        .iter()
        .filter_map(|(task, result)| task.speed_up(result))
        .collect();
    let cap = |speed_up: &Resampled| speed_up.map(|ratio| ratio.min(SpeedUp::CAP));
    let capped: Vec<Resampled> = speed_ups.iter().map(cap).collect();
    let versus = settings.tuned.iter().map(|tuning| {
        let ratios: Vec<Resampled> = done
            .iter()
            .filter_map(|(task, result)| task.loss_ratio(result, tuning.baseline))
            .collect();
        Versus::new(tuning.baseline, &ratios)
    });
    let results = || done.iter().map(|(_, result)| result);
    let never = |result: &&&ContenderResult| result.speed_up.as_ref().is_some_and(|s| s.never);
    GroupSummary {
        group: group.to_owned(),
        contender: contender.to_owned(),
        tasks: done.len(),
        capped_speed_up: stratified_bootstrap(&capped, interquartile_mean),
        speed_up: stratified_bootstrap(&speed_ups, interquartile_mean),
        unmatched: results().filter(never).count(),
        versus: versus.collect(),
        diverged: results().map(|result| result.diverged).sum(),
        runs: results().map(|r| r.final_losses.len() as u64).sum(),
    }
}

impl Versus {
    fn new(baseline: Baseline, ratios: &[Resampled]) -> Self {
        let below: Vec<Resampled> = ratios
            .iter()
            .map(|ratio| ratio.map(|ratio| f64::from(ratio < 1.0)))
            .collect();
        let share = |below: &[f64]| (!below.is_empty()).then(|| mean(below.iter().copied()));
        Self {
            baseline,
            loss_ratio: stratified_bootstrap(ratios, interquartile_mean),
            share_below: stratified_bootstrap(&below, share),
        }
    }
}

#[cfg(test)]
mod tests {
    use lopt_tasks::suite::Suite;

    use super::*;
    use crate::{Outcome, Tuning};

    fn result(name: &str, final_losses: [f64; 2], speed_up: Option<SpeedUp>) -> ContenderResult {
        ContenderResult {
            name: name.to_owned(),
            final_losses: final_losses.into(),
            mean_losses: vec![1.0; 2],
            test_accuracies: vec![0.5; 2],
            diverged: 1,
            speed_up,
            curve: vec![],
        }
    }

    fn speed_up(ratio: f64, never: bool, of_single_seeds: [f64; 2]) -> Option<SpeedUp> {
        let [first, second] = of_single_seeds;
        let resampled = [
            (vec![0, 1], ratio),
            (vec![0, 0], first),
            (vec![1, 1], second),
        ];
        Some(SpeedUp {
            ratio,
            never,
            resampled: resampled.into(),
        })
    }

    /// A task in distribution and one of another group, in two seeds.
    fn summary() -> Summary {
        let entries = Suite::Quick.entries();
        let results = [
            [
                result("ours", [1.0, 3.0], speed_up(1.5, false, [1.0, 2.0])),
                result("adam", [2.0, 2.5], None),
                result("sgd", [1.0, 1.0], None),
            ],
            [
                result("ours", [0.5, 0.5], speed_up(8.0, true, [8.0, 8.0])),
                result("adam", [1.0, 1.0], None),
                result("sgd", [0.5, 0.5], None),
            ],
        ];
        let reports = entries.into_iter().zip(results).map(|(entry, results)| {
            let outcome = Outcome::Done {
                tuned: vec![],
                results: results.into(),
                examples: [1, 1],
            };
            TaskReport { entry, outcome }
        });
        let mut settings = Settings::new(Suite::Quick, 2, String::new(), &[]);
        settings.contenders = vec![("ours".to_owned(), serde_json::Value::Null)];
        settings.tuned = [Baseline::Adam, Baseline::Sgd].map(Tuning::new).into();
        Summary::new(settings, reports.collect())
    }

    #[test]
    fn groups_are_summarized_with_intervals_over_seeds() {
        let summary = summary();
        let names: Vec<_> = summary
            .groups
            .iter()
            .map(|g| (&*g.group, g.tasks))
            .collect();
        let expected = [
            (IN_DISTRIBUTION, 1),
            ("width", 1),
            ("all but the base task", 1),
            ("all", 2),
        ];
        assert_eq!(names, expected);
        let first = &summary.groups[0];
        let with = |estimate, low, high| {
            let bounds = Some([low, high]);
            Some(Interval { estimate, bounds })
        };
        // Each of the seeds alone is drawn in a quarter of the resamples.
        assert_eq!(first.speed_up, with(1.5, 1.0, 2.0));
        assert_eq!(first.capped_speed_up, with(1.5, 1.0, 2.0));
        // Seeds are paired: 1/2 and 3/2.5, not 1/2.5 or 3/2.
        let [adam, sgd] = &first.versus[..] else {
            panic!("{first:?}");
        };
        assert_eq!(adam.baseline, Baseline::Adam);
        assert_eq!(adam.loss_ratio, with(2.0 / 2.25, 0.5, 1.2));
        assert_eq!(adam.share_below, with(1.0, 0.0, 1.0));
        assert_eq!(sgd.loss_ratio, with(2.0, 1.0, 3.0));
        assert_eq!((first.unmatched, first.diverged, first.runs), (0, 1, 2));
    }

    #[test]
    fn lower_bounds_are_capped_and_counted() {
        let all = summary().groups.pop().unwrap();
        assert_eq!(all.speed_up.unwrap().estimate, (1.5 + 8.0) / 2.0);
        assert_eq!(all.capped_speed_up.unwrap().estimate, (1.5 + 2.0) / 2.0);
        assert_eq!((all.unmatched, all.diverged, all.runs), (1, 2, 4));
        // Equal is not below.
        assert_eq!(all.versus[1].share_below.unwrap().estimate, 0.0);
        assert_eq!(all.versus[0].share_below.unwrap().estimate, 1.0);
    }
}
