/*
 * privacy/purge_record.c
 *		The tenant's rows in the extension's own tables.
 *
 * All tables that have a tenant go, those that refer to others first, but for what is listed
 * here: the books, and what they refer to.  So a table that is new goes unless somebody says
 * why it must stay.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "catalog/gate.h"
#include "core/attempt.h"
#include "core/clock.h"
#include "core/id.h"
#include "privacy/purge.h"
#include "catalog/relation.h"

#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#define BATCH_ROWS 10000

/*
 * What a tenant has used and may use: written from shared memory, or by somebody who began before
 * the purge, so possibly once more.  Nothing that is done for a purged tenant on purpose: what is
 * to be delivered, done, paid back.
 */
static const char *const swept[] = {"latency_hour",
									"quota",
									"quota_event",
									"rate_limit",
									"rate_limit_state",
									"resource_sample",
									"scaling_decision",
									"storage_measurement",
									"tenant_relation_storage",
									"usage_event",
									"usage_event_key",
									"usage_event_pruned",
									"usage_hour",
									"usage_late",
									"usage_minute",
									"usage_rollup"};

/*
 * Counters in shared memory are written for so long after the last statement, at most.  What else
 * began before the purge and writes after it is sooner done.
 */
#define SWEEP_INTERVAL "2 days"

#define ISSUED                                                                                     \
	"EXISTS (SELECT FROM tenancy.invoice i WHERE i.id = x.invoice_id AND i.state <> 'draft')"
#define HAS_INVOICES                                                                               \
	"EXISTS (SELECT FROM tenancy.invoice i WHERE i.tenant_id = x.tenant_id"                        \
	" AND i.state <> 'draft')"
#define BOOKS "the books are kept as long as the law says"
#define DOCUMENT                                                                                   \
	"an issued document is kept as long as the law says, with the names and the "                  \
	"address that it bears"
#define NEEDED "an issued document refers to it"

/* What stays: rows "x" for which the condition holds. */
static const struct
{
	const char *table;
	const char *keep;
	const char *why;
} kept[] = {
	{"backup", "true",
	 "it says when the file was removed, which backup.maintain does within minutes of the purge"},
	{"billing_account", HAS_INVOICES, DOCUMENT},
	{"coupon_redemption",
	 "EXISTS (SELECT FROM tenancy.invoice_discount d JOIN tenancy.invoice i ON i.id = d.invoice_id"
	 " WHERE d.redemption_id = x.id AND i.state <> 'draft')",
	 NEEDED},
	{"credit", "true", BOOKS},
	{"credit_entry", "true", BOOKS},
	{"credit_note", "true", DOCUMENT},
	{"credit_note_line", "true", DOCUMENT},
	{"credit_note_tax", "true", DOCUMENT},
	{"invoice", "x.state <> 'draft'", DOCUMENT},
	{"invoice_discount", ISSUED, DOCUMENT},
	{"invoice_item", "coalesce(" ISSUED ", false)", DOCUMENT},
	{"invoice_line", ISSUED, DOCUMENT},
	{"invoice_tax", ISSUED, DOCUMENT},
	{"ledger_entry", "true", BOOKS},
	{"ledger_transaction", "true", BOOKS},
	{"outbox_event", "x.type = 'tenant.deprovision'",
	 "it tells that the tenant is gone, for tenancy.event_retention"},
	{"payment", "true", BOOKS},
	{"payment_allocation", "true", BOOKS},
	{"payment_method", "EXISTS (SELECT FROM tenancy.payment p WHERE p.payment_method_id = x.id)",
	 NEEDED},
	{"refund", "true", BOOKS},
	{"restoration", "true", "it says which backup the tenant was made from"},
	{"revenue_recognition", "true", BOOKS},
	{"subscription", HAS_INVOICES, NEEDED},
	{"subscription_item", HAS_INVOICES, NEEDED},
};

/* Those that refer to others first; without what the purge itself works with. */
GATE_STATEMENT(
	purge_tables,
	"WITH RECURSIVE own AS ("
	"    SELECT c.oid, c.relname, a.attname FROM pg_catalog.pg_class c"
	"      JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND NOT a.attisdropped"
	"     WHERE c.relnamespace = 'tenancy'::pg_catalog.regnamespace"
	"       AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
	"       AND (a.attname = 'tenant_id' OR c.relname = 'job_key' AND a.attname = 'scope')"
	"       AND c.relname NOT IN ('tenant_deletion', 'deletion_certificate')),"
	" ref AS (SELECT DISTINCT k.conrelid AS child, k.confrelid AS parent"
	"           FROM pg_catalog.pg_constraint k JOIN own o ON o.oid = k.conrelid"
	"          WHERE k.contype = 'f' AND k.conrelid <> k.confrelid),"
	" walk AS ("
	"    SELECT o.oid AS table_oid, o.oid AS at, 0 AS depth, ARRAY[o.oid] AS path FROM own o"
	"    UNION ALL"
	"    SELECT w.table_oid, r.parent, w.depth + 1, w.path || r.parent FROM walk w"
	"      JOIN ref r ON r.child = w.at WHERE r.parent <> ALL (w.path))"
	" SELECT o.oid, o.relname, o.attname FROM own o"
	"   JOIN (SELECT w.table_oid, pg_catalog.max(w.depth) AS depth FROM walk w"
	"          GROUP BY w.table_oid) d ON d.table_oid = o.oid"
	"  ORDER BY d.depth DESC, o.relname");
GATE_STATEMENT(
	purge_documents,
	"SELECT EXISTS (SELECT FROM tenancy.invoice i WHERE i.tenant_id = $1 AND i.state <> 'draft')"
	"    OR EXISTS (SELECT FROM tenancy.ledger_transaction l WHERE l.tenant_id = $1)"
	"    OR EXISTS (SELECT FROM tenancy.credit_note n WHERE n.tenant_id = $1)"
	"    OR EXISTS (SELECT FROM tenancy.credit c WHERE c.tenant_id = $1)"
	"    OR EXISTS (SELECT FROM tenancy.payment p WHERE p.tenant_id = $1)",
	UUIDOID);
/* Nothing is billed any more. */
GATE_STATEMENT(purge_end_subscriptions,
			   "UPDATE tenancy.subscription s SET state = 'ended', bills_at = NULL,"
			   "       ends_at = greatest(s.starts_at, least(s.ends_at, $2)),"
			   "       cancelled_at = coalesce(s.cancelled_at, $2),"
			   "       cancel_reason = coalesce(s.cancel_reason, 'tenant purged'),"
			   "       pause_mode = NULL, paused_at = NULL, resumes_at = NULL"
			   " WHERE s.tenant_id = $1 AND s.state <> 'ended'",
			   UUIDOID, TIMESTAMPTZOID);
GATE_STATEMENT(purged_lately,
			   "SELECT pg_catalog.array_agg(c.tenant_id) FROM tenancy.deletion_certificate c"
			   " WHERE c.finished_at > $1 - interval '" SWEEP_INTERVAL "'",
			   TIMESTAMPTZOID);

bool
purge_is_time_up(const Purge *purge)
{
	return purge->until != 0 && GetCurrentTimestamp() >= purge->until;
}

typedef struct Batch
{
	const char *sql;
	NullableDatum tenants;
	int64 count;
} Batch;

static void
delete_batch(void *argument)
{
	Batch *batch = argument;

	batch->count = gate_query_text(batch->sql, 1, (Oid[]){UUIDARRAYOID}, &batch->tenants)->count;
}

/* Rows of one table that refer to each other may have to go at once. */
static int64
delete_some(NullableDatum tenants, const char *name, const char *condition)
{
	Batch some = {
		.sql = psprintf("DELETE FROM ONLY %s x WHERE x.ctid = ANY (ARRAY(SELECT x.ctid FROM ONLY "
						"%s x WHERE %s LIMIT %d))",
						name, name, condition, BATCH_ROWS),
		.tenants = tenants,
	};
	Batch all = {.sql = psprintf("DELETE FROM ONLY %s x WHERE %s", name, condition),
				 .tenants = tenants};
	ErrorData *error = attempt("purge", delete_batch, &some);

	if (error == NULL)
		return some.count;
	if (error->sqlerrcode != ERRCODE_FOREIGN_KEY_VIOLATION)
		ReThrowError(error);
	delete_batch(&all);
	return all.count;
}

/* "purge": whose time it is, or NULL for as long as it takes. */
static bool
delete_rows(const Purge *purge, NullableDatum tenants, Oid relid, Oid owner, const char *condition,
			int64 *count)
{
	ListCell *cell;

	*count = 0;
	foreach (cell, find_all_inheritors(relid, NoLock, NULL))
	{
		char *name = relation_sql_name(lfirst_oid(cell));
		int64 gone = BATCH_ROWS;

		if (get_rel_relkind(lfirst_oid(cell)) != RELKIND_RELATION)
			continue;
		while (gone >= BATCH_ROWS)
		{
			GateScope scope;

			CHECK_FOR_INTERRUPTS();
			if (purge != NULL && purge_is_time_up(purge))
				return false;
			gate_enter_all_rows(&scope, owner, "pg_catalog");
			gone = delete_some(tenants, name, condition);
			gate_leave(&scope);
			*count += gone;
		}
	}
	return true;
}

bool
purge_rows(const Purge *purge, Oid relid, Oid owner, const char *condition, int64 *count)
{
	Datum tenant = UUIDPGetDatum(&purge->tenant->id);

	return delete_rows(purge, gate_array(&tenant, 1, UUIDOID), relid, owner, condition, count);
}

static int64
count_rows(const pg_uuid_t *tenant, const char *table, const char *column)
{
	GateScope scope;
	GateRows *rows;

	gate_enter(&scope, extension_owner(), "pg_catalog");
	rows = gate_query_text(psprintf("SELECT count(*) FROM tenancy.%s x WHERE x.%s = $1",
									quote_identifier(table), column),
						   1, (Oid[]){UUIDOID}, (NullableDatum[]){gate_uuid(tenant)});
	gate_leave(&scope);
	return row_int64(rows, 0, 0);
}

/* Which rows of a table stay: its place in the list, or -1 for none. */
static int
find_kept(const char *table)
{
	for (int i = 0; i < lengthof(kept); i++)
		if (strcmp(kept[i].table, table) == 0)
			return i;
	return -1;
}

static bool
purge_table(const Purge *purge, Oid relid, const char *table, const char *column)
{
	int keep = find_kept(table);
	char *condition = psprintf("x.%s = ANY ($1)%s", column,
							   keep < 0 ? "" : psprintf(" AND NOT (%s)", kept[keep].keep));
	int64 count;
	bool is_done = purge_rows(purge, relid, extension_owner(), condition, &count);

	if (count > 0)
		certificate_note(purge, "record", psprintf("tenancy.%s", table), count, -1);
	if (!is_done)
		return false;
	if (keep >= 0 && purge->certificate != NULL)
	{
		count = count_rows(&purge->tenant->id, table, column);
		if (count > 0)
			certificate_note_kept(purge, "record", psprintf("tenancy.%s", table), count,
								  kept[keep].why);
	}
	return true;
}

bool
purge_records(const Purge *purge)
{
	GateRows *rows = gate_run(&purge_tables, EXPECT_ANY);

	gate_run(&purge_end_subscriptions, EXPECT_ANY, gate_uuid(&purge->tenant->id),
			 gate_timestamptz(clock_now()));
	for (int64 i = 0; i < rows->count; i++)
		if (!purge_table(purge, DatumGetObjectId(row_datum(rows, i, 0)), row_text(rows, i, 1),
						 row_text(rows, i, 2)))
			return false;
	return true;
}

bool
purge_has_documents(const pg_uuid_t *tenant)
{
	return row_bool(gate_run(&purge_documents, EXPECT_ONE, gate_uuid(tenant)), 0, 0);
}

int64
purge_sweep(void)
{
	GateRows *purged = gate_run(&purged_lately, EXPECT_ANY, gate_timestamptz(clock_now()));
	NullableDatum tenants;
	int64 total = 0;

	if (row_is_null(purged, 0, 0))
		return 0;
	tenants = (NullableDatum){.value = row_datum(purged, 0, 0)};
	for (int i = 0; i < lengthof(swept); i++)
	{
		int64 count;

		(void) delete_rows(NULL, tenants, extension_relation(swept[i]), extension_owner(),
						   "x.tenant_id = ANY ($1)", &count);
		total += count;
	}
	return total;
}
