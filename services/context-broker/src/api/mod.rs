//! The broker's APIs. Handlers translate to [`crate::Core`] and back; they decide nothing.
//!
//! ```text
//! request ─► call: path, headers, parameters, body, in the original's order of checks ─► one handler per resource ─► answer
//! ```

mod admin;
mod answer;
mod attributes;
mod batch;
mod call;
mod cors;
mod entities;
mod grpc;
mod headers;
mod observed;
mod params;
mod registrations;
mod resource;
mod subscriptions;
mod types;
mod values;
mod version;
mod watch;

use std::{sync::Arc, time::Duration};

use axum::{
    extract::Request,
    response::{IntoResponse, Response},
};
use futures::future::BoxFuture;
use http::Method;
use service_kit::http::Handler;

use crate::{Config, Core};
use answer::{Answer, error_response};
use call::Call;
use cors::Cors;
use resource::Resource;

pub use grpc::{GrpcApi, grpc_service};
pub(crate) use watch::MAX_WATCHES;

/// What every handler needs.
pub(crate) struct Api {
    core: Core,
    /// Largest request body, bytes.
    max_body: u64,
    body_idle: Duration,
    /// Whether `Fiware-Service` is looked at.
    multiservice: bool,
    started_us: i64,
    cors: Option<Cors>,
}

/// The REST API (NGSIv2).
pub fn handler(core: Core, config: &Config) -> Arc<dyn Handler> {
    Arc::new(Api {
        started_us: core.now_us(),
        core,
        max_body: config.max_body_bytes,
        body_idle: config.http.body_idle_timeout(),
        multiservice: config.multiservice,
        cors: Cors::new(&config.administration.cors_origin, config.administration.cors_max_age_s),
    })
}

impl Handler for Api {
    fn route(&self, path: &str) -> Option<&'static str> {
        Resource::of_path(path).map(Resource::template)
    }

    fn handle(self: Arc<Self>, request: Request) -> BoxFuture<'static, Response> {
        Box::pin(async move { handle(&self, request).await })
    }
}

async fn handle(api: &Api, request: Request) -> Response {
    let observation = observed::Observation::begin(api, &request);
    let page = api.cors.as_ref().and_then(|cors| {
        let (resource, _) = Resource::find(request.uri().path()).ok()??;
        resource.is_ngsi().then(|| (cors, resource, cors.allowed(request.headers())))
    });
    let response = match page {
        Some((cors, resource, origin)) if request.method() == Method::OPTIONS => {
            cors.preflight(resource, origin)
        }
        Some((_, _, Some(origin))) => {
            let mut response = answered(api, request).await;
            cors::welcome(response.headers_mut(), origin);
            response
        }
        _ => answered(api, request).await,
    };
    observation.end(api, &response);
    response
}

async fn answered(api: &Api, request: Request) -> Response {
    match answer(api, request).await {
        Ok(answer) => answer.into_response(),
        Err(refusal) => refusal,
    }
}

async fn answer(api: &Api, request: Request) -> Result<Answer, Response> {
    let call = Call::read(api, request).await?;
    let answer = match call.resource {
        Resource::Version => Ok(version::version(api, &call)),
        Resource::EntryPoint => Ok(version::entry_point()),
        Resource::Entities => entities::collection(api, &call).await,
        Resource::Entity => entities::entity(api, &call).await,
        Resource::Attributes => attributes::all(api, &call).await,
        Resource::Attribute => attributes::one(api, &call).await,
        Resource::Value => values::value(api, &call).await,
        Resource::Types => types::collection(api, &call).await,
        Resource::Type => types::one(api, &call).await,
        Resource::Subscriptions => subscriptions::collection(api, &call).await,
        Resource::Subscription => subscriptions::one(api, &call).await,
        Resource::BatchUpdate => batch::update(api, &call).await,
        Resource::BatchQuery => batch::query(api, &call).await,
        Resource::Notify => batch::notify(api, &call).await,
        Resource::Registrations => registrations::collection(api, &call).await,
        Resource::Registration => registrations::one(api, &call).await,
        Resource::AdminLog => Ok(admin::log(api, &call)),
        Resource::LogTrace => Ok(admin::trace(api, &call)),
        Resource::LogTraceLevels => Ok(admin::trace_levels(api, &call)),
        Resource::Semaphores => Ok(admin::semaphores()),
        Resource::AdminMetrics => admin::metrics(api, &call),
        Resource::Statistics => Ok(admin::statistics(api, &call)),
        Resource::CacheStatistics => admin::cache_statistics(api, &call).await,
    };
    answer.map_err(|error| error_response(&error))
}
