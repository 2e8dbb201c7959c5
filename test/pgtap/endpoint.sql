-- Webhooks: signatures, addresses, endpoints.
SELECT * FROM no_plan();
SELECT count(tenant_create(s, isolation => 'pool')) FROM unnest(ARRAY['hook-a', 'hook-b']) s \g /dev/null

-- the vectors of the specification (Standard Webhooks 1.0, and its libraries' tests)
SELECT is(tenancy.webhook_signature('whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 'msg_p5jXN8AQM9LWM0D4loKWxJek', 1614265330, '{"test": 2432232314}'),
	'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=', 'HMAC-SHA256');
SELECT isnt(tenancy.webhook_signature('whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 'msg_p5jXN8AQM9LWM0D4loKWxJek', 1614265330, '{"test": 2432232315}'),
	'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=', 'of another body is another');
SELECT throws_ok(format($$SELECT tenancy.webhook_signature(%L, 'x', 1, 'x')$$, s), '22023', NULL, format('no secret: %s', s))
	FROM unnest(ARRAY['', 'whsec_', 'whsec_!!!', 'whsec_AAAA', 'MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 'whsk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 'whpk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw']) s;

-- IANA special-purpose address registries
SELECT is(tenancy.address_is_public(a::inet), e, format('%s is %s', a, CASE WHEN e THEN 'public' ELSE 'private' END)) FROM (VALUES
	('8.8.8.8', true), ('1.1.1.1', true), ('0.0.0.0', false), ('10.255.255.255', false), ('11.0.0.0', true), ('100.63.255.255', true), ('100.64.0.0', false),
	('100.127.255.255', false), ('100.128.0.0', true), ('127.0.0.1', false), ('169.254.169.254', false), ('172.15.255.255', true), ('172.16.0.0', false),
	('172.31.255.255', false), ('172.32.0.0', true), ('192.0.0.8', false), ('192.0.2.1', false), ('192.168.0.1', false), ('192.169.0.1', true), ('198.17.255.255', true),
	('198.18.0.0', false), ('198.19.255.255', false), ('198.51.100.1', false), ('203.0.113.1', false), ('224.0.0.1', false), ('240.0.0.1', false), ('255.255.255.255', false),
	('2606:4700:4700::1111', true), ('::', false), ('::1', false), ('::ffff:8.8.8.8', true), ('::ffff:10.0.0.1', false), ('64:ff9b::8.8.8.8', true), ('64:ff9b::127.0.0.1', false),
	('64:ff9b:1::1', false), ('100::1', false), ('2001::1', false), ('2001:db8::1', false), ('2002:7f00:1::', false), ('2002:808:808::', true), ('fc00::1', false), ('fd12::1', false),
	('fe80::1', false), ('fec0::1', false), ('ff02::1', false), ('3fff::1', false)) v(a, e);

-- endpoints
SELECT id, key FROM endpoint_create('hook-a', 'https://example.com/hook', ARRAY['order.*', 'tenant.activate']) \gset
SELECT matches(:'key'::text, '^whsec_[A-Za-z0-9+/]{43}=$', 'a secret of 32 bytes');
SELECT is((SELECT key FROM endpoint_create('hook-a', 'https://example.com/', secret => 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw')), 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'::text, 'a secret of one''s own');
SELECT matches((SELECT key FROM endpoint_create('hook-b', 'https://example.com/', scheme => 'v1a')), '^whpk_[A-Za-z0-9+/]{43}=$', 'a public key of 32 bytes');
SELECT throws_ok(format($$SELECT endpoint_create('hook-a', %L)$$, u), '22023', NULL, format('no URL: %s', u))
	FROM unnest(ARRAY['', 'example.com', 'ftp://example.com', 'https://', 'https:///x', 'https://user@example.com/', 'https://user:x@example.com/', 'https://example.com/ x', E'https://example.com/\nx', 'https://exämple.com/', 'https://example.com\@evil', 'https://:80/', 'https://example.com/#x', 'file:///etc/passwd', 'https://' || repeat('x', 2048)]) u;
SELECT throws_ok(format($$SELECT endpoint_create('hook-a', 'https://example.com/', %L)$$, t), '22023', NULL, format('no event types: %s', t))
	FROM unnest(ARRAY['{}', '{""}', '{NULL}', '{Order}', '{*.x}', '{order*}', '{.*}', '{or*.x}']) t;
SELECT throws_ok(q, s, NULL, q) FROM (VALUES
	($$SELECT endpoint_create('hook-a', NULL)$$, '22004'), ($$SELECT endpoint_create('hook-a', 'https://example.com/', NULL)$$, '22004'), ($$SELECT endpoint_create('hook-none', 'https://example.com/')$$, '42704'),
	($$SELECT endpoint_create('hook-a', 'https://example.com/', scheme => 'v2')$$, '22023'), ($$SELECT endpoint_create('hook-a', 'https://example.com/', scheme => 'v1a', secret => 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw')$$, '22023'),
	($$SELECT endpoint_set('00000000-0000-0000-0000-000000000001')$$, '42704'), ($$SELECT endpoint_rotate('00000000-0000-0000-0000-000000000001')$$, '42704'),
	($$SELECT endpoint_delete('00000000-0000-0000-0000-000000000001')$$, '42704'), ($$SELECT delivery_replay('00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-000000000001')$$, '42704')) v(q, s);
SELECT throws_ok(format($$SELECT endpoint_rotate(%L, '-1 day')$$, :'id'), '22023', NULL, 'no overlap');
SELECT throws_ok(format($$SELECT endpoint_rotate(%L, '31 days')$$, :'id'), '22023', NULL, 'one that is too long');
SELECT throws_ok(format($$SELECT endpoint_set(%L, 'ftp://x')$$, :'id'), '22023', NULL, 'no other URL');

-- who hears of what, in one row each
SELECT id AS event FROM event_publish('hook-a', 'order.shipped', '{}') \gset
SELECT is((SELECT count(*) FROM tenancy.delivery WHERE event_id = :'event'), 2::bigint, 'by its beginning, and by *');
SELECT id AS event FROM event_publish('hook-a', 'orderly.shipped', '{}') \gset
SELECT is((SELECT count(*) FROM tenancy.delivery WHERE event_id = :'event'), 1::bigint, 'not by half a word');
SELECT is((SELECT array_agg(enabled) FROM (SELECT (endpoint_set(id, enabled => false)).enabled FROM tenancy.endpoint WHERE tenant_id = 'hook-a'::regtenant) e), '{f,f}'::boolean[], 'they are disabled');
SELECT id AS event FROM event_publish('hook-a', 'order.shipped', '{}') \gset
SELECT is((SELECT count(*) FROM tenancy.delivery WHERE event_id = :'event'), 0::bigint, 'and hear nothing');
SELECT is((endpoint_set(:'id', 'https://example.org/', ARRAY['*'], true)).url, 'https://example.org/', 'one is changed');
SELECT is((delivery_replay(:'event', :'id')).kind, 'webhook.deliver', 'and told of what it has missed');

-- a tenant has its own
SELECT id AS operators FROM endpoint_create(NULL, 'https://example.com/operator') \gset
SELECT count(event_publish('hook-a', 'shop.opened', '{}')) \g /dev/null
SELECT cmp_ok((SELECT count(*) FROM tenancy.delivery WHERE endpoint_id = :'operators' AND tenant_id = 'hook-a'::regtenant), '>', 0::bigint, 'the operator is told of a tenant''s events, too');
SELECT count(*) AS own FROM tenancy.delivery d JOIN tenancy.endpoint p ON p.id = d.endpoint_id WHERE p.tenant_id = 'hook-a'::regtenant AND d.tenant_id = p.tenant_id \gset
SELECT id AS other FROM tenancy.endpoint WHERE tenant_id = 'hook-b'::regtenant \gset
SELECT throws_ok(format($$SELECT delivery_replay(%L, %L)$$, :'event', :'other'), '22023', NULL, 'nobody sends a tenant''s event to another, not even by mistake');
SELECT is((delivery_replay(:'event', :'operators')).kind, 'webhook.deliver', 'but to the operator');
BEGIN;
SELECT tenant_context_set('hook-a') \g /dev/null
SELECT isnt((SELECT id FROM endpoint_create('hook-a', 'https://example.com/own')), NULL, 'a tenant makes endpoints');
SELECT is((SELECT count(*) FROM tenancy.endpoint), 3::bigint, 'and sees its own');
SELECT is((endpoint_set(:'id', enabled => false)).enabled, false, 'and changes them');
SELECT isnt((SELECT key FROM endpoint_rotate(:'id')), NULL, 'and their keys');
SELECT is((SELECT count(*) FROM tenancy.delivery WHERE tenant_id <> current_tenant_id()), 0::bigint, 'and sees its deliveries');
SELECT is((SELECT count(*) FROM tenancy.delivery), :own::bigint, 'all of them');
SELECT cmp_ok(:own, '>', 0, 'of which there are some');
SELECT is((SELECT count(*) FROM tenancy.delivery WHERE endpoint_id = :'operators'), 0::bigint, 'and not those to the operator');
SELECT throws_ok(q, s, NULL, q) FROM (VALUES ($$SELECT endpoint_create('hook-b', 'https://example.com/')$$, '42704'), ($$SELECT endpoint_create(NULL, 'https://example.com/')$$, '42501'),
	(format($$SELECT endpoint_set(%L)$$, :'other'), '42704'), (format($$SELECT endpoint_rotate(%L)$$, :'other'), '42704'), (format($$SELECT endpoint_delete(%L)$$, :'other'), '42704'),
	(format($$SELECT delivery_replay(%L, %L)$$, :'event', :'other'), '42704'), ('SELECT FROM tenancy.endpoint_key', '42501')) v(q, s);
ROLLBACK;
SET ROLE tenancy_admin;
SELECT throws_ok('SELECT secret FROM tenancy.endpoint_key', '42501', NULL, 'nobody reads secrets');
RESET ROLE;
SELECT count(endpoint_create('hook-b', 'https://example.com/' || n)) FROM generate_series(1, 49) n \g /dev/null
SELECT throws_ok($$SELECT endpoint_create('hook-b', 'https://example.com/x')$$, '53400', NULL, 'fifty are enough');
SELECT is((endpoint_delete(:'id')).id, :'id'::uuid, 'an endpoint is deleted');
SELECT is((SELECT count(*) FROM tenancy.endpoint_key WHERE endpoint_id = :'id'), 0::bigint, 'with its keys');
SELECT * FROM finish();
