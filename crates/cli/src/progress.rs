//! Progress on a terminal and in log files.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use lopt_eval::{Estimate, Event, TaskReport};

/// A progress bar on a terminal; elsewhere a line at intervals.
pub struct Bar {
    bar: ProgressBar,
    /// The lines, if there is no terminal.
    log: Option<Lines>,
}

struct Lines {
    started: Instant,
    start: u64,
    last: Instant,
}

/// The time between lines in a log.
const LOG_EVERY: Duration = Duration::from_secs(15);

impl Bar {
    /// Progress from `start` to `total` of some unit.
    pub fn new(start: u64, total: u64, unit: &str) -> Self {
        let bar = ProgressBar::new(total);
        let template = format!(
            "{{elapsed_precise}} [{{bar:30}}] {{human_pos}}/{{human_len}} {unit}, {{eta}} left  \
             {{msg}}"
        );
        // The template is valid; indicatif's default style is a fine substitute.
        let style = ProgressStyle::with_template(&template)
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("=> "));
        bar.set_position(start);
        bar.reset_eta();
        let now = Instant::now();
        let log = (!std::io::stderr().is_terminal()).then_some(Lines {
            started: now,
            start,
            last: now,
        });
        Self { bar, log }
    }

    /// Changes the total.
    pub fn set_total(&self, total: u64) {
        self.bar.set_length(total);
    }

    /// Moves to `position`.
    pub fn set(&mut self, position: u64, message: String) {
        self.bar.set_position(position);
        let total = self.bar.length().unwrap_or(0);
        match &mut self.log {
            None => self.bar.set_message(message),
            Some(lines) if lines.last.elapsed() >= LOG_EVERY => {
                lines.last = Instant::now();
                let left = lines.left(position, total);
                eprintln!("{position}/{total}, {left} left  {message}");
            }
            Some(_) => {}
        }
    }

    /// Prints a line above the bar.
    pub fn line(&self, text: &str) {
        if self.log.is_some() {
            eprintln!("{text}");
        } else {
            self.bar.suspend(|| eprintln!("{text}"));
        }
    }

    /// Stops drawing and leaves the bar on the terminal.
    pub fn finish(&self) {
        self.bar.abandon();
    }
}

/// The progress of an evaluation, with a line for each finished task.
pub struct EvaluationBar {
    bar: Bar,
    /// The position of the bar.
    done: f64,
    /// What a step of each task adds to it; 1 without an estimate.
    per_step: Option<Vec<f64>>,
    /// Finished tasks.
    tasks: usize,
}

impl Default for EvaluationBar {
    /// A bar of training steps.
    fn default() -> Self {
        Self {
            bar: Bar::new(0, 0, "training steps"),
            done: 0.0,
            per_step: None,
            tasks: 0,
        }
    }
}

impl EvaluationBar {
    /// A bar in seconds of an estimate. Its time left follows the actual speed.
    pub fn new(estimate: &Estimate) -> Self {
        Self {
            bar: Bar::new(0, estimate.seconds.ceil() as u64, "estimated seconds"),
            per_step: Some(estimate.seconds_per_step.clone()),
            ..Self::default()
        }
    }

    /// Shows an event; `line` describes a finished task.
    pub fn show(&mut self, event: Event, line: impl FnOnce(&TaskReport) -> String) {
        match event {
            Event::Total(total) if self.per_step.is_none() => self.bar.set_total(total),
            // The estimate is of what is left.
            Event::Total(_) => {}
            Event::Kept(_) if self.per_step.is_some() => {}
            Event::Steps(steps) | Event::Kept(steps) => {
                let of_task = |per_step: &Vec<f64>| per_step.get(self.tasks).copied();
                let per_step = self.per_step.as_ref().map_or(Some(1.0), of_task);
                self.done += steps as f64 * per_step.unwrap_or(0.0);
                self.bar.set(self.done.round() as u64, String::new());
            }
            Event::Task(report) => {
                self.tasks += 1;
                self.bar.line(&line(report));
            }
        }
    }
}

impl Lines {
    fn left(&self, position: u64, total: u64) -> String {
        let done = position.saturating_sub(self.start).max(1) as f64;
        let left =
            self.started.elapsed().as_secs_f64() / done * total.saturating_sub(position) as f64;
        duration(left)
    }
}

/// A duration in text, such as "3m 20s".
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m {s}s"),
        (h, m, _) => format!("{h}h {m}m"),
    }
}
