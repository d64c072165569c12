-- Runs with search_path at the schema of one generation.
create table ledger_entries (
    payment_id   uuid        not null,
    entry_no     int         not null,
    movement_no  int         not null,
    movement     text        not null,
    account      text        not null,
    currency     text        not null,
    amount_minor bigint      not null,
    at           timestamptz not null
);
comment on table ledger_entries is
    'The money of the shop in double entry: two rows a movement, what one account gains (the debit, positive) and '
    'what another loses (the credit, negative). The entries of a movement come to 0, and so do the balances of all '
    'accounts of a currency.';
comment on column ledger_entries.payment_id is 'The payment that it moves for: the order''s id.';
comment on column ledger_entries.entry_no is 'From 1 within the payment.';
comment on column ledger_entries.movement_no is 'Which movement of the payment, from 1. Its two entries share it.';
comment on column ledger_entries.movement is
    'hold (holds +, holds_contra -): money is held on a card; release (holds_contra +, holds -): all that was held is '
    'let go, also when it, or part of it, is taken; capture (cash +, sales -): money is taken; refund (refunds +, '
    'cash -): money is given back';
comment on column ledger_entries.account is
    'holds: held on cards; holds_contra: its counterpart; cash: taken and not given back; sales: what was sold for '
    'it, negative as revenue is in double entry; refunds: what was given back of that';
comment on column ledger_entries.currency is 'The currency of the amount, ISO 4217.';
comment on column ledger_entries.amount_minor is
    'By how much the account''s balance changes, in minor units of the currency: a debit is positive, a credit '
    'negative.';
comment on column ledger_entries.at is 'When the event that moved it was decided, UTC.';

create table payments (
    payment_id           uuid        not null,
    status               text        not null,
    currency             text        not null,
    amount_minor         bigint      not null,
    authorised_minor     bigint      not null,
    held_minor           bigint      not null,
    captured_minor       bigint      not null,
    refunded_minor       bigint      not null,
    pending_refund_minor bigint      not null,
    reference            text,
    capture_reference    text,
    declined_reason      text,
    void_reason          text,
    capture_failure      text,
    requested_at         timestamptz not null,
    authorised_at        timestamptz,
    captured_at          timestamptz,
    ended_at             timestamptz,
    changed_at           timestamptz not null,
    revision             bigint      not null,
    movements            int         not null
);
comment on table payments is
    'Payments: a row a payment that this shop asked the gateway for. An order that was paid elsewhere has none.';
comment on column payments.payment_id is 'The payment''s id, which is the order''s.';
comment on column payments.status is 'requested, authorised, declined, capturing, captured, voiding, voided';
comment on column payments.currency is 'The currency of the amounts, ISO 4217.';
comment on column payments.amount_minor is 'What was asked for, in minor units of the currency.';
comment on column payments.authorised_minor is 'What the gateway agreed to hold, in minor units of the currency.';
comment on column payments.held_minor is 'What is held now, in minor units of the currency.';
comment on column payments.captured_minor is 'What was taken so far, in minor units of the currency.';
comment on column payments.refunded_minor is 'What was given back so far, in minor units of the currency.';
comment on column payments.pending_refund_minor is
    'What is to be given back and the gateway has not answered for yet, in minor units of the currency.';
comment on column payments.reference is 'The gateway''s own name for the authorisation. Null: there is none.';
comment on column payments.capture_reference is 'The gateway''s own name for the capture. Null: there is none.';
comment on column payments.declined_reason is 'Why it was declined. Null: it was not.';
comment on column payments.void_reason is 'Why it was given up. Null: it was not.';
comment on column payments.capture_failure is
    'Why it could not be captured, until that is tried again. Null: no capture failed.';
comment on column payments.requested_at is 'When it was asked for, UTC.';
comment on column payments.authorised_at is 'When the gateway agreed, UTC. Null: it has not.';
comment on column payments.captured_at is 'When the money was taken, UTC. Null: it was not.';
comment on column payments.ended_at is
    'When it was declined, voided or given back in full, after which no money of it can move, UTC. Null: it may.';
comment on column payments.changed_at is 'When the last event that this row shows was decided, UTC.';
comment on column payments.revision is 'The revision of the payment''s stream.';
comment on column payments.movements is 'How many movements it has in ledger_entries.';

create table payment_refunds (
    payment_id   uuid        not null,
    refund_no    bigint      not null,
    status       text        not null,
    amount_minor bigint      not null,
    reason       text,
    failure      text,
    requested_at timestamptz not null,
    answered_at  timestamptz
);
comment on table payment_refunds is 'What was or is to be given back: a row a refund that was asked for.';
comment on column payment_refunds.payment_id is 'The payment''s id, which is the order''s.';
comment on column payment_refunds.refund_no is 'From 1 within the payment.';
comment on column payment_refunds.status is 'requested, refunded, failed';
comment on column payment_refunds.amount_minor is 'How much, in minor units of the payment''s currency.';
comment on column payment_refunds.reason is 'Why it is given back. Null: nobody said.';
comment on column payment_refunds.failure is 'Why the gateway did not. Null: it did, or has not answered yet.';
comment on column payment_refunds.requested_at is 'When it was asked for, UTC.';
comment on column payment_refunds.answered_at is 'When the gateway answered, UTC. Null: it has not.';
