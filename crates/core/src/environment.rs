//! What candle reads from the environment, set by starting the process again.

use std::{env, io, process::Command};

/// For the start of `main` in a program that trains several networks at once by candle:
/// makes candle compute each of them on one thread.
///
/// Candle spreads matrix products and large tensors over all processors, in a pool that
/// the whole process shares and whose size it reads from the environment; networks that
/// train side by side wait for each other there. This replaces the process by itself with
/// `RAYON_NUM_THREADS=1`, unless the environment says how many threads already. It returns
/// in the new process.
///
/// # Errors
/// If the program cannot be started again.
pub fn one_candle_thread() -> io::Result<()> {
    start_again_with("RAYON_NUM_THREADS")
}

/// For the start of `main` in a program that needs second derivatives of losses in candle
/// ops, as the exact meta-gradient does: makes candle's gradients differentiable.
///
/// Candle cuts each gradient off from what it was computed from, so that a derivative of
/// it lacks terms without a word, unless `CANDLE_GRAD_DO_NOT_DETACH=1` is in the
/// environment. This replaces the process by itself with that variable set, unless it is
/// already; it returns in the new process.
///
/// # Errors
/// If the program cannot be started again.
pub fn second_derivatives() -> io::Result<()> {
    start_again_with("CANDLE_GRAD_DO_NOT_DETACH")
}

/// With the variable set to 1, if it is not set.
fn start_again_with(variable: &str) -> io::Result<()> {
    if env::var_os(variable).is_some() {
        return Ok(());
    }
    let mut command = Command::new(env::current_exe()?);
    command.args(env::args_os().skip(1)).env(variable, "1");
    replace(command)
}

/// Keeps the process id, so that signals reach the right one.
#[cfg(unix)]
fn replace(mut command: Command) -> io::Result<()> {
    use std::os::unix::process::CommandExt;
    Err(command.exec())
}

#[cfg(not(unix))]
fn replace(mut command: Command) -> io::Result<()> {
    let status = command.status()?;
    std::process::exit(status.code().unwrap_or(1))
}
