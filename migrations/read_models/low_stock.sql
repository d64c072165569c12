-- What should be ordered anew: the SKUs that are low, and no others. Runs with search_path at the schema of one
-- generation.
create table low_stock (
    sku        text        collate "C" not null,
    -- Units that can still be reserved: no more than the threshold.
    available  bigint      not null,
    -- At so many available units or fewer the stock is low.
    threshold  bigint      not null,
    -- When it ran low.
    since      timestamptz not null,
    changed_at timestamptz not null
);
