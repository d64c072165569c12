-- The log on one machine: every event of every stream, in one table, in the order of commit.
create schema if not exists log;

create table log.events (
    -- The place in the whole log, from 0, without a gap. Assigned under the append lock, so that the order of positions
    -- is the order of commits and a reader may trust "position > last".
    position    bigint      not null,
    stream      text        collate "C" not null,
    -- The place in the stream, from 0, without a gap.
    revision    bigint      not null,
    id          uuid        not null,
    type        text        collate "C" not null,
    -- Bytes, not json: what was appended is what is read, and nothing is parsed on the way in.
    data        bytea       not null,
    metadata    bytea       not null,
    recorded_at timestamptz not null default clock_timestamp(),
    constraint events_pkey primary key (position),
    constraint events_stream_revision_key unique (stream, revision)
);

-- Rows are never updated, so pages may be full. Long events compress with lz4 where the server was built with it:
-- pglz would cost more than the rest of the append.
alter table log.events set (fillfactor = 100);
do $$ begin
    alter table log.events alter column data set compression lz4;
exception when others then null;
end $$;

-- The category of a stream is what stands before its first '-'.
create function log.category(stream text) returns text
    language sql immutable strict parallel safe
    return split_part(stream, '-', 1);

-- Appends a batch. Each entry of the arrays `streams` and `expected` is one stream with what the appender expects of it:
-- its last revision, or -1 no stream, -2 anything, -4 that it exists. The events come flattened; `slot` says to which
-- entry (from 1) each belongs. An entry whose expectation fails is left out; the others are written.
--
-- One row comes back for each entry: the stream's last revision before the batch (-1: none), and the position of the
-- entry's first event, or null when it was left out.
--
-- The lock is held until the commit is visible, and each statement in here sees what was committed before it got the
-- lock (a volatile function takes a new snapshot for each statement), so positions follow commits without a gap.
create function log.append(
    streams text[], expected bigint[],
    slots int[], ids uuid[], types text[], datas bytea[], metadatas bytea[]
) returns table (slot int, last_revision bigint, first_position bigint)
    language plpgsql volatile
as $$
#variable_conflict use_column
declare
    head bigint;
begin
    perform pg_advisory_xact_lock(7310868735017247840);
    select e.position into head from log.events e order by e.position desc limit 1;
    return query
    with entry as materialized (
        select x.slot::int as slot, x.stream, x.expected,
               coalesce((select e.revision from log.events e
                          where e.stream = x.stream order by e.revision desc limit 1), -1) as last_revision
          from unnest(streams, expected) with ordinality as x (stream, expected, slot)
    ), accepted as (
        select * from entry e
         where e.expected = -2
            or (e.expected = -4 and e.last_revision >= 0)
            or (e.expected >= -1 and e.expected = e.last_revision)
    ), numbered as (
        select a.slot, a.stream,
               coalesce(head, -1) + row_number() over (order by x.ordinal) as position,
               a.last_revision + row_number() over (partition by a.slot order by x.ordinal) as revision,
               x.id, x.type, x.data, x.metadata
          from unnest(slots, ids, types, datas, metadatas) with ordinality
                   as x (slot, id, type, data, metadata, ordinal)
          join accepted a on a.slot = x.slot
    ), written as (
        insert into log.events (position, stream, revision, id, type, data, metadata)
        select n.position, n.stream, n.revision, n.id, n.type, n.data, n.metadata from numbered n order by n.position
        returning events.position, events.stream
    )
    select e.slot, e.last_revision, min(w.position)
      from entry e left join written w on w.stream = e.stream
     group by e.slot, e.last_revision;
end $$;

-- The log as an analyst reads it: data and metadata as json.
create view log.readable as
    select position, stream, log.category(stream) as category, revision, id, type,
           convert_from(data, 'UTF8')::json as data, convert_from(metadata, 'UTF8')::json as metadata, recorded_at
      from log.events;

comment on table log.events is 'Every event of every stream, in the order of commit. Append only.';
comment on view log.readable is 'The log with data and metadata as json.';
