//! Carrying out what the checkout asks for.

use std::time::Duration;

use async_trait::async_trait;
use domain::decider::Decider;
use domain::ids::{Line, OrderId};
use domain::inventory::Stock;
use domain::ordering::Order;
use domain::payments::Payment;
use domain::processes::checkout::{Checkout, Command, Refusal, foreseen};
use domain::shipping::Shipment;
use domain::shop_event::ShopEvent;
use domain::supervision::{self, Park, Retry, Supervision, TimeOut, Timeout};
use serde::Serialize;
use uuid::Uuid;

use super::{Conduct, Seen, Setback};
use crate::envelope::{Envelope, fingerprint};
use crate::execute::{ExecuteError, Executor};

/// How long a checkout waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For the payment to be authorised or declined.
    pub payment: Duration,
    /// For the goods to leave the house.
    pub dispatch: Duration,
}

impl Default for Limits {
    /// A quarter of an hour for the payment, a week for the goods.
    fn default() -> Self {
        Self { payment: Duration::from_secs(15 * 60), dispatch: Duration::from_secs(7 * 24 * 60 * 60) }
    }
}

/// Conducts checkouts.
pub struct Checkouts {
    executor: Executor,
    limits: Limits,
}

impl Checkouts {
    /// Sends the commands of checkouts by this executor.
    pub fn new(executor: Executor, limits: Limits) -> Self {
        Self { executor, limits }
    }

    /// Executes one command. A refusal that the process foresaw is no setback.
    async fn execute<D: Decider<Command: Serialize>>(
        &self,
        id: &D::Id,
        command: D::Command,
        envelope: Envelope,
        is_foreseen: impl FnOnce(D::Refusal) -> bool + Send,
    ) -> Result<(), Setback> {
        let said = serde_json::to_value(&command).map_err(|error| Setback::Lasting(error.to_string()))?;
        let envelope = Envelope { fingerprint: fingerprint(D::CATEGORY, &said), ..envelope };
        match self.executor.execute::<D>(id, command, &envelope).await {
            Ok(_) => Ok(()),
            Err(ExecuteError::Refused(refusal)) => {
                let why = format!("{} {id}: {refusal}", D::CATEGORY);
                if is_foreseen(refusal) { Ok(()) } else { Err(Setback::Lasting(why)) }
            }
            Err(error) => Err(error.into()),
        }
    }
}

#[async_trait]
impl Conduct for Checkouts {
    type Process = Checkout;

    fn see(&self, seen: &Seen) -> ShopEvent {
        seen.event.clone()
    }

    async fn send(&self, _: &OrderId, command: &Command, envelope: Envelope) -> Result<(), Setback> {
        let knows = |refusal: Refusal| foreseen(command, &refusal);
        match command.clone() {
            Command::Order(id, order) => {
                self.execute::<Order>(&id, order, envelope, |refusal| knows(Refusal::Order(refusal))).await
            }
            Command::Stock(sku, stock) => {
                self.execute::<Stock>(&sku, stock, envelope, |refusal| knows(Refusal::Stock(refusal))).await
            }
            Command::Payment(id, payment) => {
                self.execute::<Payment>(&id, payment, envelope, |refusal| knows(Refusal::Payment(refusal))).await
            }
            Command::Shipment(id, shipment) => {
                self.execute::<Shipment>(&id, shipment, envelope, |refusal| knows(Refusal::Shipment(refusal))).await
            }
        }
    }

    fn limit(&self, timeout: Timeout) -> Duration {
        match timeout {
            Timeout::Payment => self.limits.payment,
            Timeout::Dispatch => self.limits.dispatch,
        }
    }

    async fn time_out(&self, order: &OrderId, timeout: Timeout, envelope: Envelope) -> Result<(), Setback> {
        self.execute::<Supervision>(order, TimeOut { timeout }.into(), envelope, |_| false).await
    }

    async fn park(&self, order: &OrderId, event: Uuid, why: &str, envelope: Envelope) -> Result<(), Setback> {
        let park = Park { event, reason: Line::clipped(why) };
        // Told again, it may be told in other words, and is the same all the same.
        let envelope = Envelope { fingerprint: "park".to_owned(), ..envelope };
        self.executor.execute::<Supervision>(order, park.into(), &envelope).await?;
        Ok(())
    }

    async fn go_on(&self, order: &OrderId, envelope: Envelope) -> Result<(), Setback> {
        let is_foreseen = |refusal| matches!(refusal, supervision::Refusal::NotParked);
        self.execute::<Supervision>(order, Retry {}.into(), envelope, is_foreseen).await
    }
}
