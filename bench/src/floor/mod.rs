//! What the figures are measured against: a bare HTTP handler, and the bare store.

mod commit;
mod server;

use std::{
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
pub use commit::{CommitRates, GROUP, commit_rates, postgres_commit_rates};
pub use server::serve;

use crate::process::Server;

/// The answer that a floor gives to everything: what the mesh answered to the same request.
#[derive(Clone, Debug, Default)]
pub struct Canned {
    pub status: u16,
    pub content_type: String,
    pub body: Vec<u8>,
}

/// A bare handler in a process of its own.
pub struct Floor {
    pub server: Server,
    pub address: SocketAddr,
    _body: tempfile::NamedTempFile,
}

impl Floor {
    /// Starts `program floor`, which answers `canned`.
    pub fn start(program: &Path, canned: &Canned) -> Result<Self> {
        let mut body = tempfile::NamedTempFile::new()?;
        body.write_all(&canned.body)?;
        let mut command = Command::new(program);
        command.arg("floor").arg("--status").arg(canned.status.to_string());
        command.arg("--content-type").arg(&canned.content_type).arg("--body").arg(body.path());
        let (server, line) = Server::spawn_speaking(&mut command)?;
        let address =
            line.parse().with_context(|| format!("the floor said {line:?} instead of its address"))?;
        Ok(Self { server, address, _body: body })
    }
}

/// The program that is running now: floors are started from it.
pub fn own_program() -> Result<PathBuf> {
    Ok(std::env::current_exe()?)
}
