//! The broker's APIs. Handlers translate to [`crate::Core`] and back; they decide nothing.

use axum::Router;

use crate::{Config, Core};

/// The REST API (NGSIv2).
pub fn router(_core: Core, _config: &Config) -> Router {
    Router::new()
}
