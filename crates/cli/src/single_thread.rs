//! Candle's own parallelism off: tasks are what runs in parallel here, and candle reads
//! the number of its threads from the environment at every matrix product.

use std::{
    env,
    process::{Command, ExitCode},
};

const VARIABLE: &str = "RAYON_NUM_THREADS";

/// Replaces the process by itself with one candle thread, unless the environment already
/// says how many. `None` if this process may go on.
pub fn restart_if_needed() -> Option<ExitCode> {
    if env::var_os(VARIABLE).is_some() {
        return None;
    }
    let program = env::current_exe().ok()?;
    let mut command = Command::new(program);
    command.args(env::args_os().skip(1)).env(VARIABLE, "1");
    Some(replace(command))
}

/// Keeps the process id, so that signals reach the right one.
#[cfg(unix)]
fn replace(mut command: Command) -> ExitCode {
    use std::os::unix::process::CommandExt;
    let error = command.exec();
    eprintln!("error: cannot restart with {VARIABLE}=1: {error}; set it yourself");
    ExitCode::FAILURE
}

#[cfg(not(unix))]
fn replace(mut command: Command) -> ExitCode {
    match command.status() {
        Ok(status) => ExitCode::from(status.code().unwrap_or(1) as u8),
        Err(error) => {
            eprintln!("error: cannot restart with {VARIABLE}=1: {error}; set it yourself");
            ExitCode::FAILURE
        }
    }
}
