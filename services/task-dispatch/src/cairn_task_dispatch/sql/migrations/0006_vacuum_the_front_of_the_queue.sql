-- Each lease leaves a dead entry at the front of slot_open, and whoever leases next steps over all of them: 140 a page.
-- A share of the table would let more of them lie the larger the project is; so a number does, some 70 pages' worth.
-- Autovacuum leaves indexes alone where few pages of the table have dead rows, and those of a large project's front are few.
ALTER TABLE slot SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000, vacuum_index_cleanup = on);
