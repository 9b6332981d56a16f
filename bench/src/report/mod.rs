//! What was found: on the terminal, as a document, as a plot.

mod aims;
mod document;
mod format;
mod plot;
mod tables;

use std::{fs, path::Path};

use anyhow::{Context, Result};

use crate::{cases::Results, floor::CommitRates};

/// What the figures belong to.
#[derive(Clone, Debug)]
pub struct Circumstances {
    pub machine: String,
    pub commit: String,
    pub date: String,
    pub command: String,
    /// Version and build profile of the measured program.
    pub profile: String,
    pub connections: usize,
    pub p99_limit_millis: u128,
    /// Load average before anything was started.
    pub load_before: f64,
}

/// The whole run.
pub struct Report {
    pub circumstances: Circumstances,
    pub commits: CommitRates,
    pub results: Results,
}

impl Report {
    /// Markdown that reads well on a terminal too: all tables.
    pub fn tables(&self) -> String {
        tables::all(self)
    }

    /// Replaces the measured part of `docs/performance.md` under `root`, and the plots beside it.
    pub fn write(&self, root: &Path) -> Result<()> {
        let docs = root.join("docs");
        fs::create_dir_all(&docs)?;
        for scaling in &self.results.scaling {
            fs::write(docs.join(plot::file_name(scaling)), plot::svg(scaling))?;
        }
        let path = docs.join("performance.md");
        let before = fs::read_to_string(&path).unwrap_or_else(|_| document::FRAME.to_owned());
        let after = document::with_measured(&before, &self.tables())
            .with_context(|| format!("{} lacks its marks", path.display()))?;
        fs::write(path, after)?;
        Ok(())
    }
}
