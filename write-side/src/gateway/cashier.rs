//! The cashier: asks the gateway what a payment needs, and puts the answer on record with the payment.

use chrono::{DateTime, Utc};
use domain::ids::PaymentId;
use domain::payments::{
    Command, Payment, RecordAuthorised, RecordCaptureFailed, RecordCaptured, RecordDeclined, RecordRefundFailed,
    RecordRefunded, RecordVoided, Refusal,
};
use domain::processes::charging::Call;
use tracing::Instrument as _;
use uuid::Uuid;

use super::{Attempt, Authorisation, Capture, GatewayError, PaymentGateway, Refund, Voided};
use crate::envelope::Envelope;
use crate::execute::{ExecuteError, Executor};
use crate::load::LoadError;

/// The namespace of the ids of the commands that put the gateway's answers on record.
const ANSWERS: Uuid = Uuid::from_u128(0x3d0c_55f2_8a8e_5b5e_9a1f_6e1d_7f0b_42c9);

/// Who puts the gateway's answers on record.
const ACTOR: &str = "charging";

/// Which event asked for a call to the gateway, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The event's id. The call and the command that records its answer are named after it.
    pub event_id: Uuid,
    /// When the event was recorded, or earlier; never later.
    pub at: DateTime<Utc>,
    /// The event's correlation id.
    pub correlation_id: Uuid,
    /// The event's W3C trace context.
    pub traceparent: Option<String>,
}

/// Why a call was not carried out to its end. Whatever the reason, carrying it out again is safe.
#[derive(Debug, thiserror::Error)]
pub enum CashierError {
    /// The gateway gave no answer that can be put on record.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// The gateway's answer could not be put on record.
    #[error("the gateway's answer could not be put on record")]
    Record(#[source] ExecuteError<Refusal>),
}

impl CashierError {
    /// Whether carrying the call out again later, all else being equal, may succeed.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Gateway(error) => error.is_transient(),
            Self::Record(error) => matches!(
                error,
                ExecuteError::Log(_)
                    | ExecuteError::Load(LoadError::Read(_))
                    | ExecuteError::InFlight
                    | ExecuteError::Busy
                    | ExecuteError::Contended
            ),
        }
    }

    /// How long to wait at least before trying again, where that is known.
    pub fn retry_after(&self) -> Option<std::time::Duration> {
        match self {
            Self::Gateway(error) => error.retry_after(),
            Self::Record(_) => None,
        }
    }
}

/// Asks the gateway for one call and puts its answer on record with the payment.
///
/// It may be dropped at any point and called again, in this process or another: the gateway knows the call by the event
/// that asked for it, and the payment knows the answer by the same event, so both take effect once. An answer that
/// comes after the payment has moved on without it counts as carried out.
///
/// # Errors
/// [`CashierError`]; one that is not transient needs a human.
pub async fn carry_out(
    gateway: &dyn PaymentGateway,
    executor: &Executor,
    payment: PaymentId,
    call: &Call,
    asked: Asked,
) -> Result<(), CashierError> {
    let operation = operation(call);
    let span = tracing::info_span!("gateway call", payment.id = %payment, call = operation, asked.by = %asked.event_id);
    let carried = async {
        let attempt = Attempt { id: asked.event_id, asked_at: asked.at };
        match answer(gateway, payment, call, attempt).await? {
            Some(command) => record(executor, payment, operation, command, asked).await,
            // The void that made it so has an answer of its own.
            None => Ok(()),
        }
    };
    carried.instrument(span).await
}

/// What a call is called. It stands for the command that records the answer, whatever the answer's wording: a gateway
/// may word a repeated answer differently.
fn operation(call: &Call) -> &'static str {
    match call {
        Call::Authorise { .. } => "gateway-authorise",
        Call::Capture { .. } => "gateway-capture",
        Call::Void => "gateway-void",
        Call::Refund { .. } => "gateway-refund",
    }
}

/// Asks the gateway. Answers the command that puts what it said on record; `None` when there is nothing to record.
async fn answer(
    gateway: &dyn PaymentGateway,
    payment: PaymentId,
    call: &Call,
    attempt: Attempt,
) -> Result<Option<Command>, GatewayError> {
    Ok(Some(match call {
        Call::Authorise { amount, card } => match gateway.authorise(payment, *amount, card, attempt).await? {
            Authorisation::Authorised { reference } => RecordAuthorised { reference }.into(),
            Authorisation::Declined { reason } => RecordDeclined { reason }.into(),
            Authorisation::Voided => return Ok(None),
        },
        Call::Capture { amount } => match gateway.capture(payment, *amount, attempt).await? {
            Capture::Done { reference } => RecordCaptured { reference }.into(),
            Capture::Refused { reason } => RecordCaptureFailed { reason }.into(),
        },
        Call::Void => {
            let Voided = gateway.void(payment, attempt).await?;
            RecordVoided {}.into()
        }
        Call::Refund { number, amount } => match gateway.refund(payment, *number, *amount, attempt).await? {
            Refund::Done => RecordRefunded { number: *number }.into(),
            Refund::Refused { reason } => RecordRefundFailed { number: *number, reason }.into(),
        },
    }))
}

async fn record(
    executor: &Executor,
    payment: PaymentId,
    operation: &'static str,
    command: Command,
    asked: Asked,
) -> Result<(), CashierError> {
    let command_id = Uuid::new_v5(&ANSWERS, format!("{}/answer", asked.event_id).as_bytes());
    let envelope = Envelope {
        correlation_id: asked.correlation_id,
        causation_id: asked.event_id,
        actor: Some(ACTOR.to_owned()),
        traceparent: asked.traceparent,
        ..Envelope::new(command_id, operation.to_owned(), Utc::now())
    };
    match executor.execute::<Payment>(&payment, command, &envelope).await {
        Ok(_) => Ok(()),
        Err(ExecuteError::Refused(refusal)) if has_moved_on(&refusal) => {
            tracing::info!(%refusal, "the payment no longer awaits the gateway's answer");
            Ok(())
        }
        Err(error) => Err(CashierError::Record(error)),
    }
}

/// Whether a refusal says that the answer is not awaited any more, rather than that it makes no sense.
fn has_moved_on(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::NotAwaitingAuthorisation { .. }
            | Refusal::NotAwaitingCapture { .. }
            | Refusal::NotAwaitingVoid { .. }
            | Refusal::NotAwaitingRefund { .. }
    )
}
