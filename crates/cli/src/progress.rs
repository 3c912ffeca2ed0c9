//! Progress for a person at a terminal, and for a log file.

use std::{
    io::IsTerminal,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use lopt_eval::{Event, TaskReport};

/// A bar on a terminal; elsewhere a line now and then.
pub struct Bar {
    bar: ProgressBar,
    /// When the next line is due, if there is no terminal.
    log: Option<Lines>,
}

struct Lines {
    started: Instant,
    start: u64,
    last: Instant,
}

/// Lines in a log are this far apart.
const LOG_EVERY: Duration = Duration::from_secs(15);

impl Bar {
    /// From `start` to `total` of some unit.
    pub fn new(start: u64, total: u64, unit: &str) -> Self {
        let bar = ProgressBar::new(total);
        let template = format!(
            "{{elapsed_precise}} [{{bar:30}}] {{human_pos}}/{{human_len}} {unit}, {{eta}} left  {{msg}}"
        );
        // The template is ours; indicatif's own style is a fine substitute.
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

    /// A higher total.
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

    /// Leaves the bar as it is.
    pub fn finish(&self) {
        self.bar.abandon();
    }
}

/// Follows an evaluation, with a line for each task that is over.
pub fn of_evaluation(line: impl Fn(&TaskReport) -> String + Sync) -> impl Fn(Event) + Sync {
    let view = Mutex::new((Bar::new(0, 0, "training steps"), 0));
    move |event| {
        let mut view = view.lock().unwrap_or_else(PoisonError::into_inner);
        let (bar, done) = &mut *view;
        match event {
            Event::Total(total) => bar.set_total(total),
            Event::Steps(steps) => {
                *done += steps;
                bar.set(*done, String::new());
            }
            Event::Task(report) => bar.line(&line(report)),
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

/// Such as "3m 20s".
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m {s}s"),
        (h, m, _) => format!("{h}h {m}m"),
    }
}
