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

-- Appends a batch. Each entry of `streams` and `expected` is one stream, once, with what the appender expects of it: its last
-- revision, or -1 no stream, -2 anything, -4 that it exists. The events come flattened, those of an entry side by side:
-- `slots` says to which entry (from 1) each belongs, `places` its place among the entry's events (from 1), and
-- `event_streams` its stream. An entry whose expectation fails is left out; the others are written.
--
-- With `look_for_new` false a stream that is expected to be new is taken to be new without a look: the unique key finds it
-- out when it is not, and fails the whole batch, which is then sent again with true.
--
-- Answers, for each entry, the stream's last revision before the batch (-1: none) and whether the entry was written; and the
-- last position before the batch (-1: the log was empty). Positions count on from there, in the order of the events.
--
-- The lock is held until the commit is visible, and each statement in here sees what was committed before it got the
-- lock (a volatile function takes a new snapshot for each statement), so positions follow commits without a gap.
create function log.append(
    look_for_new bool, streams text[], expected bigint[],
    slots int[], places bigint[], event_streams text[], ids uuid[], types text[], datas bytea[], metadatas bytea[],
    out last_revisions bigint[], out accepted bool[], out head bigint
) language plpgsql volatile
as $$
#variable_conflict use_column
begin
    perform pg_advisory_xact_lock(7310868735017247840);
    head := coalesce((select e.position from log.events e order by e.position desc limit 1), -1);
    last_revisions := array(
        select case when x.expected = -1 and not look_for_new then -1
               else coalesce((select e.revision from log.events e
                               where e.stream = x.stream order by e.revision desc limit 1), -1) end
          from unnest(streams, expected) with ordinality as x (stream, expected, slot) order by x.slot);
    accepted := array(
        select case x.expected when -2 then true when -4 then x.last >= 0 else x.expected = x.last end
          from unnest(expected, last_revisions) with ordinality as x (expected, last, slot) order by x.slot);
    insert into log.events (position, stream, revision, id, type, data, metadata)
    select head + row_number() over (), x.stream, last_revisions[x.slot] + x.place, x.id, x.type, x.data, x.metadata
      from unnest(slots, places, event_streams, ids, types, datas, metadatas)
               as x (slot, place, stream, id, type, data, metadata)
     where accepted[x.slot];
end $$;

-- The log as an analyst reads it: data and metadata as json.
create view log.readable as
    select position, stream, log.category(stream) as category, revision, id, type,
           convert_from(data, 'UTF8')::json as data, convert_from(metadata, 'UTF8')::json as metadata, recorded_at
      from log.events;

comment on table log.events is 'Every event of every stream, in the order of commit. Append only.';
comment on view log.readable is 'The log with data and metadata as json.';
