-- Domains of tenants: claimed, proven, lost, removed, and what may be served.
SELECT * FROM no_plan();
SELECT count(tenant_create(s, isolation => 'pool')) FROM unnest(ARRAY['dom-a', 'dom-b', 'dom-c']) s \g /dev/null
CREATE FUNCTION pg_temp.proof(slug text, name text) RETURNS text LANGUAGE sql AS
	$$ SELECT record_value FROM tenancy.domain WHERE tenant_id = slug::regtenant AND domain = name $$;

-- RFC 1035, 2.3.1 and 2.3.4; RFC 1123, 2.1; RFC 5890 for xn--
SELECT is((tenant_domain_add('dom-a', d)).domain, e, format('%s is a name', left(d, 40))) FROM (VALUES
	('example.com', 'example.com'), ('EXAMPLE.com', 'example.com'), ('example.com.', 'example.com'), ('3com.example', '3com.example'), ('xn--bcher-kva.example', 'xn--bcher-kva.example'),
	(repeat('a', 63) || '.example', repeat('a', 63) || '.example'), ('a-b.c-d.example', 'a-b.c-d.example'), ('1.2.3.example', '1.2.3.example'),
	(repeat('a.', 115) || 'apple', repeat('a.', 115) || 'apple')) v(d, e);
SELECT throws_ok(format('SELECT tenant_domain_add(%L, %L)', 'dom-a', d), '22023', NULL, format('"%s" is no name', left(d, 40))) FROM unnest(ARRAY[
	'', '.', 'example', 'example..com', '.example.com', 'example.com..', '-a.example', 'a-.example', 'a_b.example', '_tenant-challenge.example.com', '*.example.com', 'bücher.example',
	'127.0.0.1', '1.2.3.4.', '::1', '[::1]', 'fe80::1', 'example.com:443', 'https://example.com', 'a b.example', E'a.example\n', 'example.123', repeat('a', 64) || '.example',
	repeat('a.', 124) || 'apples', repeat('a.', 116) || 'apple', 'a@b.example', E'a\x7f.example', '%2e.example']) d;
SELECT throws_ok(format('SELECT tenant_domain_add(%L, %L)', 'dom-a', d), '42939', NULL, format('%s is reserved', d))
	FROM unnest(ARRAY['db.internal', 'printer.local', 'x.localhost', 'A.B.Invalid', '1.0.0.10.in-addr.arpa', 'x.onion']) d;
SELECT throws_ok(q, s, NULL, q) FROM (VALUES
	($$SELECT tenant_domain_add(NULL, 'x.example')$$, '22004'), ($$SELECT tenant_domain_add('dom-a', NULL)$$, '22004'), ($$SELECT tenant_domain_add('dom-none', 'x.example')$$, '42704'),
	($$SELECT tenant_domain_verify(NULL, '{}')$$, '22004'), ($$SELECT tenant_domain_verify('x.example', NULL)$$, '22004'), ($$SELECT tenant_domain_verify('x.example', '{}')$$, '42704'),
	($$SELECT tenant_domain_verify('1.1.1.1', '{}')$$, '22023'), ($$SELECT tenant_domain_verify('example.com', array_fill('x'::text, '{1001}'))$$, '22023'),
	($$SELECT tenant_domain_remove(NULL)$$, '22004'), ($$SELECT tenant_domain_remove('x.example')$$, '42704'), ($$SELECT tenant_domain_remove('example.com', 'dom-b')$$, '42704'),
	($$SELECT tenant_domain_remove('example.com', 'dom-none')$$, '42704')) v(q, s);

-- the record
SELECT results_eq($$SELECT state, record_name FROM tenancy.domain WHERE domain = 'example.com'$$, $$VALUES ('pending', '_tenant-challenge.example.com')$$, 'a claim says where the record is to be');
SELECT matches(pg_temp.proof('dom-a', 'example.com'), '^tenant-challenge=[A-Za-z0-9_-]{43}$', 'and what is in it: 256 bits');
SELECT is((SELECT count(DISTINCT record_value) FROM tenancy.domain), 7::bigint, 'each its own');
SELECT is((tenant_domain_add('dom-a', 'example.com')).record_value, pg_temp.proof('dom-a', 'example.com'), 'a claim that is there is not made anew');
SELECT throws_ok(format('SELECT tenant_domain_verify(%L, %L)', 'example.com', o), '55000', 'domain "example.com" is not proven', format('no proof: %s', o)) FROM unnest(ARRAY[
	'{}', '{NULL}', '{""}', '{tenant-challenge=}', format('{%s}', left(pg_temp.proof('dom-a', 'example.com'), -1)), format('{%sx}', pg_temp.proof('dom-a', 'example.com')),
	format('{%s}', upper(pg_temp.proof('dom-a', 'example.com'))), format('{%s}', pg_temp.proof('dom-a', '3com.example'))]) o;
SELECT is(domain_allowed('example.com'), false, 'what is not proven is not served');
SELECT is((tenant_domain_verify('Example.com.', ARRAY['v=spf1 -all', NULL, pg_temp.proof('dom-a', 'example.com')])).state, 'verified', 'among other records it is found');
SELECT is(domain_allowed(d), e, format('allowed: %s', d)) FROM (VALUES ('example.com', true), ('EXAMPLE.COM', true), ('example.com.', true), ('example.com..', false), ('www.example.com', false),
	('com', false), ('xample.com', false), ('3com.example', false), ('', false), ('example.com ', false), (NULL, NULL), (repeat('a', 100000), false)) v(d, e);
SELECT results_eq($$SELECT payload->>'domain', version FROM tenancy.outbox_event WHERE type = 'domain.verify'$$, $$VALUES ('example.com', 1)$$, 'it is told');
SELECT is((tenant_domain_verify('example.com', ARRAY[pg_temp.proof('dom-a', 'example.com')])).verified_at, (SELECT verified_at FROM tenancy.domain WHERE domain = 'example.com'), 'verified again it is the same');
SELECT is((SELECT count(*) FROM tenancy.outbox_event WHERE type = 'domain.verify'), 1::bigint, 'and told once');

-- a second tenant
SELECT is((tenant_domain_add('dom-b', 'example.com')).state, 'pending', 'another may claim it');
SELECT throws_ok($$SELECT tenant_domain_verify('example.com', '{}')$$, '55000', NULL, 'a record that is gone changes nothing');
SELECT is(domain_allowed('example.com'), true, 'the domain is served on');
SELECT is((tenant_domain_verify('example.com', ARRAY[pg_temp.proof('dom-b', 'example.com'), pg_temp.proof('dom-a', 'example.com')])).tenant_id, 'dom-a'::regtenant::uuid, 'with both records there it stays');
SELECT is((tenant_domain_verify('example.com', ARRAY[pg_temp.proof('dom-b', 'example.com')])).tenant_id, 'dom-b'::regtenant::uuid, 'with the other''s alone it goes over');
SELECT results_eq($$SELECT t.slug, d.state FROM tenancy.domain d JOIN tenancy.tenant t ON t.id = d.tenant_id WHERE domain = 'example.com' ORDER BY 1$$, $$VALUES ('dom-a', 'lost'), ('dom-b', 'verified')$$, 'the first has lost it');
SELECT is(domain_allowed('example.com'), true, 'it is served');
SELECT results_eq($$SELECT (SELECT slug FROM tenancy.tenant WHERE id = tenant_id) FROM tenancy.outbox_event WHERE type = 'domain.lose'$$, $$VALUES ('dom-a')$$, 'and is told so');
SELECT pg_temp.proof('dom-a', 'example.com') AS former \gset
SELECT throws_ok(format('SELECT tenant_domain_verify(%L, ARRAY[%L])', 'example.com', :'former'), '55000', NULL, 'its record proves nothing any more');
SELECT is((tenant_domain_add('dom-a', 'example.com')).state, 'pending', 'it claims anew');
SELECT isnt(pg_temp.proof('dom-a', 'example.com'), :'former', 'by another record');
SELECT throws_ok($$UPDATE tenancy.domain SET state = 'verified', verified_at = now() WHERE domain = 'example.com'$$, '23505', NULL, 'nobody can make a domain two tenants''');
SELECT throws_ok($$UPDATE tenancy.domain SET tenant_id = 'dom-c'::regtenant WHERE domain = '3com.example'$$, '0A000', NULL, 'nor move a claim past the quota');
SELECT is((tenant_domain_add('dom-b', '3com.example')).state, 'pending', 'two claims, none proven');
SELECT throws_ok($$SELECT tenant_domain_remove('3com.example')$$, '22023', NULL, 'whose is to be removed must be said');
SELECT is((tenant_domain_remove('3com.example', 'dom-b')).state, 'pending', 'then it is');
SELECT is((tenant_domain_remove('3com.example')).tenant_id, 'dom-a'::regtenant::uuid, 'the only one need not be named');
SELECT is((tenant_domain_remove('example.com')).tenant_id, 'dom-b'::regtenant::uuid, 'nor the one that has it');
SELECT is(domain_allowed('example.com'), false, 'it is served no longer');

-- what shared memory knows follows the commits
SELECT tenant_domain_verify('example.com', ARRAY[pg_temp.proof('dom-a', 'example.com')]) \g /dev/null
SELECT is(domain_allowed('example.com'), true, 'served');
BEGIN;
SELECT tenant_domain_remove('example.com') \g /dev/null
SELECT is(domain_allowed('example.com'), true, 'as the last commit left it');
ROLLBACK;
SELECT is(domain_allowed('example.com'), true, 'a rollback changes nothing');
BEGIN;
SAVEPOINT s;
SELECT tenant_domain_remove('example.com') \g /dev/null
ROLLBACK TO s;
COMMIT;
SELECT is(domain_allowed('example.com'), true, 'nor a rollback to a savepoint');
SELECT tenant_suspend('dom-a', 'test') \g /dev/null
SELECT is(domain_allowed('example.com'), false, 'not for a suspended tenant');
SELECT tenant_resume('dom-a') \g /dev/null
SELECT is(domain_allowed('example.com'), true, 'again for one that is active');
BEGIN;
UPDATE tenancy.domain SET state = 'lost' WHERE state = 'verified';
COMMIT;
SELECT is(domain_allowed('example.com'), false, 'whoever writes the row');
UPDATE tenancy.domain SET state = 'verified' WHERE state = 'lost';
INSERT INTO tenancy.domain SELECT 'dom-c'::regtenant, 'n' || n || '.example', 'verified', 'x', 'x', now(), now(), now() FROM generate_series(1, 1500) n;
SELECT is((SELECT count(*) FROM generate_series(1, 1500) n WHERE domain_allowed('n' || n || '.example')), 1500::bigint, 'many at once');
DELETE FROM tenancy.domain WHERE tenant_id = 'dom-c'::regtenant;
SELECT is((SELECT count(*) FROM generate_series(1, 1500) n WHERE domain_allowed('n' || n || '.example')), 0::bigint, 'and gone at once');
SELECT is(domain_allowed('example.com'), true, 'others stay');
BEGIN READ ONLY;
SELECT is(domain_allowed('example.com'), true, 'in a READ ONLY transaction too');
COMMIT;

-- the platform's own domain
ALTER SYSTEM SET tenancy.base_domain = 'app.example.net';
\set setting tenancy.base_domain
\set value app.example.net
\ir reload.psql
SELECT is(domain_allowed(d), e, format('below the base: %s', d)) FROM (VALUES ('dom-a.app.example.net', true), ('DOM-A.app.example.net.', true), ('dom-none.app.example.net', false), ('app.example.net', false),
	('x.dom-a.app.example.net', false), ('dom-aapp.example.net', false), ('dom-a.example.net', false), ('dom-a', false), ('.app.example.net', false)) v(d, e);
SELECT tenant_rename('dom-b', 'dom-d') \g /dev/null
SELECT is(domain_allowed(d), e, format('renamed: %s', d)) FROM (VALUES ('dom-b.app.example.net', false), ('dom-d.app.example.net', true)) v(d, e);
SELECT throws_ok(format('SELECT tenant_domain_add(%L, %L)', 'dom-a', d), '42939', NULL, format('%s is the platform''s', d)) FROM unnest(ARRAY['app.example.net', 'dom-d.app.example.net', 'x.y.app.example.net']) d;
ALTER SYSTEM RESET tenancy.base_domain;
SELECT pg_reload_conf() \g /dev/null

-- who may
BEGIN;
SELECT tenant_context_set('dom-d') \g /dev/null
SELECT is((tenant_domain_add('dom-d', 'own.example')).domain, 'own.example', 'a tenant claims');
SELECT is((SELECT count(*) FROM tenancy.domain WHERE tenant_id <> current_tenant_id()), 0::bigint, 'sees its own claims');
SELECT throws_ok(q, s, NULL, q) FROM (VALUES ($$SELECT tenant_domain_add('dom-a', 'own.example')$$, '42704'), ($$SELECT tenant_domain_verify('own.example', '{}')$$, '42501'),
	($$SELECT tenant_domain_remove('example.com')$$, '42704'), ($$SELECT tenant_domain_remove('example.com', 'dom-a')$$, '42704'), ($$SELECT domain_allowed('example.com')$$, '42501'),
	($$UPDATE tenancy.domain SET state = 'verified'$$, '42501')) v(q, s);
SELECT is((tenant_domain_remove('own.example')).domain, 'own.example', 'and takes back its own');
ROLLBACK;
CREATE ROLE dom_stranger;
SET ROLE dom_stranger;
SELECT throws_ok(q, '42501', NULL, q) FROM unnest(ARRAY[$$SELECT tenant_domain_remove('example.com')$$, $$SELECT domain_allowed('example.com')$$, 'SELECT FROM tenancy.domain']) q;
SET ROLE tenancy_app;
SELECT is(domain_allowed('example.com'), true, 'an application asks');
SELECT throws_ok($$SELECT tenant_domain_verify('example.com', '{}')$$, '42501', NULL, 'and verifies nothing');
RESET ROLE;

-- the quota of the plan: starter has none, professional one (the plan document)
SELECT slug FROM tenant_create('dom-s', plan => 'starter', isolation => 'pool') \g /dev/null
SELECT slug FROM tenant_create('dom-p', plan => 'professional', isolation => 'pool', domain => 'p1.example') \g /dev/null
SELECT throws_ok($$SELECT tenant_domain_add('dom-s', 's1.example')$$, '53400', NULL, 'starter has no domain');
SELECT throws_ok($$SELECT tenant_create('dom-t', plan => 'starter', isolation => 'pool', domain => 't1.example')$$, '53400', NULL, 'nor from the beginning');
SELECT throws_ok($$SELECT tenant_domain_add('dom-p', 'p2.example')$$, '53400', NULL, 'professional has one');
SELECT is((tenant_domain_add('dom-p', 'p1.example')).state, 'pending', 'which may be claimed again');
SELECT is((quota_check('dom-p', 'custom_domains', 0)).used, 1::numeric, 'and is counted');
SELECT tenant_domain_remove('p1.example') \g /dev/null
SELECT is((tenant_domain_add('dom-p', 'p2.example')).state, 'pending', 'another in its place');
DROP ROLE dom_stranger;
SELECT * FROM finish();
