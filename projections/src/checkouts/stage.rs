//! Where a checkout is: derived from what its order, payment, shipment and supervision said last.

use domain::supervision::Timeout;

use super::CheckoutRow;

/// The row with its state, step, reason and end as they follow from the rest of it.
pub(super) fn derived(mut row: CheckoutRow) -> CheckoutRow {
    if !is_undone(&row) {
        row.undo_reason = None;
    }
    let step = step(&row);
    let over = step == "done";
    let state = match (&row.parked_reason, over) {
        (Some(_), _) => "parked",
        (None, false) => "running",
        (None, true) if row.order_status == "completed" => "completed",
        (None, true) => "undone",
    };
    let reason = row.parked_reason.as_ref().or(row.problem.as_ref()).or(row.undo_reason.as_ref()).cloned();
    let ended_at = over.then(|| row.ended_at.unwrap_or(row.changed_at));
    CheckoutRow { state: state.to_owned(), step: step.to_owned(), reason, ended_at, ..row }
}

/// Whether a checkout waits for this: its order has come so far, and what it waits for has not happened.
pub(super) fn waits_for(row: &CheckoutRow, timeout: Timeout) -> bool {
    match timeout {
        Timeout::Payment => {
            row.order_status == "placed" && matches!(row.payment_status.as_deref(), None | Some("requested"))
        }
        Timeout::Dispatch => {
            row.order_status == "confirmed" && matches!(row.shipment_status.as_deref(), None | Some("requested"))
        }
    }
}

fn step(row: &CheckoutRow) -> &'static str {
    let shipment = row.shipment_status.as_deref();
    match row.order_status.as_str() {
        "completed" => "done",
        "rejected" | "cancelled" if is_settled(row) => "done",
        _ if is_undone(row) => "undoing",
        "placed" => match row.payment_status.as_deref() {
            None => "reserving",
            Some("requested") => "paying",
            Some(_) => "confirming",
        },
        _ if shipment == Some("delivered") => "completing",
        status if status == "dispatched" || shipment == Some("dispatched") => "delivering",
        _ => "dispatching",
    }
}

/// Whether what was done for the order is being taken back, or was.
fn is_undone(row: &CheckoutRow) -> bool {
    match row.order_status.as_str() {
        "completed" => false,
        "cancelling" | "rejected" | "cancelled" => true,
        status => {
            let payment_failed = matches!(row.payment_status.as_deref(), Some("declined" | "voiding" | "voided"));
            // For goods that have left the house, money that is let go is waived.
            let has_left =
                status == "dispatched" || matches!(row.shipment_status.as_deref(), Some("dispatched" | "delivered"));
            row.timed_out.is_some()
                || (payment_failed && !has_left)
                || matches!(row.shipment_status.as_deref(), Some("lost" | "cancelled"))
        }
    }
}

/// Whether no money of the customer's is held or kept, nor can be held any more, and no goods may still be sent.
fn is_settled(row: &CheckoutRow) -> bool {
    let money = match row.payment_status.as_deref() {
        None | Some("declined" | "voided") => true,
        Some("captured") => row.taken_minor <= 0,
        Some(_) => false,
    };
    money && row.shipment_status.as_deref() != Some("requested")
}
