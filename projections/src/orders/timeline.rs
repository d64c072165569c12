//! What a person who looks after an order wants to know of its past, in the words of the table `order_timeline`.

use domain::{ordering, payments, shipping, supervision};

use crate::shop_event::ShopEvent;

/// What an event is called on the timeline of its order, and what else it says; `None` when it has no place there.
pub(super) fn entry(event: &ShopEvent) -> Option<(&'static str, Option<String>)> {
    match event {
        ShopEvent::Ordering(_, event) => of_order(event),
        ShopEvent::Payments(_, event) => Some(of_payment(event)),
        ShopEvent::Shipping(_, event) => Some(of_shipment(event)),
        ShopEvent::Supervision(_, event) => Some(of_checkout(event)),
        _ => None,
    }
}

fn of_order(event: &ordering::Event) -> Option<(&'static str, Option<String>)> {
    use ordering::Event::{
        CancellationDeclined, CancellationRequested, Cancelled, Completed, Confirmed, Dispatched, Placed, Recorded,
        Rejected,
    };
    Some(match event {
        Placed(_) => ("order_placed", None),
        // It was over before this shop heard of it.
        Recorded(_) => return None,
        Confirmed(_) => ("order_confirmed", None),
        CancellationRequested(requested) => ("order_cancellation_requested", Some(requested.reason.to_string())),
        CancellationDeclined(_) => ("order_cancellation_declined", None),
        Dispatched(_) => ("order_dispatched", None),
        Rejected(rejected) => ("order_rejected", Some(rejected.reason.to_string())),
        Cancelled(cancelled) => ("order_cancelled", Some(cancelled.reason.to_string())),
        Completed(_) => ("order_completed", None),
    })
}

fn of_payment(event: &payments::Event) -> (&'static str, Option<String>) {
    use payments::Event::{
        Authorised, CaptureFailed, CaptureRequested, Captured, Declined, RefundFailed, RefundRequested, Refunded,
        Requested, VoidRequested, Voided,
    };
    // What is charged, the card, is for nobody's eyes.
    match event {
        Requested(requested) => ("payment_requested", Some(requested.amount.to_string())),
        Authorised(authorised) => ("payment_authorised", Some(authorised.amount.to_string())),
        Declined(declined) => ("payment_declined", Some(declined.reason.to_string())),
        CaptureRequested(requested) => ("payment_capture_requested", Some(requested.amount.to_string())),
        Captured(captured) => ("payment_captured", Some(captured.amount.to_string())),
        CaptureFailed(failed) => ("payment_capture_failed", Some(failed.reason.to_string())),
        VoidRequested(requested) => ("payment_void_requested", Some(requested.reason.to_string())),
        Voided(_) => ("payment_voided", None),
        RefundRequested(requested) => {
            ("payment_refund_requested", Some(format!("{}: {}", requested.amount, requested.reason)))
        }
        Refunded(refunded) => ("payment_refunded", Some(refunded.amount.to_string())),
        RefundFailed(failed) => ("payment_refund_failed", Some(failed.reason.to_string())),
    }
}

fn of_shipment(event: &shipping::Event) -> (&'static str, Option<String>) {
    use shipping::Event::{Cancelled, Delivered, Dispatched, Lost, Requested};
    match event {
        Requested(_) => ("shipment_requested", None),
        Dispatched(dispatched) => {
            ("shipment_dispatched", Some(format!("{} {}", dispatched.carrier, dispatched.tracking)))
        }
        Delivered(_) => ("shipment_delivered", None),
        Lost(lost) => ("shipment_lost", Some(lost.reason.to_string())),
        Cancelled(cancelled) => ("shipment_cancelled", Some(cancelled.reason.to_string())),
    }
}

fn of_checkout(event: &supervision::Event) -> (&'static str, Option<String>) {
    use supervision::Event::{Parked, Retried, TimedOut};
    match event {
        TimedOut(timed_out) => ("checkout_timed_out", Some(timed_out.timeout.to_string())),
        Parked(parked) => ("checkout_parked", Some(parked.reason.to_string())),
        Retried(_) => ("checkout_retried", None),
    }
}
