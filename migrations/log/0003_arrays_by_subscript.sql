-- What a batch costs besides its rows is most of what a small batch costs, and it is paid under the lock. plpgsql keeps its array
-- parameters unpacked, so that to take the i-th of each is cheaper than to unnest them all side by side; and a batch in which
-- every stream is new has nothing to look up. Otherwise this is the function as it was, and what
-- its parameters are stands there.
create or replace function log.append(
    look_for_new bool, streams text[], expected bigint[],
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
        last_revisions := array(
            select case when expected[slot] = -1 and not look_for_new then -1
                   else coalesce((select e.revision from log.events e
                                   where e.stream = streams[slot] order by e.revision desc limit 1), -1) end
              from generate_series(1, cardinality(expected)) as slot order by slot);
        accepted := array(
            select case expected[slot] when -2 then true when -4 then last_revisions[slot] >= 0
                   else expected[slot] = last_revisions[slot] end
              from generate_series(1, cardinality(expected)) as slot order by slot);
    end if;
    -- Under the lock, so that later positions do not have earlier times while the clock runs on.
    append.recorded_at := clock_timestamp();
    insert into log.events (position, stream, revision, id, type, data, metadata, recorded_at)
    select head + row_number() over (), event_streams[i], last_revisions[slots[i]] + places[i],
           ids[i], types[i], datas[i], metadatas[i], append.recorded_at
      from generate_series(1, cardinality(ids)) as i
     where accepted[slots[i]];
end $$;
