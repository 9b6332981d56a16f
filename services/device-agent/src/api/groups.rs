//! `/iot/services` and `/iot/groups`: one resource, two names of its root key (iot-agent 1.2).

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};

use super::{ApiState, request};
use crate::{
    device::{ApiKey, Group, GroupDraft, check_group},
    error::Error,
    provision::group_body,
    store::Page,
};

fn root(uri: &Uri) -> &'static str {
    if uri.path().starts_with("/iot/groups") { "groups" } else { "services" }
}

pub(super) async fn create(
    State(state): State<ApiState>,
    headers: HeaderMap,
    uri: Uri,
    body: Body,
) -> Result<Response, Error> {
    let scope = request::scope(&headers)?;
    let given = request::list(request::object(&state.agent.config, body).await?, root(&uri))?;
    let drafts = given.into_iter().map(draft).collect::<Result<_, _>>()?;
    state.agent.create_groups(&scope, drafts).await?;
    Ok((StatusCode::CREATED, Json(json!({}))).into_response())
}

fn draft(given: Map<String, Value>) -> Result<GroupDraft, Error> {
    check_group(&given).map_err(Error::WrongSyntax)?;
    let text = |field: &str| {
        let value = given.get(field).and_then(Value::as_str);
        value.ok_or_else(|| Error::WrongSyntax(format!("{field} is missing")))
    };
    let (api_key, resource) = (ApiKey::new(text("apikey")?), text("resource")?.to_owned());
    if given.get("entity_type").and_then(Value::as_str).is_none_or(str::is_empty) {
        return Err(Error::MissingConfigParams(vec!["type"]));
    }
    if given.contains_key("cbHost") {
        tracing::warn!(resource, "cbHost of a group is stored, but measures go to this mesh's broker");
    }
    Ok(GroupDraft { resource, api_key, body: group_body(given) })
}

pub(super) async fn list(
    State(state): State<ApiState>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Json<Value>, Error> {
    let (service, service_path) = request::scope_texts(&headers)?;
    let tenant = request::tenant(service)?;
    let page = request::Query::of(&uri).page()?;
    let (groups, total) = if service_path == "/*" {
        state.agent.list_groups(&tenant, None, page).await?
    } else {
        let path = request::path(service_path)?;
        let (groups, total) = state.agent.list_groups(&tenant, Some(&path), Page::ALL).await?;
        if groups.is_empty() {
            return Err(Error::NoGroups);
        }
        (groups, total)
    };
    let shown: Vec<Value> = groups.iter().map(Group::to_json).collect();
    Ok(Json(json!({ "count": total, root(&uri): shown })))
}

pub(super) async fn update(
    State(state): State<ApiState>,
    headers: HeaderMap,
    uri: Uri,
    body: Body,
) -> Result<StatusCode, Error> {
    let scope = request::scope(&headers)?;
    let (resource, key) = address(&uri)?;
    let given = request::object(&state.agent.config, body).await?;
    check_group(&given).map_err(Error::WrongSyntax)?;
    state.agent.update_group(&scope, &resource, &key, given).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn remove(
    State(state): State<ApiState>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<StatusCode, Error> {
    let scope = request::scope(&headers)?;
    let (resource, key) = address(&uri)?;
    let with_devices = request::Query::of(&uri).get("device") == Some("true");
    state.agent.delete_group(&scope, &resource, &key, with_devices).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Resource and key of the query; the error has the name that missing headers have.
fn address(uri: &Uri) -> Result<(String, ApiKey), Error> {
    let query = request::Query::of(uri);
    match (query.get("resource"), query.get("apikey")) {
        (Some(resource), Some(key)) => Ok((resource.to_owned(), ApiKey::new(key))),
        (resource, key) => {
            let missing = [("resource", resource), ("apikey", key)];
            let missing = missing.into_iter().filter(|(_, value)| value.is_none()).map(|(name, _)| name);
            Err(Error::MissingHeaders(missing.collect()))
        }
    }
}
