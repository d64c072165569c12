alter table product_sales add constraint product_sales_pkey primary key (currency, day, sku, country);
alter table product_sales_orders add constraint product_sales_orders_pkey primary key (order_id);
