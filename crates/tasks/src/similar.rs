/// How alike two names must be, from 0 to 1, to be one and a misspelling of it.
const ALIKE: f64 = 0.8;

/// Returns "; did you mean `NAME`?", to be appended to the error about an unknown `name`, with the most
/// similar of `names`; an empty string if none is similar enough.
pub fn did_you_mean<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let likeness = |other: &'a str| (strsim::jaro_winkler(name, other), other);
    let best = names
        .into_iter()
        .map(likeness)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match best {
        Some((likeness, best)) if likeness >= ALIKE => format!("; did you mean `{best}`?"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested() {
        let names = ["in-distribution", "width", "depth"];
        assert_eq!(did_you_mean("widht", names), "; did you mean `width`?");
        assert_eq!(did_you_mean("batch", names), "");
        assert_eq!(did_you_mean("x", []), "");
    }
}
