-- What was sold a day, by country and currency. Runs with search_path at the schema of one generation.
create table sales_daily (
    -- The day on which the orders were placed, UTC.
    day           date   not null,
    country       text   not null,
    currency      text   not null,
    orders        bigint not null,
    lines         bigint not null,
    units         bigint not null,
    revenue_minor bigint not null
);

-- What an open order will add to its day, which may still be confirmed, cancelled or refunded.
create table sales_daily_orders (
    order_id      uuid   not null,
    day           date   not null,
    country       text   not null,
    currency      text   not null,
    lines         bigint not null,
    units         bigint not null,
    revenue_minor bigint not null,
    -- Whether the order stands in sales_daily.
    counted       bool   not null,
    -- Whether it was cancelled, rejected or refunded in full. It never counts again.
    taken_back    bool   not null
);
