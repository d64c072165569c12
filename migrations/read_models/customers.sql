-- Runs with search_path at the schema of one generation.
create table customers (
    customer_id   uuid        not null,
    reference     text,
    name          text,
    email         text,
    phone         text,
    status        text        not null,
    registered_at timestamptz not null,
    changed_at    timestamptz not null
);
comment on table customers is 'Customers: a row an account. A guest has none.';
comment on column customers.customer_id is 'The customer''s id.';
comment on column customers.reference is 'The number under which an older system knows the customer. Null: none does.';
comment on column customers.name is 'The customer''s name. Null: not told.';
comment on column customers.email is 'The customer''s mail address. Null: not told.';
comment on column customers.phone is 'The customer''s telephone number. Null: not told.';
comment on column customers.status is 'open, closed';
comment on column customers.registered_at is 'When the account was opened, UTC.';
comment on column customers.changed_at is 'When the last event that this row shows was decided, UTC.';

create table customer_spend (
    customer_id   uuid   not null,
    currency      text   not null,
    orders        bigint not null,
    revenue_minor bigint not null
);
comment on table customer_spend is
    'The running total of a customer''s sales: a row a customer and currency. A sale is an order that was confirmed '
    'or recorded, and neither cancelled, rejected nor refunded in full. Who has bought nothing yet has no row.';
comment on column customer_spend.customer_id is 'The customer. It need not be in customers: an order may name any.';
comment on column customer_spend.currency is 'The currency of the orders, ISO 4217.';
comment on column customer_spend.orders is 'How many sales.';
comment on column customer_spend.revenue_minor is 'What the sales come to, in minor units of the currency.';

create table customer_orders (
    order_id    uuid   not null,
    customer_id uuid   not null,
    currency    text   not null,
    total_minor bigint not null,
    counted     bool   not null,
    taken_back  bool   not null
);
comment on table customer_orders is
    'The book that the fold of customer_spend keeps of orders that may still be confirmed, cancelled or refunded: a '
    'row an order that a customer placed. Recorded orders and guests'' are not in it.';
comment on column customer_orders.order_id is 'The order''s id.';
comment on column customer_orders.customer_id is 'Whose order it is.';
comment on column customer_orders.currency is 'The order''s currency, ISO 4217.';
comment on column customer_orders.total_minor is 'The order''s total, in minor units of the currency.';
comment on column customer_orders.counted is 'Whether the order stands in customer_spend.';
comment on column customer_orders.taken_back is
    'Whether it was cancelled, rejected or refunded in full. It never counts again.';
