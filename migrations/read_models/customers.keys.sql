alter table customers add constraint customers_pkey primary key (customer_id);
alter table customer_spend add constraint customer_spend_pkey primary key (customer_id, currency);
alter table customer_orders add constraint customer_orders_pkey primary key (order_id);
create index customers_registered_at on customers (registered_at, customer_id);
create index customers_reference on customers (reference, customer_id);
create index customer_spend_revenue on customer_spend (currency, revenue_minor);
