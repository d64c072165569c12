-- The sandbox gateway's own ledger: what a bank would say has happened. The shop knows none of it but by asking the
-- gateway, so that the two can be compared.
create schema if not exists sandbox;

create table sandbox.payments (
    id                uuid        not null,
    -- authorised: the money is held. declined: it never was. captured: it was taken. voided: nothing is held, and never
    -- will be, even if the payment was not heard of before.
    status            text        not null check (status in ('authorised', 'declined', 'captured', 'voided')),
    -- What was asked for, and on which card. Null: the payment was voided before it was asked for.
    minor             bigint      check (minor > 0),
    currency          text        collate "C" check (length(currency) = 3),
    card              text,
    -- The bank's names for the hold and for what it took.
    reference         text,
    capture_reference text,
    declined_reason   text,
    -- How many captures were refused for the card's sake: some cards refuse the first.
    refused_captures  int         not null default 0,
    created_at        timestamptz not null default clock_timestamp(),
    constraint payments_pkey primary key (id),
    constraint payments_asked_for_check check (
        num_nulls(minor, currency, card) = 0 or (num_nonnulls(minor, currency, card) = 0 and status = 'voided'))
);

-- The refunds that were asked for, done or not.
create table sandbox.refunds (
    payment  uuid   not null references sandbox.payments (id),
    -- Which refund of the payment, from 1.
    number   bigint not null check (number > 0),
    minor    bigint not null check (minor > 0),
    currency text   collate "C" not null,
    status   text   not null check (status in ('done', 'refused')),
    -- Why it was refused.
    reason   text,
    constraint refunds_pkey primary key (payment, number)
);

-- Money that moved. This is the truth; what is held, taken and given back are sums over it.
create table sandbox.movements (
    -- Counts up, though two that happened at once may become visible in the other order.
    number   bigint      generated always as identity,
    payment  uuid        not null references sandbox.payments (id),
    -- hold: set aside on the card. release: set free again. capture: taken of what is held. refund: given back.
    kind     text        not null check (kind in ('hold', 'release', 'capture', 'refund')),
    minor    bigint      not null check (minor > 0),
    currency text        collate "C" not null,
    -- Which refund of the payment it is; null for the other kinds.
    refund   bigint,
    at       timestamptz not null default clock_timestamp(),
    constraint movements_pkey primary key (number),
    constraint movements_refund_check check ((kind = 'refund') = (refund is not null))
);

-- Whatever the program does, the ledger itself takes no money twice.
create unique index movements_once_key on sandbox.movements (payment, kind) where kind <> 'refund';
create unique index movements_refund_key on sandbox.movements (payment, refund) where kind = 'refund';

-- What happened cannot be made not to have happened.
create function sandbox.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'sandbox.% is append-only', tg_table_name;
end $$;
create trigger movements_append_only before update or delete or truncate on sandbox.movements
    for each statement execute function sandbox.refuse_change();

-- Every request by its key, with the answer it was given. Nothing expires: this gateway forgets no key.
create table sandbox.keys (
    key      text        collate "C" not null,
    -- What was asked for, in short. The same key with another request is a mistake.
    request  text        not null,
    -- How often it was asked, which decides when a card fails that fails the first time only.
    attempts int         not null default 1,
    -- The answer; null as long as there is none that will be the same again.
    status   int,
    answer   jsonb,
    first_at timestamptz not null default clock_timestamp(),
    constraint keys_pkey primary key (key),
    constraint keys_answer_check check ((status is null) = (answer is null))
);

comment on table sandbox.payments is 'The payments that the sandbox gateway knows.';
comment on table sandbox.refunds is 'The refunds that the sandbox gateway was asked for.';
comment on table sandbox.movements is 'The money that moved at the sandbox gateway. Append only.';
comment on table sandbox.keys is 'The requests to the sandbox gateway by idempotency key, and what it answered.';
