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
use ngsi::Error;
use scope::Tenant;
use service_kit::http::Handler;

use crate::{
    Config, Core,
    notification::{Flow, FlowControl},
};
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
    /// Of updates with `flowControl`.
    flow: Option<Flow>,
}

/// The REST API (NGSIv2).
pub fn handler(core: Core, config: &Config) -> Arc<dyn Handler> {
    let flow = FlowControl::parse(&config.notification.flow_control).map(|control| {
        // A request that takes longer than it may would be answered with an error.
        let at_most = Duration::from_millis(config.http.request_timeout_ms) * 9 / 10;
        let (registry, bus) = (core.subscriptions.clone(), core.changes.bus.clone());
        let places = config.http.max_in_flight / 2;
        Flow::new(control, config.notification.flow_control_queue, at_most, places, registry, bus)
    });
    Arc::new(Api {
        started_us: core.now_us(),
        core,
        max_body: config.max_body_bytes,
        body_idle: config.http.body_idle_timeout(),
        multiservice: config.multiservice,
        cors: Cors::new(&config.administration.cors_origin, config.administration.cors_max_age_s),
        flow,
    })
}

impl Handler for Api {
    fn route(&self, path: &str) -> Option<&'static str> {
        Resource::of_path(path).map(Resource::template)
    }

    fn handle(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(handle(self, request))
    }
}

async fn handle(api: &Api, request: Request) -> Response {
    let tenant = match api.multiservice {
        true => headers::tenant(request.headers()),
        false => Ok(Tenant::default()),
    };
    let observation = observed::Observation::begin(api, &request, &tenant);
    let page = api.cors.as_ref().and_then(|cors| {
        let (resource, _) = Resource::find(request.uri().path()).ok()??;
        resource.is_ngsi().then(|| (cors, resource, cors.allowed(request.headers())))
    });
    let response = match page {
        Some((cors, resource, origin)) if request.method() == Method::OPTIONS => {
            cors.preflight(resource, origin)
        }
        Some((_, _, Some(origin))) => {
            let mut response = answered(api, request, tenant).await;
            cors::welcome(response.headers_mut(), origin);
            response
        }
        _ => answered(api, request, tenant).await,
    };
    observation.end(api, &response);
    response
}

/// `tenant` is what `Fiware-Service` says: an error with it comes in its turn.
async fn answered(api: &Api, request: Request, tenant: Result<Tenant, Error>) -> Response {
    match answer(api, request, tenant).await {
        Ok(answer) => answer.into_response(),
        Err(refusal) => refusal,
    }
}

async fn answer(api: &Api, request: Request, tenant: Result<Tenant, Error>) -> Result<Answer, Response> {
    let call = Call::read(api, request, tenant).await?;
    let Some(flow) = api.flow.as_ref().filter(|_| call.controls_flow()) else {
        return dispatch(api, &call).await;
    };
    Box::pin(async {
        let pause = flow.begin().await;
        let answer = dispatch(api, &call).await?;
        if let Some(pause) = pause {
            flow.drained(pause).await;
        }
        Ok(answer)
    })
    .await
}

async fn dispatch(api: &Api, call: &Call) -> Result<Answer, Response> {
    let answer = match call.resource {
        Resource::Version => Ok(version::version(api, call)),
        Resource::EntryPoint => Ok(version::entry_point()),
        Resource::Entities => Box::pin(entities::collection(api, call)).await,
        Resource::Entity => entities::entity(api, call).await,
        Resource::Attributes => attributes::all(api, call).await,
        Resource::Attribute => attributes::one(api, call).await,
        Resource::Value => values::value(api, call).await,
        Resource::Types => Box::pin(types::collection(api, call)).await,
        Resource::Type => Box::pin(types::one(api, call)).await,
        Resource::Subscriptions => Box::pin(subscriptions::collection(api, call)).await,
        Resource::Subscription => Box::pin(subscriptions::one(api, call)).await,
        Resource::BatchUpdate => Box::pin(batch::update(api, call)).await,
        Resource::BatchQuery => Box::pin(batch::query(api, call)).await,
        Resource::Notify => Box::pin(batch::notify(api, call)).await,
        Resource::Registrations => Box::pin(registrations::collection(api, call)).await,
        Resource::Registration => Box::pin(registrations::one(api, call)).await,
        Resource::AdminLog => Ok(admin::log(api, call)),
        Resource::LogTrace => Ok(admin::trace(api, call)),
        Resource::LogTraceLevels => Ok(admin::trace_levels(api, call)),
        Resource::Semaphores => Ok(admin::semaphores()),
        Resource::AdminMetrics => admin::metrics(api, call),
        Resource::Statistics => Ok(admin::statistics(api, call)),
        Resource::CacheStatistics => Box::pin(admin::cache_statistics(api, call)).await,
    };
    answer.map_err(|error| error_response(&error))
}
