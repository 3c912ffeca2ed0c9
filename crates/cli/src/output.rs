//! `println!` and its relatives, which print above the progress bar and drop what cannot be written: a
//! closed pipe or a full disk must not end a long run.

/// The width that tables and explanations fit, that of a usual terminal.
pub const COLUMNS: usize = 80;

/// A text in lines of at most [`COLUMNS`], the first one after `start`, the others as far to the right.
pub fn paragraph(start: &str, text: &str) -> String {
    let next = " ".repeat(start.chars().count());
    let options = textwrap::Options::new(COLUMNS)
        .initial_indent(start)
        .subsequent_indent(&next)
        .break_words(false);
    textwrap::fill(text, options)
}

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
