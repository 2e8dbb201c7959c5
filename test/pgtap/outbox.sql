-- Events: written with what they tell of, seen by whom they concern, kept for a time.
SELECT * FROM no_plan();
\ir quiet.psql
SELECT count(tenant_create(s)) FROM unnest(ARRAY['outbox-a', 'outbox-b']) s \g /dev/null
SELECT results_eq($$SELECT type, version, tenant_id = 'outbox-a'::regtenant, payload FROM tenancy.outbox_event WHERE tenant_id = 'outbox-a'::regtenant$$,
	$$VALUES ('tenant.activate', 1, true, '{"slug": "outbox-a", "state": "active", "cause": "activate", "reason": null}'::jsonb)$$, 'a new tenant is an event');
SELECT count(*) FROM tenant_suspend('outbox-a', 'unpaid') \g /dev/null
SELECT is((SELECT payload->>'reason' FROM tenancy.outbox_event WHERE type = 'tenant.deactivate'), 'unpaid', 'so is one suspended');
SELECT count(*) FROM tenant_resume('outbox-a') \g /dev/null
SELECT is((SELECT count(*) FROM tenancy.outbox_event WHERE type = 'tenant.activate' AND tenant_id = 'outbox-a'::regtenant), 2::bigint, 'and one resumed');
BEGIN;
SELECT count(*) FROM tenant_suspend('outbox-a', 'a mistake') \g /dev/null
ROLLBACK;
SELECT is((SELECT count(*) FROM tenancy.outbox_event WHERE type = 'tenant.deactivate'), 1::bigint, 'what did not happen is none');
SELECT ok((SELECT bool_and(uuid_send(id) >= decode(lpad(to_hex(floor(extract(epoch FROM created_at) * 1000)::bigint), 12, '0'), 'hex')) FROM tenancy.outbox_event), 'ids are in order of time');

SELECT is((event_publish('outbox-b', 'order.shipped', '{"order": 7}')).version, 1, 'an application tells of an order');
SELECT is((event_publish('outbox-b', 'order.line_2.shipped', '{}', 3)).type, 'order.line_2.shipped', 'in a later version');
SELECT throws_ok(format($$SELECT event_publish('outbox-b', %L, '{}')$$, t), '22023', NULL, format('no type: "%s"', t))
	FROM unnest(ARRAY['', 'order', '.order', 'order.', 'order..shipped', 'Order.shipped', 'order.1', 'order shipped.x', 'order.' || repeat('x', 95)]) t;
SELECT lives_ok(format($$SELECT event_publish('outbox-b', %L, '{}')$$, 'order.' || repeat('x', 94)), 'a type of 100 characters');
SELECT throws_ok($$SELECT event_publish('outbox-b', 'tenant.activate', '{}')$$, '42939', NULL, 'a type of ours');
SELECT throws_ok($$SELECT event_publish('outbox-b', 'order.shipped', '[]')$$, '22023', NULL, 'a payload that is no object');
SELECT throws_ok($$SELECT event_publish('outbox-b', 'order.shipped', '{}', 0)$$, '22023', NULL, 'no version');
SELECT throws_ok($$SELECT event_publish('outbox-b', 'order.shipped', jsonb_build_object('x', repeat('x', 20000)))$$, '54000', NULL, 'a payload that is too large');
SELECT lives_ok($$SELECT event_publish('outbox-b', 'order.shipped', jsonb_build_object('x', repeat('x', 19991)))$$, 'and the largest');
SELECT throws_ok($$SELECT event_publish('outbox-none', 'order.shipped', '{}')$$, '42704', NULL, 'an unknown tenant');
SELECT throws_ok($$SELECT event_publish('00000000-0000-0000-0000-000000000001'::uuid, 'order.shipped', '{}')$$, '42704', NULL, 'an unknown id');
SELECT throws_ok(q, '22004', NULL, 'no nulls')
	FROM unnest(ARRAY[$$SELECT event_publish(NULL, 'order.shipped', '{}')$$, $$SELECT event_publish('outbox-b', NULL, '{}')$$,
		$$SELECT event_publish('outbox-b', 'order.shipped', NULL)$$, $$SELECT event_publish('outbox-b', 'order.shipped', '{}', NULL)$$]) q;

-- a tenant sees and tells of itself
BEGIN;
SELECT tenant_context_set('outbox-b') \g /dev/null
SELECT is((event_publish('outbox-b', 'order.paid', '{}')).tenant_id, current_tenant_id(), 'a tenant tells of itself');
SELECT is((SELECT count(*) FROM tenancy.outbox_event WHERE tenant_id <> current_tenant_id()), 0::bigint, 'and sees no other');
SELECT is((SELECT count(*) > 4 FROM tenancy.outbox_event), true, 'than itself');
SELECT is((SELECT count(*) >= 3 FROM tenancy.event_type), true, 'and what there is to hear of');
SELECT throws_ok($$SELECT event_publish('outbox-a', 'order.paid', '{}')$$, '42704', NULL, 'it tells of no other');
SELECT throws_ok($$INSERT INTO tenancy.outbox_event VALUES (gen_random_uuid(), current_tenant_id(), 'tenant.activate', 1, '{}', now())$$, '42501', NULL, 'and forges none');
ROLLBACK;
CREATE ROLE outbox_nobody;
SET ROLE outbox_nobody;
SELECT throws_ok($$SELECT event_publish('00000000-0000-0000-0000-000000000001'::uuid, 'order.paid', '{}')$$, '42501', NULL, 'not for everybody');
SELECT throws_ok('SELECT FROM tenancy.outbox_event', '42501', NULL, 'nor to be read by');
RESET ROLE;

-- retention
SET tenancy.test_clock = '2100-01-01 00:00+00';
SELECT count(*) AS events FROM tenancy.outbox_event \gset
SELECT run_now('job.retention') \g /dev/null
SELECT is((SELECT (result->>'events')::bigint FROM tenancy.job_run WHERE kind = 'job.retention' ORDER BY started_at DESC LIMIT 1), :events::bigint, 'old events are deleted');
SELECT is((SELECT count(*) FROM tenancy.outbox_event), 0::bigint, 'all of them');
RESET tenancy.test_clock;
SELECT count(*) FROM event_publish('outbox-b', 'order.paid', '{}') \g /dev/null
SELECT set_config('tenancy.test_clock', (now() + interval '29 days')::text, false) \g /dev/null
SELECT run_now('job.retention') \g /dev/null
SELECT is((SELECT count(*) FROM tenancy.outbox_event), 1::bigint, 'an event is kept for 29 days');
SELECT set_config('tenancy.test_clock', (now() + interval '720 hours 1 minute')::text, false) \g /dev/null
SELECT run_now('job.retention') \g /dev/null
SELECT is((SELECT count(*) FROM tenancy.outbox_event), 0::bigint, 'and not for 31');
SELECT * FROM finish();
