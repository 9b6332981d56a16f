use std::{fs, path::Path};

use crate::routes::EdgeFile;

/// The edge definition: `istio/` and `opa/`, the same files that a cluster reads.
pub struct Definition {
    pub(crate) resources: Vec<EdgeFile>,
    pub(crate) mesh_config: EdgeFile,
    pub(crate) policy: EdgeFile,
}

macro_rules! compiled_in {
    ($path:literal) => {
        EdgeFile { name: $path.to_owned(), text: include_str!(concat!("../../../", $path)).to_owned() }
    };
}

impl Definition {
    /// The files as they were when this was compiled.
    pub fn compiled_in() -> Self {
        Self {
            resources: vec![
                compiled_in!("istio/gateway.yaml"),
                compiled_in!("istio/virtual-service.yaml"),
                compiled_in!("istio/authorization-policy.yaml"),
                compiled_in!("istio/peer-authentication.yaml"),
            ],
            mesh_config: compiled_in!("istio/mesh/mesh-config.yaml"),
            policy: compiled_in!("opa/fiware/service.rego"),
        }
    }

    /// Reads `istio/*.yaml`, `istio/mesh/mesh-config.yaml` and `opa/fiware/service.rego` under `dir`.
    pub fn read(dir: &Path) -> Result<Self, String> {
        let mut resources = Vec::new();
        let istio = dir.join("istio");
        let entries = fs::read_dir(&istio).map_err(|error| format!("{}: {error}", istio.display()))?;
        for entry in entries {
            let path = entry.map_err(|error| format!("{}: {error}", istio.display()))?.path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                resources.push(file(&path)?);
            }
        }
        resources.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self {
            resources,
            mesh_config: file(&istio.join("mesh/mesh-config.yaml"))?,
            policy: file(&dir.join("opa/fiware/service.rego"))?,
        })
    }
}

fn file(path: &Path) -> Result<EdgeFile, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(EdgeFile { name: path.display().to_string(), text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_resource_of_the_repository_is_compiled_in() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let read = Definition::read(&root).unwrap();
        let mut compiled: Vec<String> =
            Definition::compiled_in().resources.into_iter().map(|file| file.text).collect();
        let mut found: Vec<String> = read.resources.into_iter().map(|file| file.text).collect();
        compiled.sort();
        found.sort();
        assert_eq!(compiled, found);
    }
}
