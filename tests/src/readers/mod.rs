//! What reads files of each kind, for tests with damaged ones. A reader returns what a file means, or why
//! it cannot be read, and panics if the file means something invalid.

mod config;
mod data;
mod flax;
mod run;
mod sealed;

pub use config::parsed;
pub use data::{SmallData, gzip, small_idx};
pub use flax::{flax, read_flax};
pub use run::{CHECKPOINT, Killed};
pub use sealed::{State, read_theta, theta};
