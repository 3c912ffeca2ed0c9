//! The command line of lopt.
fn main() {}
