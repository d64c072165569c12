-- Customers, and what each has bought. Runs with search_path at the schema of one generation.
create table customers (
    customer_id   uuid        not null,
    -- The number under which an older system knows the customer.
    reference     text,
    name          text,
    email         text,
    phone         text,
    -- open, closed
    status        text        not null,
    registered_at timestamptz not null,
    changed_at    timestamptz not null
);

-- The running total of a customer's confirmed and recorded orders, a row a currency.
create table customer_spend (
    customer_id   uuid   not null,
    currency      text   not null,
    orders        bigint not null,
    revenue_minor bigint not null
);

-- The orders of a customer, which may still be confirmed, cancelled or refunded.
create table customer_orders (
    order_id    uuid   not null,
    customer_id uuid   not null,
    currency    text   not null,
    total_minor bigint not null,
    -- Whether the order stands in customer_spend.
    counted     bool   not null,
    -- Whether it was cancelled, rejected or refunded in full. It never counts again.
    taken_back  bool   not null
);
