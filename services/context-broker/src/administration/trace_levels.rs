/// The original's trace levels, 0 to 255: kept and shown. What this broker tells beyond its log is in its traces.
pub(crate) struct TraceLevels([bool; 256]);

impl Default for TraceLevels {
    fn default() -> Self {
        Self([false; 256])
    }
}

impl TraceLevels {
    /// Whether `text` holds nothing but numbers, dashes and commas.
    pub(crate) fn is_well_formed(text: &str) -> bool {
        text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b',' | b'\''))
    }

    /// Switches the levels of a list such as `1-5,7` on or off; what is no level is passed over.
    pub(crate) fn switch(&mut self, text: &str, on: bool) {
        for range in text.split(',') {
            let (from, to) = range.split_once('-').unwrap_or((range, range));
            if let (Ok(from), Ok(to)) = (from.trim().parse::<u8>(), to.trim().parse::<u8>()) {
                for level in self.0.iter_mut().take(usize::from(to) + 1).skip(usize::from(from)) {
                    *level = on;
                }
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The levels that are on as a list of ranges; `empty` when there are none.
    pub(crate) fn shown(&self) -> String {
        let mut ranges: Vec<(usize, usize)> = Vec::new();
        for (level, _) in self.0.iter().enumerate().filter(|(_, on)| **on) {
            match ranges.last_mut() {
                Some((_, to)) if *to + 1 == level => *to = level,
                _ => ranges.push((level, level)),
            }
        }
        if ranges.is_empty() {
            return "empty".to_owned();
        }
        let texts: Vec<String> = ranges
            .into_iter()
            .map(|(from, to)| if from == to { from.to_string() } else { format!("{from}-{to}") })
            .collect();
        texts.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_shown_as_ranges() {
        let mut levels = TraceLevels::default();
        assert_eq!(levels.shown(), "empty");
        levels.switch("1-5,7,250-255,300,x-", true);
        assert_eq!(levels.shown(), "1-5, 7, 250-255");
        levels.switch("3-4", false);
        assert_eq!(levels.shown(), "1-2, 5, 7, 250-255");
        levels.clear();
        assert_eq!(levels.shown(), "empty");
    }

    #[test]
    fn other_characters_are_noticed() {
        assert!(TraceLevels::is_well_formed("1-5,7"));
        assert!(!TraceLevels::is_well_formed("1-5;7"));
    }
}
