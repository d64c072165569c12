-- What the process managers remember between events. The positions and states follow from the log. What does not: since when an
-- instance waits, who leads, with whom the shop deals outside, and what somebody has to look at.
create schema if not exists process;

-- One row a process: how far it has followed the log.
create table process.managers (
    name             text        not null,
    -- The version of the code that folded the states of its instances.
    version          int         not null,
    -- The checkpoint: everything up to here has been reacted to. Null: nothing yet.
    commit_position  bigint,
    prepare_position bigint,
    moved_at         timestamptz not null default now(),
    -- With whom outside the shop it deals: the payment gateway. Null: with nobody, or with nobody yet.
    deals_with       text,
    -- Why the process stands still, if it does.
    error            text,
    constraint managers_pkey primary key (name)
);

-- Which running program leads a process: until then, by this server's clock, no other does. It renews in time, or another
-- takes over. A table of its own, so that renewing never waits for a page that is being written.
create table process.leases (
    process     text        not null,
    leader      uuid        not null,
    leads_until timestamptz not null,
    constraint leases_pkey primary key (process)
);

-- One row an instance that has something left to do.
create table process.instances (
    process     text        not null,
    instance    text        not null,
    state       jsonb       not null,
    -- What it waits for, and since when by this server's clock. The time limit is configured, so it is not in here.
    waits_for   text,
    waits_since timestamptz,
    -- The id of the event on which it cannot go on, why, and the id of the command that puts that on record. Null while it
    -- can.
    parked_on   uuid,
    parked_why  text,
    parked_as   uuid,
    parked_at   timestamptz,
    -- What somebody has to look at though it goes on trying: what the gateway says to a call.
    trouble     text,
    trouble_at  timestamptz,
    moved_at    timestamptz not null default now(),
    constraint instances_pkey primary key (process, instance),
    constraint instances_waits check ((waits_for is null) = (waits_since is null)),
    constraint instances_parked check (num_nulls(parked_on, parked_why, parked_as, parked_at) in (0, 4)),
    constraint instances_trouble check ((trouble is null) = (trouble_at is null))
);

-- For whatever has waited too long.
create index instances_waiting on process.instances (process, waits_for, waits_since) where waits_for is not null;
create index instances_parked_on on process.instances (process, parked_at)
    where parked_on is not null or trouble is not null;

-- What a parked instance has still to see, in the order of the log: first the event on which it could not go on.
create table process.held (
    process          text        not null,
    instance         text        not null,
    commit_position  bigint      not null,
    prepare_position bigint      not null,
    stream           text        not null,
    revision         bigint      not null,
    event_id         uuid        not null,
    event_type       text        not null,
    data             bytea       not null,
    metadata         bytea       not null,
    recorded_at      timestamptz not null,
    constraint held_pkey primary key (process, instance, commit_position, prepare_position)
);

comment on table process.instances is 'The instances of each process that have something left to do, with what they remember.';
