//! Expressions are evaluated, or it is said aloud that they are not (iot-agent 3).

use std::{
    io::{self, Write},
    sync::Arc,
};

use parking_lot::Mutex;
use serde_json::json;
use tracing::subscriber::DefaultGuard;

use crate::{broker::FakeBroker, harness::Agent};

const T: (&str, &str) = ("t", "/p");

/// Lines that this thread logs.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.lock().write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn start() -> (Self, DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::WARN)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// The warnings since the last call.
    fn warnings(&self) -> Vec<String> {
        let text = String::from_utf8(std::mem::take(&mut *self.0.lock())).unwrap();
        text.lines()
            .filter(|line| line.contains("expressions are not evaluated"))
            .map(str::to_owned)
            .collect()
    }
}

#[tokio::test]
async fn a_group_or_device_with_expressions_that_do_nothing_is_warned_of_once_when_it_is_provisioned() {
    let (log, _logging) = Log::start();
    let agent = Agent::with_broker(&FakeBroker::default()).await;
    let broken = json!([{"object_id": "t", "name": "temp", "type": "Number", "expression": "secret*1.8+"}]);

    agent.group(T, "k", json!({"attributes": broken})).await;
    let of_group = log.warnings();
    assert_eq!(of_group.len(), 1, "{of_group:?}");
    assert!(of_group[0].contains("kind=\"group\""), "{of_group:?}");

    agent.device(T, json!({"device_id": "d", "attributes": broken})).await;
    let of_device = log.warnings();
    assert_eq!(of_device.len(), 1, "{of_device:?}");
    for part in ["tenant=\"t\"", "path=\"/p\"", "id=\"d\"", "attributes[0].expression"] {
        assert!(of_device[0].contains(part), "{part}: {of_device:?}");
    }
    assert!(!of_device[0].contains("secret"), "expressions are payload: {of_device:?}");

    agent.measure("k", "d", "t|20").await;
    agent.north("PUT", "/iot/devices/d", T, json!({"timezone": "Asia/Tokyo"})).await;
    assert_eq!(log.warnings(), Vec::<String>::new());
    agent.north("PUT", "/iot/devices/d", T, json!({"attributes": broken})).await;
    assert_eq!(log.warnings().len(), 1);
}

#[tokio::test]
async fn what_is_evaluated_is_sent_and_nobody_is_warned() {
    let (log, _logging) = Log::start();
    let broker = FakeBroker::default();
    let agent = Agent::with_broker(&broker).await;
    let fahrenheit =
        json!([{"object_id": "f", "name": "fahrenheit", "type": "Number", "expression": "t*1.8+32"}]);
    agent.group(T, "k", json!({"explicitAttrs": true, "attributes": fahrenheit})).await;
    agent.device(T, json!({"device_id": "d", "attributes": [{"object_id": "t", "name": "temp"}]})).await;
    assert_eq!(agent.measure("k", "d", "t|20").await.status, 200);
    for (attribute, value) in [("temp", 20), ("fahrenheit", 68)] {
        assert_eq!(broker.value("t", "/p", "Room:d", attribute), Some(json!(value)), "{attribute}");
    }
    assert_eq!(log.warnings(), Vec::<String>::new());
}
