//! Downloads with the system's curl.

use std::{
    fs,
    path::Path,
    process::{Command, ExitStatus},
};

use anyhow::{Context, Result, bail};

/// Curl's exit codes for a download that cannot be resumed.
const CANNOT_RESUME: [i32; 2] = [33, 36];

/// Downloads `url` to the file `part`, resuming an earlier partial download.
pub fn download(url: &str, part: &Path) -> Result<()> {
    println!("fetching {url}");
    let mut status = curl(url, part)?;
    if part.exists()
        && status
            .code()
            .is_some_and(|code| CANNOT_RESUME.contains(&code))
    {
        fs::remove_file(part).with_context(|| format!("cannot remove {}", part.display()))?;
        status = curl(url, part)?;
    }
    if !status.success() {
        bail!(
            "curl could not fetch {url} ({status}). Run the command again to resume; without a \
             network, copy the files to this machine by other means and use \
             `cargo xtask data import`"
        );
    }
    Ok(())
}

fn curl(url: &str, part: &Path) -> Result<ExitStatus> {
    Command::new("curl")
        .args(["--fail", "--location", "--retry", "3"])
        .args(["--connect-timeout", "20", "--continue-at", "-"])
        .args(["--progress-bar", "--output"])
        .arg(part)
        .arg("--")
        .arg(url)
        .status()
        .context("cannot run curl; install it, or use `cargo xtask data import`")
}
