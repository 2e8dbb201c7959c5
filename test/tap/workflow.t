#!/bin/bash
# test/run: long
# Workflows: definitions, the onboarding that is shipped, recovery at every step boundary, rollback.
. "$(dirname "$0")/lib.sh"
cluster_start --set tenancy.workers=off --set restart_after_crash=on
# a schedule that is due would take the place of the one job that is to be done
sql "SELECT kind FROM schedule_set('billing.run', enabled => false); SELECT count(schedule_set(kind, enabled => false)) FROM tenancy.schedule" >/dev/null

# definitions
define() { sql "SELECT version FROM workflow_define('$1', '{\"steps\": [$2]}')"; }
step() { echo "{\"id\": \"$1\", \"type\": \"system\", \"processor\": \"database.check\"${2:+, $2}}"; }
is "$(define w "$(step a), $(step b '"depends_on": ["a"]')")" 1 "a workflow is defined"
is "$(define w "$(step a)")" 2 "and again, as a new version"
like "$(define x "$(step a '"depends_on": ["c"]'), $(step b '"depends_on": ["a"]'), $(step c '"depends_on": ["b"]'), $(step d)")" '22023.*circle.*DETAIL:  (a → c → b → a|b → a → c → b|c → b → a → c)' "a circle is refused and listed"
like "$(define x "$(step a '"depends_on": ["a"]')")" 'DETAIL:  a → a' "also the smallest"
like "$(define x "$(step a '"depends_on": ["z"]')")" '22023.*"z", which does not exist' "an unknown dependency"
like "$(define x "$(step a), $(step a)")" '22023.*used twice' "an id used twice"
like "$(define x "")" '22023.*needs a step' "no steps"
like "$(define x '{"id": "a", "type": "robot", "processor": "database.check"}')" 22023 "an unknown type"
like "$(define x '{"id": "a", "type": "user", "processor": "nothing"}')" 42883 "an unknown function"
like "$(define x '{"id": "a", "type": "user", "processor": "nothing(jsonb)"}')" 42883 "nor one with a signature"
like "$(define x '{"id": "a", "type": "user", "processor": "database.check", "colour": 1}')" '22023.*colour' "an unknown member"
like "$(define "" "$(step a)")" 22023 "no name"
like "$(sql "SELECT id FROM onboarding_start('{}', 'none')")" 42704 "a workflow that is not defined"
like "$(sql "SELECT id FROM onboarding_start('[]')")" 22023 "a request that is no object"

# the one that is shipped
entity() { echo "{\"apiVersion\": \"backstage.io/v1alpha1\", \"kind\": \"Component\", \"metadata\": {\"name\": \"$1\"}}"; }
begin() { # begin SLUG
	sql "SELECT id FROM onboarding_start(jsonb_build_object('slug', '$1', 'plan', 'starter', 'entities', '[$(entity one), $(entity two), {\"kind\": \"API\"}, $(entity one)]'::jsonb), idempotency_key => '$1')"
}
run() { sql "SELECT count(*) FROM job_run_due()" >/dev/null; }
github='{"installation_id": 4711, "webhook_secret": "0123456789abcdef"}'
plugins='{"plugins": ["techdocs", "kubernetes"]}'
# An installation is one tenant's: those before let it go.
disconnect() { sql "SELECT count(tenant_configure(id, '{\"integrations\": {\"github\": null}}')) FROM tenancy.tenant WHERE configuration #>> '{integrations,github,installation_id}' IS NOT NULL" >/dev/null; }
execute() { sql "SELECT state FROM onboarding_step_execute('$id', '$1', '$2')"; }
progress() { sql "SELECT p->>'state', p->>'percent', p->>'next' FROM onboarding_progress('$id') p"; }
end_of() { # what a workflow has come to, without ids and times
	sql "SELECT w.state, t.slug ~ '^[a-z]', t.state, t.plan, tenant_configuration(t.id)->'integrations'->'github'->'installation_id', tenant_configuration(t.id)->'integrations'->'plugins',
		(SELECT string_agg(s.step || '=' || s.state, ' ' ORDER BY s.position) FROM tenancy.workflow_step s WHERE s.workflow_id = w.id),
		(SELECT string_agg(e.entity_ref, ' ' ORDER BY e.entity_ref) FROM tenancy.catalog_entity e WHERE e.tenant_id = t.id),
		(SELECT count(*) FROM tenancy.subscription u WHERE u.tenant_id = t.id),
		(SELECT count(*) FROM tenancy.outbox_event o WHERE o.tenant_id = t.id AND o.type = 'tenant.onboarding.success')
		FROM tenancy.workflow w LEFT JOIN tenancy.tenant t ON t.id = w.tenant_id WHERE w.id = '$id'"
}
id=$(begin acme)
is "$(begin acme)" "$id" "the same key is the same workflow"
is "$(progress)" 'running|0.0|[]' "nothing is done yet"
like "$(execute github_integration "$github")" 55000 "a step whose turn it is not"
like "$(execute nothing '{}')" 42704 "an unknown step"
like "$(sql "SELECT id FROM onboarding_start('{\"slug\": \"other\"}', idempotency_key => 'acme')")" '23505.*another request' "the same key for something else is refused"
run
is "$(progress)" 'running|66.7|["github_integration"]' "the tenant and its database are there"
is "$(sql "SELECT state FROM tenancy.tenant WHERE slug = 'acme'")" active "and active"
is "$(sql "SELECT onboarding_step_validate('$id', 'github_integration', '{\"installation_id\": -1}')")" '{"valid": false, "errors": ["\"installation_id\" must be a positive integer"]}' "data that is not valid"
is "$(sql "SELECT onboarding_step_validate('$id', 'github_integration', '$github')")" '{"valid": true, "errors": []}' "data that is"
is "$(sql "SELECT tenant_configuration('acme')->'integrations'->'github'")" "" "nothing is done by asking"
like "$(execute github_integration '{"installation_id": 1, "webhook_secret": "short"}')" 22023 "a secret that is too short"
is "$(execute github_integration "$github")" completed "GitHub is connected"
is "$(sql "SELECT count(*) FROM tenancy.workflow_step WHERE result::text LIKE '%0123456789abcdef%'")" 0 "the secret is not kept"
run
is "$(sql "SELECT result FROM tenancy.workflow_step WHERE workflow_id = '$id' AND step = 'initial_catalog_import'")" '{"errors": [{"row": 3, "error": "it is no object with \"apiVersion\", \"kind\" and \"metadata.name\""}, {"row": 4, "error": "entity \"component:default/one\" is there already"}], "failed": 2, "imported": 2}' "entities are imported, errors told by row"
like "$(execute plugin_selection '{"plugins": "techdocs"}')" '22023.*list of names' "a name is no list of plugins"
like "$(execute plugin_selection '{"plugins": ["a", "b", "c", "d", "e", "f"]}')" '53400.*6 plugins' "the plan's limit of plugins holds"
is "$(execute plugin_selection "$plugins")" completed "plugins are selected"
is "$(progress)" 'completed|100.0|[]' "all is done"
expected=$(end_of)
is "$expected" 'completed|t|active|starter|4711|["techdocs", "kubernetes"]|tenant_creation=completed database_setup=completed github_integration=completed initial_catalog_import=completed plugin_selection=completed|component:default/one component:default/two|1|1' "as it should be"
is "$(sql "SELECT state FROM onboarding_complete('$id')")" completed "completing it again does nothing"
like "$(sql "SELECT state FROM onboarding_recover('$id')")" 55000 "and there is nothing to recover"

# killed at every step boundary: before the end of each step is committed, and right after
kill_in() { # kill_in SQL backend|postmaster: it dies when the statement is done and not committed
	local i pid client
	psql -XAtqc "BEGIN" -c "$1" -c "SELECT 'boundary', pg_sleep(60)" > "$PGHOST/out" 2>&1 &
	client=$!
	for ((i = 0; i < 300; i++)); do
		pid=$(sql "SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT ''boundary''%' AND wait_event = 'PgSleep'")
		[ -n "$pid" ] && break
		sleep 0.1
	done
	if [ "$2" = postmaster ]; then kill_postmaster; else crash "$pid"; fi
	wait "$client"
}
kill_postmaster() { # and start it again when its children have noticed
	local i
	kill -9 "$(head -n 1 "$PGHOST/data/postmaster.pid")"
	for ((i = 0; i < 150; i++)); do cluster_restart >/dev/null 2>&1 && break; sleep 0.2; done
}
boundary() { # boundary N WHAT: a workflow that is cut off at boundary N: at the end of a step, or right after it
	local steps=("SELECT count(*) FROM job_run_due(1)" "SELECT count(*) FROM job_run_due(1)" "SELECT state FROM onboarding_step_execute('$id', 'github_integration', '$github')" \
		"SELECT count(*) FROM job_run_due(1)" "SELECT state FROM onboarding_step_execute('$id', 'plugin_selection', '$plugins')")
	local n
	for ((n = 0; n < 5; n++)); do
		[ "$n" != "$1" ] || [ "$2" = after ] || kill_in "${steps[n]}" "$2"
		sql "${steps[n]}" >/dev/null
		[ "$n" != "$1" ] || [ "$2" != after ] || kill_postmaster
	done
}
# periodic work would take the place of a step
sql "SELECT count(*) FROM job_run_due(); SELECT count(schedule_set(name, enabled => false)) FROM tenancy.schedule" >/dev/null
for what in backend postmaster after; do
	for ((n = 0; n < 5; n++)); do
		disconnect
		id=$(begin "killed-$what-$n")
		boundary $n $what
		is "$(end_of)" "$expected" "step $((n + 1)), $what: it comes to the same end"
	done
done

# failure, retry, skip, rollback
id=$(begin acme2)
sql "SELECT count(*) FROM tenant_create('acme3')" >/dev/null
sql "SELECT name FROM workflow_define('patient', (SELECT definition #- '{steps,0,retry}' FROM tenancy.workflow_definition WHERE name = 'onboarding'))" >/dev/null
other=$(sql "SELECT id FROM onboarding_start('{\"slug\": \"acme3\"}', 'patient')")
is "$(sql "SELECT count(*) FROM job_run_due()" >/dev/null; sql "SELECT state FROM tenancy.job WHERE arguments->>'workflow' = '$other'")" scheduled "a step that fails is tried again"
is "$(sql "SELECT state FROM onboarding_recover('$other', 'rollback')"; sql "SELECT count(*) FROM tenancy.job_pending WHERE arguments->>'workflow' = '$other'")" "compensated
0" "unless that is given up"
sql "SELECT name FROM workflow_define('once', (SELECT jsonb_set(definition, '{steps,0,retryable}', 'false') FROM tenancy.workflow_definition WHERE name = 'onboarding'))" >/dev/null
id=$(sql "SELECT id FROM onboarding_start('{\"slug\": \"acme3\"}', 'once')")
run
like "$(sql "SELECT state, error FROM tenancy.workflow WHERE id = '$id'")" 'failed.*"acme3" already exists' "in the end the workflow has failed"
is "$(sql "SELECT count(*) FROM tenancy.outbox_event WHERE type = 'tenant.onboarding.failure'")" 1 "which is an event"
for request in '{"slug": "acme3"}' '{"slug": "Not A Label"}' '{}' '{"slug": "fine", "plan": "none"}'; do
	other=$(sql "SELECT id FROM onboarding_start('$request')")
	run
	is "$(sql "SELECT state, error IS NOT NULL FROM tenancy.workflow WHERE id = '$other'")" "failed|t" "what a later attempt would not mend is not tried again: $request"
done
like "$(sql "SELECT state FROM onboarding_complete('$id')")" 55000 "it is not complete"
like "$(sql "SELECT state FROM onboarding_recover('$id', 'skip')")" '55000.*required' "a required step cannot be skipped"
like "$(sql "SELECT state FROM onboarding_recover('$id', 'hope')")" 22023 "an unknown action"
sql "SELECT count(*) FROM tenant_rename('acme3', slug => 'moved')" >/dev/null
is "$(sql "SELECT state FROM onboarding_recover('$id')")" running "it is retried"
run
is "$(progress)" 'running|66.7|["github_integration"]' "and goes on"
disconnect
execute github_integration "$github" >/dev/null
run
is "$(sql "SELECT state FROM onboarding_complete('$id')")" completed "what is optional need not be done"
is "$(sql "SELECT state FROM tenancy.workflow_step WHERE workflow_id = '$id' AND step = 'plugin_selection'")" skipped "and is skipped"

# rollback leaves nothing: catalogs and rows as before the start
snapshot() { # every catalog's and every table's number of rows, but for the history of workflows, jobs and events
	sql "SELECT usage_flush()" >/dev/null
	sql "SELECT c.oid::regclass, (xpath('/row/c/text()', query_to_xml(format('SELECT count(*) AS c FROM %s', c.oid::regclass), false, true, '')))[1]
		FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace IN ('tenancy'::regnamespace, 'pg_catalog'::regnamespace, 'public'::regnamespace)
		AND c.relname NOT IN ('workflow', 'workflow_step', 'job_done', 'job_pending', 'job_run', 'job_key', 'outbox_event', 'pg_statistic', 'schedule') AND c.oid::regclass::text !~ 'usage_(minute|hour)_|latency_hour_'
		ORDER BY 1"
	sql "SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY 1; SELECT nspname FROM pg_namespace ORDER BY 1; SELECT slug, state FROM tenancy.tenant ORDER BY 1"
}
id=$(sql "SELECT id FROM tenancy.workflow WHERE idempotency_key = 'acme2'")
sql "SELECT state FROM onboarding_recover('$id', 'rollback')" >/dev/null
run
before=$(snapshot)
id=$(begin undone)
run
disconnect
execute github_integration "$github" >/dev/null
run
tenant=$(sql "SELECT tenant_id FROM tenancy.workflow WHERE id = '$id'")
role=$(sql "SELECT role_name FROM tenancy.tenant WHERE id = '$tenant'")
sql "BEGIN; SELECT tenant_context_set('undone'); SELECT 1; COMMIT; SELECT usage_record('undone', 'api_calls'); SELECT usage_flush()" >/dev/null
is "$(sql "SELECT state FROM onboarding_recover('$id', 'rollback')")" compensated "a workflow is rolled back"
is "$(sql "SELECT string_agg(state, ' ' ORDER BY position) FROM tenancy.workflow_step WHERE workflow_id = '$id'")" "compensated compensated compensated compensated pending" "step by step"
is "$(diff <(echo "$before") <(snapshot))" "" "nothing of it is left: catalogs, rows, roles and schemas are as before"
is "$(sql "SELECT count(*) FROM tenancy.outbox_event o WHERE o.tenant_id = '$tenant'; SELECT count(*) FROM tenancy.job WHERE tenant_id = '$tenant'; SELECT count(*) FROM pg_roles WHERE strpos(rolname, substr('$role', 3)) > 0")" "0
0
0" "neither events nor jobs nor roles of the tenant"
is "$(sql "SELECT payload->>'slug', payload->>'cause' FROM tenancy.outbox_event WHERE type = 'tenant.deprovision' ORDER BY id DESC LIMIT 1")" "undone|rollback" "but for the event that it is gone"
is "$(sql "SELECT state FROM tenant_create('undone')")" active "and the slug is free"
# what was booked meanwhile stays
id=$(begin booked)
run
sql "SELECT count(*) FROM credit_add('booked', 5, 'welcome')" >/dev/null
is "$(sql "SELECT state FROM onboarding_recover('$id', 'rollback')"; sql "SELECT count(*), min(t.state) FROM tenancy.deletion_certificate c JOIN tenancy.tenant t ON t.id = c.tenant_id WHERE c.document->>'slug' = 'booked'")" "compensated
1|purged" "where something was booked, the rollback is a purge with a certificate"
# under legal hold nothing is undone
id=$(begin held)
run
sql "SELECT scope FROM legal_hold_set('tenant', 'suit', 'W-1', 'held')" >/dev/null
like "$(sql "SELECT state FROM onboarding_recover('$id', 'rollback')")" '55000.*legal hold' "a tenant under legal hold is not undone"
is "$(sql "SELECT state FROM tenancy.workflow WHERE id = '$id'; SELECT state FROM tenancy.tenant WHERE slug = 'held'")" "running
active" "and the workflow is as it was"

# functions of an application; who may
sql "CREATE ROLE doer; CREATE SCHEMA work AUTHORIZATION doer; SET ROLE doer;
	CREATE FUNCTION work.greet(j jsonb) RETURNS jsonb LANGUAGE sql AS \$\$ SELECT jsonb_build_object('hello', j->'request'->'name', 'who', current_user) \$\$;
	CREATE FUNCTION work.check(j jsonb) RETURNS jsonb LANGUAGE sql AS \$\$ SELECT jsonb_build_object('valid', j->'data' ? 'ok', 'errors', '[]'::jsonb) \$\$" >/dev/null
define own '{"id": "greet", "type": "system", "processor": "work.greet(jsonb)"}, {"id": "ask", "type": "user", "depends_on": ["greet"], "validator": "work.check(jsonb)", "processor": "work.greet(jsonb)"}' >/dev/null
id=$(sql "SELECT id FROM onboarding_start('{\"name\": \"you\"}', 'own')")
run
is "$(sql "SELECT result FROM tenancy.workflow_step WHERE workflow_id = '$id' AND step = 'greet'")" '{"who": "doer", "hello": "you"}' "a function of the application does a step, as its owner"
like "$(execute ask '{}')" 22023 "its validator judges"
is "$(execute ask '{"ok": 1}')" completed "its processor does it"
sql "CREATE ROLE nobody LOGIN" >/dev/null
for call in "workflow_define('x', '{}')" "onboarding_start('{}')" "onboarding_step_execute('$id', 'x')" "onboarding_step_validate('$id', 'x')" "onboarding_progress('$id')" "onboarding_complete('$id')" "onboarding_recover('$id')"; do
	like "$(PGUSER=nobody sql "SELECT $call")" 42501 "not for everybody: $call"
done
done_testing
