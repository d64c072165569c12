-- Checkouts: how far each placed order is on its way, and what holds it up. An order that was only recorded has none.
-- Runs with search_path at the schema of one generation.
create table checkouts (
    order_id        uuid        not null,
    -- running
    -- completed: the order is completed
    -- undone:    the order is rejected or cancelled, no money of the customer's is held or kept, nor awaited from the
    --            gateway, and no goods may still be sent; before that it is running, in the step undoing
    -- parked:    it cannot go on until somebody lets it try again, whatever happens meanwhile
    state           text        not null,
    -- What it does or waits for; of a parked one, where it stands.
    -- reserving:   goods are being reserved
    -- paying:      the gateway is asked to hold the money
    -- confirming:  the money is held; the order is about to be confirmed
    -- dispatching: it is confirmed, and the goods are to leave the house
    -- delivering:  they are on their way, and the money is being taken
    -- completing:  they arrived; the order is about to be completed
    -- undoing:     what was done for it is taken back
    -- done:        nothing is left to do
    step            text        not null,
    -- Why it is parked, else what failed last and is to be tried again, else why it is undone; null when all is well.
    reason          text,
    -- The parts of that: why it is undone, what failed last, why it is parked.
    undo_reason     text,
    problem         text,
    parked_reason   text,
    -- What it is derived from: the last word of the order, the payment and the shipment.
    order_status    text        not null,
    payment_status  text,
    -- What was taken and not given back, in minor units of the payment's currency.
    taken_minor     bigint      not null,
    shipment_status text,
    -- What it waited for in vain: payment, dispatch.
    timed_out       text,
    -- When the order was placed with this shop. How old the checkout is follows from it.
    started_at      timestamptz not null,
    changed_at      timestamptz not null,
    -- When it was completed or undone.
    ended_at        timestamptz
);
