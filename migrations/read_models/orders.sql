-- Orders with their lines, payment and shipment, one row each. Runs with search_path at the schema of one generation.
create table orders (
    order_id     uuid        not null,
    -- The number under which the customer or an older system knows the order.
    reference    text,
    -- placed, confirmed, cancelling, dispatched, rejected, cancelled, completed, recorded
    status       text        not null,
    -- Why it was rejected or cancelled, or is to be.
    reason       text,
    placed_at    timestamptz not null,
    customer_id  uuid,
    country      text        not null,
    currency     text        not null,
    total_minor  bigint      not null,
    line_count   int         not null,
    units        bigint      not null,
    -- When the last event that this row or its timeline shows was decided.
    changed_at   timestamptz not null,
    -- The revision of the order's own stream.
    revision     bigint      not null,
    -- How many entries the order has in order_timeline.
    timeline_entries int     not null,

    -- The payment: all null while there is none, as with an order that was paid elsewhere.
    -- requested, authorised, declined, capturing, captured, voiding, voided
    payment_status    text,
    -- The currency of the amounts below: the order's, unless somebody asked for another one by hand.
    payment_currency  text,
    -- What was asked for.
    payment_minor     bigint,
    -- What was held, taken and given back so far. The money in payments_ledger is what moved when.
    authorised_minor  bigint,
    captured_minor    bigint,
    refunded_minor    bigint,
    -- The gateway's own name for the authorisation.
    payment_reference text,
    declined_reason   text,

    -- The shipment: all null while there is none.
    -- requested, dispatched, delivered, lost, cancelled
    shipment_status   text,
    carrier           text,
    tracking          text,
    dispatched_at     timestamptz,
    delivered_at      timestamptz,
    -- Why it got lost or stayed in the house.
    shipment_reason   text
);

create table order_lines (
    order_id         uuid   not null,
    -- From 1, in the customer's order.
    line_no          int    not null,
    sku              text   collate "C" not null,
    quantity         bigint not null,
    unit_price_minor bigint not null
);

-- What happened to an order, its payment, its shipment and its checkout, in the order of the log. An order that was
-- only recorded here was over before, and has no entries.
create table order_timeline (
    order_id uuid        not null,
    -- From 1.
    entry_no int         not null,
    at       timestamptz not null,
    -- order_placed, order_confirmed, order_cancellation_requested, order_cancellation_declined, order_dispatched,
    -- order_rejected, order_cancelled, order_completed;
    -- payment_requested, payment_authorised, payment_declined, payment_capture_requested, payment_captured,
    -- payment_capture_failed, payment_void_requested, payment_voided, payment_refund_requested, payment_refunded,
    -- payment_refund_failed;
    -- shipment_requested, shipment_dispatched, shipment_delivered, shipment_lost, shipment_cancelled;
    -- checkout_timed_out, checkout_parked, checkout_retried
    what     text        not null,
    -- The reason, the amount, the carrier with its number, or what was waited for; null where there is no more to say.
    detail   text
);
