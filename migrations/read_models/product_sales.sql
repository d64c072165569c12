-- What was sold of a SKU a day, by currency. Runs with search_path at the schema of one generation.
create table product_sales (
    sku           text   collate "C" not null,
    currency      text   not null,
    -- The day on which the orders were placed, UTC.
    day           date   not null,
    -- In how many orders it stood.
    orders        bigint not null,
    units         bigint not null,
    revenue_minor bigint not null
);

-- The lines of an open order, which may still be confirmed, cancelled or refunded.
create table product_sales_orders (
    order_id   uuid  not null,
    currency   text  not null,
    day        date  not null,
    -- [[sku, units, revenue_minor], …], one entry a SKU
    lines      jsonb not null,
    -- Whether the order stands in product_sales.
    counted    bool  not null,
    -- Whether it was cancelled, rejected or refunded in full. It never counts again.
    taken_back bool  not null
);
