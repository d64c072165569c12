-- Runs with search_path at the schema of one generation.
create table orders (
    order_id     uuid        not null,
    reference    text,
    status       text        not null,
    reason       text,
    placed_at    timestamptz not null,
    customer_id  uuid,
    country      text        not null,
    currency     text        not null,
    total_minor  bigint      not null,
    line_count   int         not null,
    units        bigint      not null,
    changed_at   timestamptz not null,
    revision     bigint      not null,
    timeline_entries int     not null,

    -- The payment.
    payment_status    text,
    payment_currency  text,
    payment_minor     bigint,
    authorised_minor  bigint,
    captured_minor    bigint,
    refunded_minor    bigint,
    payment_reference text,
    declined_reason   text,

    -- The shipment.
    shipment_status   text,
    carrier           text,
    tracking          text,
    dispatched_at     timestamptz,
    delivered_at      timestamptz,
    shipment_reason   text
);
comment on table orders is
    'Orders with their payment and shipment: a row an order. The columns of the payment are null while there is none, '
    'as with an order that was paid elsewhere, and so are those of the shipment.';
comment on column orders.order_id is 'The order''s id.';
comment on column orders.reference is
    'The number under which the customer or an older system knows the order. Null: it has none.';
comment on column orders.status is
    'placed, confirmed, cancelling, dispatched, rejected, cancelled, completed, or recorded: it was over before it '
    'came here';
comment on column orders.reason is 'Why it was rejected or cancelled, or is to be. Null: neither.';
comment on column orders.placed_at is 'When the order says that it was placed, UTC.';
comment on column orders.customer_id is 'Whose order it is. Null: a guest''s.';
comment on column orders.country is 'The country to which it goes, as the order names it.';
comment on column orders.currency is 'The order''s currency, ISO 4217.';
comment on column orders.total_minor is 'What its lines come to, in minor units of the currency.';
comment on column orders.line_count is 'How many lines it has in order_lines.';
comment on column orders.units is 'How many units its lines have together.';
comment on column orders.changed_at is 'When the last event that this row or its timeline shows was decided, UTC.';
comment on column orders.revision is 'The revision of the order''s own stream.';
comment on column orders.timeline_entries is 'How many entries it has in order_timeline.';
comment on column orders.payment_status is
    'requested, authorised, declined, capturing, captured, voiding, voided. Null: there is no payment.';
comment on column orders.payment_currency is
    'The currency of the payment''s amounts, ISO 4217: the order''s, unless somebody asked for another one by hand. '
    'Null: there is no payment.';
comment on column orders.payment_minor is
    'What was asked for, in minor units of payment_currency. Null: there is no payment.';
comment on column orders.authorised_minor is
    'What the gateway agreed to hold, in minor units of payment_currency. Null: there is no payment.';
comment on column orders.captured_minor is
    'What was taken so far, in minor units of payment_currency. What moved when is in ledger_entries. Null: there is '
    'no payment.';
comment on column orders.refunded_minor is
    'What was given back so far, in minor units of payment_currency. Null: there is no payment.';
comment on column orders.payment_reference is 'The gateway''s own name for the authorisation. Null: there is none.';
comment on column orders.declined_reason is 'Why the payment was declined. Null: it was not.';
comment on column orders.shipment_status is
    'requested, dispatched, delivered, lost, cancelled. Null: there is no shipment.';
comment on column orders.carrier is 'Who carries the goods. Null: they have not left.';
comment on column orders.tracking is 'The carrier''s number for them. Null: they have not left.';
comment on column orders.dispatched_at is 'When the goods went to the carrier, UTC. Null: they have not left.';
comment on column orders.delivered_at is 'When the goods arrived, UTC. Null: they have not.';
comment on column orders.shipment_reason is 'Why the goods got lost or stayed in the house. Null: neither.';

create table order_lines (
    order_id         uuid   not null,
    line_no          int    not null,
    sku              text   collate "C" not null,
    quantity         bigint not null,
    unit_price_minor bigint not null
);
comment on table order_lines is 'The lines of the orders: a row a line.';
comment on column order_lines.order_id is 'The order''s id.';
comment on column order_lines.line_no is 'From 1, in the customer''s order.';
comment on column order_lines.sku is 'What was ordered. It need not be in products.';
comment on column order_lines.quantity is 'How many units.';
comment on column order_lines.unit_price_minor is 'What a unit costs, in minor units of the order''s currency.';

create table order_timeline (
    order_id uuid        not null,
    entry_no int         not null,
    at       timestamptz not null,
    what     text        not null,
    detail   text,
    actor    text,
    correlation_id uuid,
    causation_id   uuid
);
comment on table order_timeline is
    'What happened to an order, its payment, its shipment and its checkout, in the order of the log: a row an event. '
    'An order that was only recorded here was over before, and has no entries.';
comment on column order_timeline.order_id is 'The order''s id.';
comment on column order_timeline.entry_no is 'From 1, in the order of the log.';
comment on column order_timeline.at is 'When the event was decided, UTC.';
comment on column order_timeline.what is
    'order_placed, order_confirmed, order_cancellation_requested, order_cancellation_declined, order_dispatched, '
    'order_rejected, order_cancelled, order_completed; payment_requested, payment_authorised, payment_declined, '
    'payment_capture_requested, payment_captured, payment_capture_failed, payment_void_requested, payment_voided, '
    'payment_refund_requested, payment_refunded, payment_refund_failed; shipment_requested, shipment_dispatched, '
    'shipment_delivered, shipment_lost, shipment_cancelled; checkout_timed_out, checkout_parked, checkout_retried';
comment on column order_timeline.detail is
    'The reason, the amount, the carrier with its number, or what was waited for. Null: there is no more to say.';
comment on column order_timeline.actor is
    'Who did it: whom the token of the request names, or what the shop did by itself, such as process checkout. Null: '
    'nobody said.';
comment on column order_timeline.correlation_id is
    'What the event has in common with everything that the same request set in motion. Null: its metadata do not say.';
comment on column order_timeline.causation_id is
    'The id of the command or event that led to it. Null: its metadata do not say.';
