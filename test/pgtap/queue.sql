-- Queued jobs as clients and operators use them.
SELECT * FROM no_plan();
\ir quiet.psql
SELECT count(tenant_create(s)) FROM unnest(ARRAY['queue-a', 'queue-b']) s \g /dev/null
SELECT is((job_kind_define('mail', retry => '{"max_attempts": 3, "delays_seconds": [10, 60]}')).name, 'mail', 'a kind that clients claim');
SELECT is((SELECT executor FROM tenancy.job_kind WHERE name = 'mail'), 'client', 'is listed');
SELECT throws_ok(format($$SELECT job_kind_define(%L)$$, k), '22023', NULL, format('no name of a kind: "%s"', k)) FROM unnest(ARRAY['', 'Mail', 'a b', repeat('x', 101)]) k;
SELECT throws_ok($$SELECT job_kind_define('billing.run')$$, '42939', NULL, 'a kind of ours');
SELECT throws_ok(format($$SELECT job_kind_define('x', retry => %L)$$, r), '22023', NULL, format('no policy: %s', r))
	FROM unnest(ARRAY['[]', '{"max_attempts": 0}', '{"max_attempts": 101}', '{"factor": 0}', '{"jitter": "some"}', '{"delays_seconds": [-1]}', '{"delays_seconds": 3}', '{"tries": 3}', '{"initial_seconds": 2592001}']) r;
SELECT throws_ok($$SELECT job_kind_define('x', timeout => '0')$$, '22023', NULL, 'no timeout');
SELECT throws_ok($$SELECT job_kind_define('x', timeout => '8 days')$$, '22023', NULL, 'one that is too long');
SELECT throws_ok($$SELECT job_kind_define('x', run_as => 'me')$$, '22023', NULL, 'nobody to run as');

-- enqueue, claim, complete
SELECT id AS first FROM job_enqueue('mail', '{"to": "a"}', 'queue-a') \gset
SELECT results_eq(format($$SELECT kind, tenant_id = 'queue-a'::regtenant, state, attempt, max_attempts, priority::int, arguments FROM tenancy.job WHERE id = %L$$, :'first'),
	$$VALUES ('mail', true, 'ready', 0, 3, 5, '{"to": "a"}'::jsonb)$$, 'a job is ready');
SELECT id AS claimed, fence FROM job_claim('mail') \gset
SELECT is(:'claimed'::uuid, :'first'::uuid, 'it is claimed');
SELECT results_eq(format($$SELECT state, attempt, fence, lease_until > now() FROM tenancy.job WHERE id = %L$$, :'first'), $$VALUES ('running', 1, 1::bigint, true)$$, 'and runs, for the first time');
SELECT is_empty($$SELECT FROM job_claim('mail')$$, 'by one alone');
SELECT cmp_ok(job_heartbeat(:'first', 1, '2 minutes'), '>', now() + interval '110 seconds', 'its lease is extended');
SELECT cmp_ok(job_heartbeat(:'first', 1, '1 day'), '<=', now() + interval '5 minutes', 'but not beyond its timeout');
SELECT throws_ok(format($$SELECT job_heartbeat(%L, 2)$$, :'first'), '55000', NULL, 'under another number it is not');
SELECT throws_ok(format($$SELECT job_complete(%L, 2)$$, :'first'), '55000', NULL, 'nor completed');
SELECT throws_ok(format($$SELECT job_fail(%L, 2, 'no')$$, :'first'), '55000', NULL, 'nor failed');
SELECT throws_ok(format($$SELECT job_snooze(%L, 2, now())$$, :'first'), '55000', NULL, 'nor put off');
SELECT is((job_complete(:'first', 1, '{"sent": 1}')).state, 'succeeded', 'it is completed');
SELECT results_eq(format($$SELECT result, finished_at IS NOT NULL, error FROM tenancy.job WHERE id = %L$$, :'first'), $$VALUES ('{"sent": 1}'::jsonb, true, NULL::text)$$, 'with its result');
SELECT throws_ok(format($$SELECT job_complete(%L, 1)$$, :'first'), '55000', NULL, 'and not twice');
SELECT throws_ok($$SELECT job_complete('00000000-0000-0000-0000-000000000001', 1)$$, '55000', NULL, 'nor one that does not exist');

-- failure, retries, dead letter, replay
SELECT id AS bad FROM job_enqueue('mail', '{"to": "b"}') \gset
SELECT fence FROM job_claim('mail') \gset
SELECT is((job_fail(:'bad', :fence, 'no such host', evidence => '{"code": 550}')).state, 'scheduled', 'a job that failed is scheduled again');
SELECT results_eq(format($$SELECT round(extract(epoch FROM run_at - (failures->0->>'failed_at')::timestamptz)), error, failures->0->'evidence', jsonb_array_length(failures) FROM tenancy.job WHERE id = %L$$, :'bad'),
	$$VALUES (10::numeric, 'no such host', '{"code": 550}'::jsonb, 1)$$, 'as its policy says');
SELECT is_empty($$SELECT FROM job_claim('mail')$$, 'and not before');
SELECT set_config('tenancy.test_clock', (now() + interval '11 seconds')::text, false) \g /dev/null
SELECT fence FROM job_claim('mail') \gset
SELECT is(:fence, 2, 'then claimed again');
SELECT is((job_fail(:'bad', :fence, 'again', retry_after => '90 seconds')).run_at - current_setting('tenancy.test_clock')::timestamptz, interval '90 seconds', 'later, when the receiver says so');
SELECT set_config('tenancy.test_clock', (now() + interval '200 seconds')::text, false) \g /dev/null
SELECT fence FROM job_claim('mail') \gset
SELECT is((job_fail(:'bad', :fence, repeat('ü', 2000))).state, 'discarded', 'the third time is the last');
SELECT results_eq(format($$SELECT attempt, octet_length(error), failures->2->>'attempt' FROM tenancy.job WHERE id = %L$$, :'bad'), $$VALUES (3, 2000, '3')$$, 'the dead letter says why, within bounds');
SELECT id AS again FROM job_replay(:'bad') \gset
SELECT results_eq(format($$SELECT state, attempt, arguments FROM tenancy.job WHERE id = %L$$, :'again'), $$VALUES ('ready', 0, '{"to": "b"}'::jsonb)$$, 'it is replayed');
SELECT fence FROM job_claim('mail') \gset
SELECT is((job_fail(:'again', :fence, 'never', retry => false)).state, 'discarded', 'a failure for good');
SELECT throws_ok($$SELECT job_replay('00000000-0000-0000-0000-000000000001')$$, '42704', NULL, 'nothing to replay');
SELECT is((job_kind_define('picky', retry => '{"non_retryable": ["22"]}')).retry, '{"non_retryable": ["22"]}'::jsonb, 'SQLSTATEs that are not tried again');
RESET tenancy.test_clock;

-- snooze and cancel
SELECT id AS job FROM job_enqueue('mail') \gset
SELECT fence FROM job_claim('mail') \gset
SELECT results_eq(format($$SELECT state, attempt FROM job_snooze(%L, %s, now() + interval '1 hour')$$, :'job', :fence), $$VALUES ('scheduled', 0)$$, 'a job is put off, and no attempt counted');
SELECT is((job_cancel(:'job', 'no longer wanted')).state, 'cancelled', 'and cancelled');
SELECT is((SELECT error FROM tenancy.job WHERE id = :'job'), 'no longer wanted', 'with the reason');
SELECT throws_ok(format($$SELECT job_cancel(%L)$$, :'job'), '55000', NULL, 'once');
SELECT throws_ok($$SELECT job_cancel('00000000-0000-0000-0000-000000000001')$$, '42704', NULL, 'an unknown one not at all');
SELECT id AS job FROM job_enqueue('mail') \gset
SELECT fence FROM job_claim('mail') \gset
SELECT is((job_cancel(:'job')).state, 'cancelled', 'a running job is cancelled');
SELECT throws_ok(format($$SELECT job_complete(%L, %s)$$, :'job', :fence), '55000', NULL, 'and its end refused');

-- leases that end
SELECT id AS job FROM job_enqueue('mail') \gset
SELECT fence FROM job_claim('mail', lease => '1 second') \gset
SELECT set_config('tenancy.test_clock', (now() + interval '5 seconds')::text, false) \g /dev/null
SELECT is_empty($$SELECT FROM job_claim('mail')$$, 'a lease that has ended is a failure');
SELECT results_eq(format($$SELECT state, failures->0->>'sqlstate' FROM tenancy.job WHERE id = %L$$, :'job'), $$VALUES ('scheduled', '57P02')$$, 'and tried again later');
SELECT throws_ok(format($$SELECT job_complete(%L, %s)$$, :'job', :fence), '55000', NULL, 'the zombie is refused');
SELECT set_config('tenancy.test_clock', (now() + interval '30 seconds')::text, false) \g /dev/null
SELECT fence AS second FROM job_claim('mail') \gset
SELECT throws_ok(format($$SELECT job_complete(%L, %s)$$, :'job', :fence), '55000', NULL, 'also when another has claimed it');
SELECT is(job_complete_batch(ARRAY[:'job', :'job']::uuid[], ARRAY[:fence, :second]), 1, 'of a batch only the claims that hold count');
RESET tenancy.test_clock;
SELECT throws_ok($$SELECT job_complete_batch('{}', '{1}')$$, '2202E', NULL, 'arrays of two lengths');
SELECT throws_ok($$SELECT job_complete_batch(NULL, '{1}')$$, '22004', NULL, 'no array');
SELECT is(job_complete_batch('{}', '{}'), 0, 'an empty batch');

-- keys
SELECT id AS job FROM job_enqueue('mail', '{"n": 1}', 'queue-a', unique_key => 'digest') \gset
SELECT is((job_enqueue('mail', '{"n": 2}', 'queue-a', unique_key => 'digest')).id, :'job', 'under a unique key there is one unfinished job');
SELECT isnt((job_enqueue('mail', '{"n": 2}', 'queue-b', unique_key => 'digest')).id, :'job', 'a tenant');
SELECT count(job_complete(id, fence)) FROM job_claim('mail', 10) \g /dev/null
SELECT isnt((job_enqueue('mail', '{"n": 1}', 'queue-a', unique_key => 'digest')).id, :'job', 'and another when it is finished');
SELECT count(job_complete(id, fence)) FROM job_claim('mail', 10) \g /dev/null
SELECT id AS job FROM job_enqueue('mail', '{"n": 1, "m": 2}', 'queue-a', idempotency_key => 'order-7') \gset
SELECT count(job_complete(id, fence)) FROM job_claim('mail', 10) \g /dev/null
SELECT is((job_enqueue('mail', '{"m": 2, "n": 1}', 'queue-a', idempotency_key => 'order-7')).id, :'job', 'an idempotency key returns the first job, finished or not');
SELECT throws_ok($$SELECT job_enqueue('mail', '{"n": 2}', 'queue-a', idempotency_key => 'order-7')$$, '23505', NULL, 'but not for other arguments');
SELECT isnt((job_enqueue('mail', '{"n": 1, "m": 2}', 'queue-b', idempotency_key => 'order-7')).id, :'job', 'nor for another tenant');
SELECT throws_ok($$SELECT job_enqueue('mail', unique_key => '')$$, '22023', NULL, 'an empty key');
SELECT throws_ok($$SELECT job_enqueue('mail', idempotency_key => repeat('x', 256))$$, '22023', NULL, 'a long key');
SELECT count(job_complete(id, fence)) FROM job_claim('mail', 10) \g /dev/null

-- dependencies
SELECT id AS a FROM job_enqueue('mail', '{"n": "a"}') \gset
SELECT id AS b FROM job_enqueue('mail', '{"n": "b"}', depends_on => ARRAY[:'a'::uuid]) \gset
SELECT id AS c FROM job_enqueue('mail', '{"n": "c"}', depends_on => ARRAY[:'a', :'b']::uuid[]) \gset
SELECT bag_eq($$SELECT state FROM tenancy.job_pending$$, ARRAY['ready', 'blocked', 'blocked'], 'jobs wait for others');
SELECT results_eq($$SELECT c.arguments->>'n' FROM job_claim('mail', 10) c, LATERAL job_complete(c.id, c.fence)$$, ARRAY['a'], 'the first goes');
SELECT results_eq($$SELECT c.arguments->>'n' FROM job_claim('mail', 10) c, LATERAL job_complete(c.id, c.fence)$$, ARRAY['b'], 'then the second');
SELECT results_eq($$SELECT c.arguments->>'n' FROM job_claim('mail', 10) c, LATERAL job_complete(c.id, c.fence)$$, ARRAY['c'], 'then the third');
SELECT is((job_enqueue('mail', depends_on => ARRAY[:'a'::uuid])).state, 'ready', 'what has succeeded is not waited for');
SELECT count(job_complete(id, fence)) FROM job_claim('mail', 10) \g /dev/null
SELECT id AS a FROM job_enqueue('mail') \gset
SELECT id AS b FROM job_enqueue('mail', depends_on => ARRAY[:'a'::uuid]) \gset
SELECT id AS c FROM job_enqueue('mail', depends_on => ARRAY[:'b'::uuid]) \gset
SELECT count(job_fail(id, fence, 'no', false)) FROM job_claim('mail') \g /dev/null
SELECT results_eq(format($$SELECT state FROM tenancy.job WHERE id IN (%L, %L, %L)$$, :'a', :'b', :'c'), ARRAY['discarded', 'discarded', 'discarded'], 'what depends on a failure is discarded');
SELECT throws_ok(format($$SELECT job_enqueue('mail', depends_on => ARRAY[%L]::uuid[])$$, :'a'), '55000', NULL, 'and cannot be waited for');
SELECT throws_ok($$SELECT job_enqueue('mail', depends_on => '{00000000-0000-0000-0000-000000000001}')$$, '42704', NULL, 'nor what does not exist');
SELECT throws_ok($$SELECT job_enqueue('mail', depends_on => '{NULL}')$$, '22004', NULL, 'nor a null');
SELECT is((SELECT count(*) FROM tenancy.job_dependency), 0::bigint, 'nothing is left of them');

-- priority, with ageing: a step is worth 100 places
SELECT count(job_enqueue('mail', jsonb_build_object('p', p), priority => p)) FROM unnest(ARRAY[9, 5, 0]) p \g /dev/null
SELECT results_eq($$SELECT (c.arguments->>'p')::int FROM job_claim('mail', 10) c, LATERAL job_complete(c.id, c.fence)$$, ARRAY[0, 5, 9], 'by priority');
SELECT count(job_enqueue('mail', '{"old": true}', priority => 1)) \g /dev/null
SELECT count(job_enqueue('mail', '{"old": false}', priority => 0)) FROM generate_series(1, 150) \g /dev/null
SELECT cmp_ok((SELECT array_position(array_agg(c.arguments->>'old'), 'true') FROM job_claim('mail', 200) c, LATERAL job_complete(c.id, c.fence)), '<=', 102, 'but nothing waits for ever');
SELECT throws_ok(format($$SELECT job_enqueue('mail', priority => %s)$$, p), '22023', NULL, 'a bad priority') FROM unnest(ARRAY[-1, 10]) p;

-- fairness: a tenant's only job comes right after what runs
SELECT count(job_enqueue('mail', '{"t": "a"}', 'queue-a')) FROM generate_series(1, 500) \g /dev/null
SELECT count(job_complete(id, fence)) FROM job_claim('mail', 50) \g /dev/null
SELECT count(job_enqueue('mail', '{"t": "b"}', 'queue-b')) \g /dev/null
SELECT cmp_ok((SELECT array_position(array_agg(c.arguments->>'t'), 'b') FROM job_claim('mail', 450) c, LATERAL job_complete(c.id, c.fence)), '<=', 2, 'a tenant with 500 jobs is no hindrance');
SELECT count(job_complete(id, fence)) FROM job_claim('mail', 1000) \g /dev/null

-- a limit
SELECT is(job_limit_set('queue-a', 2), 'queue-a'::regtenant::uuid, 'a tenant may run two jobs');
SELECT count(job_enqueue('mail', jsonb_build_object('n', n), 'queue-a')) FROM generate_series(1, 5) n \g /dev/null
SELECT count(job_enqueue('mail', '{}', 'queue-b')) FROM generate_series(1, 3) n \g /dev/null
CREATE TABLE public.held AS SELECT id, fence, tenant_id FROM job_claim('mail', 10);
SELECT results_eq($$SELECT count(*) FILTER (WHERE tenant_id = 'queue-a'::regtenant), count(*) FILTER (WHERE tenant_id = 'queue-b'::regtenant) FROM public.held$$, $$VALUES (2::bigint, 3::bigint)$$, 'it runs two, another what it likes');
SELECT is((SELECT count(*) FROM tenancy.job WHERE state = 'held'), 3::bigint, 'the others are held');
SELECT count(job_complete(id, fence)) FROM (SELECT * FROM public.held WHERE tenant_id = 'queue-a'::regtenant LIMIT 1) h \g /dev/null
SELECT is((SELECT count(*) FROM job_claim('mail', 10)), 1::bigint, 'one that ends lets one in');
SELECT is((SELECT count(*) FROM tenancy.job WHERE state = 'held'), 2::bigint, 'and no more');
SELECT count(job_limit_set('queue-a', NULL)) \g /dev/null
SELECT is((SELECT count(*) FROM job_claim('mail', 10)), 2::bigint, 'without the limit all go');
SELECT throws_ok($$SELECT job_limit_set('queue-a', -1)$$, '22023', NULL, 'no limit');
SELECT throws_ok($$SELECT job_limit_set('queue-none', 1)$$, '42704', NULL, 'no tenant');
SELECT count(job_cancel(id)) FROM tenancy.job WHERE finished_at IS NULL \g /dev/null
SELECT count(job_limit_set('queue-a', 0)) \g /dev/null
SELECT is((job_enqueue('mail', '{}', 'queue-a')).state, 'held', 'a limit of none holds all');
SELECT count(job_limit_set('queue-a', NULL)) \g /dev/null
SELECT is((SELECT count(job_complete(id, fence)) FROM job_claim('mail', 10)), 1::bigint, 'until it is lifted');

-- later
SELECT is((job_enqueue('mail', run_at => now() + interval '1 hour')).state, 'scheduled', 'a job for later');
SELECT is_empty($$SELECT FROM job_claim('mail')$$, 'is not claimed now');
SELECT set_config('tenancy.test_clock', (now() + interval '1 hour')::text, false) \g /dev/null
SELECT is((SELECT count(job_complete(id, fence)) FROM job_claim('mail')), 1::bigint, 'but then');
RESET tenancy.test_clock;

-- bad arguments
SELECT throws_ok($$SELECT job_enqueue('none')$$, '42704', NULL, 'an unknown kind');
SELECT throws_ok($$SELECT job_enqueue('billing.run')$$, '42704', NULL, 'a periodic one');
SELECT throws_ok($$SELECT job_enqueue('webhook.deliver')$$, '42809', NULL, 'one that the extension enqueues itself');
SELECT throws_ok($$SELECT schedule_set('x', 'webhook.deliver', '1 hour')$$, '42809', NULL, 'not by a schedule either');
SELECT throws_ok($$SELECT job_enqueue(NULL)$$, '22004', NULL, 'no kind');
SELECT throws_ok($$SELECT job_enqueue('mail', '[]')$$, '22023', NULL, 'arguments that are no object');
SELECT throws_ok($$SELECT job_enqueue('mail', timeout => '0')$$, '22023', NULL, 'no timeout');
SELECT throws_ok($$SELECT job_enqueue('mail', retry => '{"x": 1}')$$, '22023', NULL, 'a bad policy');
SELECT throws_ok($$SELECT job_enqueue('mail', run_at => 'infinity')$$, '22008', NULL, 'never');
SELECT throws_ok($$SELECT * FROM job_claim('none')$$, '42704', NULL, 'nothing to claim');
SELECT throws_ok($$SELECT * FROM job_claim('mail', 0)$$, '22023', NULL, 'none');
SELECT throws_ok($$SELECT * FROM job_claim('mail', 10001)$$, '22023', NULL, 'too many');
SELECT throws_ok($$SELECT * FROM job_claim('mail', lease => '0')$$, '22023', NULL, 'no lease');
SELECT throws_ok($$SELECT job_kind_drop('none')$$, '42704', NULL, 'no kind to drop');
SELECT count(job_enqueue('picky')) \g /dev/null
SELECT throws_ok($$SELECT job_kind_drop('picky')$$, '55006', NULL, 'a kind in use');
SELECT count(job_cancel(id)) FROM tenancy.job WHERE kind = 'picky' AND finished_at IS NULL \g /dev/null
SELECT is((job_kind_drop('picky')).name, 'picky', 'is dropped when it is not');

-- who may
CREATE ROLE queue_app LOGIN IN ROLE tenancy_app;
CREATE ROLE queue_admin LOGIN IN ROLE tenancy_admin;
SELECT id AS command FROM job_enqueue('command.run', '{"command": "x"}', run_at => now() + interval '1 hour') \gset
SELECT id AS ended FROM job_enqueue('command.run', '{"command": "x"}', run_at => now() + interval '1 hour') \gset
SELECT count(job_cancel(:'ended')) \g /dev/null
-- As a worker has it.
UPDATE tenancy.job_pending SET state = 'ready', rank = 1, fence = 1, attempt = 1, started_at = now(), lease_until = now() + interval '1 minute' WHERE id = :'command';
SET ROLE queue_app;
SELECT throws_ok($$SELECT job_enqueue('command.run', '{"command": "x"}')$$, '42501', NULL, 'an application runs no commands');
SELECT throws_ok(format('SELECT job_replay(%L)', :'ended'), '42501', 'jobs of kind "command.run" need the role tenancy_admin', 'not again either');
SELECT throws_ok(format(call, :'command'), '42501', 'jobs of kind "command.run" need the role tenancy_admin', call || ' is not for an application')
	FROM unnest(ARRAY['SELECT job_heartbeat(%L, 1)', 'SELECT job_complete(%L, 1)', 'SELECT job_complete_batch(ARRAY[%L]::uuid[], ARRAY[1])',
		'SELECT job_fail(%L, 1, ''no'')', 'SELECT job_snooze(%L, 1, now())', 'SELECT job_cancel(%L)']) call;
RESET ROLE;
BEGIN;
SELECT tenant_context_set('queue-a') \g /dev/null
SELECT throws_ok(format(call, :'command'), '42501', NULL, call || ' is not for a tenant')
	FROM unnest(ARRAY['SELECT job_heartbeat(%L, 1)', 'SELECT job_complete(%L, 1)', 'SELECT job_complete_batch(ARRAY[%L]::uuid[], ARRAY[1])',
		'SELECT job_fail(%L, 1, ''no'')', 'SELECT job_snooze(%L, 1, now())', 'SELECT job_cancel(%L)', 'SELECT job_replay(%L)']) call;
ROLLBACK;
SELECT results_eq(format('SELECT fence, state FROM tenancy.job WHERE id = %L', :'command'), $$VALUES (1::bigint, 'running')$$, 'so that it is as it was');
-- what only operators see
SELECT is(tenancy.job_kind_is_own(k), own, format('"%s" is %s', k, CASE WHEN own THEN 'ours' ELSE 'not ours' END)) FROM (VALUES ('command.run', true), ('billing.run', true), ('mail', false), ('', false)) v(k, own);
SELECT is(tenancy.job_kind_is_own(NULL), NULL, 'no kind is neither');
SELECT id AS of_tenant FROM job_enqueue('command.run', '{"command": "secret"}', 'queue-a', now() + interval '1 hour') \gset
SELECT id AS of_tenant_done FROM job_enqueue('command.run', '{"command": "secret"}', 'queue-a', now() + interval '1 hour') \gset
SELECT count(job_cancel(:'of_tenant_done')) \g /dev/null
CREATE FUNCTION pg_temp.sees() RETURNS text LANGUAGE sql AS $$
	SELECT format('%s %s %s %s', (SELECT count(*) FROM tenancy.job_pending WHERE kind = 'command.run'), (SELECT count(*) FROM tenancy.job_done WHERE kind = 'command.run'),
		(SELECT count(*) FROM tenancy.job WHERE arguments ? 'command' OR fence IS NULL), EXISTS (SELECT FROM tenancy.job WHERE kind = 'mail')) $$;
SET ROLE queue_app;
SELECT is(pg_temp.sees(), '0 0 0 t', 'an application sees its kinds of jobs, not ours');
SET ROLE queue_admin;
SELECT is(pg_temp.sees(), '2 2 4 t', 'operators all');
RESET ROLE;
CREATE ROLE queue_auditor IN ROLE tenancy_auditor;
SET ROLE queue_auditor;
SELECT is(pg_temp.sees(), '2 2 4 t', 'as auditors do');
RESET ROLE;
BEGIN;
SELECT tenant_context_set('queue-a') \g /dev/null
SELECT is(pg_temp.sees(), '0 0 0 t', 'a tenant does not, though they are for it');
ROLLBACK;
SELECT count(job_cancel(:'of_tenant')) \g /dev/null
SET ROLE queue_admin;
SELECT id AS again FROM job_replay(:'ended') \gset
SELECT is((job_cancel(:'again')).state, 'cancelled', 'operators do both');
SELECT is((job_fail(:'command', 1, 'no', retry => false)).state, 'discarded', 'and end what a worker has');
RESET ROLE;
SET ROLE queue_app;
SELECT is((job_enqueue('mail', '{}', 'queue-a')).kind, 'mail', 'an application enqueues');
SELECT is((SELECT count(job_complete(id, fence)) FROM job_claim('mail')), 1::bigint, 'claims and completes');
SELECT throws_ok($$SELECT job_kind_define('x')$$, '42501', NULL, 'but defines no kinds');
SELECT throws_ok($$SELECT job_limit_set('queue-a', 1)$$, '42501', NULL, 'and no limits');
RESET ROLE;
BEGIN;
SELECT tenant_context_set('queue-a') \g /dev/null
SELECT throws_ok($$SELECT job_enqueue('mail')$$, '42501', NULL, 'a tenant enqueues nothing that is not for tenants');
SELECT throws_ok($$SELECT * FROM job_claim('mail')$$, '42501', NULL, 'and claims nothing');
SELECT throws_ok(format($$SELECT job_cancel(%L)$$, :'job'), '42501', NULL, 'and cancels nothing');
SELECT is((SELECT count(*) FROM tenancy.job WHERE tenant_id IS DISTINCT FROM current_tenant_id()), 0::bigint, 'it sees no jobs of others');
SELECT cmp_ok((SELECT count(*) FROM tenancy.job), '>', 100::bigint, 'but its own');
ROLLBACK;
SELECT count(job_kind_define('mail', for_tenants => true)) \g /dev/null
BEGIN;
SELECT tenant_context_set('queue-a') \g /dev/null
SELECT is((job_enqueue('mail')).tenant_id, current_tenant_id(), 'it enqueues for itself what is');
SELECT throws_ok($$SELECT job_enqueue('mail', '{}', 'queue-b')$$, '42704', NULL, 'and for no other');
ROLLBACK;
SELECT id AS theirs FROM job_enqueue('mail', '{}', 'queue-b') \gset
SELECT id AS nobodys FROM job_enqueue('mail') \gset
SELECT id AS failed FROM tenancy.job_done WHERE tenant_id = 'queue-b'::regtenant AND outcome = 'cancelled' LIMIT 1 \gset
SELECT id AS done FROM tenancy.job_done WHERE tenant_id = 'queue-b'::regtenant AND outcome = 'succeeded' LIMIT 1 \gset
BEGIN;
SELECT tenant_context_set('queue-a') \g /dev/null
SELECT id AS own FROM job_enqueue('mail') \gset
SELECT is((job_enqueue('mail', depends_on => ARRAY[:'own'::uuid])).state, 'blocked', 'its jobs wait for its own');
SELECT throws_ok(format($$SELECT job_enqueue('mail', depends_on => ARRAY[%L]::uuid[])$$, j), '42704', format('job "%s" does not exist', j), 'and know of no other')
	FROM unnest(ARRAY[:'theirs', :'nobodys', :'failed', :'done']) j;
ROLLBACK;
SELECT is((SELECT count(*) FROM tenancy.job_pending WHERE has_dependents), 0::bigint, 'nor mark them');
SELECT count(job_cancel(id)) FROM unnest(ARRAY[:'theirs', :'nobodys']::uuid[]) id \g /dev/null
CREATE ROLE queue_nobody;
SET ROLE queue_nobody;
SELECT throws_ok($$SELECT job_enqueue('mail')$$, '42501', NULL, 'not for everybody');
SELECT throws_ok('SELECT FROM tenancy.job', '42501', NULL, 'nor to be read by');
RESET ROLE;

-- what there is to see
SELECT count(job_enqueue('mail', '{}', 'queue-a')) FROM generate_series(1, 3) \g /dev/null
SELECT count(*) FROM job_claim('mail') \g /dev/null
SELECT results_eq($$SELECT ready, running, oldest_ready_at IS NOT NULL, succeeded > 500, discarded, failure_rate > 0, run_p95 >= run_p50, wait_p95 >= '0' FROM tenancy.job_stat WHERE kind = 'mail'$$,
	$$VALUES (2::bigint, 1::bigint, true, true, 5::bigint, true, true, true)$$, 'waiting, running, done');

-- retention
UPDATE tenancy.job_done SET finished_at = now() - interval '8 days' WHERE kind = 'mail';
SELECT run_now('job.retention') \g /dev/null
SELECT results_eq($$SELECT DISTINCT outcome FROM tenancy.job_done WHERE kind = 'mail'$$, ARRAY['discarded'], 'what has succeeded is kept for a week');
SELECT is((SELECT count(*) FROM tenancy.job_key), 0::bigint, 'and so are its keys');
UPDATE tenancy.job_done SET finished_at = now() - interval '29 days';
SELECT run_now('job.retention') \g /dev/null
SELECT is((SELECT count(*) FROM tenancy.job_done WHERE kind = 'mail'), 0::bigint, 'what has failed for four');
SELECT * FROM finish();
