-- Runs with search_path at the schema of one generation.
create table products (
    sku         text        collate "C" not null,
    name        text,
    description text,
    price_minor bigint,
    currency    text,
    status      text        not null,
    on_hand     bigint      not null,
    reserved    bigint      not null,
    available   bigint      not null,
    threshold   bigint,
    low         bool        not null,
    changed_at  timestamptz not null
);
comment on table products is 'The catalogue and the stock: a row a SKU that is in either.';
comment on column products.sku is 'The SKU.';
comment on column products.name is
    'Its name in the catalogue. Null: there is stock of it, and the catalogue never listed it.';
comment on column products.description is 'Its description in the catalogue. Null: it has none.';
comment on column products.price_minor is
    'Its list price a unit, in minor units of the currency. Null: the catalogue never listed it.';
comment on column products.currency is 'The currency of the price, ISO 4217. Null: the catalogue never listed it.';
comment on column products.status is 'listed, discontinued, or unlisted: stock without a catalogue entry';
comment on column products.on_hand is 'Units in the house.';
comment on column products.reserved is 'Units in the house that orders hold.';
comment on column products.available is 'Units that can still be reserved: on_hand - reserved.';
comment on column products.threshold is 'At so many available units or fewer the stock is low. Null: nobody has said.';
comment on column products.low is 'Whether the stock is low: available <= threshold.';
comment on column products.changed_at is 'When the last event that this row shows was decided, UTC.';
