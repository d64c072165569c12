//! A command tried out: what it would be answered now, and the events behind it.

use std::sync::Arc;

use access::Caller;
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::routes::{aggregate_of, received};
use super::{Api, Problem};
use crate::endpoint::{Explained, Failure};
use crate::execute::{Answer, ExecuteError};
use crate::explain::{ForeseenEvent, Prospect};

/// What would become of a command.
#[derive(Serialize, JsonSchema)]
pub(super) struct Explanation {
    /// The aggregate's stream.
    stream: String,
    /// The revision that the aggregate has now; `null` when nothing has happened to it.
    revision: Option<u64>,
    /// The status that the command would be answered with.
    status: u16,
    /// What would become of it, in a word.
    outcome: Outcome,
    /// The events that would happen, with what they would say.
    events: Vec<ForeseenEvent>,
    /// The answer that was given when the command was done, and would be given again.
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<Answer>,
    /// The problem that would be the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<super::openapi::ProblemRef>")]
    problem: Option<Value>,
}

/// What would become of a command, in a word.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    /// Events would happen.
    WouldHappen,
    /// There is nothing to do.
    NothingToDo,
    /// It was done before.
    AlreadyDone,
    /// It would be refused.
    Refused,
}

/// `POST /v1/{category}/{id}/{command}/explain`
pub(super) async fn explain(
    State(api): State<Arc<Api>>,
    place: Result<Path<(String, String, String)>, PathRejection>,
    caller: Caller,
    request: Request,
) -> Result<Json<Explanation>, Problem> {
    let Path(place) = place?;
    let (sent, envelope, stream) = received(&api, &caller, place, request).await?;
    let aggregate = aggregate_of(&api, &sent.category)?;
    let explained = aggregate.explain(&api.executor, &sent.id, &sent.command, &sent.body, &envelope).await?;
    let Explained { revision, outcome } = explained;
    let explanation = Explanation {
        stream: stream.to_string(),
        revision,
        status: StatusCode::OK.as_u16(),
        outcome: Outcome::NothingToDo,
        events: Vec::new(),
        answer: None,
        problem: None,
    };
    Ok(Json(match outcome {
        Ok(Prospect::Events(events)) if events.is_empty() => explanation,
        Ok(Prospect::Events(events)) => {
            let status = if revision.is_none() { StatusCode::CREATED } else { StatusCode::OK }.as_u16();
            Explanation { status, outcome: Outcome::WouldHappen, events, ..explanation }
        }
        Ok(Prospect::Done(answer)) => {
            let status = answer.status().as_u16();
            Explanation { status, outcome: Outcome::AlreadyDone, answer: Some(answer), ..explanation }
        }
        Err(failure) if is_verdict(&failure) => {
            let problem = Problem::from(failure);
            let (status, problem) = (problem.status().as_u16(), Some(problem.body()));
            Explanation { status, outcome: Outcome::Refused, problem, ..explanation }
        }
        Err(failure) => return Err(failure.into()),
    }))
}

/// Whether a failure says something of the command, and not that it could not be tried out.
fn is_verdict(failure: &Failure) -> bool {
    let Failure::Execute(error) = failure else { return matches!(failure, Failure::Refused { .. }) };
    matches!(error, ExecuteError::PreconditionFailed { .. } | ExecuteError::KeyReused | ExecuteError::TooLarge { .. })
}
