/* subscription: accounts, taxes, coupons, subscriptions. */

CREATE OR REPLACE FUNCTION @extschema@.tax_rate_create(
    id text, percentage numeric, name text DEFAULT NULL, is_inclusive boolean DEFAULT false,
    category text DEFAULT 'S', country text DEFAULT NULL)
RETURNS tenancy.tax_rate
AS 'MODULE_PATHNAME', 'tenancy_tax_rate_create'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tax_rate_create(text, numeric, text, boolean, text, text) IS
'Makes a rate of tax. id: 1 to 63 bytes. percentage: from 0 to less than 1000. name: as invoices show it; the id when null. is_inclusive: prices contain the tax. category: of UNCL5305: S, Z, E, AE, K, G, O, L or M. country: of ISO 3166-1. Result: the row. Errors: 22023 bad category, country or percentage; 23505 exists. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.tax_rate_create(text, numeric, text, boolean, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tax_rate_create(text, numeric, text, boolean, text, text) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.tax_rate_retire(
    id text)
RETURNS tenancy.tax_rate
AS 'MODULE_PATHNAME', 'tenancy_tax_rate_retire'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tax_rate_retire(text) IS
'Sets a rate of tax inactive: it cannot be given to anybody any more; who has it keeps it. id: of the rate. Result: the row. Errors: 42704. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.tax_rate_retire(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tax_rate_retire(text) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.legal_entity_set(
    id text, entity jsonb)
RETURNS tenancy.legal_entity
AS 'MODULE_PATHNAME', 'tenancy_legal_entity_set'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.legal_entity_set(text, jsonb) IS
'Makes or changes who sells. id: lower-case letters, digits, underscores and hyphens; default is what everybody buys from who has no other. entity: members that are to be set, null for the default: name, address {line1, line2, postal_code, city, region}, country, tax_id, email, bank_account {iban, bic, holder}, invoice_series, credit_note_series, number_width, tax_rounding (line, invoice), zero_invoices (issue; skip: none where every line is over nothing), payment_terms_days, tax_rates. Result: the row. Errors: 22023 naming the path of the first fault; 42704 unknown tax rate; 23505 a series of another. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.legal_entity_set(text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.legal_entity_set(text, jsonb) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.billing_account_set(
    tenant @extschema@.regtenant, account jsonb)
RETURNS tenancy.billing_account
AS 'MODULE_PATHNAME', 'tenancy_billing_account_set'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.billing_account_set(@extschema@.regtenant, jsonb) IS
'Says who pays for a tenant. tenant: slug or id. account: members that are to be set, null for the default: legal_entity, name, email, address {line1, line2, postal_code, city, region}, country, tax_id, tax_treatment (taxed, exempt, reverse_charge), exemption_reason, payment_terms_days, consolidates, tax_rates, dunning_policy. Result: the row. Errors: 22023 naming the path of the first fault; 42704 unknown tenant, legal entity or tax rate. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.billing_account_set(@extschema@.regtenant, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.billing_account_set(@extschema@.regtenant, jsonb) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.coupon_create(
    code text, coupon jsonb)
RETURNS tenancy.coupon
AS 'MODULE_PATHNAME', 'tenancy_coupon_create'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.coupon_create(text, jsonb) IS
'Makes a coupon. code: 1 to 63 bytes. coupon: kind (percent, fixed), value, currency of a fixed one, name, duration (once, repeating, forever), duration_periods (invoices, when repeating), plans, metrics (lists that it is limited to), valid_from, valid_until, max_redemptions. What a fixed coupon that is given once could not take off comes off later invoices. Result: the row. Errors: 22023 naming the fault; 42704 unknown plan or metric; 23505 exists. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.coupon_create(text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.coupon_create(text, jsonb) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.coupon_apply(
    tenant @extschema@.regtenant, code text)
RETURNS tenancy.coupon_redemption
AS 'MODULE_PATHNAME', 'tenancy_coupon_apply'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.coupon_apply(@extschema@.regtenant, text) IS
'Gives a tenant a coupon; it comes off the invoices from then on. tenant: slug or id. code: of the coupon. Result: the row. Errors: 42704 unknown tenant or coupon; 55000 not valid now; 53400 given as often as it may; 23505 the tenant has it. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.coupon_apply(@extschema@.regtenant, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.coupon_apply(@extschema@.regtenant, text) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.coupon_revoke(
    tenant @extschema@.regtenant, code text)
RETURNS tenancy.coupon_redemption
AS 'MODULE_PATHNAME', 'tenancy_coupon_revoke'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.coupon_revoke(@extschema@.regtenant, text) IS
'Takes a coupon from a tenant; what invoices had of it stays. tenant: slug or id. code: of the coupon. Result: the row. Errors: 42704 unknown tenant, or it has no such coupon. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.coupon_revoke(@extschema@.regtenant, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.coupon_revoke(@extschema@.regtenant, text) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.subscription_create(
    tenant @extschema@.regtenant, plan text, starts_at timestamptz DEFAULT now(), time_zone text DEFAULT 'UTC',
    quantity numeric DEFAULT 1, currency text DEFAULT NULL, options jsonb DEFAULT '{}')
RETURNS tenancy.subscription
AS 'MODULE_PATHNAME', 'tenancy_subscription_create'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.subscription_create(@extschema@.regtenant, text, timestamptz, text, numeric, text, jsonb) IS
'Subscribes a tenant to a plan at the price in force when it starts. tenant: slug or id. plan: id. starts_at: past, present or future; all periods are counted from it. time_zone: of the boundaries of periods. quantity: seats. currency: one that the plan has; its first when null. options: anchor (a time, or calendar for periods of the calendar; the first one is then cut short), trial_days, coupon, addons [{plan, quantity}], requires_payment (true: it is incomplete until its first invoice is paid, and ends when that has not happened within 23 hours). Result: the row. Errors: 42704 unknown tenant, plan or coupon; 55000 the plan has no price then, is retired or an add-on; 23505 the tenant has a subscription of that family; 22023, also where it would begin before one of that family has ended. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.subscription_create(@extschema@.regtenant, text, timestamptz, text, numeric, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.subscription_create(@extschema@.regtenant, text, timestamptz, text, numeric, text, jsonb) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.subscription_update(
    subscription uuid, changes jsonb, at timestamptz DEFAULT NULL)
RETURNS tenancy.subscription
AS 'MODULE_PATHNAME', 'tenancy_subscription_update'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.subscription_update(uuid, jsonb, timestamptz) IS
'Changes what a subscription consists of. subscription: id. changes: plan, quantity (seats), latest_price (true: the newest version of the price), addons [{plan, quantity}] (0 removes), effective (now, period_end or a time in or after the open period; by default what makes it cheaper waits for the end of the period), invoice (next or now: when what is due within the period is billed). at: the moment that counts as now. Result: the row; what was in force and known when stays in tenancy.subscription_item. Errors: 42704; 55000 ended, paused, or a plan that cannot follow; 22023 naming the fault, such as an effect in a period that has been billed, or when it has ended. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.subscription_update(uuid, jsonb, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.subscription_update(uuid, jsonb, timestamptz) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.subscription_cancel(
    subscription uuid, reason text DEFAULT NULL, at_period_end boolean DEFAULT true,
    at timestamptz DEFAULT NULL)
RETURNS tenancy.subscription
AS 'MODULE_PATHNAME', 'tenancy_subscription_cancel'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.subscription_cancel(uuid, text, boolean, timestamptz) IS
'Cancels a subscription. subscription: id. reason: for the record. at_period_end: true: it ends with its period; false: now, and is billed for the part. at: it ends then instead. What was paid in advance for later is credited. Result: the row. Errors: 42704 unknown; 55000 cancelled or ended before; 22023 a time that has been billed. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.subscription_cancel(uuid, text, boolean, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.subscription_cancel(uuid, text, boolean, timestamptz) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.subscription_reactivate(
    subscription uuid)
RETURNS tenancy.subscription
AS 'MODULE_PATHNAME', 'tenancy_subscription_reactivate'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.subscription_reactivate(uuid) IS
'Takes back a cancellation before the subscription has ended. subscription: id. Result: the row. Errors: 42704 unknown; 55000 not cancelled, or ended. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.subscription_reactivate(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.subscription_reactivate(uuid) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.subscription_pause(
    subscription uuid, mode text DEFAULT 'service', resumes_at timestamptz DEFAULT NULL, reason text DEFAULT NULL)
RETURNS tenancy.subscription
AS 'MODULE_PATHNAME', 'tenancy_subscription_pause'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.subscription_pause(uuid, text, timestamptz, text) IS
'Pauses a subscription. subscription: id. mode: service: nothing accrues, what was paid in advance is credited, and usage is not billed; draft, void, uncollectible: it goes on, and so end its invoices. resumes_at: when it resumes by itself. reason: for the record. Result: the row. Errors: 42704 unknown; 55000 in another state; 22023. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.subscription_pause(uuid, text, timestamptz, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.subscription_pause(uuid, text, timestamptz, text) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.subscription_resume(
    subscription uuid)
RETURNS tenancy.subscription
AS 'MODULE_PATHNAME', 'tenancy_subscription_resume'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.subscription_resume(uuid) IS
'Takes a paused subscription up again, on its old anchor. subscription: id. Result: the row. Errors: 42704 unknown; 55000 not paused. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.subscription_resume(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.subscription_resume(uuid) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.subscription_history(
    subscription uuid, at timestamptz DEFAULT now(), known_at timestamptz DEFAULT now())
RETURNS SETOF tenancy.subscription_item
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT i.*
      FROM tenancy.subscription_item i
     WHERE i.subscription_id = subscription_history.subscription
       AND i.starts_at <= subscription_history.at AND i.ends_at > subscription_history.at
       AND i.recorded_at <= subscription_history.known_at AND i.superseded_at > subscription_history.known_at
     ORDER BY i.is_addon, i.starts_at, i.line;
END;
COMMENT ON FUNCTION @extschema@.subscription_history(uuid, timestamptz, timestamptz) IS
'What a subscription consisted of at a time, as was known at another. subscription: id. at: when it was in force. known_at: when it was known. Result: the items, the base plan first. Rights: tenancy_admin, tenancy_auditor, and a tenant for its own.';
REVOKE ALL ON FUNCTION @extschema@.subscription_history(uuid, timestamptz, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.subscription_history(uuid, timestamptz, timestamptz) TO tenancy_admin, tenancy_auditor, tenancy_tenant;

CREATE OR REPLACE FUNCTION tenancy.plan_monthly_value(plan text, version integer, currency text, quantity numeric)
RETURNS numeric
AS 'MODULE_PATHNAME', 'tenancy_plan_monthly_value'
LANGUAGE C STABLE PARALLEL RESTRICTED;
COMMENT ON FUNCTION tenancy.plan_monthly_value(text, integer, text, numeric) IS
'What a version of a plan costs a month before anything is used, not rounded: its recurring charges without a metric, whatever its billing period is. quantity: of seats. Errors: 42704 no such version in the currency; 22004. Rights: tenancy_admin, tenancy_auditor.';
REVOKE ALL ON FUNCTION tenancy.plan_monthly_value(text, integer, text, numeric) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenancy.plan_monthly_value(text, integer, text, numeric) TO tenancy_admin, tenancy_auditor;

