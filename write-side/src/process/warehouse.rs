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
            Err(error) => match Setback::from(error) {
                // It has nobody to turn to: a parcel that it cannot send is sent by hand, or times out.
                Setback::Lasting(why) => {
                    tracing::error!(shipment.id = %id, why, "the made-up warehouse leaves a parcel as it is");
                    Ok(())
                }
                passing => Err(passing),
            },
        }
    }

    fn limit(&self, timeout: Never) -> Duration {
        match timeout {}
    }

    async fn time_out(&self, _: &ShipmentId, timeout: Never, _: Envelope) -> Result<(), Setback> {
        match timeout {}
    }

    /// Nothing that it sends has a lasting setback, so nothing is parked.
    async fn park(&self, _: &ShipmentId, _: Uuid, _: &str, _: Envelope) -> Result<(), Setback> {
        Ok(())
    }
}
