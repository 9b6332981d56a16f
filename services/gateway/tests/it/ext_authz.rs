use std::collections::HashMap;

use envoy_types::{
    ext_authz::v3::pb::{CheckRequest, CheckResponse, HeaderAppendAction, HttpResponse},
    pb::envoy::service::auth::v3::{
        AttributeContext,
        attribute_context::{HttpRequest, Request},
        authorization_client::AuthorizationClient,
    },
};

use crate::mesh::Mesh;

async fn check(mesh: &Mesh, headers: &[(&str, &str)]) -> CheckResponse {
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", mesh.authz())).unwrap();
    let mut client = AuthorizationClient::new(channel.connect().await.unwrap());
    let headers: HashMap<String, String> =
        headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let http = HttpRequest {
        method: "GET".into(),
        path: "/orion/v2/entities".into(),
        headers,
        ..HttpRequest::default()
    };
    let request = Some(Request { http: Some(http), ..Request::default() });
    let attributes = Some(AttributeContext { request, ..AttributeContext::default() });
    client.check(CheckRequest { attributes }).await.unwrap().into_inner()
}

#[tokio::test]
async fn an_envoy_is_told_to_let_the_own_tenant_pass() {
    let mesh = Mesh::start().await;
    let answer = check(&mesh, &[("authorization", &mesh.bearer("acme")), ("fiware-service", "acme")]).await;
    assert_eq!(answer.status.unwrap().code, 0);
    let Some(HttpResponse::OkResponse(allowed)) = answer.http_response else { panic!("not allowed") };
    let header = allowed.headers[0].header.as_ref().unwrap();
    assert_eq!((header.key.as_str(), header.value.as_str()), ("x-auth-tenant", "acme"));
    assert_eq!(allowed.headers[0].append_action(), HeaderAppendAction::OverwriteIfExistsOrAdd);
}

#[tokio::test]
async fn an_envoy_gets_status_body_and_headers_of_a_refusal() {
    let mesh = Mesh::start().await;
    let answer = check(&mesh, &[("fiware-service", "acme")]).await;
    assert_eq!(answer.status.unwrap().code, 7);
    let Some(HttpResponse::DeniedResponse(denied)) = answer.http_response else { panic!("not denied") };
    assert_eq!(denied.status.unwrap().code, 401);
    assert!(denied.body.contains("Unauthorized"));
    let named = |name: &str| denied.headers.iter().any(|option| option.header.as_ref().unwrap().key == name);
    assert!(named("www-authenticate") && named("content-type"));
    let answer = check(&mesh, &[("authorization", &mesh.bearer("acme")), ("fiware-service", "other")]).await;
    let Some(HttpResponse::DeniedResponse(denied)) = answer.http_response else { panic!("not denied") };
    assert_eq!(denied.status.unwrap().code, 403);
}

#[tokio::test]
async fn a_check_without_a_request_is_a_bad_argument() {
    let mesh = Mesh::start().await;
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", mesh.authz())).unwrap();
    let mut client = AuthorizationClient::new(channel.connect().await.unwrap());
    let status = client.check(CheckRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
}
