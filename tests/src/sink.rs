//! A target of notifications that remembers what came, in order.

use std::sync::{Arc, Mutex};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use serde_json::Value;
use tokio::net::TcpListener;

use crate::oracle::Series;

/// One attribute of one entity in one notification.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub series: Series,
    pub value: i64,
}

#[derive(Clone, Default)]
struct Arrivals(Arc<Mutex<Vec<Arrival>>>);

/// Listens on a free port until drop of the runtime.
pub struct Sink {
    address: std::net::SocketAddr,
    arrivals: Arrivals,
}

impl Sink {
    /// # Panics
    /// When no port is to be had.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let arrivals = Arrivals::default();
        let router = Router::new().route("/sink", post(receive)).with_state(arrivals.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.expect("the sink serves") });
        Self { address, arrivals }
    }

    pub fn url(&self) -> String {
        format!("http://{}/sink", self.address)
    }

    /// Values of a series in order of arrival.
    pub fn arrivals(&self, series: &Series) -> Vec<i64> {
        let arrivals = self.arrivals.0.lock().expect("no receiver panics");
        arrivals.iter().filter(|arrival| arrival.series == *series).map(|arrival| arrival.value).collect()
    }
}

async fn receive(
    State(arrivals): State<Arrivals>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> StatusCode {
    let tenant = headers.get("fiware-service").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut arrivals = arrivals.0.lock().expect("no receiver panics");
    for entity in body["data"].as_array().into_iter().flatten() {
        for (attribute, value) in entity.as_object().into_iter().flatten() {
            let Some(value) = value["value"].as_f64() else { continue };
            let series = Series {
                tenant: tenant.to_owned(),
                entity_type: entity["type"].as_str().unwrap_or_default().to_owned(),
                entity: entity["id"].as_str().unwrap_or_default().to_owned(),
                attribute: attribute.clone(),
            };
            arrivals.push(Arrival { series, value: value as i64 });
        }
    }
    StatusCode::NO_CONTENT
}
