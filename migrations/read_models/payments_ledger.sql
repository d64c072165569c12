-- The money of the shop in double entry, and the payments that it moves for. Runs with search_path at the schema of one
-- generation.

-- Two rows a movement: what one account gains (the debit, positive) and another loses (the credit, negative). So
--     select sum(amount_minor) from read.ledger_entries group by payment_id, movement_no
-- is 0 for every movement, and
--     select currency, account, sum(amount_minor) from read.ledger_entries group by 1, 2
-- are the balances, which are 0 together in each currency.
create table ledger_entries (
    payment_id   uuid        not null,
    -- From 1 within the payment.
    entry_no     int         not null,
    -- Which movement of the payment, from 1. Its two entries share it.
    movement_no  int         not null,
    -- hold:    holds + holds_contra -    money is held on a card
    -- release: holds_contra + holds -    all that was held is let go, also when it, or part of it, is taken
    -- capture: cash + sales -            money is taken
    -- refund:  refunds + cash -          money is given back
    movement     text        not null,
    -- holds: held on cards; holds_contra: its counterpart; cash: taken and not given back; sales: what was sold for it,
    -- negative as revenue is in double entry; refunds: what was given back of that.
    account      text        not null,
    currency     text        not null,
    amount_minor bigint      not null,
    at           timestamptz not null
);

create table payments (
    -- The order's id.
    payment_id           uuid        not null,
    -- requested, authorised, declined, capturing, captured, voiding, voided
    status               text        not null,
    currency             text        not null,
    -- What was asked for.
    amount_minor         bigint      not null,
    -- What the gateway agreed to, and what of it is held now.
    authorised_minor     bigint      not null,
    held_minor           bigint      not null,
    captured_minor       bigint      not null,
    refunded_minor       bigint      not null,
    -- What is to be given back and the gateway has not answered for yet.
    pending_refund_minor bigint      not null,
    -- The gateway's own names for the authorisation and the capture.
    reference            text,
    capture_reference    text,
    declined_reason      text,
    -- Why it was given up.
    void_reason          text,
    -- Why it could not be captured, until that is tried again.
    capture_failure      text,
    requested_at         timestamptz not null,
    authorised_at        timestamptz,
    captured_at          timestamptz,
    -- When it was declined, voided or given back in full, after which no money of it can move.
    ended_at             timestamptz,
    changed_at           timestamptz not null,
    -- The revision of the payment's stream.
    revision             bigint      not null,
    -- How many movements it has in ledger_entries.
    movements            int         not null
);

create table payment_refunds (
    payment_id   uuid        not null,
    -- From 1 within the payment.
    refund_no    bigint      not null,
    -- requested, refunded, failed
    status       text        not null,
    amount_minor bigint      not null,
    -- Why it is given back.
    reason       text,
    -- Why the gateway did not.
    failure      text,
    requested_at timestamptz not null,
    answered_at  timestamptz
);
