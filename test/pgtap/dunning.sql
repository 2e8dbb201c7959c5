-- Dunning: what is done, when, and undone when it is paid.  Days are counted by hand.
SELECT * FROM no_plan();
\ir quiet.psql
SET tenancy.test_clock = '2026-02-01 00:00:00+00';
SELECT plan_create('hundred', 'Hundred', 'custom', '{"type": "fixed", "base_price": 100, "currency": "USD", "billing_period": "monthly"}') IS NULL \g /dev/null
SELECT count(tenant_create('dun-' || n, plan => 'hundred', isolation => 'pool', starts_at => '2026-01-01 00:00+00')) FROM generate_series(1, 8) n \g /dev/null
SELECT invoices FROM billing_run('2026-02-01 00:00+00') \g /dev/null
CREATE VIEW bill AS SELECT t.slug, i.* FROM tenancy.invoice i JOIN tenancy.tenant t ON t.id = i.tenant_id;
CREATE FUNCTION public.invoice_of(slug text) RETURNS uuid LANGUAGE sql AS $$ SELECT id FROM bill b WHERE b.slug = $1 ORDER BY period_start LIMIT 1 $$;
CREATE FUNCTION public.run(day date) RETURNS text LANGUAGE sql AS $$
    SELECT set_config('tenancy.test_clock', day || ' 00:00:00+00', false) IS NULL;
    SELECT concat_ws(' ', attempts, reminders, suspended, cancelled, written_off, campaigns, failed) FROM dunning_run(day::timestamp AT TIME ZONE 'UTC') $$;
CREATE FUNCTION public.stands(slug text) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', t.state, s.state, i.state, d.state, d.attempts, (d.next_at AT TIME ZONE 'UTC')::date)
      FROM tenancy.tenant t JOIN tenancy.subscription s ON s.tenant_id = t.id JOIN tenancy.invoice i ON i.tenant_id = t.id LEFT JOIN tenancy.dunning d ON d.invoice_id = i.id WHERE t.slug = $1 ORDER BY i.period_start LIMIT 1 $$;

-- schedules, of the documentation of Kill Bill and of Polar
SELECT results_eq($$SELECT day FROM tenancy.dunning_schedule('{"retries": [1, 8, 4, 7]}') WHERE action = 'retry'$$, ARRAY[1, 9, 13, 20], 'Kill Bill: 1, 8, 4, 7');
SELECT results_eq($$SELECT day FROM tenancy.dunning_schedule('{"retries": [2, 5, 7, 7]}') WHERE action = 'retry'$$, ARRAY[2, 7, 14, 21], 'Polar: 2, 5, 7, 7');
SELECT results_eq($$SELECT day FROM tenancy.dunning_schedule('{"retries": [8, 8, 8]}') WHERE action = 'retry'$$, ARRAY[8, 16, 24], 'Kill Bill''s default');
SELECT is_empty($$SELECT day FROM tenancy.dunning_schedule('{"retries": [8, 8, 8]}', 'stolen_card') WHERE action = 'retry'$$, 'a hard decline is not tried again');
SELECT results_eq($$SELECT day FROM tenancy.dunning_schedule('{"retries": [8, 8, 8], "failure_codes": {"stolen_card": [1], "insufficient_funds": [5, 5]}}', 'stolen_card') WHERE action = 'retry'$$, ARRAY[1], 'unless the policy says so');
SELECT results_eq($$SELECT day FROM tenancy.dunning_schedule('{"retries": [8], "failure_codes": {"insufficient_funds": [5, 5]}}', 'insufficient_funds') WHERE action = 'retry'$$, ARRAY[5, 10], 'a code has gaps of its own');
SELECT is_empty($$SELECT day FROM tenancy.dunning_schedule('{"retries": [8], "failure_codes": {"fraud": []}}', 'fraud') WHERE action = 'retry'$$, 'or none');
SELECT results_eq($$SELECT day, counted_from, action, step FROM tenancy.dunning_schedule('{"reminders": [-3, 1], "grace_days": 5, "suspend_after_days": 14, "cancel_after_days": 30, "write_off_after_days": 60}')$$,
    $$VALUES (-3, 'due', 'remind', 1), (1, 'due', 'remind', 2), (5, 'due', 'past due', 1), (14, 'due', 'suspend', 1), (30, 'due', 'cancel', 1), (60, 'due', 'write off', 1)$$, 'all that a policy does');

-- policies that are none
SELECT throws_ok($$SELECT dunning_policy_set('p', '{"retry": [1]}')$$, '22023', NULL, 'an unknown member');
SELECT throws_ok($$SELECT dunning_policy_set('p', '{"retries": [0]}')$$, '22023', NULL, 'no gap');
SELECT throws_ok($$SELECT dunning_policy_set('p', '{"retries": [1.5]}')$$, '22023', NULL, 'a part of a day');
SELECT throws_ok($$SELECT dunning_policy_set('p', '{"retries": "daily"}')$$, '22023', NULL, 'no list');
SELECT throws_ok($$SELECT dunning_policy_set('p', jsonb_build_object('retries', array_fill(1, ARRAY[21])))$$, '22023', NULL, 'too many steps');
SELECT throws_ok($$SELECT dunning_policy_set('p', '{"reminders": [3, 1]}')$$, '22023', 'invalid dunning policy: "reminders" must be ascending', 'reminders in disorder');
SELECT throws_ok($$SELECT dunning_policy_set('p', '{"failure_codes": {"x": 5}}')$$, '22023', NULL, 'a code without a list');
SELECT throws_ok($$SELECT dunning_policy_set('p', '{"failure_codes": {"x": [0]}}')$$, '22023', NULL, 'a code without a gap');
SELECT throws_ok($$SELECT dunning_policy_set('p', '{"first_attempt": "later"}')$$, '22023', NULL, 'an unknown moment');
SELECT throws_ok($$SELECT dunning_policy_set('p', '{"grace_days": 10, "suspend_after_days": 5}')$$, '22023', NULL, 'a suspension within the grace');
SELECT throws_ok($$SELECT dunning_policy_set('p', '{"suspend_after_days": 10, "cancel_after_days": 5}')$$, '22023', NULL, 'a cancellation before the suspension');
SELECT throws_ok($$SELECT dunning_policy_set('p', '{"cancel_after_days": 10, "write_off_after_days": 5}')$$, '22023', NULL, 'a write-off before the cancellation');
SELECT throws_ok($$SELECT dunning_policy_set('p', '{"campaign": {"max_attempts": 1, "days_between_attempts": 1, "thresholds": {"XYZ": 1}}}')$$, '22023', NULL, 'an unknown currency');
SELECT throws_ok($$SELECT dunning_policy_set('p', '{"campaign": {"max_attempts": 1, "thresholds": {"USD": 1}}}')$$, '22023', NULL, 'half a campaign');
SELECT throws_ok($$SELECT dunning_policy_set('p', '{"texts": {"overdue": {"title": "x"}}}')$$, '22023', NULL, 'an unknown text');
SELECT throws_ok($$SELECT dunning_policy_set('p', NULL)$$, '22004', NULL, 'none at all');
SELECT throws_ok($$SELECT dunning_policy_set(NULL, '{}')$$, '22004', NULL, 'one without a name');
SELECT throws_ok($$SELECT dunning_policy_set('A b', '{}')$$, '23514', NULL, 'or with a bad one');
SELECT throws_ok($$SELECT * FROM tenancy.dunning_schedule(NULL)$$, '22004', NULL, 'nothing has no schedule');
SELECT is(run('2026-02-01'), '0 0 0 0 0 0 0', 'without a policy nothing is done');

-- due on 2026-02-15; attempts on the due date and 3, 3 + 5 days after the first failure
SELECT results_eq($$SELECT id, first_attempt, first_days FROM dunning_policy_set('default', '{"first_attempt": "due", "retries": [3, 5], "reminders": [-3, 1, 7], "grace_days": 2, "suspend_after_days": 10, "cancel_after_days": 20, "write_off_after_days": 40}')$$,
    $$VALUES ('default', 'due', -3)$$, 'a policy for all');
SELECT count(payment_method_add('dun-' || n, 'manual', 'token')) FROM generate_series(1, 3) n \g /dev/null
SELECT is(run('2026-02-01'), '0 0 0 0 0 0 0', 'it is too early');
SELECT is((SELECT string_agg(DISTINCT stands('dun-' || n), ',') FROM generate_series(1, 8) n), 'active active open active 0 2026-02-12', 'until three days before the due date');
SELECT is(run('2026-02-11'), '0 0 0 0 0 0 0', 'a day before that');
SELECT is(run('2026-02-12'), '0 8 0 0 0 0 0', 'then all are reminded');
SELECT is(run('2026-02-12'), '0 0 0 0 0 0 0', 'once');
SELECT results_eq($$SELECT payload->>'subject', payload->>'body', payload->>'amount_due', payload->>'kind', payload->>'step' FROM tenancy.outbox_event WHERE type = 'invoice.reminder' AND tenant_id = 'dun-1'::regtenant$$,
    $$SELECT format('Invoice %s is due on 2026-02-15', number), format(E'Dear dun-1,\n\ninvoice %s over 100.00 USD is due on 2026-02-15.\n', number), '100.00', 'due', '-3' FROM bill WHERE slug = 'dun-1'$$, 'with a text');
SELECT is((SELECT event_id FROM tenancy.dunning_reminder WHERE tenant_id = 'dun-1'::regtenant), (SELECT id FROM tenancy.outbox_event WHERE type = 'invoice.reminder' AND tenant_id = 'dun-1'::regtenant), 'on record with its event');
SELECT is(run('2026-02-15'), '3 0 0 0 0 0 0', 'on the due date those with a method are collected');
SELECT is(run('2026-02-15'), '0 0 0 0 0 0 0', 'once');
SELECT is((SELECT count(*) FROM tenancy.outbox_event WHERE type = 'payment.requested'), 3::bigint, 'by commands');
SELECT is((payment_result((SELECT id FROM tenancy.payment WHERE invoice_id = invoice_of('dun-1')), 'succeeded')).state, 'succeeded', 'one pays');
SELECT is(stands('dun-1'), 'active active paid settled 0', 'and that is it');
SELECT is((payment_failed(invoice_of('dun-2'), 'insufficient_funds')).state, 'failed', 'another fails');
SELECT is(run('2026-02-16'), '0 7 0 0 0 0 0', 'the day after: five without a method are told that they are overdue');
SELECT set_eq($$SELECT kind, step FROM tenancy.dunning_reminder WHERE tenant_id = 'dun-2'::regtenant$$, $$VALUES ('due', -3), ('due', 1), ('failed', 1)$$, 'and one that it has failed, too');
SELECT is(stands('dun-3'), 'active active open active 0 2026-02-17', 'while a payment is under way nobody is reminded');
SELECT is(run('2026-02-17'), '0 0 0 0 0 0 0', 'two days of grace are over');
SELECT is((SELECT string_agg(stands('dun-' || n), ', ' ORDER BY n) FROM generate_series(2, 4) n),
    'active past_due open active 1 2026-02-18, active active open active 0 2026-02-18, active past_due open active 0 2026-02-22', 'subscriptions are past due, where no payment is under way');
SELECT is(run('2026-02-18'), '1 0 0 0 0 0 0', 'three days after the failure it is tried again');
SELECT is((payment_failed(invoice_of('dun-2'), 'insufficient_funds')).attempt, 2, 'and fails again');
SELECT is(run('2026-02-18'), '0 1 0 0 0 0 0', 'which is told');
SELECT is((SELECT (next_retry_at AT TIME ZONE 'UTC')::date FROM tenancy.dunning WHERE invoice_id = invoice_of('dun-2')), '2026-02-23'::date, 'the next time is 3 + 5 days after the first failure');
-- how often something is told makes no difference: attempts count
SELECT is((payment_result((SELECT id FROM tenancy.payment WHERE invoice_id = invoice_of('dun-2') AND attempt = 2), 'failed', failure_code => 'insufficient_funds')).state, 'failed', 'told once more');
SELECT is((SELECT attempts FROM tenancy.dunning WHERE invoice_id = invoice_of('dun-2')), 2, 'it is two attempts still');
SELECT is((payment_record('dun-4', 100, 'wire 4', invoice_of('dun-4'))).state, 'succeeded', 'one pays by wire');
SELECT is(stands('dun-4'), 'active active paid settled 0', 'and its subscription is active at once');
SELECT is((payment_result((SELECT id FROM tenancy.payment WHERE invoice_id = invoice_of('dun-3')), 'failed', failure_code => 'stolen_card')).state, 'failed', 'the card of one was stolen');
SELECT is(run('2026-02-20'), '0 2 0 0 0 0 0', 'it is told so, and that it is overdue');
SELECT is((SELECT next_retry_at FROM tenancy.dunning WHERE invoice_id = invoice_of('dun-3')), NULL, 'a stolen card is not tried again');
SELECT is(run('2026-02-22'), '0 6 0 0 0 0 0', 'a week after the due date six are reminded');
SELECT is(run('2026-02-23'), '1 0 0 0 0 0 0', 'the third attempt');
SELECT is((payment_result((SELECT id FROM tenancy.payment WHERE invoice_id = invoice_of('dun-2') AND attempt = 3), 'succeeded')).state, 'succeeded', 'succeeds');
SELECT is(stands('dun-2'), 'active active paid settled 2', 'and all is well');
SELECT is(run('2026-02-25'), '0 5 5 0 0 0 0', 'ten days after the due date five are suspended, and told so');
SELECT is(stands('dun-5'), 'suspended past_due open active 0 2026-03-07', 'until they pay, or are cancelled');
SELECT is((SELECT state_reason FROM tenancy.tenant WHERE slug = 'dun-5'), (SELECT 'unpaid invoice ' || number FROM bill WHERE slug = 'dun-5'), 'and why');
SELECT matches((SELECT body FROM tenancy.dunning_reminder WHERE invoice_id = invoice_of('dun-5') AND kind = 'suspended'), 'suspended until the 100.00 USD that are open are paid', 'what it is told');
SELECT is((payment_method_add('dun-3', 'manual', 'another card', is_default => true)).is_default, true, 'one has another card');
SELECT is(run('2026-02-26'), '1 0 0 0 0 0 0', 'which is tried at once');
SELECT is((payment_result((SELECT id FROM tenancy.payment WHERE invoice_id = invoice_of('dun-3') AND attempt = 2), 'succeeded')).state, 'succeeded', 'it pays');
SELECT is(stands('dun-3'), 'active active paid settled 1', 'and the tenant is back in the same transaction');
SELECT is((payment_record('dun-5', 60, 'wire 5a', invoice_of('dun-5'))).state, 'succeeded', 'a part');
SELECT is(stands('dun-5'), 'suspended past_due open active 0 2026-03-07', 'is not enough');
SELECT is((payment_record('dun-5', 40, 'wire 5b', invoice_of('dun-5'))).state, 'succeeded', 'the rest');
SELECT is(stands('dun-5'), 'active active paid settled 0', 'is');
SELECT is((invoice_void(invoice_of('dun-6'), 'a mistake')).state, 'void', 'one was a mistake of ours');
SELECT is(run('2026-02-27'), '0 0 0 0 0 0 0', 'the next run');
SELECT is(stands('dun-6'), 'active active void abandoned 0', 'makes it good');
SELECT is(run('2026-03-07'), '0 2 0 2 0 0 0', 'twenty days after the due date two are cancelled');
SELECT is(stands('dun-7'), 'suspended cancelled open active 0 2026-03-27', 'what they owe they owe');
SELECT is(run('2026-03-27'), '0 0 0 0 2 0 0', 'until it is given up');
SELECT is(stands('dun-7'), 'suspended cancelled uncollectible abandoned 0', 'which does not bring them back');
SELECT is((payment_record('dun-7', 100, 'wire 7', invoice_of('dun-7'))).state, 'succeeded', 'but payment');
SELECT is(stands('dun-7'), 'active cancelled paid settled 0', 'does');
SELECT is(run('2026-12-31'), '0 0 0 0 0 0 0', 'nothing is left to do');
SELECT is_empty('SELECT * FROM tenancy.ledger_mismatch', 'the books agree');

-- a payment that goes back makes the invoice one that is not paid
SELECT is((payment_refund((SELECT id FROM tenancy.payment WHERE invoice_id = invoice_of('dun-7')))).state, 'succeeded', 'a refund');
SELECT is(stands('dun-7'), 'active cancelled open active 0 2026-12-31', 'begins it anew');

-- two invoices, two reasons
-- the others are not billed any more
UPDATE tenancy.subscription SET bills_at = bills_at + interval '10 years' WHERE bills_at IS NOT NULL;
SET tenancy.test_clock = '2027-03-01 00:00:00+00';
SELECT slug FROM tenant_create('dun-two', plan => 'hundred', isolation => 'pool', starts_at => '2027-01-01 00:00+00') \g /dev/null
SELECT invoices FROM billing_run('2027-02-01 00:00+00') \g /dev/null
SELECT invoices FROM billing_run('2027-03-01 00:00+00') \g /dev/null
SELECT is((SELECT count(*) FROM bill WHERE slug = 'dun-two'), 2::bigint, 'a tenant with two invoices');
SELECT is(run('2027-03-30'), '0 2 1 0 1 0 0', 'which was not reminded in time');
SELECT is((SELECT string_agg(d.state || coalesce(' ' || d.suspended_at, ''), ',') FROM tenancy.dunning d WHERE tenant_id = 'dun-two'::regtenant), 'active,active', 'has ten days from now on');
SELECT matches(run('2027-04-09'), '^0 \d+ 1 ', 'then it is suspended');
SELECT is((SELECT count(*) FROM tenancy.dunning WHERE tenant_id = 'dun-two'::regtenant AND suspended_at IS NOT NULL), 2::bigint, 'for both');
SELECT is((payment_record('dun-two', 100, 'first', invoice_of('dun-two'))).state, 'succeeded', 'one is paid');
SELECT is((SELECT t.state || ' ' || s.state FROM tenancy.tenant t JOIN tenancy.subscription s ON s.tenant_id = t.id WHERE slug = 'dun-two'), 'suspended past_due', 'the other is a reason still');
SELECT is((payment_record('dun-two', 100, 'second')).state, 'succeeded', 'then the other');
SELECT is((SELECT t.state || ' ' || s.state FROM tenancy.tenant t JOIN tenancy.subscription s ON s.tenant_id = t.id WHERE slug = 'dun-two'), 'active active', 'which was the last');
-- who was suspended by hand stays so
SELECT is((tenant_suspend('dun-two', 'abuse')).state, 'suspended', 'an administrator suspends');
SELECT is((payment_refund((SELECT id FROM tenancy.payment WHERE provider_reference = 'second'))).state, 'succeeded', 'what was paid goes back');
SELECT is((payment_record('dun-two', 100, 'third')).state, 'succeeded', 'and comes again');
SELECT is((SELECT state FROM tenancy.tenant WHERE slug = 'dun-two'), 'suspended', 'payment does not undo what dunning has not done');

-- a policy of one's own, and words of one's own
SELECT id IS NULL FROM dunning_policy_set('gentle', '{"reminders": [0], "texts": {"overdue": {"subject": "{{number}}: {{amount}} {{currency}}, {{name}}", "body": "{{due_date}} {{unknown}}"}}}') \g /dev/null
SELECT slug FROM tenant_create('dun-own', plan => 'hundred', isolation => 'pool', starts_at => '2027-03-01 00:00+00') \g /dev/null
SELECT is((billing_account_set('dun-own', '{"name": "Own Ltd", "email": "own@example.com", "dunning_policy": "gentle"}')).dunning_policy, 'gentle', 'a tenant has a policy of its own');
SET tenancy.test_clock = '2027-04-01 00:00:00+00';
SELECT invoices FROM billing_run('2027-04-01 00:00+00') \g /dev/null
SELECT is((SELECT count(*) FROM tenancy.dunning WHERE tenant_id = 'dun-own'::regtenant), 0::bigint, 'nothing is known yet');
SELECT matches(run('2027-04-15'), '^0 \d', 'on the due date');
SELECT results_eq($$SELECT payload->>'subject', payload->>'body', payload->>'email' FROM tenancy.outbox_event WHERE type = 'invoice.reminder' AND tenant_id = 'dun-own'::regtenant$$,
    $$SELECT number || ': 100.00 USD, Own Ltd', '2027-04-15 {{unknown}}', 'own@example.com' FROM bill WHERE slug = 'dun-own'$$, 'it is reminded in those words');

-- reminding by hand
SET tenancy.test_clock = '2027-04-20 12:00:00+00';
SELECT results_eq($$SELECT invoice_id, kind, step, subject FROM payment_remind('dun-own')$$, $$SELECT id, 'asked', 5, number || ': 100.00 USD, Own Ltd' FROM bill WHERE slug = 'dun-own'$$, 'a reminder is asked for');
SELECT is((SELECT count(*) FROM payment_remind('dun-own')), 1::bigint, 'the same day it is the same one');
SELECT is((SELECT count(*) FROM tenancy.outbox_event WHERE payload->>'kind' = 'asked'), 1::bigint, 'told once');
SET tenancy.test_clock = '2027-04-21 12:00:00+00';
SELECT is((SELECT step FROM payment_remind('dun-own')), 6, 'the next day it is another');
SELECT is((SELECT count(*) FROM payment_remind('dun-1')), 0::bigint, 'who owes nothing is not reminded');
SELECT throws_ok('SELECT payment_remind(gen_random_uuid())', '42704', NULL, 'an unknown tenant');
SELECT throws_ok('SELECT payment_remind(NULL)', '22004', NULL, 'none at all');

-- one that fails does not stop the others
SELECT count(tenant_create('dun-f' || n, plan => 'hundred', isolation => 'pool', starts_at => '2027-04-01 00:00+00')) FROM generate_series(1, 3) n \g /dev/null
SET tenancy.test_clock = '2027-05-01 00:00:00+00';
SELECT invoices FROM billing_run('2027-05-01 00:00+00') \g /dev/null
SELECT id AS bad FROM tenancy.tenant WHERE slug = 'dun-f2' \gset
CREATE FUNCTION public.sabotage() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'sabotage'; END $$;
SELECT format('CREATE TRIGGER sabotage BEFORE INSERT ON tenancy.dunning_reminder FOR EACH ROW WHEN (NEW.tenant_id = %L) EXECUTE FUNCTION public.sabotage()', :'bad') \gexec
SELECT matches(run('2027-05-12'), '^0 \d+ \d+ \d+ \d+ 0 1$', 'one fails');
SELECT is((SELECT string_agg(slug || ' ' || coalesce(error, '-') || ' ' || (next_at > '2027-05-12 01:00+00'), ', ' ORDER BY slug) FROM tenancy.dunning d JOIN tenancy.tenant t ON t.id = d.tenant_id WHERE slug LIKE 'dun-f%'), 'dun-f1 - true, dun-f2 sabotage false, dun-f3 - true', 'the others do not, and the next run tries again');
DROP TRIGGER sabotage ON tenancy.dunning_reminder;
SELECT matches((SELECT concat_ws(' ', reminders, failed) FROM dunning_run('2027-05-12 01:00+00')), '^1 0$', 'an hour later');
SELECT is((SELECT error FROM tenancy.dunning WHERE tenant_id = 'dun-f2'::regtenant), NULL, 'all is well');

-- campaigns: thresholds by currency, counted apart, as in Lago's scenario
SELECT is(tenancy.dunning_campaign_due('{"max_attempts": 2, "days_between_attempts": 2, "thresholds": {"EUR": 150, "USD": 100}}', 'EUR', 149, 0, NULL, '2027-06-03'), false, 'below the threshold');
SELECT is(tenancy.dunning_campaign_due('{"max_attempts": 2, "days_between_attempts": 2, "thresholds": {"EUR": 150, "USD": 100}}', 'USD', 120, 0, NULL, '2027-06-03'), true, 'above it');
SELECT is(tenancy.dunning_campaign_due('{"max_attempts": 2, "days_between_attempts": 2, "thresholds": {"EUR": 150, "USD": 100}}', 'GBP', 1000, 0, NULL, '2027-06-03'), false, 'a currency without one');
SELECT throws_ok($$SELECT tenancy.dunning_campaign_due(NULL, 'USD', 1, 0, NULL, now())$$, '22004', NULL, 'no campaign');
SELECT id IS NULL FROM dunning_policy_set('campaign', '{"campaign": {"max_attempts": 2, "days_between_attempts": 2, "thresholds": {"EUR": 150.00, "USD": 100.00}}}') \g /dev/null
SELECT slug FROM tenant_create('dun-camp', isolation => 'pool') \g /dev/null
SELECT billing_account_set('dun-camp', '{"dunning_policy": "campaign", "payment_terms_days": 0}') IS NULL \g /dev/null
SET tenancy.test_clock = '2027-06-01 00:00:00+00';
CREATE FUNCTION public.owe(amount numeric, currency text) RETURNS text LANGUAGE sql AS $$
    SELECT invoice_item_add('dun-camp', 'work', amount, currency) IS NULL;
    SELECT (invoice_finalize((invoice_generate('dun-camp')).id)).state $$;
SELECT is(owe(120, 'USD'), 'open', '120 dollars');
SELECT is(owe(149, 'EUR'), 'open', '149 euros');
CREATE FUNCTION public.asked() RETURNS text LANGUAGE sql AS $$ SELECT coalesce(string_agg(currency || ' ' || attempts, ', ' ORDER BY currency), '-') FROM tenancy.dunning_campaign $$;
SELECT matches(run('2027-06-03'), ' 1 0$', 'day 3');
SELECT is(asked(), 'USD 1', 'dollars are asked for');
SELECT matches(run('2027-06-05'), ' 0 0$', 'day 5');
SELECT is(asked(), 'USD 1', 'two days are not more than two');
SELECT is(owe(10, 'EUR'), 'open', 'ten more euros');
SELECT matches(run('2027-06-06'), ' 2 0$', 'day 6');
SELECT is(asked(), 'EUR 1, USD 2', 'both are asked for');
SELECT matches(run('2027-06-06'), ' 0 0$', 'once');
SELECT matches(run('2027-06-09'), ' 1 0$', 'day 9');
SELECT is(asked(), 'EUR 2, USD 2', 'euros again');
SELECT matches(run('2027-06-12'), ' 0 0$', 'day 12');
SELECT is(asked(), 'EUR 2, USD 2', 'two attempts are all');
SELECT results_eq($$SELECT payload->>'currency', payload->>'amount_due', payload->>'attempt', payload->>'subject' FROM tenancy.outbox_event WHERE type = 'invoice.payment_asked' ORDER BY id DESC LIMIT 1$$, $$VALUES ('EUR', '159.00', '2', '159.00 EUR are overdue')$$, 'what it was asked');
SELECT is((payment_record('dun-camp', 159, 'euros', currency => 'EUR')).state, 'succeeded', 'euros are paid');
SELECT matches(run('2027-06-13'), ' 0 0$', 'and the next run');
SELECT is(asked(), 'USD 2', 'forgets them');

-- rights
SELECT throws_ok('SELECT * FROM dunning_run(NULL)', '22004', NULL, 'at no time');
CREATE ROLE dun_auditor IN ROLE tenancy_auditor;
SET ROLE dun_auditor;
SELECT ok((SELECT count(*) > 5 FROM tenancy.dunning), 'an auditor sees');
SELECT throws_ok('SELECT * FROM dunning_run()', '42501', NULL, 'and does nothing');
SELECT throws_ok($$SELECT dunning_policy_set('p', '{}')$$, '42501', NULL, 'sets nothing');
SELECT throws_ok($$SELECT payment_remind('dun-1')$$, '42501', NULL, 'reminds nobody');
RESET ROLE;
DROP ROLE dun_auditor;
BEGIN;
SELECT tenant_context_set('dun-own') \g /dev/null
SELECT is((SELECT count(*) FROM tenancy.dunning_reminder), 4::bigint, 'a tenant sees its reminders');
SELECT throws_ok('SELECT * FROM tenancy.dunning', '42501', NULL, 'but not what comes next');
SELECT throws_ok($$SELECT payment_failed(gen_random_uuid())$$, '42501', NULL, 'and has no say');
COMMIT;
SELECT * FROM finish();
