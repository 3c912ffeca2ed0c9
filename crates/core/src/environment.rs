//! Settings that candle reads from the environment, applied by restarting the process.

use std::{env, io, process::Command};

/// Makes candle use one thread per computation. Call it at the start of `main` in a program that
/// trains several networks in parallel.
///
/// Candle distributes matrix products and large tensors over all processors, in a thread pool that
/// is shared by the whole process and whose size it reads from the environment. Networks that train
/// in parallel wait for each other in this pool. Unless `RAYON_NUM_THREADS` is set, this function
/// sets it to 1 and restarts the program; it returns in the restarted program.
///
/// # Errors
/// Returns an error if the program cannot be restarted.
pub fn one_candle_thread() -> io::Result<()> {
    start_again_with("RAYON_NUM_THREADS")
}

/// Makes candle's gradients differentiable. Call it at the start of `main` in a program that needs
/// second derivatives of losses in candle ops, as the exact meta-gradient does.
///
/// Unless `CANDLE_GRAD_DO_NOT_DETACH=1` is set, candle detaches gradients from their graph, and
/// second derivatives silently lack terms. If the variable is not set, this function sets it and
/// restarts the program; it returns in the restarted program.
///
/// # Errors
/// Returns an error if the program cannot be restarted.
pub fn second_derivatives() -> io::Result<()> {
    start_again_with("CANDLE_GRAD_DO_NOT_DETACH")
}

/// Restarts the program with the variable set to 1, unless it is already set.
fn start_again_with(variable: &str) -> io::Result<()> {
    if env::var_os(variable).is_some() {
        return Ok(());
    }
    let mut command = Command::new(env::current_exe()?);
    command.args(env::args_os().skip(1)).env(variable, "1");
    replace(command)
}

/// Keeps the process id, so that signals still reach the program.
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
