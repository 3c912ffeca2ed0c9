//! The page of an evaluation.

use lopt_eval::{GroupSummary, Outcome, SpeedUp, Summary, TaskReport, figures};
use lopt_experiments::Table;
use lopt_page::{Block, Page, Section};

use super::table;
use crate::table::{
    diverged, groups_explanation, numbers, optimizer, optional, share, speed_up, tasks_explanation,
    title,
};

/// The page of an evaluation.
pub fn of_evaluation(summary: &Summary) -> Page {
    let settings = &summary.settings;
    let mut sections = vec![Section::new("Evaluation").with(Block::List(vec![
        format!("suite: {}", settings.suite.name()),
        format!("seeds: {}", settings.seeds),
        format!("program: {}", settings.program),
    ]))];
    let losses = figures::losses(&summary.tasks);
    let losses =
        losses.map(|figure| Section::new("Final losses over those of tuned Adam").figure(figure));
    sections.extend(losses);
    let groups = Section::new("Groups")
        .table(table(groups(summary)))
        .text(groups_explanation(settings));
    sections.push(match settings.tuned.is_empty() {
        true => groups,
        false => groups.text(
            "loss over B: final training loss over that of the tuned baseline B, interquartile \
             mean over tasks; below 1 the optimizer is better. below B: share of tasks on which \
             the mean final training loss is below that of B.",
        ),
    });
    sections.push(
        Section::new("Tasks")
            .table(table(tasks(summary)))
            .text(tasks_explanation(settings)),
    );
    let skipped = summary.tasks.iter().filter_map(|task| match &task.outcome {
        Outcome::Skipped { reason } => Some(format!("{}: {reason}", title(task))),
        Outcome::Done { .. } => None,
    });
    let skipped: Vec<String> = skipped.collect();
    if !skipped.is_empty() {
        sections.push(Section::new("Skipped tasks").with(Block::List(skipped)));
    }
    let same_group = |a: &TaskReport, b: &TaskReport| a.entry.group == b.entry.group;
    for (index, tasks) in summary.tasks.chunk_by(same_group).enumerate() {
        let curves = tasks.iter().filter_map(figures::curves);
        let heading = format!("Curves: {}", tasks[0].entry.group);
        let section = curves.fold(Section::new(heading), Section::figure);
        let folded = index > 0;
        if !section.blocks.is_empty() {
            sections.push(Section { folded, ..section });
        }
    }
    Page {
        title: "Evaluation out of distribution".to_owned(),
        live: false,
        sections,
    }
}

/// A row for each group and optimizer.
fn groups(summary: &Summary) -> Table {
    let baselines = summary.settings.tuned.iter().map(|of| of.baseline.name());
    let capped = format!("at most {}", SpeedUp::CAP);
    let header = [
        "group",
        "optimizer",
        "tasks",
        "diverged",
        "speed-up",
        &capped,
    ];
    let columns = header.len() - 2 * usize::from(summary.settings.tuned.is_empty());
    let header =
        header.map(str::to_owned).into_iter().take(columns).chain(
            baselines.flat_map(|name| [format!("loss over {name}"), format!("below {name}")]),
        );
    let mut table = Table::new(header, 2);
    for of in &summary.groups {
        let GroupSummary {
            group,
            contender,
            tasks,
            capped_speed_up,
            versus,
            ..
        } = of;
        let start = [
            group.clone(),
            contender.clone(),
            tasks.to_string(),
            diverged(of),
            speed_up(of),
            optional(*capped_speed_up),
        ];
        let versus = versus.iter();
        let versus = versus.flat_map(|of| [optional(of.loss_ratio), share(of.share_below)]);
        table.row(start.into_iter().take(columns).chain(versus));
    }
    table
}

/// A row for each task and optimizer.
fn tasks(summary: &Summary) -> Table {
    let header = [
        "task",
        "optimizer",
        "steps",
        "final",
        "mean",
        "test accuracy",
        "diverged",
        "speed-up",
    ];
    let columns = header.len() - usize::from(summary.settings.tuned.is_empty());
    let mut table = Table::new(header.into_iter().take(columns), 2);
    for task in &summary.tasks {
        if let Outcome::Done { tuned, results, .. } = &task.outcome {
            for result in results {
                let start = [
                    title(task),
                    optimizer(result, tuned),
                    task.entry.horizon.to_string(),
                ];
                table.row(start.into_iter().chain(numbers(result)).take(columns));
            }
        }
    }
    table
}
