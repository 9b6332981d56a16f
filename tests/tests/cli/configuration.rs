//! docs/configuration.md names every setting of every program, with its variable and its default, and none that is not there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use thingmesh_tests::{binaries, process::Finished};

use super::thingmesh;

/// Defaults, as TOML, by table and key.
type Settings = BTreeMap<(String, String), String>;

/// What a program prints: one setting a line, below its table. A table that is empty by default is a setting of the one above.
fn printed(text: &str) -> Settings {
    let mut settings = Settings::new();
    let mut table = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            table = name.to_owned();
        } else if let Some((key, value)) = line.split_once(" = ") {
            settings.insert((table.clone(), key.to_owned()), value.to_owned());
        }
    }
    settings.insert(("kafka".to_owned(), "properties".to_owned()), "{}".to_owned());
    settings
}

/// The rows `| setting | variable | default | meaning |` below a heading that is a table's name; each variable is checked.
fn documented() -> Settings {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let mut settings = Settings::new();
    let mut table = String::new();
    for line in fs::read_to_string(file).unwrap().lines() {
        if let Some(name) = line.strip_prefix("## `") {
            table = name.trim_end_matches('`').to_owned();
        } else if let Some(row) = line.strip_prefix("| `").filter(|_| !table.is_empty()) {
            let cells: Vec<&str> = row.splitn(4, " | ").collect();
            let [key, variable, default, meaning] = cells[..] else { panic!("a row of four cells: {line}") };
            let key = key.trim_end_matches('`');
            let path = format!("{table}.{key}").replace('.', "__").replace('-', "_").to_uppercase();
            assert_eq!(variable, format!("`THINGMESH_{path}`"), "{line}");
            assert!(meaning.trim_end_matches(" |").len() > 3, "no meaning: {line}");
            let default = default.trim_matches('`').to_owned();
            let twice = settings.insert((table.clone(), key.to_owned()), default);
            assert_eq!(twice, None, "said twice: {line}");
        }
    }
    settings
}

fn shown(program: &str, argument: &str) -> Option<Finished> {
    let shown = thingmesh(&binaries::program(program)?, &[argument]);
    assert!(shown.status.success(), "{program}: {}", shown.stderr);
    Some(shown)
}

#[test]
fn every_setting_is_documented_with_its_default_and_nothing_else_is() {
    let Some(shown) = shown("thingmesh", "config") else { return };
    let (printed, documented) = (printed(&shown.stdout), documented());
    assert!(printed.len() > 100, "{printed:?}");
    let only = |of: &Settings, beside: &Settings| -> Vec<String> {
        of.iter()
            .filter(|(key, value)| beside.get(key) != Some(value))
            .map(|one| format!("{one:?}"))
            .collect()
    };
    let (wrong, missing) = (only(&documented, &printed), only(&printed, &documented));
    assert!(
        wrong.is_empty() && missing.is_empty(),
        "docs/configuration.md says {wrong:#?}, the program {missing:#?}"
    );
}

#[test]
fn a_program_of_one_service_has_no_settings_of_its_own_beside_the_documented() {
    let documented: BTreeSet<_> = documented().into_keys().collect();
    for program in ["context-broker", "device-agent", "time-series"] {
        let Some(shown) = shown(program, "--dump-config") else { return };
        let own: BTreeSet<_> = printed(&shown.stdout).into_keys().collect();
        let unknown: Vec<_> = own.difference(&documented).collect();
        assert!(unknown.is_empty(), "{program}: {unknown:?}");
    }
}
