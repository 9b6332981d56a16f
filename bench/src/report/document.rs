//! docs/performance.md: prose by hand, figures by this program, kept apart by two marks.

const BEGIN: &str = "<!-- measured: begin (written by bench/run --write) -->";
const END: &str = "<!-- measured: end -->";

/// The document before its first figures.
pub(super) const FRAME: &str = "# Performance\n\n\
    <!-- measured: begin (written by bench/run --write) -->\n<!-- measured: end -->\n";

/// Puts `measured` between the marks; `None` when there are none.
pub(super) fn with_measured(document: &str, measured: &str) -> Option<String> {
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", measured.trim()))
}

/// A picture beside the document.
pub(super) fn picture(of: &str, file: &str) -> String {
    format!("![CPU per request by number of {of}]({file})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_replaced_and_prose_is_kept() {
        let first = with_measured(FRAME, "old").unwrap();
        let prose = first.replace("# Performance", "# Performance\n\nBy hand.") + "After.\n";
        let second = with_measured(&prose, "new").unwrap();
        assert!(second.contains("By hand.") && second.ends_with("After.\n"), "{second}");
        assert!(second.contains("\nnew\n") && !second.contains("old"), "{second}");
        assert_eq!(with_measured("no marks", "new"), None);
    }
}
