-- Webhooks: who has sent them, each once, in any order.  Signatures are made by pgcrypto.
SELECT * FROM no_plan();
\ir quiet.psql
CREATE EXTENSION pgcrypto;
SET timezone = 'UTC';
SET tenancy.test_clock = '2026-02-01 00:00:00+00';
SELECT plan_create('hundred', 'Hundred', 'custom', '{"type": "fixed", "base_price": 100, "currency": "USD", "billing_period": "monthly"}') IS NULL \g /dev/null
SELECT count(tenant_create('hook-' || n, plan => 'hundred', isolation => 'pool', starts_at => '2026-01-01 00:00+00')) FROM generate_series(1, 3) n \g /dev/null
SELECT invoices FROM billing_run('2026-02-01 00:00+00') \g /dev/null
CREATE VIEW bill AS SELECT t.slug, i.* FROM tenancy.invoice i JOIN tenancy.tenant t ON t.id = i.tenant_id;

-- the test vector of the Standard Webhooks libraries
SELECT is(tenancy.webhook_fault('standard', 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', '{"test": 2432232314}',
    '{"webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek", "webhook-timestamp": "1614265330", "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="}', to_timestamp(1614265330)), NULL, 'a signature of Standard Webhooks');
SELECT is(tenancy.webhook_fault('standard', 'MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', '{"test": 2432232314}',
    '{"Webhook-Id": ["msg_p5jXN8AQM9LWM0D4loKWxJek"], "WEBHOOK-TIMESTAMP": "1614265330", "webhook-signature": "v1,AAAA v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE= v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="}', to_timestamp(1614265330)), NULL, 'among others, of a secret without its prefix, under names in any case');
CREATE FUNCTION public.standard_fault(headers jsonb, body text DEFAULT '{"test": 2432232314}', at bigint DEFAULT 1614265330) RETURNS text LANGUAGE sql AS $$
    SELECT tenancy.webhook_fault('standard', 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', $2,
        '{"webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek", "webhook-timestamp": "1614265330", "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="}' || $1, to_timestamp($3)) $$;
SELECT is(standard_fault('{}'), NULL, 'as it was sent');
SELECT is(standard_fault('{}', at => 1614265330 + 300), NULL, 'for five minutes');
SELECT is(standard_fault('{}', at => 1614265330 - 300), NULL, 'or from a clock that is as much ahead');
SELECT matches(standard_fault('{}', at => 1614265330 + 301), 'too old', 'not longer');
SELECT matches(standard_fault('{}', at => 1614265330 - 301), 'future', 'nor from further ahead');
SELECT matches(standard_fault('{}', '{"test": 2432232315}'), 'not one of', 'another body');
SELECT matches(standard_fault('{}', '{"test": 2432232314} '), 'not one of', 'even by a space');
SELECT matches(standard_fault('{"webhook-id": "msg_other"}'), 'not one of', 'another id');
SELECT matches(standard_fault('{"webhook-timestamp": "1614265331"}'), 'not one of', 'another time');
SELECT matches(standard_fault('{"webhook-timestamp": "soon"}'), 'no time', 'no time');
SELECT matches(standard_fault('{"webhook-timestamp": "-5"}'), 'no time', 'a negative one');
SELECT matches(standard_fault('{"webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1O"}'), 'not one of', 'a part of a signature');
SELECT matches(standard_fault('{"webhook-signature": ""}'), 'not one of', 'no signature');
SELECT matches(standard_fault('{"webhook-signature": null}'), 'missing', 'no header');
SELECT matches(standard_fault('{"webhook-id": ""}'), 'missing', 'no id');

CREATE FUNCTION public.stripe_header(body text, secret text, t bigint) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('Stripe-Signature', 't=' || t || ',v1=' || encode(hmac(t || '.' || body, secret, 'sha256'), 'hex')) $$;
SELECT is(tenancy.webhook_fault('stripe', 'whsec_0123456789abcdef', '{"id": "evt_1"}', stripe_header('{"id": "evt_1"}', 'whsec_0123456789abcdef', 1000000), to_timestamp(1000000)), NULL, 'a signature of Stripe');
SELECT matches(tenancy.webhook_fault('stripe', 'whsec_0123456789abcdee', '{"id": "evt_1"}', stripe_header('{"id": "evt_1"}', 'whsec_0123456789abcdef', 1000000), to_timestamp(1000000)), 'not one of', 'of another secret');
SELECT matches(tenancy.webhook_fault('stripe', 'whsec_0123456789abcdef', '{"id": "evt_1"}', stripe_header('{"id": "evt_1"}', 'whsec_0123456789abcdef', 1000000), to_timestamp(1000301)), 'too old', 'an old one');
SELECT is(tenancy.webhook_fault('stripe', 'whsec_0123456789abcdef', '{}', jsonb_build_object('stripe-signature', 't=1000000, v0=11, v1=zz, v1=' || repeat('0', 64) || ', v1=' || encode(hmac('1000000.{}', 'whsec_0123456789abcdef', 'sha256'), 'hex')), to_timestamp(1000000)), NULL, 'among several');
SELECT matches(tenancy.webhook_fault('stripe', 'whsec_0123456789abcdef', '{}', '{"stripe-signature": "v1=00"}', to_timestamp(1000000)), 'no time', 'without a time');
SELECT matches(tenancy.webhook_fault('stripe', 'whsec_0123456789abcdef', '{}', '{}', to_timestamp(1000000)), 'missing', 'without the header');
SELECT matches(tenancy.webhook_fault('stripe', 'whsec_0123456789abcdef', '{}', jsonb_build_object('stripe-signature', 't=1000000,v0=' || encode(hmac('1000000.{}', 'whsec_0123456789abcdef', 'sha256'), 'hex')), to_timestamp(1000000)), 'not one of', 'another version does not count');
SELECT throws_ok($$SELECT tenancy.webhook_fault('other', 's', 'b', '{}', now())$$, '22023', NULL, 'an unknown scheme');

-- providers and secrets
SELECT is((payment_provider_create('card', 'stripe')).scheme, 'stripe', 'a provider');
SELECT is((payment_provider_create('gateway', 'standard')).scheme, 'standard', 'and another');
SELECT throws_ok($$SELECT payment_provider_create('card', 'stripe')$$, '23505', NULL, 'once');
SELECT throws_ok($$SELECT payment_provider_create('Card!', 'stripe')$$, '22023', NULL, 'a bad name');
SELECT throws_ok($$SELECT payment_provider_create('new', 'paypal')$$, '22023', NULL, 'an unknown scheme');
SELECT throws_ok($$SELECT payment_provider_create(NULL, 'stripe')$$, '22004', NULL, 'no name');
CREATE FUNCTION public.card(body text, secret text DEFAULT 'whsec_0123456789abcdef') RETURNS tenancy.payment_event LANGUAGE sql AS $$
    SELECT payment_webhook('card', $1, stripe_header($1, $2, extract(epoch from current_setting('tenancy.test_clock')::timestamptz)::bigint)) $$;
SELECT throws_ok($$SELECT card('{}')$$, '28000', NULL, 'without a secret nobody is believed');
SELECT isnt(payment_provider_secret_set('card', 'whsec_0123456789abcdef'), NULL, 'the first secret');
SELECT isnt(payment_provider_secret_set('gateway', 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'), NULL, 'that of another');
SELECT throws_ok($$SELECT payment_provider_secret_set('card', 'short')$$, '22023', NULL, 'a short secret');
SELECT throws_ok($$SELECT payment_provider_secret_set('gateway', 'whsec_!!!!!!!!!!!!!!!!!!!!!!!!!!!!')$$, '22023', NULL, 'one that is not base64');
SELECT throws_ok($$SELECT payment_provider_secret_set('manual', 'whsec_0123456789abcdef')$$, '55000', NULL, 'a provider that sends none');
SELECT throws_ok($$SELECT payment_provider_secret_set('none', 'whsec_0123456789abcdef')$$, '42704', NULL, 'an unknown one');
SELECT throws_ok($$SELECT payment_provider_secret_set('card', 'whsec_0123456789abcdef', '-1 day')$$, '22023', NULL, 'a time in the past');
SELECT is((card('{"id": "evt_0", "type": "customer.created", "created": 1, "data": {"object": {"id": "cus_1"}}}')).outcome, 'ignored', 'what concerns no payment is ignored');
SELECT is((card('{"id": "evt_00", "type": "payment_intent.succeeded", "created": 1, "data": {"object": {"id": "pi_other", "amount_received": 5, "currency": "usd"}}}')).outcome, 'unmatched', 'nor is one that is not ours');
SELECT throws_ok($$SELECT card('{"id": "evt_1"}', 'whsec_fedcba9876543210')$$, '28000', NULL, 'another secret');
SELECT throws_ok($$SELECT card('[1]')$$, '22023', NULL, 'no event');
SELECT throws_ok($$SELECT card('{"type": "x"}')$$, '22023', NULL, 'an event without an id');
SELECT throws_ok($$SELECT card('no json')$$, '22P02', NULL, 'no JSON');
SELECT throws_ok($$SELECT payment_webhook('none', '{}', '{}')$$, '42704', NULL, 'an unknown provider');
SELECT throws_ok($$SELECT payment_webhook('manual', '{}', '{}')$$, '28000', NULL, 'one that sends no webhooks');
SELECT throws_ok($$SELECT payment_webhook('card', '{}', '[]')$$, '22023', NULL, 'headers that are none');
SELECT throws_ok($$SELECT payment_webhook('card', NULL, '{}')$$, '22004', NULL, 'no body');
-- secrets are exchanged
SELECT isnt(payment_provider_secret_set('card', 'whsec_second_0123456789', '1 hour'), NULL, 'a second secret');
SELECT is((card('{"id": "evt_a", "type": "x"}', 'whsec_0123456789abcdef')).outcome, 'ignored', 'the first is good still');
SELECT is((card('{"id": "evt_b", "type": "x"}', 'whsec_second_0123456789')).outcome, 'ignored', 'and so is the second');
SET tenancy.test_clock = '2026-02-01 01:00:00+00';
SELECT throws_ok($$SELECT card('{"id": "evt_c", "type": "x"}')$$, '28000', NULL, 'until its time is over');
SELECT is((card('{"id": "evt_c", "type": "x"}', 'whsec_second_0123456789')).outcome, 'ignored', 'the second stays');
SELECT isnt(payment_provider_secret_set('card', 'whsec_0123456789abcdef', '0'), NULL, 'a third');
SELECT is((SELECT count(*) FROM tenancy.payment_provider_secret WHERE provider = 'card'), 1::bigint, 'what is over is gone');

-- a payment as Stripe tells of it
SELECT id FROM payment_method_add('hook-1', 'card', 'pm_1') \g /dev/null
SELECT id AS p1 FROM payment_process((SELECT id FROM bill WHERE slug = 'hook-1')) \gset
CREATE FUNCTION public.intent(id text, type text, payment text, created bigint, more jsonb DEFAULT '{}') RETURNS text LANGUAGE sql AS $$
    SELECT jsonb_build_object('id', id, 'type', type, 'created', created, 'data', jsonb_build_object('object',
        jsonb_build_object('id', 'pi_' || right(payment, 8), 'currency', 'usd', 'metadata', jsonb_build_object('payment', payment)) || more))::text $$;
CREATE FUNCTION public.charge(id text, type text, payment text, created bigint, more jsonb DEFAULT '{}') RETURNS text LANGUAGE sql AS $$
    SELECT jsonb_build_object('id', id, 'type', type, 'created', created, 'data', jsonb_build_object('object',
        jsonb_build_object('id', 'ch_1', 'payment_intent', 'pi_' || right(payment, 8), 'currency', 'usd', 'metadata', jsonb_build_object('payment', payment)) || more))::text $$;
SELECT results_eq(format($$SELECT provider, event_id, type, payment_id, outcome FROM card(intent('evt_1', 'payment_intent.payment_failed', %L, 100, '{"last_payment_error": {"code": "card_declined", "decline_code": "insufficient_funds", "message": "no"}}'))$$, :'p1'),
    format($$VALUES ('card', 'evt_1', 'payment_intent.payment_failed', %L::uuid, 'applied')$$, :'p1'), 'it has failed');
SELECT results_eq('SELECT state, failure_code, failure_message, failed_at FROM tenancy.payment', $$VALUES ('failed', 'insufficient_funds', 'no', to_timestamp(100))$$, 'for a reason');
SELECT is((card(intent('evt_2', 'payment_intent.succeeded', :'p1', 90, '{"amount_received": 10000}'))).outcome, 'applied', 'then it succeeds');
SELECT results_eq('SELECT state, captured, provider_reference FROM tenancy.payment', format($$VALUES ('succeeded', 100.00, 'pi_' || right(%L, 8))$$, :'p1'), '100.00 of it');
SELECT is((card(intent('evt_2', 'payment_intent.succeeded', :'p1', 90, '{"amount_received": 10000}'))).outcome, 'applied', 'the same event again is the same row');
SELECT is((SELECT count(*) FROM tenancy.payment_event WHERE event_id = 'evt_2'), 1::bigint, 'once');
SELECT is((card(intent('evt_3', 'payment_intent.processing', :'p1', 80))).outcome, 'stale', 'what is overtaken is stale');
SELECT is((SELECT sum(amount) FROM tenancy.ledger_entry WHERE account = 'cash'), 100.00, 'money came in once');
SELECT throws_ok(format('SELECT card(intent(%L, %L, %L, 1))', repeat('e', 256), 'payment_intent.processing', :'p1'), '22023', NULL, 'an id that is too long');
SELECT is((card(replace(intent('evt_4', 'payment_intent.succeeded', :'p1', 95, '{"amount_received": 20000}'), 'usd', 'eur'))).outcome, 'unmatched', 'another currency is another payment');
SELECT is((card(intent('evt_5', 'payment_intent.canceled', :'p1', 110))).outcome, 'applied', 'it was cancelled, somebody says');
SELECT is((SELECT state || ' ' || failure_code FROM tenancy.payment), 'succeeded canceled', 'which goes on record');
-- another provider cannot speak for it
CREATE FUNCTION public.gateway(id text, body text) RETURNS tenancy.payment_event LANGUAGE sql AS $$
    SELECT payment_webhook('gateway', $2, jsonb_build_object('webhook-id', $1, 'webhook-timestamp', t::text, 'webhook-signature',
        'v1,' || encode(hmac(convert_to($1 || '.' || t || '.' || $2, 'UTF8'), decode('MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 'base64'), 'sha256'), 'base64')))
      FROM extract(epoch from current_setting('tenancy.test_clock')::timestamptz) e, CAST(e AS bigint) t $$;
SELECT is((gateway('g0', format('{"type": "payment.refunded", "data": {"payment": "%s", "amount": "100.00", "currency": "USD"}}', :'p1'))).outcome, 'unmatched', 'another provider has no say');
-- refunds and disputes
SELECT is((card(charge('evt_6', 'charge.refunded', :'p1', 120, '{"amount_captured": 10000, "amount_refunded": 2500}'))).outcome, 'applied', 'somebody refunds at the provider');
SELECT results_eq('SELECT amount, state, reason FROM tenancy.refund', $$VALUES (25.00, 'succeeded', 'made at the provider')$$, 'which is a refund like others');
SELECT is((card(charge('evt_7', 'charge.dispute.created', :'p1', 130, '{"amount": 7500, "status": "needs_response"}'))).outcome, 'applied', 'the rest is disputed');
SELECT is((SELECT state || ' ' || disputed FROM tenancy.payment), 'disputed 75.00', 'and held back');
SELECT is((card(charge('evt_8', 'charge.dispute.closed', :'p1', 140, '{"amount": 7500, "status": "lost"}'))).outcome, 'applied', 'and lost');
SELECT is((SELECT state || ' ' || amount_due FROM bill WHERE slug = 'hook-1'), 'open 100.00', 'all is due again');
SELECT is((SELECT coalesce(sum(amount), 0) FROM tenancy.ledger_entry WHERE account IN ('cash', 'disputed')), 0.00, 'no cash is left');
SELECT is_empty('SELECT * FROM tenancy.ledger_mismatch', 'the books agree');

-- Standard Webhooks
SELECT id FROM payment_method_add('hook-2', 'gateway', 'tok_2') \g /dev/null
SELECT id AS p2 FROM payment_process((SELECT id FROM bill WHERE slug = 'hook-2')) \gset
SELECT is((gateway('g1', format('{"type": "payment.processing", "data": {"payment": "%s", "reference": "ref-2"}}', :'p2'))).outcome, 'applied', 'it is processing');
SELECT is((gateway('g2', '{"type": "payment.failed", "timestamp": "2026-02-01T00:30:00Z", "data": {"reference": "ref-2", "code": "expired"}}')).outcome, 'applied', 'it has failed: by the reference of the provider');
SELECT results_eq(format('SELECT state, failure_code, failed_at FROM tenancy.payment WHERE id = %L', :'p2'), $$VALUES ('failed', 'expired', '2026-02-01 00:30+00'::timestamptz)$$, 'at a time');
SELECT is((gateway('g3', '{"type": "payment.succeeded", "data": {"reference": "ref-2", "amount": "130.00", "currency": "USD"}}')).outcome, 'applied', 'it succeeds, with too much');
SELECT is((SELECT remaining FROM tenancy.credit WHERE tenant_id = 'hook-2'::regtenant), 30.00, 'the rest is credit');
SELECT is((gateway('g4', '{"type": "payment.refunded", "data": {"reference": "ref-2", "amount": 30}}')).outcome, 'applied', 'which goes back');
SELECT is((SELECT state || ' ' || amount_due FROM bill WHERE slug = 'hook-2'), 'paid 0.00', 'and the invoice is paid');
SELECT is((gateway('g5', '{"type": "payment.paused", "data": {"reference": "ref-2"}}')).outcome, 'ignored', 'an unknown type is ignored');
SELECT is((gateway('g6', '{"type": "payment.disputed", "data": {"reference": "ref-2"}}')).outcome, 'applied', 'it is disputed');
SELECT is((gateway('g7', '{"type": "payment.dispute_won", "data": {"reference": "ref-2"}}')).outcome, 'applied', 'and won');
SELECT is((gateway('g8', '{"type": "payment.dispute_lost", "data": {"reference": "ref-2"}}')).outcome, 'applied', 'or lost after all');

-- every order ends in the same place: an attempt is told of by five events, each once or twice
SELECT id FROM payment_method_add('hook-3', 'card', 'pm_3') \g /dev/null
SELECT id IS NULL FROM dunning_policy_set('default', '{"retries": [3], "reminders": [1], "suspend_after_days": 30}') \g /dev/null
SELECT id AS p3 FROM payment_process((SELECT id FROM bill WHERE slug = 'hook-3')) \gset
CREATE FUNCTION public.permutations(n integer) RETURNS SETOF integer[] LANGUAGE sql AS $$
    WITH RECURSIVE p AS (SELECT ARRAY[i] AS a FROM generate_series(1, n) i UNION ALL SELECT a || i FROM p, generate_series(1, n) i WHERE NOT i = ANY (a))
    SELECT a FROM p WHERE cardinality(a) = n $$;
CREATE FUNCTION public.snapshot(payment uuid) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' | ', p.state, p.captured, p.refunded, p.dispute_state, p.disputed, p.failure_code, p.failed_at, p.provider_reference,
        i.state, i.amount_paid, i.amount_due, t.state,
        (SELECT string_agg(account || ' ' || amount, ', ' ORDER BY account) FROM (SELECT account, sum(amount) AS amount FROM tenancy.ledger_entry e WHERE e.tenant_id = p.tenant_id GROUP BY account HAVING sum(amount) <> 0) b),
        (SELECT sum(remaining) FROM tenancy.credit c WHERE c.tenant_id = p.tenant_id),
        (SELECT sum(amount) FROM tenancy.refund r WHERE r.payment_id = p.id AND r.state = 'succeeded'),
        (SELECT string_agg(m.kind, ',') FROM tenancy.ledger_mismatch m WHERE m.tenant_id = p.tenant_id))
      FROM tenancy.payment p JOIN tenancy.invoice i ON i.id = p.invoice_id JOIN tenancy.tenant t ON t.id = p.tenant_id WHERE p.id = payment $$;
-- the end of one order, undone again
CREATE FUNCTION public.ends(payment uuid, events text[], ord integer[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE n integer; k integer := 0; result text;
BEGIN
    BEGIN
        FOREACH n IN ARRAY ord LOOP
            PERFORM card(events[n]);
            k := k + 1;
            -- an event comes again right away, or much later
            IF (ord[1] + k) % 3 = 0 THEN PERFORM card(events[ord[1 + k / 2]]); END IF;
        END LOOP;
        RAISE EXCEPTION USING MESSAGE = snapshot(payment), ERRCODE = 'TN999';
    EXCEPTION WHEN SQLSTATE 'TN999' THEN result := SQLERRM;
    END;
    RETURN result;
END $$;
SELECT results_eq(format($$SELECT DISTINCT ends(%1$L, ARRAY[
        intent('a1', 'payment_intent.processing', %1$L, 100), intent('a2', 'payment_intent.payment_failed', %1$L, 101, '{"last_payment_error": {"code": "card_declined"}}'),
        intent('a3', 'payment_intent.succeeded', %1$L, 102, '{"amount_received": 12000}'), charge('a4', 'charge.refunded', %1$L, 103, '{"amount_captured": 12000, "amount_refunded": 2000}'),
        charge('a5', 'charge.refunded', %1$L, 104, '{"amount_captured": 12000, "amount_refunded": 5000}')], o) FROM permutations(5) o$$, :'p3'),
    format($$VALUES ('succeeded | 120.00 | 50.00 | none | 0 | card_declined | 1970-01-01 00:01:41+00 | pi_%s | open | 70.00 | 30.00 | active | cash 70.00, receivable 30.00, revenue -100.00 | 0.00 | 50.00')$$, right(:'p3', 8)), 'processing, failed, succeeded, and two refunds: in 120 orders');
SELECT results_eq(format($$SELECT DISTINCT ends(%1$L, ARRAY[
        intent('b2', 'payment_intent.succeeded', %1$L, 102, '{"amount_received": 10000}'), charge('b3', 'charge.refunded', %1$L, 103, '{"amount_captured": 10000, "amount_refunded": 3000}'),
        charge('b4', 'charge.dispute.created', %1$L, 104, '{"amount": 7000, "status": "needs_response"}'), charge('b5', 'charge.dispute.closed', %1$L, 105, '{"amount": 7000, "status": "lost"}')], o) FROM permutations(4) o$$, :'p3'),
    format($$VALUES ('disputed | 100.00 | 30.00 | lost | 70.00 | pi_%s | open | 0.00 | 100.00 | active | receivable 100.00, revenue -100.00 | 30.00')$$, right(:'p3', 8)), 'succeeded, refunded in part, the rest disputed and lost: in 24 orders');
SELECT results_eq(format($$SELECT DISTINCT ends(%1$L, ARRAY[
        intent('c1', 'payment_intent.payment_failed', %1$L, 101, '{"last_payment_error": {"code": "card_declined"}}'), intent('c2', 'payment_intent.payment_failed', %1$L, 101, '{"last_payment_error": {"code": "expired_card"}}'),
        charge('c4', 'charge.dispute.created', %1$L, 104, '{"amount": 10000, "status": "needs_response"}'), charge('c5', 'charge.dispute.closed', %1$L, 105, '{"amount": 10000, "status": "won"}')], o) FROM permutations(4) o$$, :'p3'),
    format($$VALUES ('succeeded | 100.00 | 0 | won | 100.00 | expired_card | 1970-01-01 00:01:41+00 | pi_%s | paid | 100.00 | 0.00 | active | cash 100.00, revenue -100.00')$$, right(:'p3', 8)), 'two failures at a time, and a dispute that shows that money came in: in 24 orders');

-- rights: the gateway takes webhooks
CREATE ROLE hok_app IN ROLE tenancy_app;
CREATE ROLE hok_auditor IN ROLE tenancy_auditor;
SET ROLE hok_app;
SELECT is((card('{"id": "evt_app", "type": "x"}')).outcome, 'ignored', 'the gateway takes webhooks');
RESET ROLE;
SET ROLE hok_auditor;
SELECT throws_ok($$SELECT card('{"id": "evt_aud", "type": "x"}')$$, '42501', NULL, 'an auditor does not');
SELECT throws_ok($$SELECT payment_provider_secret_set('card', 'whsec_0123456789abcdef')$$, '42501', NULL, 'nor does it set secrets');
RESET ROLE;
BEGIN;
SELECT tenant_context_set('hook-3') \g /dev/null
SELECT throws_ok($$SELECT payment_webhook('card', '{}', '{}')$$, '42501', NULL, 'nor a tenant');
COMMIT;
BEGIN;
SELECT tenant_context_set('hook-3') \g /dev/null
SELECT throws_ok('SELECT * FROM tenancy.payment_event', '42501', NULL, 'who does not see them');
COMMIT;
DROP ROLE hok_app, hok_auditor;
SELECT * FROM finish();
