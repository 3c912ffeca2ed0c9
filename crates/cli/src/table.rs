//! The results of an evaluation on the terminal.

use std::collections::BTreeMap;

use lopt_eval::{ContenderResult, FINAL_FRACTION, Outcome, SpeedUp, Summary};
use lopt_experiments::{Table, interval};

/// Prints a table of the tasks and one of the groups, with explanations.
pub fn print(summary: &Summary) {
    let seeds = summary.settings.seeds;
    println!("{}", tasks(summary));
    println!(
        "final, mean: training loss of the last {} % of the steps, of all steps; mean over {seeds} \
         seeds.\nspeed-up: steps that tuned Adam needs to reach the optimizer's final training \
         loss, over the\noptimizer's steps; >2: Adam does not reach it in twice the steps. \
         diverged: runs of {seeds}.\nAdam: the best final loss of {} learning rates on each \
         task.\n",
        100 / FINAL_FRACTION,
        summary.settings.grid.len(),
    );
    println!("{}", groups(summary));
    println!(
        "speed-up: interquartile mean over tasks (>2 counts as 2); with a 95 % bootstrap interval \
         from 5 tasks on."
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
        let Outcome::Done {
            adam_learning_rate,
            results,
            ..
        } = &task.outcome
        else {
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
            let name = if result.name == lopt_eval::ADAM {
                format!("adam {adam_learning_rate:e}")
            } else {
                result.name.clone()
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
    let speed_up = match result.speed_up {
        None => String::new(),
        Some(SpeedUp { never: true, .. }) => ">2".to_owned(),
        Some(SpeedUp { ratio, .. }) => format!("{ratio:.2}"),
    };
    vec![
        format!("{:.4}", result.final_loss()),
        format!("{:.4}", result.mean_loss()),
        format!("{:.1} %", 100.0 * result.test_accuracy()),
        result.diverged.to_string(),
        speed_up,
    ]
}

fn groups(summary: &Summary) -> Table {
    let header = [
        "group",
        "optimizer",
        "tasks",
        "speed-up over tuned Adam",
        "Adam never",
        "better than Adam",
        "diverged",
    ];
    let mut table = Table::new(header, 2);
    for group in &summary.groups {
        table.row([
            group.group.clone(),
            group.contender.clone(),
            group.tasks.to_string(),
            group.speed_up.map_or_else(|| "–".to_owned(), interval),
            group.adam_never.to_string(),
            format!("{}/{}", group.better_than_adam, group.tasks),
            format!("{}/{}", group.diverged, group.runs),
        ]);
    }
    table
}
