-- The catalogue and the stock of a SKU in one row. Runs with search_path at the schema of one generation.
create table products (
    sku         text        collate "C" not null,
    -- Null while there is stock of a SKU that the catalogue does not list.
    name        text,
    description text,
    price_minor bigint,
    currency    text,
    -- listed, discontinued, or unlisted (stock without a catalogue entry)
    status      text        not null,
    on_hand     bigint      not null,
    reserved    bigint      not null,
    -- on_hand - reserved
    available   bigint      not null,
    -- At so many available units or fewer the stock is low. Null while nobody has said.
    threshold   bigint,
    -- available <= threshold
    low         bool        not null,
    changed_at  timestamptz not null
);
