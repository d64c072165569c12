-- What the projector runtime knows of its read models.
create schema if not exists control;
create schema if not exists read;

-- One row for each generation of a read model that exists: a set of tables in a schema of its own, and how far the log
-- is folded into it. The views in the schema "read" point at the generation whose state is "live".
create table control.generations (
    name        text        not null,
    -- The version of the read model's code that folds into these tables.
    version     int         not null,
    -- Counts the tables that were ever made for this name.
    generation  int         not null,
    -- live: readers see it. building: a rebuild is filling it. retired: the one before the live one, kept for rollback.
    state       text        not null check (state in ('live', 'building', 'retired')),
    -- The schema that holds the tables.
    schema_name text        not null,
    -- The checkpoint: the position of the last event of the log that is folded in. Null: none yet.
    commit_position  bigint,
    prepare_position bigint,
    -- When the checkpoint last moved.
    moved_at    timestamptz not null default now(),
    -- Why the projector stands still, if it does.
    error       text,
    constraint generations_pkey primary key (name, generation),
    constraint generations_schema_name_key unique (schema_name)
);

-- At most one generation of a read model is live.
create unique index generations_live_key on control.generations (name) where state = 'live';

comment on table control.generations is 'The generations of each read model: where its tables are and how far the log is folded into them.';
