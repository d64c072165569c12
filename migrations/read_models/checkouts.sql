-- Runs with search_path at the schema of one generation.
create table checkouts (
    order_id        uuid        not null,
    state           text        not null,
    step            text        not null,
    reason          text,
    undo_reason     text,
    problem         text,
    parked_reason   text,
    order_status    text        not null,
    payment_status  text,
    taken_minor     bigint      not null,
    shipment_status text,
    timed_out       text,
    started_at      timestamptz not null,
    changed_at      timestamptz not null,
    ended_at        timestamptz
);
comment on table checkouts is
    'How far each order is on its way, and what holds it up: a row an order that was placed. One that was only '
    'recorded has none.';
comment on column checkouts.order_id is 'The order''s id.';
comment on column checkouts.state is
    'running; completed: the order is completed; undone: the order is rejected or cancelled, no money of the '
    'customer''s is held or kept, nor awaited from the gateway, and no goods may still be sent (before that it is '
    'running, in the step undoing); parked: it cannot go on until somebody lets it try again, whatever happens '
    'meanwhile';
comment on column checkouts.step is
    'What it does or waits for, or where a parked one stands. reserving: goods are being reserved; paying: the '
    'gateway is asked to hold the money; confirming: the money is held, and the order is about to be confirmed; '
    'dispatching: it is confirmed, and the goods are to leave the house; delivering: they are on their way, and the '
    'money is being taken; completing: they arrived, and the order is about to be completed; undoing: what was done '
    'for it is taken back; done: nothing is left to do';
comment on column checkouts.reason is
    'Why it is parked, else what failed last and is to be tried again, else why it is undone. Null: all is well.';
comment on column checkouts.undo_reason is 'Why it is undone. Null: it is not.';
comment on column checkouts.problem is 'What failed last and is to be tried again. Null: nothing.';
comment on column checkouts.parked_reason is 'Why it is parked. Null: it is not.';
comment on column checkouts.order_status is 'The last word of the order, as in orders.status.';
comment on column checkouts.payment_status is
    'The last word of the payment, as in orders.payment_status. Null: there is none yet.';
comment on column checkouts.taken_minor is
    'What was taken and not given back, in minor units of the payment''s currency.';
comment on column checkouts.shipment_status is
    'The last word of the shipment, as in orders.shipment_status. Null: there is none yet.';
comment on column checkouts.timed_out is 'What it waited for in vain: payment, dispatch. Null: nothing.';
comment on column checkouts.started_at is
    'When the order was placed with this shop, UTC. How old the checkout is follows from it.';
comment on column checkouts.changed_at is 'When the last event that this row shows was decided, UTC.';
comment on column checkouts.ended_at is 'When it was completed or undone, UTC. Null: it is neither.';
