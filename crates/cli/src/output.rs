//! `println!` and its relatives, which drop what cannot be written: a closed pipe or a full disk must
//! not end a long run.

/// Prints to standard output.
macro_rules! print {
    ($($text:tt)*) => {{
        use std::io::Write;
        drop(write!(std::io::stdout(), $($text)*));
    }};
}

/// Prints a line to standard output.
macro_rules! println {
    ($($text:tt)*) => {{
        use std::io::Write;
        drop(writeln!(std::io::stdout(), $($text)*));
    }};
}

/// Prints a line to standard error.
macro_rules! eprintln {
    ($($text:tt)*) => {{
        use std::io::Write;
        drop(writeln!(std::io::stderr(), $($text)*));
    }};
}
