-- A dispute in which there is no best answer to accept goes to a reviewer whatever the project's policy.
ALTER TABLE item DROP CONSTRAINT item_decision_check;
ALTER TABLE item ADD CONSTRAINT item_decision_check
  CHECK (decision IN ('NONE', 'WANTED', 'REACHED', 'DISPUTED', 'UNDECIDABLE'));
