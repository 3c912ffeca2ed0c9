//! The results of an evaluation on the terminal.

use std::collections::BTreeMap;

use lopt_eval::{
    ContenderResult, FINAL_FRACTION, Outcome, Settings, SpeedUp, Summary, Versus, stats::Interval,
};
use lopt_experiments::{Table, interval};

/// Prints a table of the tasks and those of the groups, with explanations.
pub fn print(summary: &Summary) {
    let settings = &summary.settings;
    let (seeds, horizons) = (settings.seeds, settings.adam_horizons);
    println!("{}", tasks(summary));
    println!(
        "final, mean: training loss of the last {} % of the steps, of all steps; mean over {seeds} \
         seeds.\nspeed-up: steps that tuned Adam needs to reach the optimizer's final training \
         loss, over the\noptimizer's steps; ≥{horizons}: Adam does not reach it in {horizons} times \
         the steps. diverged: runs of {seeds}.\nLearning rates of tuned baselines: the best final \
         loss on each task\n({}); *: at an end of the grid.\nadamw: weight decay 0.01, warm-up over \
         5 % of the steps, cosine decay. sgd: momentum 0.9, cosine decay.\n",
        100 / FINAL_FRACTION,
        grids(settings),
    );
    println!("{}", speed_ups(summary));
    println!(
        "speed-up over tuned Adam: interquartile mean over tasks. at most {}: larger ones count \
         as {}.\n≥: a lower bound, because Adam never reaches the loss on some tasks. diverged: \
         training runs.\n",
        SpeedUp::CAP,
        SpeedUp::CAP,
    );
    println!("{}", versus(summary, |versus| optional(versus.loss_ratio)));
    println!(
        "Final training loss over that of each tuned baseline: interquartile mean over tasks; \
         below 1 the\noptimizer is better.\n"
    );
    println!("{}", versus(summary, |versus| share(versus.share_below)));
    println!(
        "Share of tasks on which the mean final training loss is below that of each tuned \
         baseline.\n[…]: 95 % bootstrap intervals over the seeds of each task; none with one seed."
    );
    let examples = summary.tasks.iter().filter_map(|task| match task.outcome {
        Outcome::Done { examples, .. } => Some((task.entry.task.data(), examples)),
        Outcome::Skipped { .. } => None,
    });
    for ((data, unit), [train, test]) in examples.collect::<BTreeMap<_, _>>() {
        println!("{data}: {train} {unit} to train on, {test} to test on");
    }
    for task in &summary.tasks {
        if let Outcome::Skipped { reason } = &task.outcome {
            println!(
                "skipped {}: {}: {reason}",
                task.entry.group, task.entry.name
            );
        }
    }
}

fn tasks(summary: &Summary) -> Table {
    let header = [
        "group",
        "task",
        "steps",
        "optimizer",
        "final",
        "mean",
        "test accuracy",
        "diverged",
        "speed-up",
    ];
    let mut table = Table::new(header, 4);
    for task in &summary.tasks {
        let Outcome::Done { tuned, results, .. } = &task.outcome else {
            continue;
        };
        for (index, result) in results.iter().enumerate() {
            let first = index == 0;
            let once = |text: &str| {
                if first {
                    text.to_owned()
                } else {
                    String::new()
                }
            };
            let own = tuned.iter().find(|t| t.baseline.name() == result.name);
            let name = match own {
                Some(tuned) => {
                    let end = if tuned.at_an_end() { "*" } else { "" };
                    format!("{} {:e}{end}", result.name, tuned.learning_rate)
                }
                None => result.name.clone(),
            };
            let mut row = vec![
                once(&task.entry.group),
                once(&task.entry.name),
                once(&task.entry.horizon.to_string()),
                name,
            ];
            row.extend(numbers(result));
            table.row(row);
        }
    }
    table
}

fn numbers(result: &ContenderResult) -> Vec<String> {
    let speed_up = match &result.speed_up {
        None => String::new(),
        Some(SpeedUp { ratio, never, .. }) => lower_bound(*never, format!("{ratio:.2}")),
    };
    vec![
        format!("{:.4}", result.final_loss()),
        format!("{:.4}", result.mean_loss()),
        format!("{:.1} %", 100.0 * result.test_accuracy()),
        result.diverged.to_string(),
        speed_up,
    ]
}

/// A text with a sign if it is a lower bound.
fn lower_bound(is_bound: bool, text: String) -> String {
    match is_bound {
        true => format!("≥{text}"),
        false => text,
    }
}

/// How many learning rates each tuned baseline has, such as "adam: 15, sgd: 8".
fn grids(settings: &Settings) -> String {
    let tuned = settings.tuned.iter();
    let sizes = tuned.map(|t| format!("{}: {}", t.baseline.name(), t.grid.len()));
    sizes.collect::<Vec<_>>().join(", ")
}

fn optional(found: Option<Interval>) -> String {
    found.map_or_else(|| "–".to_owned(), interval)
}

/// A share in percent, such as "33 % [0, 67]".
fn share(found: Option<Interval>) -> String {
    let percent = |share: f64| format!("{:.0}", 100.0 * share);
    found.map_or_else(
        || "–".to_owned(),
        |Interval { estimate, bounds }| match bounds {
            Some([low, high]) => {
                let (low, high) = (percent(low), percent(high));
                format!("{} % [{low}, {high}]", percent(estimate))
            }
            None => format!("{} %", percent(estimate)),
        },
    )
}

fn speed_ups(summary: &Summary) -> Table {
    let capped = format!("at most {}", SpeedUp::CAP);
    let header = [
        "group",
        "optimizer",
        "tasks",
        "speed-up",
        &capped,
        "diverged",
    ];
    let mut table = Table::new(header, 2);
    for group in &summary.groups {
        table.row([
            group.group.clone(),
            group.contender.clone(),
            group.tasks.to_string(),
            lower_bound(group.unmatched > 0, optional(group.speed_up)),
            optional(group.capped_speed_up),
            format!("{}/{}", group.diverged, group.runs),
        ]);
    }
    table
}

/// A cell for each contender, group and tuned baseline.
fn versus(summary: &Summary, text: impl Fn(&Versus) -> String) -> Table {
    let baselines = summary.settings.tuned.iter();
    let baselines = baselines.map(|tuning| format!("tuned {}", tuning.baseline.name()));
    let start = ["group", "optimizer"].map(str::to_owned);
    let mut table = Table::new(start.into_iter().chain(baselines), 2);
    for group in &summary.groups {
        let numbers = group.versus.iter().map(&text);
        let start = [group.group.clone(), group.contender.clone()];
        table.row(start.into_iter().chain(numbers));
    }
    table
}
