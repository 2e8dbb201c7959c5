-- Schedules that enqueue jobs: anchors, zones, misfires, overlaps.
SELECT * FROM no_plan();
SELECT count(tenant_create('schedule-a')) \g /dev/null
SELECT count(job_kind_define('tick')) \g /dev/null
-- What is due by this clock is overdue by that of the background workers: they are not to see it.
BEGIN;
SET tenancy.test_clock = '2026-03-01 12:00+00';
SELECT results_eq($$SELECT name, kind, every, enabled, anchor, zone, misfire, overlap, next_run_at FROM schedule_set('hourly', 'tick', '1 hour', anchor => '2026-03-01 00:30+00')$$,
	$$VALUES ('hourly', 'tick', interval '1 hour', true, '2026-03-01 00:30+00'::timestamptz, 'UTC', 'once', 'skip', '2026-03-01 12:30+00'::timestamptz)$$, 'a schedule');
CREATE FUNCTION public.ticks() RETURNS SETOF timestamptz LANGUAGE sql AS $$
	SELECT d.run_at FROM (SELECT * FROM job_run_due()) r RIGHT JOIN job_claim('tick', 100) c ON false, LATERAL job_complete(c.id, c.fence) d ORDER BY 1 $$;
CREATE FUNCTION public.at(t timestamptz) RETURNS SETOF timestamptz LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('tenancy.test_clock', t::text, false);
	PERFORM job_run_due();
	RETURN QUERY SELECT d.run_at FROM job_claim('tick', 100) c, LATERAL job_complete(c.id, c.fence) d ORDER BY 1;
END $$;
DROP FUNCTION public.ticks();
SELECT is_empty($$SELECT public.at('2026-03-01 12:29:59+00')$$, 'not before its time');
SELECT results_eq($$SELECT public.at('2026-03-01 12:30:01+00')$$, ARRAY['2026-03-01 12:30+00'::timestamptz], 'at its time');
SELECT is_empty($$SELECT public.at('2026-03-01 12:30:02+00')$$, 'once');
SELECT results_eq($$SELECT public.at('2026-03-01 18:00+00')$$, ARRAY['2026-03-01 17:30+00'::timestamptz], 'what was missed is run once');
SELECT is((SELECT next_run_at FROM tenancy.schedule WHERE name = 'hourly'), '2026-03-01 18:30+00', 'and the rhythm kept');
SELECT is((schedule_set('hourly', misfire => 'all', overlap => 'allow')).every, interval '1 hour', 'what is not said is kept');
SELECT results_eq($$SELECT public.at('2026-03-01 21:00+00')$$, ARRAY['2026-03-01 18:30+00', '2026-03-01 19:30+00', '2026-03-01 20:30+00']::timestamptz[], 'or all of it is run');
SELECT is((schedule_set('hourly', misfire => 'skip')).misfire, 'skip', 'or');
SELECT is_empty($$SELECT public.at('2026-03-01 23:00+00')$$, 'none of it');
SELECT results_eq($$SELECT public.at('2026-03-01 23:30:30+00')$$, ARRAY['2026-03-01 23:30+00'::timestamptz], 'but what is on time is');

-- overlap
SELECT count(schedule_set('hourly', overlap => 'skip')) \g /dev/null
SET tenancy.test_clock = '2026-03-02 00:30+00';
SELECT count(*) FROM job_run_due() \g /dev/null
SELECT is((SELECT count(*) FROM tenancy.job_pending WHERE schedule = 'hourly'), 1::bigint, 'a job');
SET tenancy.test_clock = '2026-03-02 01:30+00';
SELECT count(*) FROM job_run_due() \g /dev/null
SELECT is((SELECT count(*) FROM tenancy.job_pending WHERE schedule = 'hourly'), 1::bigint, 'that is not finished lets no other begin');
SELECT count(schedule_set('hourly', overlap => 'allow')) \g /dev/null
SET tenancy.test_clock = '2026-03-02 02:30+00';
SELECT count(*) FROM job_run_due() \g /dev/null
SELECT is((SELECT count(*) FROM tenancy.job_pending WHERE schedule = 'hourly'), 2::bigint, 'unless that is allowed');
SELECT count(job_complete(c.id, c.fence)) FROM job_claim('tick', 10) c \g /dev/null
SELECT is((schedule_set('hourly', enabled => false)).enabled, false, 'switched off');
SELECT is_empty($$SELECT public.at('2026-03-02 09:00+00')$$, 'it does nothing');

-- civil time: 9 o'clock in Berlin is 8:00 UTC in winter and 7:00 in summer (since 2026-03-29, EU rules)
SELECT is((schedule_set('daily', 'tick', '1 day', tenant => 'schedule-a', anchor => '2026-03-27 09:00 Europe/Berlin', zone => 'Europe/Berlin')).next_run_at, '2026-03-27 08:00+00', 'a civil time');
SELECT results_eq($$SELECT public.at('2026-03-28 08:00+00')$$, ARRAY['2026-03-28 08:00+00'::timestamptz], 'in winter');
SELECT is_empty($$SELECT public.at('2026-03-29 06:59+00')$$, 'is another');
SELECT results_eq($$SELECT public.at('2026-03-29 07:00+00')$$, ARRAY['2026-03-29 07:00+00'::timestamptz], 'in summer');
SELECT is((SELECT count(*) FROM tenancy.job_done WHERE schedule = 'daily' AND tenant_id = 'schedule-a'::regtenant), 2::bigint, 'the jobs are the tenant''s');
-- 02:30 does not exist on the 29th: PostgreSQL's own arithmetic says what it becomes
SELECT count(schedule_set('daily', anchor => '2026-03-27 02:30 Europe/Berlin')) \g /dev/null
SET tenancy.test_clock = '2026-03-28 12:00+00';
SELECT is((schedule_set('daily', every => '1 day')).next_run_at, '2026-03-29 02:30'::timestamp AT TIME ZONE 'Europe/Berlin', 'a time that the clock skips');
-- the 31st of each month
SET tenancy.test_clock = '2026-02-01 00:00+00';
SELECT is((schedule_set('monthly', 'tick', '1 month', anchor => '2026-01-31 00:00+00')).next_run_at, '2026-02-28 00:00+00', 'the last of February');
SET tenancy.test_clock = '2026-03-01 00:00+00';
SELECT is((schedule_set('monthly', every => '1 month')).next_run_at, '2026-03-31 00:00+00', 'does not shift March');
RESET tenancy.test_clock;
SELECT count(schedule_drop(name)) FROM unnest(ARRAY['daily', 'monthly']) name \g /dev/null
SELECT count(schedule_set('hourly', enabled => false)) \g /dev/null
COMMIT;

SELECT throws_ok(q, s, NULL, q) FROM (VALUES
	($$SELECT schedule_set('x')$$, '42704'), ($$SELECT schedule_set('x', 'none', '1 hour')$$, '42704'), ($$SELECT schedule_set('x', 'tick')$$, '42704'),
	($$SELECT schedule_set('x', 'billing.run', '1 hour')$$, '42704'), ($$SELECT schedule_set('x', 'tick', '0')$$, '22023'),
	($$SELECT schedule_set('x', 'tick', '2 years')$$, '22023'), ($$SELECT schedule_set('x', 'tick', '1 month -1 day')$$, '22023'),
	($$SELECT schedule_set('x', 'tick', '1 hour', zone => 'Nowhere')$$, '22023'), ($$SELECT schedule_set('x', 'tick', '1 hour', misfire => 'y')$$, '22023'),
	($$SELECT schedule_set('x', 'tick', '1 hour', overlap => 'y')$$, '22023'), ($$SELECT schedule_set('x', 'tick', '1 hour', anchor => 'infinity')$$, '22008'),
	($$SELECT schedule_set('x', 'tick', '1 hour', arguments => '[]')$$, '22023'), ($$SELECT schedule_set('x', 'tick', '1 hour', tenant => 'schedule-none')$$, '42704'),
	($$SELECT schedule_set('', 'tick', '1 hour')$$, '22023'), ($$SELECT schedule_set(NULL)$$, '22004'),
	($$SELECT schedule_set('billing.run', zone => 'UTC')$$, '22023'), ($$SELECT schedule_drop('x')$$, '42704'), ($$SELECT schedule_drop('billing.run')$$, '42704'),
	($$SELECT cron_install()$$, '55000'), ($$SELECT cron_uninstall()$$, '55000')) v(q, s);
SELECT is((schedule_drop('hourly')).name, 'hourly', 'a schedule is dropped');
CREATE ROLE schedule_nobody;
SET ROLE schedule_nobody;
SELECT throws_ok(q, '42501', NULL, q) FROM unnest(ARRAY[$$SELECT schedule_set('x', 'tick', '1 hour')$$, $$SELECT schedule_drop('daily')$$, 'SELECT cron_install()', 'SELECT cron_uninstall()']) q;
RESET ROLE;
SELECT * FROM finish();
