-- Runs with search_path at the schema of one generation.
create table low_stock (
    sku        text        collate "C" not null,
    available  bigint      not null,
    threshold  bigint      not null,
    since      timestamptz not null,
    changed_at timestamptz not null
);
comment on table low_stock is 'What should be ordered anew: a row a SKU that is low, and none for the others.';
comment on column low_stock.sku is 'The SKU.';
comment on column low_stock.available is 'Units that can still be reserved: no more than the threshold.';
comment on column low_stock.threshold is 'At so many available units or fewer the stock is low.';
comment on column low_stock.since is 'When it ran low, UTC.';
comment on column low_stock.changed_at is 'When the last event that this row shows was decided, UTC.';
