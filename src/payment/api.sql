/* payment: providers, payments, refunds, dunning. */

CREATE OR REPLACE FUNCTION @extschema@.payment_provider_create(
    id text, scheme text)
RETURNS tenancy.payment_provider
AS 'MODULE_PATHNAME', 'tenancy_payment_provider_create'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.payment_provider_create(text, text) IS
'Makes a provider known. id: lower-case letters, digits, underscores and hyphens. scheme: stripe or standard, which send webhooks signed as Stripe or Standard Webhooks have it; manual, whose payments are told by payment_record(). The provider manual is shipped. Result: the row. Errors: 22023; 23505 exists; 42501 within a tenant context. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.payment_provider_create(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.payment_provider_create(text, text) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.payment_provider_secret_set(
    provider text, secret text, keep_others interval DEFAULT '24 hours')
RETURNS uuid
AS 'MODULE_PATHNAME', 'tenancy_payment_provider_secret_set'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.payment_provider_secret_set(text, text, interval) IS
'Gives a provider the secret that it signs webhooks with. provider: id. secret: as the provider shows it, such as whsec_…; nobody can read it afterwards, and a dump does not have it. keep_others: how long secrets given before are good still. Result: an id. Errors: 22023 no secret of the scheme; 42704 unknown provider; 55000 one that sends no webhooks; 42501 within a tenant context. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.payment_provider_secret_set(text, text, interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.payment_provider_secret_set(text, text, interval) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.payment_method_add(
    tenant @extschema@.regtenant, provider text, token text, details jsonb DEFAULT '{}', is_default boolean DEFAULT NULL)
RETURNS tenancy.payment_method
AS 'MODULE_PATHNAME', 'tenancy_payment_method_add'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.payment_method_add(@extschema@.regtenant, text, text, jsonb, boolean) IS
'Adds a way to pay. tenant: slug or id. provider: id. token: what the provider knows it by; not the number of a card. details: what may be shown: bank, brand, country, exp_month, exp_year, last4, mandate, type. is_default: whether invoices are collected with it; null: if there is no other. Result: the row. Errors: 22023 naming the path of the first fault; 23505 the tenant has it; 42704 unknown tenant or provider; 42501 within a tenant context. Rights: tenancy_admin. Side effects: with a new default, invoices whose collection has failed are tried again.';
REVOKE ALL ON FUNCTION @extschema@.payment_method_add(@extschema@.regtenant, text, text, jsonb, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.payment_method_add(@extschema@.regtenant, text, text, jsonb, boolean) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.payment_method_remove(
    payment_method uuid)
RETURNS tenancy.payment_method
AS 'MODULE_PATHNAME', 'tenancy_payment_method_remove'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.payment_method_remove(uuid) IS
'Removes a way to pay; payments that were made with it stay. payment_method: id. Result: the row. Errors: 42704 unknown, or removed; 42501 within a tenant context. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.payment_method_remove(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.payment_method_remove(uuid) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.payment_process(
    invoice uuid, payment_method uuid DEFAULT NULL, amount numeric DEFAULT NULL)
RETURNS tenancy.payment
AS 'MODULE_PATHNAME', 'tenancy_payment_process'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.payment_process(uuid, uuid, numeric) IS
'Asks a provider to collect what is due of an invoice. invoice: id. payment_method: id, or null for the default of the tenant. amount: a part of what is due, or null for all. Result: the row, requested; the provider is asked after the commit, by whoever carries out the event payment.requested. Errors: 42704 unknown invoice or method; 55000 nothing is due, an attempt is under way, or there is no default method; 22023 bad amount; 42501 within a tenant context. Rights: tenancy_admin. Side effects: event payment.requested.';
REVOKE ALL ON FUNCTION @extschema@.payment_process(uuid, uuid, numeric) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.payment_process(uuid, uuid, numeric) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.payment_record(
    tenant @extschema@.regtenant, amount numeric, reference text, invoice uuid DEFAULT NULL, currency text DEFAULT NULL, provider text DEFAULT 'manual')
RETURNS tenancy.payment
AS 'MODULE_PATHNAME', 'tenancy_payment_record'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.payment_record(@extschema@.regtenant, numeric, text, uuid, text, text) IS
'Records money that has come in, such as a bank transfer. tenant: slug or id. amount: positive, in the decimals of the currency. reference: of the receipt; the same again is the same payment. invoice: id of the one that it pays, or null for the oldest that are due; the rest becomes credit. currency: ISO 4217, or null for that of the invoice or of the subscription. provider: id of one with the scheme manual. Result: the row. Errors: 22023; 23505 the reference was recorded with another amount or tenant; 42704 unknown tenant, invoice or provider; 55000 a provider that sends webhooks; 42501 within a tenant context. Rights: tenancy_admin. Side effects: is posted to the ledger; a tenant that was suspended for the invoice is resumed; events payment.succeeded, credit.granted.';
REVOKE ALL ON FUNCTION @extschema@.payment_record(@extschema@.regtenant, numeric, text, uuid, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.payment_record(@extschema@.regtenant, numeric, text, uuid, text, text) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.credit_use(
    invoice uuid)
RETURNS tenancy.invoice
AS 'MODULE_PATHNAME', 'tenancy_credit_use'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credit_use(uuid) IS
'Pays what is due of an open invoice from the credit of its tenant, as far as there is any; invoices that are issued do so by themselves. invoice: id. Result: the row. Errors: 42704 unknown invoice; 55000 nothing is due of it; 42501 within a tenant context. Rights: tenancy_admin. Side effects: is posted to the ledger; a tenant that was suspended for the invoice is resumed.';
REVOKE ALL ON FUNCTION @extschema@.credit_use(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credit_use(uuid) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.payment_result(
    payment uuid, status text, provider_reference text DEFAULT NULL, amount numeric DEFAULT NULL, failure_code text DEFAULT NULL, failure_message text DEFAULT NULL)
RETURNS tenancy.payment
AS 'MODULE_PATHNAME', 'tenancy_payment_result'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.payment_result(uuid, text, text, numeric, text, text) IS
'Tells what has become of an attempt. payment: id. status: processing, succeeded, failed, or unknown where nobody can say: then nobody tries again until somebody can. provider_reference: what the provider knows it by. amount: of all that came in, where it is not what was asked. failure_code, failure_message: of the provider. Result: the row; what was known already, or is overtaken, changes nothing. Errors: 22023; 23505 the reference is that of another payment; 42704 unknown payment; 42501 within a tenant context. Rights: tenancy_admin. Side effects: as payment_record(); a failure starts dunning.';
REVOKE ALL ON FUNCTION @extschema@.payment_result(uuid, text, text, numeric, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.payment_result(uuid, text, text, numeric, text, text) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.payment_failed(
    invoice uuid, failure_code text DEFAULT NULL, failure_message text DEFAULT NULL)
RETURNS tenancy.payment
AS 'MODULE_PATHNAME', 'tenancy_payment_failed'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.payment_failed(uuid, text, text) IS
'Tells that the attempt to collect an invoice that is under way has failed. invoice: id. failure_code, failure_message: of the provider. Result: the row of the attempt. Errors: 42704 unknown invoice; 55000 none is under way; 42501 within a tenant context. Rights: tenancy_admin. Side effects: what the dunning policy says: the next attempt is scheduled; event payment.failed.';
REVOKE ALL ON FUNCTION @extschema@.payment_failed(uuid, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.payment_failed(uuid, text, text) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.payment_dispute(
    payment uuid, status text, amount numeric DEFAULT NULL)
RETURNS tenancy.payment
AS 'MODULE_PATHNAME', 'tenancy_payment_dispute'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.payment_dispute(uuid, text, numeric) IS
'Tells that a payment is disputed, or how that has ended. payment: id. status: open, won or lost; a dispute that has ended stays so. amount: what is disputed, or null for all. Result: the row; when it is lost, what the money had paid is due again. Errors: 22023; 42704 unknown payment; 55000 nothing came in with it; 42501 within a tenant context. Rights: tenancy_admin. Side effects: is posted to the ledger; event payment.disputed.';
REVOKE ALL ON FUNCTION @extschema@.payment_dispute(uuid, text, numeric) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.payment_dispute(uuid, text, numeric) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.payment_refund(
    payment uuid, amount numeric DEFAULT NULL, reason text DEFAULT NULL, credit_note uuid DEFAULT NULL)
RETURNS tenancy.refund
AS 'MODULE_PATHNAME', 'tenancy_payment_refund'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.payment_refund(uuid, numeric, text, uuid) IS
'Gives money back. payment: id. amount: at most what came in and has not gone back, and what remains of the credit note, or null for that. reason: for the record. credit_note: id of the one that it pays out, or null: an overpayment goes back first, and of the rest the invoices are due again. Result: the row; it has succeeded at once for the scheme manual, and is requested otherwise. Errors: 22023 bad amount; 42704 unknown payment or credit note; 55000 nothing can be refunded; 42501 within a tenant context. Rights: tenancy_admin. Side effects: event payment.refund_requested; is posted to the ledger when it has succeeded.';
REVOKE ALL ON FUNCTION @extschema@.payment_refund(uuid, numeric, text, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.payment_refund(uuid, numeric, text, uuid) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.refund_result(
    refund uuid, status text, provider_reference text DEFAULT NULL, failure_code text DEFAULT NULL)
RETURNS tenancy.refund
AS 'MODULE_PATHNAME', 'tenancy_refund_result'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.refund_result(uuid, text, text, text) IS
'Tells what has become of a refund. refund: id. status: processing, unknown, succeeded or failed; failed after succeeded: the money has come back, what had been owed is owed again, and the rest is credit. provider_reference, failure_code: of the provider. Result: the row. Errors: 22023; 42704 unknown refund; 55000 it has ended otherwise; 42501 within a tenant context. Rights: tenancy_admin. Side effects: is posted to the ledger when it has succeeded.';
REVOKE ALL ON FUNCTION @extschema@.refund_result(uuid, text, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.refund_result(uuid, text, text, text) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.payment_webhook(
    provider text, body text, headers jsonb)
RETURNS tenancy.payment_event
AS 'MODULE_PATHNAME', 'tenancy_payment_webhook'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.payment_webhook(text, text, jsonb) IS
'Takes a webhook of a provider. provider: id. body: as it came, byte for byte. headers: by name, in any case. Result: the row; the same event again is the same row. Its order, and how often it comes, make no difference. Errors: 28000 it is not signed by the provider, or not in the last five minutes; 22023 it is no event; 42704 unknown provider; 42501 within a tenant context. Rights: tenancy_app, tenancy_admin. Side effects: as payment_result(), payment_dispute() and refund_result().';
REVOKE ALL ON FUNCTION @extschema@.payment_webhook(text, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.payment_webhook(text, text, jsonb) TO tenancy_app, tenancy_admin;

CREATE OR REPLACE FUNCTION tenancy.webhook_fault(
    scheme text, secret text, body text, headers jsonb, at timestamptz)
RETURNS text
AS 'MODULE_PATHNAME', 'tenancy_webhook_fault'
LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.webhook_fault(text, text, text, jsonb, timestamptz) IS
'Why a webhook is not signed with a secret. scheme: standard or stripe. secret, body, headers: as for payment_webhook(). at: the moment. Result: null where it is. Errors: 22023; 22004. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION tenancy.webhook_fault(text, text, text, jsonb, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenancy.webhook_fault(text, text, text, jsonb, timestamptz) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.dunning_policy_set(
    id text, policy jsonb)
RETURNS tenancy.dunning_policy
AS 'MODULE_PATHNAME', 'tenancy_dunning_policy_set'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.dunning_policy_set(text, jsonb) IS
'Says what is done where invoices are not paid. id: of the policy; default is for tenants without another. policy: first_attempt (issue or due: when the default payment method is tried), retries (gaps in days from the first failure on), failure_codes (gaps by code of the provider; an empty array for never), reminders (days from the due date), remind_on_failure, grace_days (then subscriptions are past due), suspend_after_days, cancel_after_days, write_off_after_days (from the due date, or from when the policy came to hold), campaign (thresholds by currency, max_attempts, days_between_attempts), texts (subject and body of before_due, overdue, failed, suspended, cancelled, request, with {{name}}, {{number}}, {{amount}}, {{currency}}, {{due_date}}). A day has 24 hours. Result: the row; it holds for invoices that are open, too. Errors: 22023 naming the path of the first fault; 42501 within a tenant context. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.dunning_policy_set(text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.dunning_policy_set(text, jsonb) TO tenancy_admin;

CREATE OR REPLACE FUNCTION tenancy.dunning_schedule(
    policy jsonb, failure_code text DEFAULT NULL, OUT day integer, OUT counted_from text, OUT action text, OUT step integer)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tenancy_dunning_schedule'
LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.dunning_schedule(jsonb, text) IS
'What a policy does and when. policy: as for dunning_policy_set(). failure_code: of the failures, or null. Result: one row a step; day is counted from the due date or from the first failure. Errors: 22023; 22004. Rights: tenancy_admin, tenancy_auditor.';
REVOKE ALL ON FUNCTION tenancy.dunning_schedule(jsonb, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenancy.dunning_schedule(jsonb, text) TO tenancy_admin, tenancy_auditor;

CREATE OR REPLACE FUNCTION tenancy.dunning_campaign_due(
    campaign jsonb, currency text, overdue numeric, attempts integer, last_attempt_at timestamptz, at timestamptz)
RETURNS boolean
AS 'MODULE_PATHNAME', 'tenancy_dunning_campaign_due'
LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.dunning_campaign_due(jsonb, text, numeric, integer, timestamptz, timestamptz) IS
'Whether a campaign asks a tenant. campaign: that of a policy. currency, overdue: what is overdue. attempts, last_attempt_at: how often it was asked, and when. at: the moment. Result: true where the threshold of the currency is reached, attempts are left, and more than the days between two have passed. Errors: 22004. Rights: tenancy_admin, tenancy_auditor.';
REVOKE ALL ON FUNCTION tenancy.dunning_campaign_due(jsonb, text, numeric, integer, timestamptz, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenancy.dunning_campaign_due(jsonb, text, numeric, integer, timestamptz, timestamptz) TO tenancy_admin, tenancy_auditor;

CREATE OR REPLACE FUNCTION @extschema@.dunning_run(
    at timestamptz DEFAULT now(), OUT attempts bigint, OUT reminders bigint, OUT suspended bigint, OUT cancelled bigint, OUT written_off bigint, OUT campaigns bigint, OUT failed bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tenancy_dunning_run'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.dunning_run(timestamptz) IS
'Does what the policies say is due for invoices that are not paid; the kind of work dunning.run does it every hour. A second run adds nothing. at: the moment. Result: one row: attempts to collect, reminders, tenants that were suspended, subscriptions that were cancelled, invoices that were written off, tenants that were asked for all that is overdue, and tenants that failed, which tenancy.dunning tells about and which do not stop the others. Errors: 42501 within a tenant context; 22004. Rights: tenancy_admin. Side effects: events payment.requested, invoice.reminder, invoice.payment_asked.';
REVOKE ALL ON FUNCTION @extschema@.dunning_run(timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.dunning_run(timestamptz) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.payment_remind(
    tenant @extschema@.regtenant)
RETURNS SETOF tenancy.dunning_reminder
AS 'MODULE_PATHNAME', 'tenancy_payment_remind'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.payment_remind(@extschema@.regtenant) IS
'Reminds a tenant now of each invoice that is due, once a day. tenant: slug or id. Result: one row an invoice. Errors: 42704 unknown tenant; 42501 within a tenant context. Rights: tenancy_admin. Side effects: events invoice.reminder with the text.';
REVOKE ALL ON FUNCTION @extschema@.payment_remind(@extschema@.regtenant) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.payment_remind(@extschema@.regtenant) TO tenancy_admin;

