//! Parameters and names.

use axum::{
    body::Body,
    extract::{FromRequest, Request},
};
use catena_middleware::{
    admit::body,
    error::{Error, reasons},
    validate::Violation,
};
use catena_registry::config::DocumentName;
use http::header;

use super::Nacos;
use crate::{
    config_api::fault::{Fault, Result},
    extract::Query,
};

/// What clients mean who name no group.
const DEFAULT_GROUP: &str = "DEFAULT_GROUP";

/// Parameters, some behind the question mark and some in a form.
pub(super) struct Params(Query);

impl FromRequest<Nacos> for Params {
    type Rejection = Fault;

    async fn from_request(request: Request<Body>, _state: &Nacos) -> Result<Self> {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let kind = request.headers().get(header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim().to_owned();
        let encoded = request.headers().contains_key(header::CONTENT_ENCODING);
        let bytes = body::read(request.into_body()).await?;
        if bytes.is_empty() {
            return Ok(Self(Query::parse(&query)?));
        }
        if encoded || !essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(Error::of(&reasons::UNSUPPORTED_MEDIA_TYPE).into());
        }
        let form = std::str::from_utf8(&bytes);
        let form = form.map_err(|_not_a_form| Error::of(&reasons::INVALID_PARAM))?;
        Ok(Self(Query::parse(&format!("{query}&{form}"))?))
    }
}

impl Params {
    /// A parameter that may be missing; empty is as good as that.
    pub(super) fn optional(&mut self, name: &str) -> Option<String> {
        self.0.text(name).filter(|text| !text.is_empty())
    }

    /// A parameter that must be there.
    pub(super) fn required(&mut self, name: &'static str) -> Result<String> {
        self.0.text(name).ok_or_else(|| {
            let missing = Violation::new(name, "required", "is required");
            Error::invalid(vec![missing]).into()
        })
    }

    /// The document that is meant; `tenant` is how this version of the API calls namespaces.
    pub(super) fn document(&mut self, nacos: &Nacos, tenant: &str) -> Result<DocumentName> {
        let doc = self.required("dataId")?;
        let group = self.required("group")?;
        let tenant = self.optional(tenant).unwrap_or_default();
        nacos.document(&doc, &group, &tenant)
    }
}

impl Nacos {
    /// The document of Nacos' three names.
    pub(super) fn document(&self, doc: &str, group: &str, tenant: &str) -> Result<DocumentName> {
        let ns = match tenant {
            "" | "public" => &self.public,
            other => other,
        };
        let app = match group {
            DEFAULT_GROUP => "default_group",
            other => other,
        };
        Ok(DocumentName::new(ns, app, doc)?)
    }
}
