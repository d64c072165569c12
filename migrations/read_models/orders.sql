-- Orders with their lines, one row each. Runs with search_path at the schema of one generation.
create table orders (
    order_id     uuid        not null,
    -- The number under which the customer or an older system knows the order.
    reference    text,
    -- placed, confirmed, rejected, cancelled, completed, recorded
    status       text        not null,
    -- Why it was rejected or cancelled.
    reason       text,
    placed_at    timestamptz not null,
    customer_id  uuid,
    country      text        not null,
    currency     text        not null,
    total_minor  bigint      not null,
    line_count   int         not null,
    units        bigint      not null,
    -- When the last event of the order was recorded, and its revision.
    changed_at   timestamptz not null,
    revision     bigint      not null
);

create table order_lines (
    order_id         uuid   not null,
    -- From 1, in the customer's order.
    line_no          int    not null,
    sku              text   collate "C" not null,
    quantity         bigint not null,
    unit_price_minor bigint not null
);
