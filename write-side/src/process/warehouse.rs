//! Carrying out what the made-up warehouse does.

use std::time::Duration;

use async_trait::async_trait;
use domain::ids::ShipmentId;
use domain::process::Never;
use domain::processes::warehouse::Warehouse;
use domain::shipping::{self, Refusal, Shipment};
use domain::shop_event::ShopEvent;
use uuid::Uuid;

use super::{Conduct, Seen, Setback};
use crate::envelope::Envelope;
use crate::execute::{ExecuteError, Executor};

/// Conducts the made-up warehouse of the sandbox.
pub struct MadeUpWarehouse(pub Executor);

#[async_trait]
impl Conduct for MadeUpWarehouse {
    type Process = Warehouse;

    fn see(&self, seen: &Seen) -> ShopEvent {
        seen.event.clone()
    }

    async fn send(&self, id: &ShipmentId, command: &shipping::Command, envelope: Envelope) -> Result<(), Setback> {
        match self.0.execute::<Shipment>(id, command.clone(), &envelope).await {
            Ok(_) => Ok(()),
            // Somebody else was faster: it was cancelled, lost, or handled by hand.
            Err(ExecuteError::Refused(Refusal::CannotDispatch { .. } | Refusal::CannotDeliver { .. })) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn limit(&self, timeout: Never) -> Duration {
        match timeout {}
    }

    async fn time_out(&self, _: &ShipmentId, timeout: Never, _: Envelope) -> Result<(), Setback> {
        match timeout {}
    }

    /// There is nobody to tell but the log file.
    async fn park(&self, _: &ShipmentId, _: Uuid, _: &str, _: Envelope) -> Result<(), Setback> {
        Ok(())
    }
}
