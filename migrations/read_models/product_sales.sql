-- Runs with search_path at the schema of one generation.
create table product_sales (
    sku           text   collate "C" not null,
    currency      text   not null,
    day           date   not null,
    orders        bigint not null,
    units         bigint not null,
    revenue_minor bigint not null,
    country       text   not null
);
comment on table product_sales is
    'What was sold of a SKU a day: a row a SKU, day, country and currency. A sale is an order that was confirmed or '
    'recorded, and neither cancelled, rejected nor refunded in full.';
comment on column product_sales.sku is 'The SKU.';
comment on column product_sales.currency is 'The currency of the orders, ISO 4217.';
comment on column product_sales.day is 'The day on which the orders were placed, UTC.';
comment on column product_sales.orders is 'In how many sales it stood.';
comment on column product_sales.units is 'How many units of it were sold.';
comment on column product_sales.revenue_minor is 'What these units were sold for, in minor units of the currency.';
comment on column product_sales.country is 'The country to which the orders go, as the orders name it.';

create table product_sales_orders (
    order_id   uuid  not null,
    currency   text  not null,
    day        date  not null,
    lines      jsonb not null,
    counted    bool  not null,
    taken_back bool  not null,
    country    text  not null
);
comment on table product_sales_orders is
    'The book that the fold of product_sales keeps of orders that may still be confirmed, cancelled or refunded: a '
    'row an order that was placed. Recorded orders are not in it.';
comment on column product_sales_orders.order_id is 'The order''s id.';
comment on column product_sales_orders.currency is 'The order''s currency, ISO 4217.';
comment on column product_sales_orders.day is 'The day on which it was placed, UTC.';
comment on column product_sales_orders.lines is
    'What it adds to each SKU: [[sku, units, revenue_minor], …], one entry a SKU, money in minor units of the '
    'currency.';
comment on column product_sales_orders.counted is 'Whether the order stands in product_sales.';
comment on column product_sales_orders.taken_back is
    'Whether it was cancelled, rejected or refunded in full. It never counts again.';
comment on column product_sales_orders.country is 'The country to which it goes, as the order names it.';
