-- What is still to be done for an audit is found without a look at what is done, however large its sample is.
DROP INDEX sample_to_ask;
DROP INDEX sample_to_call_off;
-- Who names an item repeats no condition that is true of all samples: offered this index, it would go through all of an audit.
CREATE INDEX sample_open ON sample (tenant, project, audit, ask_after) WHERE outcome = 'open' AND reviews_wanted > 0;
CREATE INDEX sample_to_read ON sample (ask_after)
  WHERE outcome = 'open' AND reviews_asked < reviews_wanted AND label_answer = '';
CREATE INDEX sample_to_ask ON sample (tenant, project, audit, ask_after, item)
  WHERE outcome = 'open' AND reviews_asked < reviews_wanted AND label_answer <> '';
CREATE INDEX sample_to_call_off ON sample (tenant, project, audit, task) WHERE outcome = 'open' AND task <> '';

-- A finding is written by who holds its sample, and deleted before it. For each sample that was deleted all findings of its
-- audit were gone through.
ALTER TABLE finding DROP CONSTRAINT finding_tenant_project_audit_item_fkey;
