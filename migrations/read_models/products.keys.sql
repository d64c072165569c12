alter table products add constraint products_pkey primary key (sku);
create index products_name on products (name, sku);
create index products_available on products (available, sku);
create index products_price on products (price_minor, sku);
