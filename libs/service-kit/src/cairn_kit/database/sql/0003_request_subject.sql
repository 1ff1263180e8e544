-- An id is its subject's own: another's equal id is another request. Whose the ids kept until now are is known to their
-- digests alone; they stand under the empty subject. It comes last in the key: to find them all by id stays cheap.
ALTER TABLE request
  ADD COLUMN subject text NOT NULL DEFAULT '',
  DROP CONSTRAINT request_pkey,
  ADD PRIMARY KEY (tenant, method, request_id, subject);
