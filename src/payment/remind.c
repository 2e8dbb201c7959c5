/*
 * payment/remind.c
 *		Reminders: rendering them, and giving each to the outbox once.
 *
 * Who delivers events of the outbox sends them as mail; the database sends nothing.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "context/context.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/id.h"
#include "core/json.h"
#include "core/money.h"
#include "job/outbox.h"
#include "payment/payment.h"
#include "payment/remind.h"

#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

GATE_STATEMENT(reminder_exists,
			   "SELECT FROM tenancy.dunning_reminder r"
			   " WHERE r.invoice_id = $1 AND r.kind = $2 AND r.step = $3",
			   UUIDOID, TEXTOID, INT4OID);
GATE_STATEMENT(reminder_insert,
			   "INSERT INTO tenancy.dunning_reminder (invoice_id, kind, step, tenant_id, subject,"
			   "    body, event_id, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
			   UUIDOID, TEXTOID, INT4OID, UUIDOID, TEXTOID, TEXTOID, UUIDOID, TIMESTAMPTZOID);
GATE_STATEMENT(
	reminder_invoices,
	"SELECT i.id, coalesce(i.customer->>'name', t.name, t.slug), i.customer->>'email',"
	"       i.number, i.currency, i.amount_due, i.due_at, p.policy"
	"  FROM tenancy.invoice i JOIN tenancy.tenant t ON t.id = i.tenant_id"
	"  LEFT JOIN tenancy.billing_account a ON a.tenant_id = t.id"
	"  LEFT JOIN tenancy.dunning_policy p ON p.id = coalesce(a.dunning_policy, 'default')"
	" WHERE i.tenant_id = $1 AND i.state = 'open' AND i.amount_due > 0 AND i.due_at <= $2"
	" ORDER BY i.due_at, i.id",
	UUIDOID, TIMESTAMPTZOID);
GATE_STATEMENT(reminders_asked,
			   "SELECT r.invoice_id, r.kind, r.step, r.tenant_id, r.subject, r.body, r.event_id,"
			   "       r.created_at"
			   "  FROM tenancy.dunning_reminder r JOIN tenancy.invoice i ON i.id = r.invoice_id"
			   " WHERE r.tenant_id = $1 AND r.kind = 'asked'"
			   "   AND (r.invoice_id, r.step) IN (SELECT u.i, u.s FROM unnest($2, $3) AS u(i, s))"
			   " ORDER BY i.due_at, i.id",
			   UUIDOID, UUIDARRAYOID, INT4ARRAYOID);

/* The day in UTC, as ISO 8601 has it. */
static char *
date_text(TimestampTz time)
{
	struct pg_tm tm;
	fsec_t fsec;

	if (TIMESTAMP_NOT_FINITE(time) || timestamp2tm(time, NULL, &tm, &fsec, NULL, NULL) != 0)
		return "";
	return psprintf("%04d-%02d-%02d", tm.tm_year, tm.tm_mon, tm.tm_mday);
}

char *
remind_render(const DunningPolicy *policy, const char *text, const char *part, const Reminded *of)
{
	const struct
	{
		const char *placeholder;
		const char *value;
	} fields[] = {
		{"{{amount}}", numeric_text(of->amount_due)},
		{"{{currency}}", of->currency},
		{"{{due_date}}", date_text(of->due_at)},
		{"{{name}}", of->name == NULL ? "" : of->name},
		{"{{number}}", of->number},
	};
	const char *rest = policy_text(policy, text, part);
	StringInfoData out;

	initStringInfo(&out);
	while (*rest != '\0')
	{
		int i = 0;

		while (i < lengthof(fields) &&
			   strncmp(rest, fields[i].placeholder, strlen(fields[i].placeholder)) != 0)
			i++;
		if (i == lengthof(fields))
			appendStringInfoChar(&out, *rest++);
		else
		{
			appendStringInfoString(&out, fields[i].value);
			rest += strlen(fields[i].placeholder);
		}
	}
	return out.data;
}

bool
remind(const DunningPolicy *policy, const Reminded *of, const char *kind, int32 step,
	   const char *text)
{
	char *subject;
	char *body;
	pg_uuid_t *event;
	JsonBuilder payload;

	if (gate_run(&reminder_exists, EXPECT_AT_MOST_ONE, gate_uuid(&of->invoice), gate_text(kind),
				 gate_int32(step))
			->count > 0)
		return false;
	subject = remind_render(policy, text, "subject", of);
	body = remind_render(policy, text, "body", of);
	json_begin(&payload);
	json_put_numeric(&payload, "amount_due", of->amount_due);
	json_put_text(&payload, "body", body);
	json_put_text(&payload, "currency", of->currency);
	json_put_text(&payload, "due_date", date_text(of->due_at));
	json_put_text(&payload, "email", of->email);
	json_put_text(&payload, "invoice", id_text(&of->invoice));
	json_put_text(&payload, "kind", kind);
	json_put_text(&payload, "number", of->number);
	json_put_int64(&payload, "step", step);
	json_put_text(&payload, "subject", subject);
	event = outbox_put(&of->tenant, "invoice.reminder", json_end(&payload));
	gate_run(&reminder_insert, EXPECT_ONE, gate_uuid(&of->invoice), gate_text(kind),
			 gate_int32(step), gate_uuid(&of->tenant), gate_text(subject), gate_text(body),
			 gate_uuid(event), gate_timestamptz(clock_now()));
	return true;
}

/* payment_remind(tenant regtenant) → SETOF tenancy.dunning_reminder */
TENANCY_FUNCTION(payment_remind)
{
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");
	TimestampTz now = clock_now();
	GateRows *rows;
	pg_uuid_t *invoices;
	Datum *steps;

	context_require_none("reminding of payments");
	payment_lock_tenant(tenant);
	rows = gate_run(&reminder_invoices, EXPECT_ANY, gate_uuid(tenant), gate_timestamptz(now));
	invoices = palloc(sizeof(pg_uuid_t) * Max(rows->count, 1));
	steps = palloc(sizeof(Datum) * Max(rows->count, 1));
	for (int64 i = 0; i < rows->count; i++)
	{
		Jsonb *document = row_jsonb(rows, i, 7);
		DunningPolicy policy = policy_parse(document != NULL ? document : json_empty_object());
		Reminded of = {
			.tenant = *tenant,
			.invoice = *row_uuid(rows, i, 0),
			.name = row_text(rows, i, 1),
			.email = row_text(rows, i, 2),
			.number = row_text(rows, i, 3),
			.currency = row_text(rows, i, 4),
			.amount_due = row_numeric(rows, i, 5),
			.due_at = row_timestamptz(rows, i, 6),
		};
		int32 step = (now - of.due_at) / USECS_PER_DAY;

		(void) remind(&policy, &of, "asked", step, "overdue");
		invoices[i] = of.invoice;
		steps[i] = Int32GetDatum(step);
	}
	gate_return_rows(fcinfo, gate_run(&reminders_asked, EXPECT_ANY, gate_uuid(tenant),
									  gate_uuid_array(invoices, rows->count),
									  gate_array(steps, rows->count, INT4OID)));
	return (Datum) 0;
}
