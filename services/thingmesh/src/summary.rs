//! What `thingmesh up` tells a person at a terminal, besides the log.

use std::{
    io::{IsTerminal, Write},
    path::Path,
};

use anyhow::Result;

use crate::mesh::Mesh;

/// Prints it where somebody reads: to standard output, or to standard error if only that is a terminal; else nowhere.
pub(crate) fn show(mesh: &Mesh, data_dir: &Path) -> Result<()> {
    let (gateway, admin) =
        (mesh.address("gateway", "http")?.to_string(), mesh.foundation.admin_address.to_string());
    let text = text(&gateway, &admin, data_dir);
    // A terminal that went away is no reason not to serve.
    if std::io::stdout().is_terminal() {
        std::io::stdout().write_all(text.as_bytes()).ok();
    } else if std::io::stderr().is_terminal() {
        std::io::stderr().write_all(text.as_bytes()).ok();
    }
    Ok(())
}

fn text(gateway: &str, admin: &str, data_dir: &Path) -> String {
    let absolute = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned());
    let (shown, folder) = (absolute.display(), data_dir.display());
    format!(
        "
thingmesh is up; Ctrl-C stops it
  gateway   http://{gateway}/   asks for a token
  admin     http://{admin}/   healthz, readyz, metrics
  state     {shown}
  a token   thingmesh token --tenant acme --data-dir {folder}

"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_urls_folder_and_the_way_to_a_token() {
        let text = text("127.0.0.1:8000", "127.0.0.1:9600", Path::new("data"));
        for part in [
            "http://127.0.0.1:8000/",
            "http://127.0.0.1:9600/",
            "/data\n",
            "token --tenant acme --data-dir data",
        ] {
            assert!(text.contains(part), "no {part} in {text}");
        }
        assert!(text.lines().all(|line| line.len() < 80 || line.contains("state")), "{text}");
    }
}
