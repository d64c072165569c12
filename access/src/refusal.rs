//! Why a caller is turned away.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::scope::Scope;

/// Why a caller is turned away. Each says its status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 401: there is no token.
    #[error("this needs a token: Authorization: Bearer …")]
    NoToken,
    /// 400: there are several.
    #[error("the header Authorization stands more than once")]
    SeveralTokens,
    /// 401: the token is not accepted.
    #[error("{0}")]
    Invalid(Fault),
    /// 403: the token does not allow it.
    #[error("this needs the scope {scope}, which the token does not have")]
    MissingScope {
        /// The scope that it lacks.
        scope: Scope,
    },
    /// 403: no customer may do it, whatever its scopes.
    #[error("this is for the shop itself, and not for a customer's token")]
    NotForCustomers,
    /// 403: a customer may do it for itself alone.
    #[error("a customer's token does this for that customer alone")]
    NotForOthers,
    /// 503: the keys of the issuer are not to be had.
    #[error("the keys that tokens are verified with cannot be fetched at the moment; send the same request again")]
    NoKeys,
}

/// What is wrong with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is longer than any that is read.
    #[error("the token is longer than {} bytes", crate::LONGEST_TOKEN)]
    TooLong,
    /// It is no signed token at all.
    #[error("the token is no signed JWT")]
    Malformed,
    /// Its header names something that must be understood, or another type.
    #[error("the token's header asks for what is not known here")]
    Header,
    /// Its header names another algorithm than its key has.
    #[error("the token's algorithm is not that of its key")]
    Algorithm,
    /// No key has its name.
    #[error("the token's key is not known")]
    UnknownKey,
    /// It was not signed by its key.
    #[error("the token's signature is wrong")]
    Signature,
    /// A claim is missing or has another type.
    #[error("the token's claim {0} is missing or of another type")]
    Claim(&'static str),
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Its time has not come.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// It was made by somebody else.
    #[error("the token is of another issuer")]
    Issuer,
    /// It was made for somebody else.
    #[error("the token is for another audience")]
    Audience,
}

impl Refusal {
    /// The status of the answer.
    pub fn status(self) -> StatusCode {
        match self {
            Self::NoToken | Self::Invalid(_) => StatusCode::UNAUTHORIZED,
            Self::SeveralTokens => StatusCode::BAD_REQUEST,
            Self::MissingScope { .. } | Self::NotForCustomers | Self::NotForOthers => StatusCode::FORBIDDEN,
            Self::NoKeys => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The last part of the problem's type, `/problems/{kind}`.
    pub fn kind(self) -> &'static str {
        match self {
            Self::NoToken => "no-token",
            Self::SeveralTokens => "several-tokens",
            Self::Invalid(_) => "invalid-token",
            Self::MissingScope { .. } => "missing-scope",
            Self::NotForCustomers => "not-for-customers",
            Self::NotForOthers => "not-for-others",
            Self::NoKeys => "no-keys",
        }
    }

    /// The problem's title: the same for all of its status.
    pub fn title(self) -> &'static str {
        match self.status() {
            StatusCode::UNAUTHORIZED => "It is not known who calls",
            StatusCode::BAD_REQUEST => "The request makes no sense",
            StatusCode::FORBIDDEN => "The caller may not do this",
            _ => "The keys cannot be fetched",
        }
    }

    /// The scope that is missing.
    pub fn missing_scope(self) -> Option<Scope> {
        match self {
            Self::MissingScope { scope } => Some(scope),
            _ => None,
        }
    }

    /// The header `WWW-Authenticate` of the answer, by RFC 6750.
    pub fn challenge(self) -> Option<HeaderValue> {
        let error = match self {
            Self::NoToken => String::new(),
            Self::SeveralTokens => ", error=\"invalid_request\"".to_owned(),
            Self::Invalid(fault) => format!(", error=\"invalid_token\", error_description=\"{fault}\""),
            Self::MissingScope { scope } => format!(", error=\"insufficient_scope\", scope=\"{scope}\""),
            Self::NotForCustomers | Self::NotForOthers => ", error=\"insufficient_scope\"".to_owned(),
            Self::NoKeys => return None,
        };
        HeaderValue::from_str(&format!("Bearer realm=\"storefold\"{error}")).ok()
    }
}

/// The refusal as a problem (RFC 9457).
impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut body = json!({
            "type": format!("/problems/{}", self.kind()), "title": self.title(), "status": self.status().as_u16(),
            "detail": self.to_string(),
        });
        if let Some(scope) = self.missing_scope() {
            body["scope"] = scope.name().into();
        }
        let mut response = (self.status(), body.to_string()).into_response();
        let fields = response.headers_mut();
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(challenge) = self.challenge() {
            fields.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if self == Self::NoKeys {
            fields.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}
