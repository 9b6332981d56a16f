//! Dependencies point one way (docs/architecture.md): services to libs, never to each other; SQL, Kafka and Redis only where
//! the table allows them. Read from `cargo metadata`, and from the `use` lines of the rooms inside a service.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use cargo_metadata::{DependencyKind, MetadataCommand};

const SERVICES: [&str; 4] = ["context-broker", "device-agent", "time-series", "gateway"];
/// May use anything: they put the services together, test or measure them.
const ASSEMBLIES: [&str; 3] = ["thingmesh", "thingmesh-tests", "thingmesh-bench"];

/// Direct dependencies that a crate must not have.
fn forbidden(package: &str) -> Vec<&'static str> {
    let runtime = ["tokio", "axum", "tonic", "hyper", "sqlx", "rdkafka", "redis"];
    let mut names: Vec<&'static str> = match package {
        "thingmesh-scope" | "thingmesh-ngsi" | "thingmesh-jexl" => {
            let mut names = runtime.to_vec();
            names.extend([
                "prost",
                "thingmesh-proto",
                "thingmesh-bus",
                "thingmesh-store",
                "thingmesh-service-kit",
            ]);
            names
        }
        "thingmesh-proto" => vec!["tokio", "axum", "sqlx", "rdkafka", "redis", "thingmesh-ngsi"],
        "thingmesh-service-kit" => {
            vec!["sqlx", "rdkafka", "redis", "thingmesh-ngsi", "thingmesh-bus", "thingmesh-store"]
        }
        "thingmesh-bus" => vec!["axum", "redis", "thingmesh-ngsi", "thingmesh-service-kit"],
        "thingmesh-store" => {
            vec!["axum", "rdkafka", "redis", "thingmesh-ngsi", "thingmesh-bus", "thingmesh-service-kit"]
        }
        "thingmesh-soft-state" => {
            vec!["axum", "rdkafka", "sqlx", "thingmesh-ngsi", "thingmesh-bus", "thingmesh-store"]
        }
        "thingmesh-mqtt" => {
            vec![
                "axum",
                "rdkafka",
                "redis",
                "sqlx",
                "thingmesh-ngsi",
                "thingmesh-bus",
                "thingmesh-service-kit",
            ]
        }
        "thingmesh-launch" => vec!["rdkafka", "redis", "sqlx", "thingmesh-ngsi"],
        service if SERVICES.contains(&service) => vec!["rdkafka", "redis"],
        "thingmesh" => vec!["rdkafka", "redis", "sqlx"],
        _ => vec![],
    };
    if !ASSEMBLIES.contains(&package) {
        names.extend(SERVICES);
        names.extend(ASSEMBLIES);
    }
    names
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_owned()
}

#[test]
fn no_crate_has_a_dependency_that_the_table_lacks() {
    let metadata = MetadataCommand::new()
        .manifest_path(workspace().join("Cargo.toml"))
        .no_deps()
        .other_options(vec!["--offline".to_owned()])
        .exec()
        .unwrap();
    let mut wrong = BTreeMap::new();
    for package in &metadata.packages {
        let forbidden: BTreeSet<&str> = forbidden(&package.name).into_iter().collect();
        let found: Vec<&str> = package
            .dependencies
            .iter()
            .filter(|dependency| {
                dependency.kind == DependencyKind::Normal && forbidden.contains(dependency.name.as_str())
            })
            .map(|dependency| dependency.name.as_str())
            .collect();
        if !found.is_empty() {
            wrong.insert(package.name.to_string(), found);
        }
    }
    assert!(metadata.packages.len() > 10, "the workspace is seen");
    assert!(wrong.is_empty(), "forbidden dependencies: {wrong:#?}");
}

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// Whether the file names the crate in code: `name::…`.
fn names(text: &str, krate: &str) -> bool {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).any(|line| {
        line.match_indices(&format!("{krate}::")).any(|(at, _)| {
            let before = line.split_at(at).0.chars().next_back();
            !before.is_some_and(|before| before.is_alphanumeric() || before == '_' || before == ':')
        })
    })
}

#[test]
fn inside_a_service_sql_stays_in_store_and_http_in_api() {
    let mut wrong = Vec::new();
    for service in ["context-broker", "device-agent", "time-series"] {
        let root = workspace().join("services").join(service).join("src");
        let mut files = Vec::new();
        sources(&root, &mut files);
        assert!(files.len() > 3, "{service} has sources");
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            let inner = file.strip_prefix(&root).unwrap();
            let room = inner
                .components()
                .next()
                .map(|part| part.as_os_str().to_string_lossy().into_owned())
                .unwrap();
            let assembly = matches!(room.as_str(), "lib.rs" | "main.rs" | "start.rs");
            let in_store = inner.components().any(|part| part.as_os_str() == "store");
            if names(&text, "sqlx") && !in_store {
                wrong.push(format!("{service}/{}: sqlx outside store/", inner.display()));
            }
            if names(&text, "axum") && room != "api" && !assembly {
                wrong.push(format!("{service}/{}: axum outside api/", inner.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn hand_written_files_stay_below_five_hundred_lines() {
    let mut files = Vec::new();
    for folder in ["libs", "services"] {
        sources(&workspace().join(folder), &mut files);
    }
    let long: Vec<String> = files
        .iter()
        .filter(|file| {
            !file.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "target")
        })
        .filter_map(|file| {
            let lines = fs::read_to_string(file).ok()?.lines().count();
            (lines > 500).then(|| format!("{} has {lines} lines", file.display()))
        })
        .collect();
    assert!(long.is_empty(), "which second idea moved in? {long:#?}");
}
