//! Envoy's `envoy.service.auth.v3.Authorization/Check`: the same policy for an Envoy that stands in front.

use envoy_types::{
    ext_authz::v3::pb::{
        Authorization, CheckRequest, CheckResponse, DeniedHttpResponse, HeaderAppendAction, HeaderValue,
        HeaderValueOption, HttpResponse, HttpStatus, OkHttpResponse,
    },
    pb::google::rpc,
};
use http::HeaderName;
use tonic::{Request, Response, Status};

use crate::{
    guard::Guard,
    metrics::Asker,
    policy::{CheckInput, Decision},
};

pub(crate) struct ExtAuthz {
    pub(crate) guard: Guard,
}

#[async_trait::async_trait]
impl Authorization for ExtAuthz {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let attributes = request.into_inner().attributes;
        let http = attributes.and_then(|attributes| attributes.request).and_then(|request| request.http);
        let http = http.ok_or_else(|| Status::invalid_argument("attributes.request.http is missing"))?;
        let input = CheckInput {
            method: &http.method,
            path: &http.path,
            host: &http.host,
            protocol: &http.protocol,
            headers: &http.headers,
        };
        let authorization = http.headers.get("authorization").map(String::as_str);
        let decision = self.guard.ask(Asker::ExtAuthz, authorization, input).await;
        Ok(Response::new(response(decision)))
    }
}

fn response(decision: Decision) -> CheckResponse {
    let headers = decision.headers.iter().map(|(name, value)| header(name, value)).collect();
    let (code, answer) = if decision.allowed {
        (rpc::Code::Ok, HttpResponse::OkResponse(OkHttpResponse { headers, ..OkHttpResponse::default() }))
    } else {
        let denied = DeniedHttpResponse {
            status: Some(HttpStatus { code: i32::from(decision.status.as_u16()) }),
            headers,
            body: String::from_utf8_lossy(&decision.body).into_owned(),
        };
        (rpc::Code::PermissionDenied, HttpResponse::DeniedResponse(denied))
    };
    CheckResponse {
        status: Some(rpc::Status { code: code.into(), ..rpc::Status::default() }),
        http_response: Some(answer),
        ..CheckResponse::default()
    }
}

/// A header that replaces what the client sent under its name.
fn header(name: &HeaderName, value: &http::HeaderValue) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue {
            key: name.to_string(),
            value: String::from_utf8_lossy(value.as_bytes()).into_owned(),
            ..HeaderValue::default()
        }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..HeaderValueOption::default()
    }
}
