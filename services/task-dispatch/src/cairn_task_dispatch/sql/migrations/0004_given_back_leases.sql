-- What a labeler gave back, or let expire, is not offered to them again while there is other work.
CREATE INDEX lease_given_back ON lease (tenant, project, labeler, item)
  WHERE kind <> 'REVIEW' AND state IN ('RELEASED', 'EXPIRED');
