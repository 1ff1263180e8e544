#!/bin/sh
# Makes a role and a schema for each service in the database `cairn`; safe to run again. It runs as a superuser, with
# psql's usual PG* variables, and <ROLE>_PASSWORD for each role. The compose file runs it when the database is new.
set -eu
psql() { command psql -v ON_ERROR_STOP=1 -q -d cairn "$@"; }
export PGUSER="${PGUSER:-${POSTGRES_USER:-postgres}}"
psql -c "REVOKE ALL ON DATABASE cairn FROM PUBLIC" -c "REVOKE ALL ON SCHEMA public FROM PUBLIC"
for role in task_dispatch annotation_store consensus inference audit; do
  variable="$(echo "$role" | tr '[:lower:]' '[:upper:]')_PASSWORD"
  eval ": \${$variable:?}"
  # psql reads the password from the environment: every process may read its arguments.
  psql -v role="$role" <<SQL
\\getenv password $variable
SELECT format('CREATE ROLE %I LOGIN', :'role') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role') \\gexec
SELECT format('ALTER ROLE %I PASSWORD %L', :'role', :'password') \\gexec
SELECT format('CREATE SCHEMA IF NOT EXISTS %I AUTHORIZATION %I', :'role', :'role') \\gexec
SELECT format('GRANT CONNECT, TEMPORARY ON DATABASE cairn TO %I', :'role') \\gexec
SQL
done
