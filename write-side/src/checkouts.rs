//! Checkouts as a client sees them: all that can be asked of one is that it tries again.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::supervision::{Command, Retry, Supervision};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::endpoint::{Endpoint, PrepareError};
use crate::execute::Executor;

/// How the supervision of checkouts looks from outside.
pub struct Checkouts;

/// A command about a checkout, as a client sends it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CheckoutCommand {
    /// Let a checkout that could not go on try again.
    Retry(Retry),
}

#[async_trait]
impl Endpoint for Checkouts {
    type Decider = Supervision;
    type Wire = CheckoutCommand;

    async fn prepare(wire: CheckoutCommand, _: &Executor, _: DateTime<Utc>) -> Result<Command, PrepareError> {
        let CheckoutCommand::Retry(retry) = wire;
        Ok(Command::Retry(retry))
    }
}
