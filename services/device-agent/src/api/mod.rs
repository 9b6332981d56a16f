//! HTTP and gRPC: parse, call the agent, render. No decisions.

mod devices;
mod error;
mod groups;
pub(crate) mod grpc;
mod info;
mod request;
mod south;

pub(crate) use error::refuse;

use std::sync::Arc;

use axum::{
    Router,
    routing::{get, post},
};
use service_kit::Readiness;

use crate::agent::Agent;

/// What the handlers need.
#[derive(Clone)]
pub(crate) struct ApiState {
    pub(crate) agent: Arc<Agent>,
    pub(crate) readiness: Readiness,
    /// Port of the north API, as `/iot/about` shows it.
    pub(crate) north_port: u16,
}

impl ApiState {
    pub(crate) fn new(agent: Arc<Agent>, readiness: Readiness, north_port: u16) -> Self {
        Self { agent, readiness, north_port }
    }
}

/// The north API (iot-agent 1).
pub(crate) fn north(state: ApiState) -> Router {
    let groups = || {
        get(groups::list)
            .post(groups::create)
            .put(groups::update)
            .delete(groups::remove)
            .fallback(error::not_found)
    };
    Router::new()
        .route("/iot/services", groups())
        .route("/iot/groups", groups())
        .route("/iot/devices", get(devices::list).post(devices::create).fallback(error::not_found))
        .route(
            "/iot/devices/{id}",
            get(devices::show).put(devices::update).delete(devices::remove).fallback(error::not_found),
        )
        .route("/iot/op/delete", post(devices::remove_many).fallback(error::not_found))
        .route("/iot/about", get(info::about).fallback(error::not_found))
        .route("/version", get(info::about).fallback(error::not_found))
        .route("/ready", get(info::ready).fallback(error::not_found))
        .route("/metrics", get(info::metrics).fallback(error::not_found))
        .route("/admin/log", get(info::show_log_level).put(info::set_log_level).fallback(error::not_found))
        .fallback(error::not_found)
        .with_state(state)
}

/// The south port: every path may be the resource of a group.
pub(crate) fn south(state: ApiState) -> Router {
    Router::new().fallback(south::measures).with_state(state)
}
