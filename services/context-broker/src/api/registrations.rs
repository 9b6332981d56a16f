//! `/v2/registrations` and `/v2/registrations/{id}`.

use http::Method;
use ngsi::{
    Error,
    registration::{Registration, RegistrationPatch, write_registration},
};

use super::{Answer, Api, Call};
use crate::registration::{RegistrationId, RegistrationView};

pub(super) async fn collection(api: &Api, call: &Call) -> Result<Answer, Error> {
    if call.method == Method::POST {
        let path = call.registration_path()?.unwrap_or_default();
        let registration = Registration::parse(&call.body)?;
        let id = api.core.create_registration(&call.tenant, &path, &registration).await?;
        return Ok(Answer::Created(format!("/v2/registrations/{id}")));
    }
    let path = call.registration_path()?;
    let (offset, limit) = (call.params.offset()?, call.params.limit()?);
    let (views, total) = api.core.registrations.list(&call.tenant, path.as_ref(), offset, limit).await?;
    let mut body = vec![b'['];
    for (at, view) in views.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        show(&mut body, view);
    }
    body.push(b']');
    Ok(Answer::List(body, call.params.option("count").then_some(total)))
}

pub(super) async fn one(api: &Api, call: &Call) -> Result<Answer, Error> {
    let id = RegistrationId::parse(&call.parts.first)?;
    let registrations = &api.core.registrations;
    match call.method {
        Method::PATCH => {
            registrations.update(&call.tenant, &id, RegistrationPatch::parse(&call.body)?).await?;
            Ok(Answer::DONE)
        }
        Method::DELETE => {
            registrations.delete(&call.tenant, &id).await?;
            Ok(Answer::DONE)
        }
        _ => {
            let mut body = Vec::with_capacity(512);
            show(&mut body, &registrations.get(&call.tenant, &id).await?);
            Ok(Answer::Json(body))
        }
    }
}

fn show(body: &mut Vec<u8>, view: &RegistrationView) {
    write_registration(body, view.id.as_str(), &view.registration, &view.counters);
}
