//! Results on the terminal.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, Table, presets};
use lopt_eval::{ContenderResult, Outcome, SpeedUp, Summary, stats::Interval};

/// Prints a table of tasks and one of groups.
pub fn print(summary: &Summary) {
    println!("{}", tasks(summary));
    println!(
        "final, mean: training loss of the last twentieth of the steps, of all steps; mean over {} seeds.\n\
         speed-up: steps that tuned Adam needs to reach the optimizer's final training loss, over the\n\
         optimizer's steps; >2: Adam does not reach it in twice the steps. diverged: runs of {}.\n\
         Adam: the best final loss of {} learning rates on each task.\n",
        summary.settings.seeds,
        summary.settings.seeds,
        summary.settings.grid.len()
    );
    println!("{}", groups(summary));
    println!(
        "speed-up: interquartile mean over tasks, from 5 tasks on with 95 % bootstrap interval\n\
         (>2 counts as 2)."
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
    let mut table = new_table(
        &[
            "group",
            "task",
            "steps",
            "optimizer",
            "final",
            "mean",
            "test accuracy",
            "diverged",
            "speed-up",
        ],
        4,
    );
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
            table.add_row(row);
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
    let mut table = new_table(
        &[
            "group",
            "optimizer",
            "tasks",
            "speed-up over tuned Adam",
            "Adam never",
            "better than Adam",
            "diverged",
        ],
        2,
    );
    for group in &summary.groups {
        table.add_row(vec![
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

/// The estimate, and the interval if there is one.
pub fn interval(Interval { estimate, bounds }: Interval) -> String {
    match bounds {
        Some([low, high]) => format!("{estimate:.2} [{low:.2}, {high:.2}]"),
        None => format!("{estimate:.2}"),
    }
}

/// Columns from `numeric` on are aligned to the right.
pub fn new_table(header: &[&str], numeric: usize) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::ASCII_MARKDOWN)
        .set_header(header.to_vec());
    for column in table.column_iter_mut().skip(numeric) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
