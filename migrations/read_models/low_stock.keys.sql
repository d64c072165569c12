alter table low_stock add constraint low_stock_pkey primary key (sku);
create index low_stock_since on low_stock (since, sku);
create index low_stock_available on low_stock (available, sku);
