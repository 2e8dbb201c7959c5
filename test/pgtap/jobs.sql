-- Periodic work, driven by SQL.
SELECT * FROM no_plan();
\ir quiet.psql
SELECT set_eq('SELECT name FROM tenancy.job_kind', ARRAY['backup.apply', 'backup.command', 'backup.maintain', 'backup.start', 'billing.part', 'billing.run', 'command.run', 'credit.expire', 'dunning.run', 'github.verify', 'job.retention', 'limits.autoscale', 'limits.save', 'limits.storage', 'limits.watch', 'metering.flush', 'metering.partitions', 'provision.check', 'provision.run', 'retention.start', 'retention.step', 'revenue.recognize', 'storage.measure', 'tenant.purge', 'usage.prune', 'usage.roll_up', 'webhook.deliver', 'workflow.command', 'workflow.step'], 'the kinds');
-- for a worker nothing is due: the clock of this session is ahead
BEGIN;
UPDATE tenancy.schedule SET enabled = true;
SET tenancy.test_clock = '2100-01-01 00:00+00';
SELECT set_eq('SELECT kind, state FROM job_run_due()', $$VALUES ('backup.maintain', 'succeeded'), ('billing.run', 'succeeded'), ('credit.expire', 'succeeded'), ('dunning.run', 'succeeded'), ('job.retention', 'succeeded'), ('limits.autoscale', 'succeeded'), ('metering.partitions', 'succeeded'), ('provision.check', 'succeeded'), ('retention.start', 'succeeded'), ('revenue.recognize', 'succeeded'), ('storage.measure', 'succeeded'), ('usage.prune', 'succeeded'), ('usage.roll_up', 'succeeded')$$, 'all are due, once');
COMMIT;
SELECT is((SELECT count(*) FROM job_run_due()), 0::bigint, 'and not at once again');
SELECT is((SELECT count(*) FROM tenancy.schedule WHERE next_run_at < '2100-01-01 00:00+00'), 0::bigint, 'what was missed is not made up for');
SELECT is((SELECT count(*) FROM tenancy.schedule WHERE lease_until IS NOT NULL), 0::bigint, 'no lease is left');
SET tenancy.test_clock = '2100-01-01 00:05+00';
SELECT set_eq('SELECT kind FROM job_run_due()', ARRAY['backup.maintain', 'limits.autoscale', 'storage.measure', 'usage.prune', 'usage.roll_up'], 'each at its interval');
SELECT (schedule_set(k, enabled => false)).enabled FROM unnest('{backup.maintain,usage.prune,usage.roll_up}'::text[]) k \g /dev/null
SELECT is((schedule_set('limits.autoscale', enabled => false)).enabled, false, 'a kind is switched off');
SELECT is((schedule_set('storage.measure', every => '1 minute')).every, interval '1 minute', 'an interval is changed');
SET tenancy.test_clock = '2100-01-01 00:06+00';
SELECT set_eq('SELECT kind FROM job_run_due()', ARRAY['storage.measure'], 'and holds');
SELECT is((schedule_set('storage.measure', enabled => false)).enabled, false, 'a kind is switched off');
SET tenancy.test_clock = '2100-01-01 00:30+00';
SELECT is_empty('SELECT kind FROM job_run_due()', 'and does not run');
SELECT throws_ok($$SELECT schedule_set('none')$$, '42704', NULL, 'an unknown kind');
SELECT throws_ok($$SELECT schedule_set('metering.flush')$$, '42704', NULL, 'one that has no schedule');
SELECT throws_ok($$SELECT schedule_set('billing.run', every => '0')$$, '22023', NULL, 'no interval');
SELECT throws_ok('SELECT job_run_due(0)', '22023', NULL, 'no jobs');

-- a failure is recorded and tried again later and later
CREATE FUNCTION public.sabotage() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'disk on fire' USING ERRCODE = '58030'; END $$;
CREATE TRIGGER sabotage BEFORE DELETE ON tenancy.job_run EXECUTE FUNCTION public.sabotage();
SET tenancy.test_clock = '2100-01-02 00:00+00';
SELECT results_eq($$SELECT state, error FROM job_run_due() WHERE kind = 'job.retention'$$, $$VALUES ('failed', 'disk on fire')$$, 'a failure');
SELECT results_eq($$SELECT state, error, sqlstate FROM tenancy.job_run WHERE kind = 'job.retention' ORDER BY started_at DESC LIMIT 1$$, $$VALUES ('failed', 'disk on fire', '58030')$$, 'is recorded');
SELECT results_eq($$SELECT last_error, failures FROM tenancy.schedule WHERE kind = 'job.retention'$$, $$VALUES ('disk on fire', 1)$$, 'and shown');
SELECT cmp_ok((SELECT next_run_at - '2100-01-02 00:00+00' FROM tenancy.schedule WHERE kind = 'job.retention'), '<', interval '40 seconds', 'tried again soon');
SET tenancy.test_clock = '2100-01-02 00:01+00';
SELECT count(*) FROM job_run_due() \g /dev/null
SELECT cmp_ok((SELECT next_run_at - '2100-01-02 00:01+00' FROM tenancy.schedule WHERE kind = 'job.retention'), '>', interval '40 seconds', 'then later');
DROP TRIGGER sabotage ON tenancy.job_run;
SET tenancy.test_clock = '2100-01-02 01:00+00';
SELECT count(*) FROM job_run_due() \g /dev/null
SELECT results_eq($$SELECT last_error, failures FROM tenancy.schedule WHERE kind = 'job.retention'$$, $$VALUES (NULL::text, 0)$$, 'a success clears it');
SET tenancy.test_clock = '2100-03-01 00:00+00';
SELECT count(*) FROM job_run_due() \g /dev/null
SELECT is((SELECT count(*) FROM tenancy.job_run WHERE started_at < '2100-01-30'), 0::bigint, 'the history is bounded');
RESET tenancy.test_clock;

CREATE ROLE job_nobody;
SET ROLE job_nobody;
SELECT throws_ok('SELECT job_run_due()', '42501', NULL, 'not for everybody');
RESET ROLE;
SELECT * FROM finish();
