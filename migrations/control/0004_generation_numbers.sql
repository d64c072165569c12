-- The number of the last generation that was ever made of a read model. A number, and so the name of a schema, is never given
-- twice: who was cut off from a rebuild may still be writing into the tables of then.
create table control.generation_numbers (
    name text primary key,
    last int  not null
);

comment on table control.generation_numbers is 'The number of the last generation that was ever made of each read model.';
comment on column control.generation_numbers.name is 'The read model.';
comment on column control.generation_numbers.last is 'The number. The next generation gets the next one.';
