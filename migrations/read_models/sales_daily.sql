-- Runs with search_path at the schema of one generation.
create table sales_daily (
    day           date   not null,
    country       text   not null,
    currency      text   not null,
    orders        bigint not null,
    lines         bigint not null,
    units         bigint not null,
    revenue_minor bigint not null
);
comment on table sales_daily is
    'What was sold a day: a row a day, country and currency. A sale is an order that was confirmed or recorded, and '
    'neither cancelled, rejected nor refunded in full.';
comment on column sales_daily.day is 'The day on which the orders were placed, UTC.';
comment on column sales_daily.country is 'The country to which the orders go, as the orders name it.';
comment on column sales_daily.currency is 'The currency of the orders, ISO 4217.';
comment on column sales_daily.orders is 'How many sales.';
comment on column sales_daily.lines is 'How many lines they have together.';
comment on column sales_daily.units is 'How many units they have together.';
comment on column sales_daily.revenue_minor is 'What they come to, in minor units of the currency.';

create table sales_daily_orders (
    order_id      uuid   not null,
    day           date   not null,
    country       text   not null,
    currency      text   not null,
    lines         bigint not null,
    units         bigint not null,
    revenue_minor bigint not null,
    counted       bool   not null,
    taken_back    bool   not null
);
comment on table sales_daily_orders is
    'The book that the fold of sales_daily keeps of orders that may still be confirmed, cancelled or refunded: a row '
    'an order that was placed. Recorded orders are not in it.';
comment on column sales_daily_orders.order_id is 'The order''s id.';
comment on column sales_daily_orders.day is 'The day on which it was placed, UTC.';
comment on column sales_daily_orders.country is 'The country to which it goes, as the order names it.';
comment on column sales_daily_orders.currency is 'The order''s currency, ISO 4217.';
comment on column sales_daily_orders.lines is 'How many lines it adds to its day.';
comment on column sales_daily_orders.units is 'How many units it adds to its day.';
comment on column sales_daily_orders.revenue_minor is 'What it adds to its day, in minor units of the currency.';
comment on column sales_daily_orders.counted is 'Whether the order stands in sales_daily.';
comment on column sales_daily_orders.taken_back is
    'Whether it was cancelled, rejected or refunded in full. It never counts again.';
