alter table sales_daily add constraint sales_daily_pkey primary key (currency, day, country);
alter table sales_daily_orders add constraint sales_daily_orders_pkey primary key (order_id);
