#!/bin/bash
# Provisioning as the database sees it, with commands that only write down what they were told.
. "$(dirname "$0")/lib.sh"
outside=$(mktemp -d)
chmod 777 "$outside"
trap 'rm -rf "$outside"' EXIT
cluster_start --set tenancy.runner_idle_timeout=1s --set "tenancy.command_file=$outside/commands" --set max_worker_processes=16 --set tenancy.upstreams="a:1, a:2"
trap 'cluster_stop; rm -rf "$outside"' EXIT
cat > "$outside/act" <<'EOT'
#!/bin/sh
cd "$(dirname "$0")" || exit 1
cat > "$1.$2.input"
echo "$1 $2" >> log
[ ! -e "$1.$2.slow" ] || { touch "$1.$2.begun"; while [ -e "$1.$2.slow" ]; do sleep 0.1; done; }
status=$(cat "$1.$2" 2>/dev/null)
[ "${status:-0}" = 0 ] || echo "$1 cannot $2" >&2
echo "{\"said\": \"$1 $2\"}"
exit ${status:-0}
EOT
chmod 755 "$outside/act"
: > "$outside/log"; chmod 666 "$outside/log"
all="infrastructure database application dns ssl monitoring"
commands() { # commands COMPONENT...: the file has these
	for name in "$@"; do echo "\"provision.$name\": {\"argv\": [\"$outside/act\", \"$name\", \"\${action}\"]}"; done | paste -sd, | sed 's/.*/{&}/' > "$outside/commands"
	chmod 644 "$outside/commands"
}
log() { paste -sd, "$outside/log"; : > "$outside/log"; }
input() { jq -cS "$2" "$outside/$1.input"; }
row() { sql "SELECT $2 FROM tenancy.provision WHERE tenant_id = (SELECT id FROM tenancy.tenant WHERE slug = '${3:-acme}') AND component = '$1'"; }
becomes() { # becomes COMPONENT STATE [TENANT]
	wait_for 30 "SELECT state FROM tenancy.provision WHERE tenant_id = (SELECT id FROM tenancy.tenant WHERE slug = '${3:-acme}') AND component = '$1'" "$2"
	row "$1" state "${3:-acme}"
}
sql "SELECT count(*) FROM (VALUES ('acme'), ('beta')) v (slug), tenant_create(v.slug)" >/dev/null
acme=$(sql "SELECT id FROM tenancy.tenant WHERE slug = 'acme'")
role=$(sql "SELECT role_name FROM tenancy.tenant WHERE slug = 'acme'")

# what is refused
commands dns
like "$(sql "SELECT provision_dns('acme')")" '22023.*domain.*HINT:  .*tenancy.base_domain' "without a domain"
like "$(sql "SELECT provision_monitoring('acme')")" '42704.*"provision.monitoring" does not exist.*HINT.*commands" has no command' "a command that the file does not have is named"
is "$(sql "SELECT count(*) FROM tenancy.provision")" 0 "nothing is left of that"
like "$(sql "SELECT provision_dns('none', '{}')")" 42704 "an unknown tenant"
like "$(sql "SELECT provision_dns(NULL, '{}')")" 22004 "no tenant"
like "$(sql "SELECT provision_dns('acme', NULL)")" 22004 "no configuration"
like "$(sql "SELECT provision_dns('acme', '[]')")" 22023 "a list"
like "$(sql "SELECT provision_dns('acme', '{\"colour\": 1}')")" '22023.*colour' "an unknown member"
for spec in '{"domain": "a b"}' '{"domain": "-x.test"}' '{"domain": "a.test", "addresses": ["1.2.3"]}' '{"domain": "a.test", "addresses": ["10.0.0.0/8"]}' '{"domain": "a.test", "ttl": 0}' \
	'{"domain": "a.test", "target": "b.test", "addresses": ["1.2.3.4"]}'; do
	like "$(sql "SELECT provision_dns('acme', '$spec')")" 22023 "refused: $spec"
done
commands $all
for spec in '{"hosts": ["a b"]}' '{"hosts": ["a.test"], "upstream": "localhost"}' '{"hosts": ["a.test"], "upstream": "http://x:1"}' '{"hosts": ["a.test"], "bundle": "../x"}' '{}'; do
	like "$(sql "SELECT provision_application('acme', '$spec')")" 22023 "refused: $spec"
done
like "$(sql "SELECT provision_ssl('acme', 'a.test', 'luck')")" '22023.*method' "an unknown method"
like "$(sql "SELECT provision_backups('acme', '{\"every\": \"soon\"}')")" '(22007|42704|55000)' "no interval"
like "$(sql "SELECT provision_infrastructure('acme', '{\"pool_size\": 0}')")" 22023 "a pool without connections"
like "$(sql "SELECT provision_check('acme', 'luck')")" '22023.*"luck".*HINT' "an unknown component"
like "$(sql "SELECT provision_remove('acme', 'luck')")" 22023 "nor can it be removed"
sql "CREATE ROLE nobody LOGIN" >/dev/null
for call in infrastructure database application dns ssl monitoring backups check remove; do
	like "$(PGUSER=nobody sql "SELECT provision_$call('$acme')")" 42501 "not for everybody: $call"
	like "$(sql "BEGIN; SELECT tenant_context_set('acme'); SELECT provision_$call('$acme')")" 42501 "nor for a tenant"
done
like "$(PGUSER=nobody sql "SELECT tenant_provision('$acme')")" 42501 "nor all at once"
like "$(PGUSER=nobody sql "SELECT * FROM tenancy.provision")" 42501 "nor to be read"

# done, repeated, changed
: > "$outside/log"
is "$(sql "SELECT state, name FROM provision_dns('acme', '{\"domain\": \"Acme.Example.com\"}')")" "pending|acme.example.com" "it is asked for"
is "$(becomes dns active)" active "and done"
is "$(log)" "dns do,dns check" "by the command, which then looks"
is "$(input dns.do .)" "{\"domain\":\"acme.example.com\",\"slug\":\"acme\",\"target\":null,\"tenant\":\"$acme\",\"ttl\":300}" "who was told all that it needs"
is "$(row dns "evidence, error IS NULL, checked_at IS NOT NULL")" '{"do": {"said": "dns do"}, "check": {"said": "dns check"}}|t|t' "the evidence is kept"
is "$(sql "SELECT state FROM provision_dns('acme', '{\"domain\": \"Acme.Example.com\"}')")" active "asked for again it is there"
is "$(log)" "" "and left alone"
is "$(sql "SELECT state FROM provision_dns('acme', '{\"domain\": \"acme.example.com\", \"ttl\": 60}')")" pending "otherwise it is changed"
is "$(becomes dns active), $(log), $(input dns.do .ttl)" "active, dns do,dns check, 60" "and done again"
like "$(sql "SELECT provision_dns('beta', '{\"domain\": \"acme.example.com\"}')")" "23505.*another tenant" "another tenant does not get the name"
is "$(sql "SELECT count(*) FROM tenancy.outbox_event WHERE type = 'tenant.provision.active'")" 2 "it is an event"
set_and_reload tenancy.base_domain saas.example
like "$(sql "SELECT provision_dns('acme', '{\"domain\": \"beta.saas.example\"}')")" 23505 "nor the one that another has by its slug"
like "$(sql "SELECT provision_dns('acme', '{\"domain\": \"saas.example\"}')")" 23505 "nor the platform's"
is "$(sql "SELECT name FROM provision_dns('acme', '{\"domain\": \"www.acme.saas.example\"}')")" www.acme.saas.example "what is below its own is its own"
is "$(sql "SELECT name FROM provision_ssl('acme')")" acme.saas.example "which is the default"
is "$(becomes ssl active), $(input ssl.do .method)" 'active, "on-demand"' "for certificates, too"
wait_for 30 "SELECT count(*) FROM tenancy.provision WHERE state = 'active' AND component = 'dns'" 2
log >/dev/null

# failing
echo 1 > "$outside/monitoring.do"
sql "SELECT provision_monitoring('acme')" >/dev/null
is "$(becomes monitoring failed)" failed "a command that fails for good"
is "$(row monitoring error)" "the command ended with status 1: monitoring cannot do" "says why"
is "$(sql "SELECT payload->>'component' FROM tenancy.outbox_event WHERE type = 'tenant.provision.failed'")" monitoring "in an event, too"
rm "$outside/monitoring.do"
echo 75 > "$outside/monitoring.check"
sql "SELECT provision_monitoring('acme')" >/dev/null
wait_for 30 "SELECT state, error FROM tenancy.provision WHERE component = 'monitoring'" "pending|the command ended with status 75: monitoring cannot check"
is "$(row monitoring state)" pending "what cannot be yet is tried again"
rm "$outside/monitoring.check"
is "$(becomes monitoring active)" active "until it can"
touch "$outside/monitoring.do.slow"; rm -f "$outside/monitoring.do.begun"
sql "SELECT provision_monitoring('acme', '{\"target\": \"a:1\"}')" >/dev/null
for ((i = 0; i < 600; i++)); do [ -e "$outside/monitoring.do.begun" ] && break; sleep 0.1; done
like "$(sql "SELECT provision_monitoring('acme', '{\"target\": \"a:2\"}')")" '55000.*being worked on' "at work it cannot be changed"
like "$(sql "SELECT provision_remove('acme', 'monitoring')")" '55000.*being worked on' "nor removed"
is "$(sql "SELECT state FROM provision_monitoring('acme', '{\"target\": \"a:1\"}')")" pending "asking for the same is no error"
pid=$(sql "SELECT worker_pid FROM tenancy.job_pending WHERE kind = 'provision.run'")
crash "$pid"
rm "$outside/monitoring.do.slow"
is "$(becomes monitoring active), $(row monitoring spec)" 'active, {"target": "a:1"}' "the server is killed at work, and it is done nevertheless"

# looking after it
log >/dev/null
is "$(sql "SELECT count(*) FROM provision_check('acme', 'dns')")" 2 "it is looked at again"
wait_for 30 "SELECT count(*) FROM tenancy.job_pending WHERE kind = 'provision.run'" 0
is "$(log)" "dns check,dns check" "and nothing else"
echo 1 > "$outside/monitoring.check"
sql "SELECT provision_check('acme', 'monitoring')" >/dev/null
is "$(becomes monitoring drifted)" drifted "what is no longer right has drifted"
rm "$outside/monitoring.check"
sql "SELECT provision_check('acme', 'monitoring', repair => true)" >/dev/null
is "$(becomes monitoring active)" active "and is repaired"
wait_for 30 "SELECT count(*) FROM tenancy.job_pending WHERE kind = 'provision.run'" 0
log >/dev/null
PGUSER=postgres sql "UPDATE tenancy.provision SET checked_at = now() - interval '25 hours'; UPDATE tenancy.schedule SET next_run_at = now() WHERE name = 'provision.check'" >/dev/null
wait_for 30 "SELECT count(*) FROM tenancy.provision WHERE checked_at > now() - interval '1 hour'" 4
is "$(log | tr , '\n' | sort | paste -sd,)" "dns check,dns check,monitoring check,ssl check,ssl do" "once a day all is looked at, and certificates renewed"

# in the database
is "$(sql "SELECT state, evidence->>'schema' FROM provision_database('acme')")" "active|$role" "a schema needs no command"
is "$(sql "SELECT state FROM provision_infrastructure('acme', '{\"pooled\": false, \"allocation\": {\"limits\": {\"connections\": 5}}}')")" active "nor an allocation"
is "$(sql "SELECT state, limits->>'connections' FROM tenancy.allocation")" "active|5" "which is made"
is "$(sql "SELECT state FROM provision_infrastructure('acme', '{\"pooled\": false, \"allocation\": {\"limits\": {\"connections\": 6}}}')")" active "changed"
is "$(sql "SELECT state, limits->>'connections' FROM tenancy.allocation")" "active|6" "in its place"
is "$(sql "SELECT state FROM provision_remove('acme', 'infrastructure')"), $(sql "SELECT state FROM tenancy.allocation")" "removed, released" "and released"

# whose hosts, and where they lead
sql "SELECT tenant_domain_add('acme', 'www.proven.example'); SELECT tenant_domain_verify(domain, ARRAY[record_value]) FROM tenancy.domain" >/dev/null
route() { sql "SELECT state FROM provision_application('$1', '$2')"; }
like "$(route beta '{"hosts": ["beta.saas.example", "WWW.proven.example."]}')" '23505.*www.proven.example.*another tenant' "a host that another has proven"
like "$(route beta '{"hosts": ["acme.saas.example"]}')" '23505.*another tenant' "or has by its slug"
like "$(route beta '{"hosts": ["saas.example"]}')" '23505.*another tenant' "or that is the platform's"
like "$(route beta '{"hosts": ["www.free.example"]}')" '55000.*not proven.*HINT' "nor one that nobody has proven"
sql "SELECT tenant_domain_add('beta', 'www.free.example')" >/dev/null
like "$(route beta '{"hosts": ["www.free.example"]}')" '55000.*not proven' "though it claims it"
for address in 127.0.0.1:2019 a:3 a:11 'a:1, a:2'; do
	like "$(route acme "{\"upstream\": \"$address\"}")" 22023 "no upstream of the operator's: $address"
	like "$(sql "SELECT state FROM provision_monitoring('acme', '{\"target\": \"$address\"}')")" 22023 "nor a target"
done
is "$(sql "SELECT count(*) FROM tenancy.provision WHERE component = 'application'")" 0 "nothing is left of that"
is "$(route acme '{"hosts": ["WWW.proven.example.", "x.acme.saas.example"], "upstream": "A:1"}')" pending "one's own"
is "$(becomes application active), $(input application.do .hosts)" 'active, ["www.proven.example","x.acme.saas.example"]' "are routed, by their names in lower case"
sql "SELECT tenant_domain_remove('www.proven.example')" >/dev/null
log >/dev/null
is "$(sql "SELECT state, error FROM provision_check('acme', 'application', repair => true)")" "drifted|host \"www.proven.example\" is not the tenant's" "until they are given up"
is "$(log)" "" "then the route is not made again"
is "$(route acme '{"hosts": ["x.acme.saas.example"]}')" pending "asked for without it"
is "$(becomes application active)" active "it is right again"

# removed
sql "SELECT provision_application('acme')" >/dev/null
is "$(becomes application active)" active "an application"
log >/dev/null
echo 1 > "$outside/dns.undo"
is "$(sql "SELECT count(*) FROM provision_remove('acme')")" 7 "all is removed"
wait_for 30 "SELECT count(*) FROM tenancy.provision WHERE state = 'removal_failed'" 1
is "$(log)" "monitoring undo,ssl undo,dns undo" "in the opposite order, until one fails"
is "$(input ssl.undo .domain)" '"acme.saas.example"' "who is told what it was told before"
rm "$outside/dns.undo"
sql "SELECT provision_remove('acme')" >/dev/null
wait_for 30 "SELECT count(*) FROM tenancy.provision WHERE state <> 'removed'" 0
is "$(sql "SELECT count(*) FROM tenancy.provision WHERE state = 'removed'"), $(log)" "7, dns undo,dns undo,application undo" "again, it goes on"
is "$(sql "SELECT count(*) FROM provision_remove('acme')"), $(log)" "7, " "once"
is "$(sql "SELECT name FROM provision_dns('beta', '{\"domain\": \"acme.example.com\"}')")" acme.example.com "its name is free again"
is "$(becomes dns active beta)" active "for others"

# all at once, by a workflow
log >/dev/null
like "$(sql "SELECT tenant_provision('acme', '{\"luck\": {}}')")" '22023.*"luck"' "an unknown component"
like "$(sql "SELECT tenant_provision('acme', '{\"dns\": {\"ttl\": 0}}')")" 22023 "one that is not right"
for odd in 3 '"yes"' '[]'; do
	like "$(sql "SELECT tenant_provision('acme', '{\"dns\": $odd}')")" '22023.*"dns" must be a JSON object, true or false' "nor one that is none: $odd"
done
id=$(sql "SELECT id FROM tenant_provision('acme', '{\"dns\": {\"ttl\": 7}, \"monitoring\": false, \"backups\": false}')")
is "$(sql "SELECT id FROM tenant_provision('acme')")" "$id" "the workflow that runs is the one"
wait_for 30 "SELECT state FROM tenancy.workflow WHERE id = '$id'" completed
is "$(sql "SELECT state, tenant_id FROM tenancy.workflow WHERE id = '$id'")" "completed|$acme" "all is provisioned"
is "$(sql "SELECT string_agg(component || '=' || state, ' ' ORDER BY component, name) FROM tenancy.provision WHERE tenant_id = '$acme' AND state <> 'removed'")" \
	"application=active database=active dns=active infrastructure=active ssl=active" "but what was left out"
is "$(sql "SELECT result->>'skipped' FROM tenancy.workflow_step WHERE workflow_id = '$id' AND step = 'monitoring'")" "it was not asked for" "which is said"
is "$(sql "SELECT count(*) FROM tenancy.outbox_event WHERE type = 'tenant.provisioning.success'"), $(sql "SELECT count(*) FROM tenancy.outbox_event WHERE type = 'tenant.onboarding.success'")" "1, 0" "it is no onboarding"
sql "SELECT provision_remove('acme')" >/dev/null
wait_for 30 "SELECT count(*) FROM tenancy.provision WHERE state <> 'removed' AND tenant_id = '$acme'" 0
log >/dev/null
echo 1 > "$outside/ssl.do"
id=$(sql "SELECT id FROM onboarding_start('{\"slug\": \"hosted\", \"provision\": {\"monitoring\": false, \"backups\": false}}', 'onboarding_hosted')")
wait_for 30 "SELECT state FROM tenancy.workflow WHERE id = '$id'" failed
is "$(sql "SELECT error FROM tenancy.workflow WHERE id = '$id'")" "the command ended with status 1: ssl cannot do" "an onboarding that fails outside"
is "$(sql "SELECT state FROM onboarding_recover('$id', 'rollback')")" compensating "is undone outside"
wait_for 30 "SELECT state FROM tenancy.workflow WHERE id = '$id'" compensated
is "$(sql "SELECT state FROM tenancy.workflow WHERE id = '$id'")" compensated "and inside"
like "$(log)" 'ssl do,ssl undo,(application undo,dns undo|dns undo,application undo),infrastructure undo$' "the last first"
is "$(sql "SELECT count(*) FROM tenancy.tenant WHERE slug = 'hosted'")" 0 "the tenant is gone, last of all"
rm "$outside/ssl.do"

# suspended
sql "SELECT tenant_suspend('acme', 'test')" >/dev/null
like "$(sql "SELECT provision_dns('acme')")" '55000.*suspended' "nothing is provided for who is suspended"
is "$(sql "SELECT count(*) > 0 FROM provision_remove('acme')")" t "but it may be removed"

# purged: what is outside goes first
id=$(sql "SELECT id FROM tenant_provision('beta', '{\"monitoring\": false, \"backups\": false}')")
wait_for 30 "SELECT state FROM tenancy.workflow WHERE id = '$id'" completed
log >/dev/null
beta=$(sql "SELECT id FROM tenancy.tenant WHERE slug = 'beta'")
sql "SELECT tenant_delete('beta')" >/dev/null
is "$(sql "SELECT document IS NOT NULL FROM tenant_purge('beta', force => true, dry_run => true)"), $(log)" "t, " "a dry run of a purge leaves the outside alone"
is "$(sql "SELECT count(*) FROM tenancy.provision WHERE tenant_id = '$beta' AND state = 'active'")" 6 "all of it"
echo 1 > "$outside/dns.undo"
is "$(sql "SELECT document IS NULL FROM tenant_purge('beta', force => true)")" t "a purge begins outside, and is not finished"
wait_for 30 "SELECT count(*) FROM tenancy.provision WHERE state = 'removal_failed'" 1
sleep 6
is "$(sql "SELECT state FROM tenancy.tenant WHERE id = '$beta'"), $(sql "SELECT document IS NULL FROM tenancy.deletion_certificate WHERE tenant_id = '$beta'")" "purging, t" "it waits for what could not be removed"
is "$(log)" "ssl undo,dns undo" "and does not try for ever"
rm "$outside/dns.undo"
sql "SELECT provision_remove('$beta'::uuid)" >/dev/null
wait_for 60 "SELECT state FROM tenancy.tenant WHERE id = '$beta'" purged
is "$(sql "SELECT state FROM tenancy.tenant WHERE id = '$beta'"), $(sql "SELECT count(*) FROM tenancy.provision WHERE tenant_id = '$beta'")" "purged, 0" "then the tenant is purged"
like "$(sql "SELECT document FROM tenancy.deletion_certificate WHERE tenant_id = '$beta'")" 'dns .*beta.saas.example' "the certificate tells of it"
done_testing
