//! `println!` and its relatives, which print above the progress bar and drop what cannot be written: a
//! closed pipe or a full disk must not end a long run.

/// Prints to standard output.
macro_rules! print {
    ($($text:tt)*) => {
        $crate::progress::print(std::io::stdout(), &format!($($text)*))
    };
}

/// Prints a line to standard output.
macro_rules! println {
    ($($text:tt)*) => {
        $crate::progress::print(std::io::stdout(), &(format!($($text)*) + "\n"))
    };
}

/// Prints a line to standard error.
macro_rules! eprintln {
    ($($text:tt)*) => {
        $crate::progress::print(std::io::stderr(), &(format!($($text)*) + "\n"))
    };
}
