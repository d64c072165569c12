-- What is kept of aggregates with long streams, so that their streams need not be folded from the beginning. All of it follows from
-- the log: `truncate snapshots.aggregates cascade` loses nothing but time.
create schema if not exists snapshots;

-- One row an aggregate: what it was as of a revision.
create table snapshots.aggregates (
    stream     text        collate "C" not null,
    revision   bigint      not null,
    -- The id of the event at that revision: in another log, another event stands there, and the snapshot is none of it.
    last_event uuid        not null,
    -- The form of the state. Of another form it is passed over, and replaced.
    version    text        not null,
    -- The SHA-256 of all of this.
    checksum   bytea       not null,
    state      bytea       not null,
    taken_at   timestamptz not null default now(),
    constraint aggregates_pkey primary key (stream)
);

-- The commands whose events are behind the snapshot, and where the first event of each stands. They go when the aggregate's row
-- goes: whoever builds on the row builds on all of them.
create table snapshots.commands (
    stream   text   collate "C" not null,
    command  uuid   not null,
    revision bigint not null,
    constraint commands_pkey primary key (stream, command),
    constraint commands_stream_fkey foreign key (stream) references snapshots.aggregates on delete cascade
);

comment on table snapshots.aggregates is 'What aggregates with long streams were as of a revision. Follows from the log.';
comment on table snapshots.commands is 'Where in its stream each command stands that is behind a snapshot. Follows from the log.';
