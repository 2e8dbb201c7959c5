/* revenue: what is earned, and what it comes to. */

CREATE OR REPLACE FUNCTION tenancy.revenue_earned(
    amount numeric, period_start timestamptz, period_end timestamptz, at timestamptz, currency text)
RETURNS numeric
AS 'MODULE_PATHNAME', 'tenancy_revenue_earned'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.revenue_earned(numeric, timestamptz, timestamptz, timestamptz, text) IS
'What of an amount for a service period is earned at a moment: in a straight line by time, rounded half away from zero to the exponent of the currency; all of it at the end. amount: exact in the currency. Errors: 22023; 22008 a period without an end. Rights: anybody.';
GRANT EXECUTE ON FUNCTION tenancy.revenue_earned(numeric, timestamptz, timestamptz, timestamptz, text) TO PUBLIC;

CREATE OR REPLACE FUNCTION @extschema@.revenue_recognize(
    at timestamptz DEFAULT now())
RETURNS bigint
AS 'MODULE_PATHNAME', 'tenancy_revenue_recognize'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.revenue_recognize(timestamptz) IS
'Posts to the ledger what was billed in advance and is earned by now; the kind of work revenue.recognize does it every day. A second run for the same moment, or an earlier one, adds nothing. at: the moment. Result: for how many invoices. Errors: 22004; 42501 within a tenant context. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.revenue_recognize(timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.revenue_recognize(timestamptz) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.deferred_revenue_schedule(
    at timestamptz DEFAULT now(), tenant @extschema@.regtenant DEFAULT NULL)
RETURNS TABLE (month date, legal_entity text, currency text, amount numeric)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT (m.month AT TIME ZONE 'UTC')::date, i.legal_entity, i.currency,
           sum(tenancy.revenue_earned(l.net, l.period_start, l.period_end, m.next_month, i.currency)
               - tenancy.revenue_earned(l.net, l.period_start, l.period_end, greatest(m.month, deferred_revenue_schedule.at), i.currency)) AS amount
      FROM tenancy.invoice i,
           LATERAL (SELECT v.net - coalesce((SELECT sum(e.net) FROM tenancy.credit_note_line e
                                               JOIN tenancy.credit_note n ON n.id = e.credit_note_id
                                              WHERE e.invoice_id = v.invoice_id AND e.invoice_position = v.position
                                                AND n.issued_at <= deferred_revenue_schedule.at), 0) AS net,
                           v.period_start, v.period_end
                      FROM tenancy.invoice_line v
                     WHERE v.invoice_id = i.id AND v.kind IN ('advance', 'credit')
                       AND v.period_end > deferred_revenue_schedule.at) l,
           LATERAL (SELECT g AT TIME ZONE 'UTC' AS month, (g + interval '1 month') AT TIME ZONE 'UTC' AS next_month
                      FROM generate_series(date_trunc('month', greatest(l.period_start, deferred_revenue_schedule.at) AT TIME ZONE 'UTC'),
                                           l.period_end AT TIME ZONE 'UTC' - interval '1 microsecond', interval '1 month') g) m
     WHERE i.deferred <> 0 AND i.issued_at <= deferred_revenue_schedule.at
       AND i.state IN ('open', 'paid', 'uncollectible')
       AND (deferred_revenue_schedule.tenant IS NULL OR i.tenant_id = deferred_revenue_schedule.tenant::uuid)
     GROUP BY 1, 2, 3
    HAVING sum(tenancy.revenue_earned(l.net, l.period_start, l.period_end, m.next_month, i.currency)
               - tenancy.revenue_earned(l.net, l.period_start, l.period_end, greatest(m.month, deferred_revenue_schedule.at), i.currency)) <> 0
     ORDER BY 1, 2, 3;
END;
COMMENT ON FUNCTION @extschema@.deferred_revenue_schedule(timestamptz, @extschema@.regtenant) IS
'What was billed in advance and is still to be earned, by the month in which it will be. at: the moment. tenant: slug or id of one tenant, or null for all. Result: one row a month in UTC, legal entity and currency; all months add up to what is not earned at the moment. Rights: tenancy_admin, tenancy_auditor.';
REVOKE ALL ON FUNCTION @extschema@.deferred_revenue_schedule(timestamptz, @extschema@.regtenant) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.deferred_revenue_schedule(timestamptz, @extschema@.regtenant) TO tenancy_admin, tenancy_auditor;

CREATE OR REPLACE FUNCTION @extschema@.receivables_aged(
    at timestamptz DEFAULT now())
RETURNS TABLE (tenant_id uuid, legal_entity text, currency text, not_due numeric, days_0_30 numeric,
               days_31_60 numeric, days_61_90 numeric, days_over_90 numeric, total numeric)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT o.tenant_id, o.legal_entity, o.currency,
           coalesce(sum(o.amount) FILTER (WHERE o.days < 0), 0),
           coalesce(sum(o.amount) FILTER (WHERE o.days BETWEEN 0 AND 30), 0),
           coalesce(sum(o.amount) FILTER (WHERE o.days BETWEEN 31 AND 60), 0),
           coalesce(sum(o.amount) FILTER (WHERE o.days BETWEEN 61 AND 90), 0),
           coalesce(sum(o.amount) FILTER (WHERE o.days > 90), 0), sum(o.amount)
      FROM (SELECT i.tenant_id, i.legal_entity, i.currency,
                   floor(extract(epoch FROM receivables_aged.at - i.due_at) / 86400) AS days,
                   i.total
                   + coalesce((SELECT sum(c.amount) FROM tenancy.credit_entry c
                                WHERE c.document_id = i.id AND c.kind IN ('use', 'return')
                                  AND c.created_at <= receivables_aged.at), 0)
                   - coalesce((SELECT sum(a.amount) FROM tenancy.payment_allocation a
                                WHERE a.invoice_id = i.id AND a.created_at <= receivables_aged.at), 0)
                   + coalesce((SELECT sum(e.amount) FROM tenancy.ledger_transaction t
                                 JOIN tenancy.ledger_entry e ON e.transaction_id = t.id
                                WHERE (t.document_id = i.id AND t.kind IN ('void', 'write_off', 'recovery')
                                       OR t.kind = 'credit_note' AND t.document_id IN
                                          (SELECT n.id FROM tenancy.credit_note n WHERE n.invoice_id = i.id))
                                  AND e.account = 'receivable' AND t.effective_at <= receivables_aged.at), 0) AS amount
              FROM tenancy.invoice i
             WHERE i.state <> 'draft' AND i.total > 0 AND i.issued_at <= receivables_aged.at) o
     WHERE o.amount <> 0
     GROUP BY o.tenant_id, o.legal_entity, o.currency
     ORDER BY o.tenant_id, o.legal_entity, o.currency;
END;
COMMENT ON FUNCTION @extschema@.receivables_aged(timestamptz) IS
'What tenants owe, by how many days of 24 hours it is overdue. at: the moment; what happened later does not count. Result: one row a tenant, legal entity and currency; total is the receivable of the ledger. Rights: tenancy_admin, tenancy_auditor.';
REVOKE ALL ON FUNCTION @extschema@.receivables_aged(timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.receivables_aged(timestamptz) TO tenancy_admin, tenancy_auditor;

CREATE OR REPLACE FUNCTION @extschema@.mrr_movements(
    from_month date, to_month date)
RETURNS TABLE (month date, currency text, opening numeric, new numeric, expansion numeric, contraction numeric,
               churn numeric, reactivation numeric, closing numeric)
LANGUAGE sql STABLE PARALLEL RESTRICTED
BEGIN ATOMIC
    WITH boundary AS (
        SELECT g AT TIME ZONE 'UTC' AS at, (g - interval '1 month')::date AS month
          FROM generate_series(date_trunc('month', mrr_movements.from_month::timestamp),
                               date_trunc('month', mrr_movements.to_month::timestamp) + interval '1 month', interval '1 month') g),
    item AS MATERIALIZED (
        SELECT i.tenant_id, i.currency, greatest(i.starts_at, coalesce(s.trial_ends_at, i.starts_at)) AS starts_at, i.ends_at,
               tenancy.plan_monthly_value(i.plan, i.price_version, i.currency, i.quantity) AS value
          FROM tenancy.subscription_item i JOIN tenancy.subscription s ON s.id = i.subscription_id
         WHERE i.superseded_at = 'infinity'
           AND i.starts_at < (date_trunc('month', mrr_movements.to_month::timestamp) + interval '1 month') AT TIME ZONE 'UTC'
           AND i.ends_at > coalesce(s.trial_ends_at, '-infinity')),
    paying AS (
        SELECT i.tenant_id, i.currency, min(i.starts_at) AS since FROM item i WHERE i.value > 0 GROUP BY i.tenant_id, i.currency),
    standing AS (
        SELECT b.at, b.month, p.tenant_id, p.currency, p.since,
               tenancy.money_round(coalesce((SELECT sum(i.value) FROM item i
                  WHERE i.tenant_id = p.tenant_id AND i.currency = p.currency
                    AND i.starts_at < b.at AND i.ends_at >= b.at), 0), p.currency) AS mrr
          FROM boundary b CROSS JOIN paying p),
    change AS (
        SELECT s.at, s.month, s.currency, s.since, s.mrr,
               lag(s.mrr) OVER w AS before, lag(s.at) OVER w AS before_at
          FROM standing s WINDOW w AS (PARTITION BY s.tenant_id, s.currency ORDER BY s.at))
    SELECT c.month, c.currency, sum(c.before),
           coalesce(sum(c.mrr) FILTER (WHERE c.before = 0 AND c.since >= c.before_at), 0),
           coalesce(sum(c.mrr - c.before) FILTER (WHERE c.before > 0 AND c.mrr > c.before), 0),
           coalesce(sum(c.mrr - c.before) FILTER (WHERE c.mrr > 0 AND c.mrr < c.before), 0),
           coalesce(sum(-c.before) FILTER (WHERE c.before > 0 AND c.mrr = 0), 0),
           coalesce(sum(c.mrr) FILTER (WHERE c.before = 0 AND c.mrr > 0 AND c.since < c.before_at), 0),
           sum(c.mrr)
      FROM change c WHERE c.before IS NOT NULL
     GROUP BY c.month, c.currency
     ORDER BY c.month, c.currency;
END;
COMMENT ON FUNCTION @extschema@.mrr_movements(date, date) IS
'How the monthly recurring revenue has moved, as is known now: of recurring charges without a metric, before discounts, without trials; at the turn of months in UTC. from_month, to_month: any day of the first and the last month. Result: one row a month and currency; opening and all movements come to closing: new for who paid for the first time, reactivation for who did again, expansion, and contraction and churn, which are negative. Rights: tenancy_admin, tenancy_auditor.';
REVOKE ALL ON FUNCTION @extschema@.mrr_movements(date, date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.mrr_movements(date, date) TO tenancy_admin, tenancy_auditor;

/*
 * What must always be empty: where documents and the ledger disagree.
 */
CREATE OR REPLACE VIEW tenancy.ledger_mismatch WITH (security_invoker = true) AS
    SELECT 'transaction' AS kind, t.tenant_id, t.currency, t.id AS document_id,
           0::numeric AS expected, sum(e.amount) AS found
      FROM tenancy.ledger_transaction t LEFT JOIN tenancy.ledger_entry e ON e.transaction_id = t.id
     GROUP BY t.id
    HAVING sum(e.amount) IS DISTINCT FROM 0
        OR bool_or(e.tenant_id <> t.tenant_id OR e.currency <> t.currency)
    UNION ALL
    SELECT 'invoice', i.tenant_id, i.currency, i.id, i.total, p.amount
      FROM tenancy.invoice i
      LEFT JOIN (SELECT t.document_id, sum(e.amount) AS amount
                   FROM tenancy.ledger_transaction t JOIN tenancy.ledger_entry e ON e.transaction_id = t.id
                  WHERE t.kind = 'invoice' AND e.account IN ('receivable', 'customer_credit')
                  GROUP BY t.document_id) p ON p.document_id = i.id
     WHERE i.state <> 'draft' AND i.total <> coalesce(p.amount, 0)
    UNION ALL
    SELECT 'receivable', tenant_id, currency, NULL, d.amount, p.amount
      FROM (SELECT i.tenant_id, i.currency, sum(i.amount_due) AS amount
              FROM tenancy.invoice i WHERE i.state IN ('open', 'paid')
             GROUP BY i.tenant_id, i.currency) d
      FULL JOIN (SELECT e.tenant_id, e.currency, sum(e.amount) AS amount
                   FROM tenancy.ledger_entry e WHERE e.account = 'receivable'
                  GROUP BY e.tenant_id, e.currency) p USING (tenant_id, currency)
     WHERE coalesce(d.amount, 0) <> coalesce(p.amount, 0)
    UNION ALL
    SELECT 'cash', tenant_id, currency, NULL, d.amount, p.amount
      FROM (SELECT c.tenant_id, c.currency, sum(c.amount) AS amount
              FROM (SELECT q.tenant_id, q.currency,
                           q.captured - q.refunded
                           - CASE WHEN q.dispute_state IN ('open', 'lost') THEN least(q.disputed, q.captured - q.refunded) ELSE 0 END AS amount
                      FROM tenancy.payment q
                    UNION ALL
                    SELECT g.tenant_id, g.currency, g.amount FROM tenancy.credit g WHERE g.source = 'purchase') c
             GROUP BY c.tenant_id, c.currency) d
      FULL JOIN (SELECT e.tenant_id, e.currency, sum(e.amount) AS amount
                   FROM tenancy.ledger_entry e WHERE e.account = 'cash'
                  GROUP BY e.tenant_id, e.currency) p USING (tenant_id, currency)
     WHERE coalesce(d.amount, 0) <> coalesce(p.amount, 0)
    UNION ALL
    SELECT 'credit', tenant_id, currency, NULL, d.amount, p.amount
      FROM (SELECT g.tenant_id, g.currency, sum(g.remaining) AS amount
              FROM tenancy.credit g GROUP BY g.tenant_id, g.currency) d
      FULL JOIN (SELECT e.tenant_id, e.currency, -sum(e.amount) AS amount
                   FROM tenancy.ledger_entry e WHERE e.account = 'customer_credit'
                  GROUP BY e.tenant_id, e.currency) p USING (tenant_id, currency)
     WHERE coalesce(d.amount, 0) <> coalesce(p.amount, 0)
    UNION ALL
    SELECT 'credit remaining', g.tenant_id, g.currency, g.id, g.amount + coalesce(m.amount, 0), g.remaining
      FROM tenancy.credit g
      LEFT JOIN (SELECT e.credit_id, sum(e.amount) AS amount FROM tenancy.credit_entry e GROUP BY e.credit_id) m ON m.credit_id = g.id
     WHERE g.remaining <> g.amount + coalesce(m.amount, 0)
    UNION ALL
    SELECT 'amount applied', i.tenant_id, i.currency, i.id, i.amount_applied, coalesce(m.amount, 0)
      FROM tenancy.invoice i
      LEFT JOIN (SELECT u.document_id, sum(u.amount) AS amount
                   FROM (SELECT e.document_id, -e.amount AS amount FROM tenancy.credit_entry e WHERE e.kind IN ('use', 'return')
                         UNION ALL
                         SELECT g.document_id, -g.amount FROM tenancy.credit g WHERE g.source = 'proration') u
                  GROUP BY u.document_id) m ON m.document_id = i.id
     WHERE i.amount_applied <> coalesce(m.amount, 0)
    UNION ALL
    SELECT 'amount paid', i.tenant_id, i.currency, i.id, i.amount_paid, coalesce(a.amount, 0)
      FROM tenancy.invoice i
      LEFT JOIN (SELECT a.invoice_id, sum(a.amount) AS amount FROM tenancy.payment_allocation a GROUP BY a.invoice_id) a ON a.invoice_id = i.id
     WHERE i.amount_paid <> coalesce(a.amount, 0)
    UNION ALL
    SELECT 'amount credited', i.tenant_id, i.currency, i.id, i.amount_credited, coalesce(n.amount, 0)
      FROM tenancy.invoice i
      LEFT JOIN (SELECT n.invoice_id, sum(n.amount_off_due + n.amount_to_refund) AS amount FROM tenancy.credit_note n GROUP BY n.invoice_id) n ON n.invoice_id = i.id
     WHERE i.amount_credited <> coalesce(n.amount, 0)
    UNION ALL
    SELECT 'tax', tenant_id, currency, NULL, d.amount, p.amount
      FROM (SELECT x.tenant_id, x.currency, sum(x.amount) AS amount
              FROM (SELECT i.tenant_id, i.currency, i.tax + i.inclusive_tax AS amount
                      FROM tenancy.invoice i WHERE i.state IN ('open', 'paid', 'uncollectible')
                    UNION ALL
                    SELECT n.tenant_id, n.currency, -(n.tax + n.inclusive_tax) FROM tenancy.credit_note n) x
             GROUP BY x.tenant_id, x.currency) d
      FULL JOIN (SELECT e.tenant_id, e.currency, -sum(e.amount) AS amount
                   FROM tenancy.ledger_entry e WHERE e.account = 'tax_payable'
                  GROUP BY e.tenant_id, e.currency) p USING (tenant_id, currency)
     WHERE coalesce(d.amount, 0) <> coalesce(p.amount, 0)
    UNION ALL
    SELECT 'deferred revenue', tenant_id, currency, NULL, d.amount, p.amount
      FROM (SELECT x.tenant_id, x.currency, sum(x.amount) AS amount
              FROM (SELECT i.tenant_id, i.currency, i.deferred - coalesce(r.recognized, 0) AS amount
                      FROM tenancy.invoice i
                      LEFT JOIN tenancy.revenue_recognition r ON r.invoice_id = i.id
                     WHERE i.state IN ('open', 'paid', 'uncollectible')
                    UNION ALL
                    SELECT n.tenant_id, n.currency, -n.deferred FROM tenancy.credit_note n) x
             GROUP BY x.tenant_id, x.currency) d
      FULL JOIN (SELECT e.tenant_id, e.currency, -sum(e.amount) AS amount
                   FROM tenancy.ledger_entry e WHERE e.account = 'deferred_revenue'
                  GROUP BY e.tenant_id, e.currency) p USING (tenant_id, currency)
     WHERE coalesce(d.amount, 0) <> coalesce(p.amount, 0)
    UNION ALL
    SELECT 'refunded', q.tenant_id, q.currency, q.id, q.refunded, coalesce(r.amount, 0)
      FROM tenancy.payment q
      LEFT JOIN (SELECT r.payment_id, sum(r.amount) AS amount FROM tenancy.refund r WHERE r.state = 'succeeded' GROUP BY r.payment_id) r ON r.payment_id = q.id
     WHERE q.refunded <> coalesce(r.amount, 0);
COMMENT ON VIEW tenancy.ledger_mismatch IS
'Where documents and the ledger disagree; always empty. kind: what is compared; expected is what the documents say.';
REVOKE ALL ON tenancy.ledger_mismatch FROM PUBLIC;
GRANT SELECT ON tenancy.ledger_mismatch TO tenancy_admin, tenancy_auditor;

