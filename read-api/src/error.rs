//! Errors as a client sees them: a message, and a code in `extensions.code` that programs can match on.

use std::sync::Arc;

use access::Refusal;
use async_graphql::{Error, ErrorExtensionValues, Pos, ServerError, Value};
use axum::http::StatusCode;

/// The codes, by Apollo's names where those exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// The document is not GraphQL.
    ParseFailed,
    /// The document or its variables do not fit the schema.
    ValidationFailed,
    /// The document has no such operation, or several and no name was given.
    OperationResolutionFailure,
    /// An argument has a value that its type allows and the query does not.
    BadUserInput,
    /// A cursor was altered, or belongs to another query.
    BadCursor,
    /// The query is nested too deep.
    MaxDepth,
    /// The query has too many aliases.
    MaxAliases,
    /// The query has too many fields at its root.
    MaxRootFields,
    /// The query has too many fields once its fragments are spread.
    MaxFields,
    /// The query has too many directives.
    MaxDirectives,
    /// The query would cost too much.
    TooExpensive,
    /// Only trusted documents are answered, and this is none.
    NotTrusted,
    /// The document was sent by its hash alone, and is not known.
    PersistedQueryNotFound,
    /// The query asks for the schema, which is not shown.
    IntrospectionDisabled,
    /// The transport sends one answer, and a subscription has more.
    NoSubscriptions,
    /// The client follows as much as it may at a time.
    TooManySubscriptions,
    /// The client has not read what it was sent.
    SlowConsumer,
    /// Nobody tells how things were.
    NoHistory,
    /// How something was cannot be told: what happened to it cannot be folded.
    NotFoldable,
    /// It is not known who calls.
    Unauthenticated,
    /// The caller may not do this.
    Forbidden,
    /// Nothing of the kind is parked.
    NotParked,
    /// Nobody mends the read models.
    NoRepairs,
    /// A read model has not come as far as the caller asked for.
    Stale,
    /// The query took too long.
    Timeout,
    /// Something broke that is not the caller's doing; the log has the reason.
    Internal,
}

impl Code {
    fn name(self) -> &'static str {
        match self {
            Self::ParseFailed => "GRAPHQL_PARSE_FAILED",
            Self::ValidationFailed => "GRAPHQL_VALIDATION_FAILED",
            Self::OperationResolutionFailure => "OPERATION_RESOLUTION_FAILURE",
            Self::BadUserInput => "BAD_USER_INPUT",
            Self::BadCursor => "BAD_CURSOR",
            Self::MaxDepth => "MAX_DEPTH_LIMIT",
            Self::MaxAliases => "MAX_ALIASES_LIMIT",
            Self::MaxRootFields => "MAX_ROOT_FIELDS_LIMIT",
            Self::MaxFields => "MAX_FIELDS_LIMIT",
            Self::MaxDirectives => "MAX_DIRECTIVES_LIMIT",
            Self::TooExpensive => "COST_ESTIMATED_TOO_EXPENSIVE",
            Self::NotTrusted => "PERSISTED_QUERY_NOT_IN_LIST",
            Self::PersistedQueryNotFound => "PERSISTED_QUERY_NOT_FOUND",
            Self::IntrospectionDisabled => "INTROSPECTION_DISABLED",
            Self::NoSubscriptions => "SUBSCRIPTIONS_NOT_SUPPORTED",
            Self::TooManySubscriptions => "TOO_MANY_SUBSCRIPTIONS",
            Self::SlowConsumer => "SLOW_CONSUMER",
            Self::NoHistory => "HISTORY_NOT_SUPPORTED",
            Self::NotFoldable => "HISTORY_NOT_FOLDABLE",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::Forbidden => "FORBIDDEN",
            Self::NotParked => "NOT_PARKED",
            Self::NoRepairs => "REPAIRS_NOT_SUPPORTED",
            Self::Stale => "STALE",
            Self::Timeout => "TIMEOUT",
            Self::Internal => "INTERNAL",
        }
    }
}

/// Why a field could not be answered. It has no `Display` on purpose: async-graphql would turn one into an error that
/// shows the client whatever it says, and that is how SQL leaks.
#[derive(Debug, Clone)]
pub(crate) struct Failure(Error);

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self::with(code, message, [])
    }

    /// An error with more than its code in `extensions`.
    pub(crate) fn with<const N: usize>(code: Code, message: impl Into<String>, more: [(&str, Value); N]) -> Self {
        let mut error = Error::new(message);
        let extensions = error.extensions.get_or_insert_with(ErrorExtensionValues::default);
        extensions.set("code", code.name());
        for (name, value) in more {
            extensions.set(name, value);
        }
        Self(error)
    }

    /// The same, with one more thing in `extensions`.
    pub(crate) fn told_of(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.extensions.get_or_insert_with(ErrorExtensionValues::default).set(name, value);
        self
    }

    /// The same as an error of the whole request, for which nothing was executed.
    pub(crate) fn of_request(self, position: Option<Pos>) -> ServerError {
        let mut error = ServerError::new(self.0.message, position);
        error.extensions = self.0.extensions;
        error
    }

    /// The same, because of the database that was asked rather than of what it was asked.
    fn because(mut self, trouble: Trouble) -> Self {
        self.0.source = Some(Arc::new(trouble));
        self
    }

    pub(crate) fn bad_input(message: impl Into<String>) -> Self {
        Self::new(Code::BadUserInput, message)
    }

    /// Logs the whole chain, here and nowhere else, and shows none of it.
    pub(crate) fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error.chain = chain(error), "a query failed");
        Self::new(Code::Internal, "The server could not answer this. The reason is in its log.")
    }

    /// The same, of what somebody has to look at in the log of events rather than in the server.
    pub(crate) fn not_foldable(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error.chain = chain(error), "how something was cannot be told");
        Self::new(Code::NotFoldable, "What happened to it cannot be folded. The reason is in the server's log.")
    }
}

/// An error with all that led to it.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Postgres' code for a statement that ran into `statement_timeout`.
const QUERY_CANCELED: &str = "57014";
/// Postgres' code for a text with a character that it cannot keep, of which there is one: U+0000.
const CHARACTER_NOT_IN_REPERTOIRE: &str = "22021";

/// Postgres' code for a statement that a standby gave up, for what it read was removed on the primary.
const CONFLICT_WITH_RECOVERY: &str = "40001";

/// Why a database did not answer, though another may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It cannot be reached.
    Unreachable,
    /// It is a replica that gave the statement up for what came from its primary. Asked again, it mostly answers.
    Conflict,
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error::{Io, PoolClosed, PoolTimedOut, Protocol, Tls, WorkerCrashed};
        let code = error.as_database_error().and_then(|error| error.code());
        match code.as_deref() {
            Some(CONFLICT_WITH_RECOVERY) => return Self::internal(&error).because(Trouble::Conflict),
            // It is being shut down, has been, or starts.
            Some(code) if code.starts_with("57P") || code.starts_with("08") => {
                return Self::internal(&error).because(Trouble::Unreachable);
            }
            None if matches!(error, Io(_) | Tls(_) | Protocol(_) | PoolTimedOut | PoolClosed | WorkerCrashed) => {
                return Self::internal(&error).because(Trouble::Unreachable);
            }
            _ => {}
        }
        match error.as_database_error().and_then(|error| error.code()) {
            Some(code) if code == QUERY_CANCELED => Self::new(Code::Timeout, TIMED_OUT),
            Some(code) if code == CHARACTER_NOT_IN_REPERTOIRE => Self::bad_input("No text here contains U+0000."),
            _ => Self::internal(&error),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let code = if refusal.status() == StatusCode::FORBIDDEN { Code::Forbidden } else { Code::Unauthenticated };
        match refusal.missing_scope() {
            Some(scope) => Self::with(code, refusal.to_string(), [("scope", Value::from(scope.name()))]),
            None => Self::new(code, refusal.to_string()),
        }
    }
}

/// What a client reads when its query took too long.
pub(crate) const TIMED_OUT: &str = "The query took too long and was given up. Ask for less at once.";

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        failure.0
    }
}

/// An error of the whole request, for which nothing was executed.
pub(crate) fn request_error(code: Code, message: impl Into<String>) -> ServerError {
    Failure::new(code, message).of_request(None)
}

/// Gives `error` a code if it has none yet.
pub(crate) fn with_code(mut error: ServerError, code: Code) -> ServerError {
    let extensions = error.extensions.get_or_insert_with(ErrorExtensionValues::default);
    if extensions.get("code").is_none() {
        extensions.set("code", code.name());
    }
    error
}

pub(crate) fn has_code(error: &ServerError, code: Code) -> bool {
    error.extensions.as_ref().and_then(|extensions| extensions.get("code")) == Some(&Value::from(code.name()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_for_frontends_tells_every_code() {
        let (source, page) = (include_str!("error.rs"), include_str!("../../docs/graphql.md"));
        let codes: Vec<&str> = source
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Self::")?.split_once(" => \"")?.1.strip_suffix("\","))
            .collect();
        assert!(codes.len() > 15, "the codes were not found: {codes:?}");
        for code in codes {
            assert!(page.contains(&format!("`{code}`")), "docs/graphql.md does not tell {code}");
        }
    }
}
