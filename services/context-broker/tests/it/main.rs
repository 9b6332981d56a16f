//! The broker as its clients see it: started on a free port over SQLite in a temporary folder, spoken to over TCP.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(unreachable_pub, reason = "nothing outside of this program sees it")]

mod administration;
mod attributes;
mod batch;
mod broker;
mod clients;
mod conditions;
mod conformance;
mod deadline;
mod delivery;
mod entities;
mod flags;
mod flow_control;
mod forwarding;
mod grpc;
mod history;
mod http_rules;
mod lists;
mod model;
#[path = "../../../../libs/mqtt/tests/it/mosquitto.rs"]
mod mosquitto;
mod notification;
mod program;
mod provider;
mod quotas;
mod receiver;
mod registrations;
mod replicas;
mod secure;
mod service_paths;
mod sink;
mod started;
mod status;
mod subscriptions;
mod transports;
mod values;
