-- The log is read by its keys, in order, so nothing is planned by how its values are spread. By default Postgres sorts 30,000 rows of
-- every column to know it, which takes a core of a small machine from its commands, at worst once a minute. A tenth is enough.
alter table log.events
    alter column position set statistics 10,
    alter column stream set statistics 10,
    alter column revision set statistics 10,
    alter column id set statistics 10,
    alter column type set statistics 10,
    alter column data set statistics 10,
    alter column metadata set statistics 10,
    alter column recorded_at set statistics 10;
-- Rows never change: a vacuum only notes which pages all can see, and is in no hurry. In milliseconds; by default it is 2.
alter table log.events set (autovacuum_vacuum_cost_delay = 10);
