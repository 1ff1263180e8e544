-- name: upsert_projects
INSERT INTO project (tenant, project, revision, body, fewest_answers)
SELECT DISTINCT ON (tenant, project) tenant, project, revision, body, min(fewest) OVER (PARTITION BY tenant, project)
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bytea[], $5::int[]) AS heard (tenant, project, revision, body, fewest)
ORDER BY tenant, project, revision DESC
ON CONFLICT (tenant, project) DO UPDATE
SET revision = greatest(project.revision, excluded.revision),
    body = CASE WHEN project.revision < excluded.revision THEN excluded.body ELSE project.body END,
    fewest_answers = least(project.fewest_answers, excluded.fewest_answers)

-- name: fewest_answers
SELECT fewest_answers FROM project WHERE tenant = $1 AND project = $2

-- name: project
SELECT body FROM project WHERE tenant = $1 AND project = $2

-- name: known_projects
SELECT tenant, project, body FROM project JOIN unnest($1::text[], $2::text[]) AS wanted (tenant, project) USING (tenant, project)

-- name: deleted_projects
SELECT tenant, project FROM deleted_project JOIN unnest($1::text[], $2::text[]) AS wanted (tenant, project) USING (tenant, project)
