//! `/v2/subscriptions` and `/v2/subscriptions/{id}`.

use http::Method;
use ngsi::{
    Error,
    subscription::{Subscription, SubscriptionPatch, write_subscription},
};
use scope::{PathPattern, ServicePath};

use super::{Answer, Api, Call};
use crate::subscription::{Page, SubscriptionId, SubscriptionView};

/// The option that adds how deliveries stand.
const HEALTH: &str = "deliveryHealth";

pub(super) async fn collection(api: &Api, call: &Call) -> Result<Answer, Error> {
    if call.method == Method::POST { create(api, call).await } else { list(api, call).await }
}

pub(super) async fn one(api: &Api, call: &Call) -> Result<Answer, Error> {
    let id = SubscriptionId::parse(&call.parts.first)?;
    match call.method {
        Method::PATCH => {
            let patch = SubscriptionPatch::parse(&call.body)?;
            api.core.update_subscription(&call.tenant, &id, patch).await?;
            Ok(Answer::DONE)
        }
        Method::DELETE => {
            api.core.delete_subscription(&call.tenant, &id).await?;
            Ok(Answer::DONE)
        }
        _ => {
            let view = api.core.get_subscription(&call.tenant, &id, call.params.option(HEALTH)).await?;
            let mut body = Vec::with_capacity(512);
            show(&mut body, &view, api.core.now_us());
            Ok(Answer::Json(body))
        }
    }
}

async fn create(api: &Api, call: &Call) -> Result<Answer, Error> {
    let path = call.subscription_path()?;
    let subscription = Subscription::parse(&call.body)?;
    let id = api.core.create_subscription(&call.tenant, &path, &subscription).await?;
    Ok(Answer::Created(format!("/v2/subscriptions/{id}")))
}

async fn list(api: &Api, call: &Call) -> Result<Answer, Error> {
    // As the original: the root and all below it is everything, whatever path somebody subscribed with.
    let path = call.subscription_path()?;
    let path = (path != PathPattern::Tree(ServicePath::root())).then_some(&path);
    let page = Page { offset: call.params.offset()?, limit: call.params.limit()? };
    let with_health = call.params.option(HEALTH);
    let (views, total) = api.core.list_subscriptions(&call.tenant, path, page, with_health).await?;
    let now_us = api.core.now_us();
    let mut body = vec![b'['];
    for (at, view) in views.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        show(&mut body, view, now_us);
    }
    body.push(b']');
    Ok(Answer::List(body, call.params.option("count").then_some(total)))
}

fn show(body: &mut Vec<u8>, view: &SubscriptionView, now_us: i64) {
    let health = view.health.as_ref();
    write_subscription(body, view.id.as_str(), &view.subscription, &view.counters, health, now_us);
}
