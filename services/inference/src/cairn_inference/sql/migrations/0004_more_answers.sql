-- The project's cap of answers to an item, and whether people were asked for as many of a validation item, on which all rests.
ALTER TABLE project ADD COLUMN max_answers integer NOT NULL DEFAULT 10 CHECK (max_answers > 0);
ALTER TABLE item ADD COLUMN answers_wished boolean NOT NULL DEFAULT false;
