//! The broker as its clients see it: started on a free port over SQLite in a temporary folder, spoken to over TCP.

mod attributes;
mod batch;
mod broker;
mod clients;
mod entities;
mod http_rules;
mod lists;
mod service_paths;
mod sink;
mod subscriptions;
mod values;
