//! The start flags and environment variables of Orion (ngsi-v2.md 11), as settings of this broker: what runs Orion today
//! runs this broker with only the image replaced.
//!
//! ```text
//! -port 1026 -logLevel DEBUG, ORION_CORS_MAX_AGE=60 ─► key=value settings + warnings;  --flags of our own are left as they are
//! ```

mod table;

use table::{Flag, Kind, Meaning};

/// What the original's flags and variables come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Originals {
    /// `key=value`, the later wins: variables before flags.
    pub settings: Vec<String>,
    /// What was asked for and means nothing here.
    pub warnings: Vec<String>,
    /// The arguments that are not the original's.
    pub rest: Vec<String>,
}

/// Reads a command line (without the program's name) and an environment. The error says what is wrong with which flag.
pub fn read_originals<A, V>(arguments: A, variables: V) -> Result<Originals, String>
where
    A: IntoIterator<Item = String>,
    V: IntoIterator<Item = (String, String)>,
{
    let mut found = Originals::default();
    let mut variables: Vec<_> =
        variables.into_iter().filter(|(name, _)| name.starts_with("ORION_")).collect();
    variables.sort();
    for (name, value) in variables {
        found.variable(&name, &value)?;
    }
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        match argument.strip_prefix('-').filter(|name| is_original(name)) {
            None => found.rest.push(argument),
            // Usage, in short and in long.
            Some("u" | "U") => found.rest.push("--help".to_owned()),
            Some(name) => {
                let flag = table::FLAGS
                    .iter()
                    .find(|flag| flag.name == name)
                    .ok_or_else(|| format!("unknown flag -{name}"))?;
                let value = match flag.kind {
                    Kind::Switch => "true".to_owned(),
                    _ => arguments.next().ok_or_else(|| format!("-{name} needs a value"))?,
                };
                found.take(flag, &format!("-{name}"), &value)?;
            }
        }
    }
    Ok(found)
}

/// Our own flags have two dashes, or are `-h` and `-V`; values never begin with a dash and a letter.
fn is_original(name: &str) -> bool {
    !matches!(name, "h" | "V") && name.starts_with(|first: char| first.is_ascii_alphabetic())
}

impl Originals {
    fn variable(&mut self, name: &str, value: &str) -> Result<(), String> {
        let Some(flag) = table::FLAGS.iter().find(|flag| flag.variable == name) else {
            // Kubernetes writes such for every service called `orion`.
            self.warnings.push(format!("{name} is no setting of a broker and is ignored"));
            return Ok(());
        };
        if value.starts_with("tcp://") {
            self.warnings.push(format!("{name} was written by the container platform and is ignored"));
            return Ok(());
        }
        let value = match (flag.kind, value) {
            (Kind::Switch, "TRUE" | "true") => "true",
            (Kind::Switch, "FALSE" | "false") => "false",
            (Kind::Switch, _) => return Err(format!("{name} is neither TRUE nor FALSE")),
            (_, value) => value,
        };
        self.take(flag, name, value)
    }

    fn take(&mut self, flag: &Flag, origin: &str, value: &str) -> Result<(), String> {
        flag.kind.check(value).map_err(|wanted| format!("{origin} is not {wanted}"))?;
        let is_off = matches!(flag.kind, Kind::Switch) && value == "false";
        match flag.meaning {
            Meaning::Sets(keys) => {
                self.settings.extend(keys.iter().map(|key| format!("{key}={value}")));
            }
            Meaning::Switches(key) => self.settings.push(format!("{key}={is_off}")),
            Meaning::AsHere => {}
            Meaning::Becomes(_) | Meaning::Nothing(_) | Meaning::Unsafe(_) if is_off => {}
            Meaning::Becomes(settings) => self.settings.extend(settings(value)),
            Meaning::Nothing(why) => self.warnings.push(format!("{origin} means nothing here: {why}")),
            Meaning::Unsafe(why) => return Err(format!("{origin} is not served: {why}")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str, variables: &[(&str, &str)]) -> Result<Originals, String> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        read_originals(line.split_whitespace().map(str::to_owned), variables)
    }

    #[test]
    fn flags_become_settings_and_ours_are_left() {
        let found = read(
            "-port 1027 --data-dir /x -multiservice -httpTimeout 100 -disableMetrics -logLevel WARNING --set a=b -h -fg",
            &[],
        )
        .unwrap();
        assert_eq!(
            found.settings,
            [
                "context-broker.port=1027",
                "context-broker.multiservice=true",
                "context-broker.notification.timeout_ms=100",
                "context-broker.forwarding.timeout_ms=100",
                "context-broker.administration.transaction_metrics=false",
                "telemetry.log_level=warn",
            ]
        );
        assert_eq!(found.rest, ["--data-dir", "/x", "--set", "a=b", "-h"]);
        assert_eq!(found.warnings, Vec::<String>::new());
    }

    #[test]
    fn the_queue_of_the_first_pool_counts_for_flow_control() {
        let key = "context-broker.notification.";
        for (mode, expected) in [
            ("threadpool:60000:40,gold:100:2", vec!["mode=durable", "flow_control_queue=60000"]),
            ("threadpool", vec!["mode=durable"]),
            ("persistent", vec!["mode=durable"]),
            ("transient", vec!["mode=transient"]),
        ] {
            let found =
                read(&format!("-notificationMode {mode} -notifFlowControl 0.3:500:20000"), &[]).unwrap();
            let mut expected: Vec<_> =
                expected.into_iter().map(|setting| format!("{key}{setting}")).collect();
            expected.push(format!("{key}flow_control=0.3:500:20000"));
            assert_eq!(found.settings, expected, "{mode}");
        }
    }

    #[test]
    fn a_flag_wins_over_its_variable() {
        let found = read("-corsMaxAge 5", &[("ORION_CORS_MAX_AGE", "9"), ("PATH", "/bin")]).unwrap();
        let key = "context-broker.administration.cors_max_age_s";
        assert_eq!(found.settings, [format!("{key}=9"), format!("{key}=5")]);
    }

    #[test]
    fn switches_of_the_environment_are_on_or_off() {
        let found = read(
            "",
            &[
                ("ORION_MULTI_SERVICE", "FALSE"),
                ("ORION_DISABLE_METRICS", "false"),
                ("ORION_NOCACHE", "FALSE"),
            ],
        )
        .unwrap();
        assert_eq!(
            found.settings,
            ["context-broker.administration.transaction_metrics=true", "context-broker.multiservice=false"]
        );
        assert_eq!(found.warnings, Vec::<String>::new());
        let error = read("", &[("ORION_MULTI_SERVICE", "yes")]).unwrap_err();
        assert_eq!(error, "ORION_MULTI_SERVICE is neither TRUE nor FALSE");
    }

    #[test]
    fn what_means_nothing_is_told_without_its_value() {
        let found = read(
            "-dbpwd hunter2",
            &[("ORION_SERVICE_HOST", "10.0.0.1"), ("ORION_PORT", "tcp://10.0.0.1:1026")],
        )
        .unwrap();
        assert_eq!(found.settings, Vec::<String>::new());
        assert_eq!(found.warnings.len(), 3, "{:?}", found.warnings);
        assert!(!format!("{:?}", found.warnings).contains("hunter2"));
    }

    #[test]
    fn wrong_flags_are_errors() {
        for (line, error) in [
            ("-prot 1026", "unknown flag -prot"),
            ("-port", "-port needs a value"),
            ("-port many", "-port is not a port number"),
            ("-logLevel LOUD", "-logLevel is not a log level"),
            ("-notificationMode bogus", "-notificationMode is not a notification mode"),
            ("-notificationMode threadpool:x:1", "-notificationMode is not a notification mode"),
            ("-notificationMode threadpool:1:1,2:2", "-notificationMode is not a notification mode"),
            (
                "-notifFlowControl 2:1:1",
                "-notifFlowControl is not of the form gauge:stepDelay:maxInterval (0 to 1, ms, ms)",
            ),
            ("-localIp here", "-localIp is not an IP address"),
            ("-inReqPayloadMaxSize -5", "-inReqPayloadMaxSize is not a number"),
            ("-https", "-https is not served: requests would be read in the clear; let a gateway end TLS"),
        ] {
            assert_eq!(read(line, &[]).unwrap_err(), error, "{line}");
        }
    }

    #[test]
    fn names_are_unique() {
        for (at, flag) in table::FLAGS.iter().enumerate() {
            assert!(table::FLAGS.iter().skip(at + 1).all(|other| other.name != flag.name), "-{}", flag.name);
            assert!(
                table::FLAGS.iter().skip(at + 1).all(|other| other.variable != flag.variable),
                "{}",
                flag.variable
            );
        }
    }
}
