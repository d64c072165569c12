-- Who leads the projector of each read model: until then by this server's clock, or as long as its session lives, whichever
-- ends first.
create table control.leases (
    name        text        not null,
    leader      uuid        not null,
    -- Counts the leaders. A leader of an earlier term cannot move a checkpoint.
    term        bigint      not null,
    leads_until timestamptz not null,
    -- The session of the leader that renews the lease. Where it is gone, so is the leader.
    backend_pid   int         not null,
    backend_start timestamptz not null,
    constraint leases_pkey primary key (name)
);

alter table control.generations
    -- How many events were folded into the tables since they were made.
    add column folded bigint not null default 0,
    -- Counts how often somebody else than the projector has changed what is parked.
    add column parked_changes bigint not null default 0,
    -- Where events of a stream are missing, so that nothing further may be folded in. Null: nowhere.
    add column gap text;

-- Events that could not be folded, and those of the same key that came after them, in the order of the log.
create table control.parked (
    name             text        not null,
    generation       int         not null,
    commit_position  bigint      not null,
    prepare_position bigint      not null,
    key              text        not null,
    stream           text        not null,
    revision         bigint      not null,
    event_id         uuid        not null,
    event_type       text        not null,
    -- Why it could not be folded. Null: it waits behind one of its key.
    error            text,
    -- How often it was tried.
    attempts         int         not null,
    parked_at        timestamptz not null default now(),
    constraint parked_pkey primary key (name, generation, commit_position, prepare_position),
    constraint parked_generation_fkey foreign key (name, generation) references control.generations on delete cascade
);

create index parked_key on control.parked (name, generation, key, commit_position);

-- Events that somebody has decided to leave out of a read model. A rebuild leaves them out too.
create table control.skipped (
    name       text        not null,
    event_id   uuid        not null,
    stream     text        not null,
    revision   bigint      not null,
    event_type text        not null,
    error      text        not null,
    reason     text        not null,
    skipped_at timestamptz not null default now(),
    constraint skipped_pkey primary key (name, event_id)
);

comment on table control.parked is 'Events that could not be folded into a read model, and what waits behind them.';
comment on table control.skipped is 'Events that were left out of a read model on purpose, and why.';
