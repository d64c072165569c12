-- What the process managers remember between events. All of it follows from the log; nothing else is kept here.
create schema if not exists process;

-- One row a process: how far it has followed the log, and which running program leads it.
create table process.managers (
    name             text        not null,
    -- The version of the code that folded the states of its instances.
    version          int         not null,
    -- The checkpoint: everything up to here has been reacted to. Null: nothing yet.
    commit_position  bigint,
    prepare_position bigint,
    moved_at         timestamptz not null default now(),
    -- The lease: until then, by this server's clock, only the leader runs the process. It renews in time, or another takes over.
    leader           uuid,
    leads_until      timestamptz,
    -- Why the process stands still, if it does.
    error            text,
    constraint managers_pkey primary key (name)
);

-- One row an instance that has something left to do.
create table process.instances (
    process     text        not null,
    instance    text        not null,
    state       jsonb       not null,
    -- What it waits for, and since when by the log's clock. The time limit is configured, so it is not in here.
    waits_for   text,
    waits_since timestamptz,
    -- The id of the event on which it cannot go on, and why. Null while it can.
    parked_on   uuid,
    parked_why  text,
    parked_at   timestamptz,
    moved_at    timestamptz not null default now(),
    constraint instances_pkey primary key (process, instance),
    constraint instances_waits check ((waits_for is null) = (waits_since is null)),
    constraint instances_parked check ((parked_on is null) = (parked_why is null))
);

-- For whatever has waited too long.
create index instances_waiting on process.instances (process, waits_for, waits_since) where waits_for is not null;
create index instances_parked_on on process.instances (process, parked_at) where parked_on is not null;

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
