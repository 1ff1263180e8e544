-- What an export shows: labels as they stood in a cut, in the order of item and question, and the annotations to their items.

-- name: next_span
SELECT * FROM (
  SELECT item, question, row_number() OVER (ORDER BY item, question)::int AS nth FROM label
  WHERE tenant = $1 AND project = $2 AND (item, question) > ($3, $4) AND stands
  ORDER BY item, question LIMIT $5
) AS span
ORDER BY nth DESC LIMIT 1

-- name: exported_labels
-- For COPY, which domain/export_copy.py reads. A label that stands and was written before the cut stood in it; for one that
-- was not, the last revision before it is looked up, and where there is none, revision 0 stands for nothing.
SELECT CASE WHEN in_cut THEN page.revision ELSE coalesce(stood.revision, 0) END,
       CASE WHEN in_cut THEN page.source ELSE coalesce(stood.source, 0::smallint) END,
       CASE WHEN in_cut THEN page.confidence ELSE coalesce(stood.confidence, 0) END,
       CASE WHEN in_cut THEN page.created_at ELSE coalesce(stood.created_at, page.created_at) END,
       octet_length(item), octet_length(question), coalesce(octet_length(shown.answer), 0),
       coalesce(octet_length(shown.provenance), 0),
       item, question, shown.answer, shown.provenance
FROM (
  SELECT l.*, pg_visible_in_snapshot(written_in, $7) AS in_cut
  FROM label l
  WHERE l.tenant = $1 AND l.project = $2 AND (l.item, l.question) > ($3, $4)
    AND (l.item, l.question) <= ($5, $6) AND l.stands
  ORDER BY l.item, l.question LIMIT $8
) AS page
LEFT JOIN LATERAL (
  SELECT l.revision, l.source, l.confidence, l.created_at, l.answer, l.provenance FROM label l
  WHERE NOT page.in_cut AND l.tenant = $1 AND l.project = $2 AND l.item = page.item AND l.question = page.question
    AND pg_visible_in_snapshot(l.written_in, $7)
  ORDER BY l.revision DESC LIMIT 1
) AS stood ON true
CROSS JOIN LATERAL (
  SELECT CASE WHEN in_cut THEN page.answer ELSE stood.answer END AS answer,
         CASE WHEN in_cut THEN page.provenance ELSE stood.provenance END AS provenance
) AS shown
ORDER BY item, question

-- name: exported_annotations
-- For COPY, too: those to items from one to another, so many at most.
SELECT annotation::text, kind, late, submitted_at, octet_length(item), octet_length(labeler), octet_length(answers),
       item, labeler, answers
FROM annotation
WHERE tenant = $1 AND project = $2 AND item BETWEEN $3 AND $4 AND submitted_at <= $5
ORDER BY item, annotation LIMIT $6

-- name: exported_annotations_of
-- The same of some items alone, looked up one at a time: there may be any number to items between them.
SELECT a.annotation::text, a.kind, a.late, a.submitted_at, octet_length(k.item), octet_length(a.labeler),
       octet_length(a.answers), k.item, a.labeler, a.answers
FROM unnest($3::text[]) WITH ORDINALITY AS k (item, nth)
CROSS JOIN LATERAL (
  SELECT * FROM annotation a
  WHERE a.tenant = $1 AND a.project = $2 AND a.item = k.item AND a.submitted_at <= $4
  ORDER BY a.annotation
) AS a
ORDER BY k.nth, a.annotation
