-- A batch is recorded at one time, which the appender is told: so it knows its events as every reader will see them. Otherwise
-- this is the function as it was.
drop function log.append(bool, text[], bigint[], int[], bigint[], text[], uuid[], text[], bytea[], bytea[]);

-- Appends a batch. Each entry of `streams` and `expected` is one stream, once, with what the appender expects of it: its last
-- revision, or -1 no stream, -2 anything, -4 that it exists. The events come flattened, those of an entry side by side:
-- `slots` says to which entry (from 1) each belongs, `places` its place among the entry's events (from 1), and
-- `event_streams` its stream. An entry whose expectation fails is left out; the others are written.
--
-- With `look_for_new` false a stream that is expected to be new is taken to be new without a look: the unique key finds it
-- out when it is not, and fails the whole batch, which is then sent again with true.
--
-- Answers, for each entry, the stream's last revision before the batch (-1: none) and whether the entry was written; the last
-- position before the batch (-1: the log was empty), from which positions count on in the order of the events; and when the
-- events were recorded.
--
-- The lock is held until the commit is visible, and each statement in here sees what was committed before it got the
-- lock (a volatile function takes a new snapshot for each statement), so positions follow commits without a gap.
create function log.append(
    look_for_new bool, streams text[], expected bigint[],
    slots int[], places bigint[], event_streams text[], ids uuid[], types text[], datas bytea[], metadatas bytea[],
    out last_revisions bigint[], out accepted bool[], out head bigint, out recorded_at timestamptz
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
    -- Under the lock, so that later positions do not have earlier times while the clock runs on.
    append.recorded_at := clock_timestamp();
    insert into log.events (position, stream, revision, id, type, data, metadata, recorded_at)
    select head + row_number() over (), x.stream, last_revisions[x.slot] + x.place, x.id, x.type, x.data, x.metadata,
           append.recorded_at
      from unnest(slots, places, event_streams, ids, types, datas, metadatas)
               as x (slot, place, stream, id, type, data, metadata)
     where accepted[x.slot];
end $$;
