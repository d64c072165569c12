-- An appender may say which event it takes for a stream's last one, beside its revision: a log that lost its end, for it was restored or
-- a standby that was behind has taken over, may have another event there by now. Processes of the release before call
-- the function as it was, which stays.

-- Appends a batch. Each entry of `streams`, `expected` and `last_ids` is one stream, once, with what the appender expects of it: its
-- last revision, or -1 no stream, -2 anything, -4 that it exists; and the id of its last event, or null for any. Where
-- `last_ids` is null, no entry says one. The events come flattened, those of an entry side by side: `slots` says to which entry
-- (from 1) each belongs, `places` its place among the entry's events (from 1), and `event_streams` its stream. An entry
-- whose expectation fails is left out; the others are written.
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
    look_for_new bool, streams text[], expected bigint[], last_ids uuid[],
    slots int[], places bigint[], event_streams text[], ids uuid[], types text[], datas bytea[], metadatas bytea[],
    out last_revisions bigint[], out accepted bool[], out head bigint, out recorded_at timestamptz
) language plpgsql volatile
as $$
#variable_conflict use_column
begin
    perform pg_advisory_xact_lock(7310868735017247840);
    head := coalesce((select e.position from log.events e order by e.position desc limit 1), -1);
    if not look_for_new and -1 = all (expected) then
        last_revisions := array_fill(-1::bigint, array[cardinality(expected)]);
        accepted := array_fill(true, array[cardinality(expected)]);
    else
        select array_agg(coalesce(last.revision, -1) order by slot),
               array_agg(case expected[slot] when -2 then true when -4 then last.revision is not null
                         else expected[slot] = coalesce(last.revision, -1) and coalesce(last.id = last_ids[slot], true) end
                         order by slot)
          into last_revisions, accepted
          from generate_series(1, cardinality(expected)) as slot
          left join lateral (select e.revision, e.id from log.events e
                              where e.stream = streams[slot] and (look_for_new or expected[slot] <> -1)
                              order by e.revision desc limit 1) as last on true;
    end if;
    -- Under the lock, so that later positions do not have earlier times while the clock runs on.
    append.recorded_at := clock_timestamp();
    insert into log.events (position, stream, revision, id, type, data, metadata, recorded_at)
    select head + row_number() over (), event_streams[i], last_revisions[slots[i]] + places[i],
           ids[i], types[i], datas[i], metadatas[i], append.recorded_at
      from generate_series(1, cardinality(ids)) as i
     where accepted[slots[i]];
end $$;
