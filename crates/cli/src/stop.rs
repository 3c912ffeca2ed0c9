//! Stopping on Ctrl-C and termination signals.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use signal_hook::{consts, flag};

#[cfg(unix)]
const SIGNALS: [i32; 3] = [consts::SIGINT, consts::SIGTERM, consts::SIGHUP];
#[cfg(not(unix))]
const SIGNALS: [i32; 2] = [consts::SIGINT, consts::SIGTERM];

const STOPPING: &str = "stopping as soon as the state is saved; press Ctrl-C again to stop at once";
/// How soon the message to the user follows the signal.
const POLL: Duration = Duration::from_millis(50);

/// A flag that is set by the first Ctrl-C (or termination signal); the second one ends the process
/// at once. A signal that the process was started to ignore, as `nohup` does, stays ignored.
pub fn stop_flag() -> Result<Arc<AtomicBool>> {
    stop_flag_with(STOPPING.to_owned())
}

/// A [`stop_flag`] with another message to the user.
pub fn stop_flag_with(message: String) -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    for signal in SIGNALS
        .into_iter()
        .filter(|signal| !ignored(&status, *signal))
    {
        let exit_code = i32::from(crate::INTERRUPTED);
        // In this order: the first signal sets the flag, a later one finds it set.
        flag::register_conditional_shutdown(signal, exit_code, stop.clone())
            .and_then(|_| flag::register(signal, stop.clone()))
            .context("cannot catch Ctrl-C")?;
    }
    if !message.is_empty() {
        let seen = stop.clone();
        thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                thread::sleep(POLL);
            }
            eprintln!("{message}");
        });
    }
    Ok(stop)
}

/// Whether this signal is ignored, by the content of Linux's /proc/self/status.
fn ignored(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_mask() {
        let status = "Name:\tlopt\nSigBlk:\t0000000000000003\nSigIgn:\t0000000000000001\n";
        assert!(ignored(status, 1) && !ignored(status, 2));
        assert!(!ignored("", 1));
    }
}
