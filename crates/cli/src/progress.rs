//! Progress on a terminal and in log files.

use std::{
    io::{self, IsTerminal, Write},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use lopt_eval::{Estimate, Event, TaskReport};

/// The bar on the terminal, which must not be drawn while something is printed.
static SHOWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

fn shown(change: impl FnOnce(&mut Option<ProgressBar>)) -> Option<ProgressBar> {
    let mut shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner);
    change(&mut shown);
    shown.clone()
}

/// Prints above the bar, if there is one. What cannot be written is dropped.
pub fn print(mut stream: impl Write, text: &str) {
    drop(above_bar(|| stream.write_all(text.as_bytes())));
}

fn above_bar<T>(print: impl FnOnce() -> T) -> T {
    match shown(|_| ()) {
        Some(bar) => bar.suspend(print),
        None => print(),
    }
}

/// Standard error, above the bar.
pub struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        above_bar(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// A progress bar on a terminal, which disappears when it is dropped; elsewhere a line at intervals.
/// There is at most one at a time.
pub struct Bar {
    bar: ProgressBar,
    /// The lines, if there is no terminal.
    log: Option<Lines>,
}

struct Lines {
    unit: String,
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
            "{{elapsed_precise}} [{{wide_bar}}] {{human_pos}}/{{human_len}} {unit}, {{eta}} \
             left{{msg}}"
        );
        // The template is valid; indicatif's default style is a fine substitute.
        let style = ProgressStyle::with_template(&template)
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("=> "));
        bar.set_position(start);
        bar.reset_eta();
        let now = Instant::now();
        let log = (!io::stderr().is_terminal()).then(|| Lines {
            unit: unit.to_owned(),
            started: now,
            start,
            last: now,
        });
        if log.is_none() {
            shown(|shown| *shown = Some(bar.clone()));
        }
        Self { bar, log }
    }

    /// Changes the total.
    pub fn set_total(&self, total: u64) {
        self.bar.set_length(total);
    }

    /// Moves to `position`, with a message that may be empty.
    pub fn set(&mut self, position: u64, message: &str) {
        self.bar.set_position(position);
        let total = self.bar.length().unwrap_or(0);
        let comma = if message.is_empty() { "" } else { ", " };
        match &mut self.log {
            None => self.bar.set_message(format!("{comma}{message}")),
            Some(lines) if lines.last.elapsed() >= LOG_EVERY => {
                lines.last = Instant::now();
                let (left, unit) = (lines.left(position, total), &lines.unit);
                eprintln!("{position}/{total} {unit}, {left} left{comma}{message}");
            }
            Some(_) => {}
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        shown(|shown| *shown = None);
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
            done: 0.0,
            per_step: Some(estimate.seconds_per_step.clone()),
            tasks: 0,
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
                self.bar.set(self.done.round() as u64, "");
            }
            Event::Task(report) => {
                self.tasks += 1;
                eprintln!("{}", line(report));
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
