//! Takes requests apart. Whatever is wrong with one is told at once: all its fields, not the first.
//!
//! - [`Json`]: a body, read strictly (see [`json`]), and a [`Form`] over it that tries fields against their rules;
//! - [`Query`]: parameters behind the question mark, each at most once;
//! - [`Param`]: the parameter of a path.

mod form;
pub mod json;
mod query;

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Path, Request},
};
use catena_middleware::{
    admit::body,
    error::{Error, Result, reasons},
};
use http::request::Parts;

pub use form::Form;
pub use query::Query;

use self::json::Value;

/// A body of JSON.
#[derive(Clone, Debug)]
pub struct Json(pub Value);

impl<S: Send + Sync> FromRequest<S> for Json {
    type Rejection = Error;

    async fn from_request(request: Request<Body>, _state: &S) -> Result<Self> {
        let bytes = body::read(request.into_body()).await?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(Error::of(&reasons::BODY_REQUIRED));
        }
        json::parse(&bytes).map(Self)
    }
}

impl Value {
    /// The fields of an object.
    pub fn form(self) -> Result<Form> {
        Form::new(self)
    }
}

/// The one parameter of a path, decoded.
#[derive(Clone, Debug)]
pub struct Param(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Param {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(text)| Self(text))
            .map_err(|rejection| Error::of(&reasons::INVALID_PARAM).with_source(rejection))
    }
}
