/*
 * usage/store.c
 *		Where usage events are kept: their identities for ever, their rows by month.
 *
 * An event is known by tenant and id.  tenancy.usage_event_key has a short row for every id
 * that was ever taken: hashes of the id and of what was said under it.  The rows themselves
 * are in a partition for each month of the year; retention removes them (prune.c)
 * without an id becoming free.  Identity and row are written together, by rows and not by
 * statements (gate_insert.c): were they two steps of a client, a failure between them would
 * leave an id that is taken by nothing.
 *
 * Lock rules.  Identities are claimed in the order of tenant and hash, so that two batches
 * wait for one another and never in a circle.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "catalog/gate.h"
#include "core/clock.h"
#include "crypto/digest.h"
#include "usage/event.h"
#include "usage/rollup.h"
#include "usage/store.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "funcapi.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

GATE_STATEMENT(usage_event_other,
			   "SELECT u.ordinal::integer, k.payload_hash"
			   "  FROM unnest($1, $2, $3) WITH ORDINALITY"
			   "    AS u(tenant_id, id_hash, payload_hash, ordinal)"
			   "  LEFT JOIN tenancy.usage_event_key k USING (tenant_id, id_hash)"
			   " WHERE k.payload_hash IS DISTINCT FROM u.payload_hash ORDER BY 1 LIMIT 1",
			   UUIDARRAYOID, UUIDARRAYOID, UUIDARRAYOID);
#define EVENT_OF_KEY                                                                               \
	" WHERE k.tenant_id = $1 AND k.id_hash = $2 AND e.tenant_id = k.tenant_id"                     \
	"   AND e.event_id = $3 AND e.occurred_at = k.occurred_at"                                     \
	"   AND e.month_of_year = EXTRACT(month FROM (k.occurred_at AT TIME ZONE 'UTC'))::smallint"    \
	"   AND e.metric = ANY (CASE WHEN $4 IS NULL THEN ARRAY(SELECT m.name FROM tenancy.metric m)"  \
	"                            ELSE ARRAY[$4] END)"
GATE_STATEMENT(
	usage_event_get,
	"SELECT e, e.metric, e.occurred_at FROM tenancy.usage_event_key k, tenancy.usage_event e"
	" " EVENT_OF_KEY,
	UUIDOID, UUIDOID, TEXTOID, TEXTOID);
GATE_STATEMENT(usage_event_cancel,
			   "WITH cancelled AS ("
			   "    UPDATE tenancy.usage_event AS e SET cancelled_at = $5"
			   "      FROM tenancy.usage_event_key k " EVENT_OF_KEY " AND e.cancelled_at IS NULL"
			   "    RETURNING e.tenant_id, e.cancelled_at, e.metric, e.occurred_at)"
			   " INSERT INTO tenancy.usage_late (tenant_id, noted_at, id_hash, metric, occurred_at)"
			   " SELECT c.tenant_id, c.cancelled_at, $2, c.metric, c.occurred_at FROM cancelled c"
			   " ON CONFLICT DO NOTHING",
			   UUIDOID, UUIDOID, TEXTOID, TEXTOID, TIMESTAMPTZOID);
GATE_STATEMENT(
	usage_event_known,
	"SELECT k.occurred_at FROM tenancy.usage_event_key k WHERE k.tenant_id = $1 AND k.id_hash = $2",
	UUIDOID, UUIDOID);

/* What is recorded this soon is not late: see tenancy.usage_late. */
#define SOON (10 * USECS_PER_MINUTE)

/* Columns of tenancy.usage_event_key. */
enum
{
	KEY_TENANT_ID,
	KEY_ID_HASH,
	KEY_PAYLOAD_HASH,
	KEY_OCCURRED_AT,
	KEY_COLUMNS
};

/* Columns of tenancy.usage_event. */
enum
{
	EVENT_TENANT_ID,
	EVENT_EVENT_ID,
	EVENT_METRIC,
	EVENT_QUANTITY,
	EVENT_OCCURRED_AT,
	EVENT_RECORDED_AT,
	EVENT_PROPERTIES,
	EVENT_CANCELLED_AT,
	EVENT_MONTH_OF_YEAR,
	EVENT_COLUMNS
};

int
event_month(TimestampTz time)
{
	struct pg_tm tm;
	fsec_t fsec;

	if (timestamp2tm(time, NULL, &tm, &fsec, NULL, NULL) != 0)
		ereport(ERROR, errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				errmsg("timestamp out of range"));
	return tm.tm_mon;
}

void
event_months(TimestampTz first, TimestampTz last, NullableDatum *months)
{
	int bounds[MONTH_ARGUMENTS] = {1, MONTHS_PER_YEAR, 0, 0};

	/* From eleven months on it may be all of them. */
	if (!TIMESTAMP_NOT_FINITE(first) && !TIMESTAMP_NOT_FINITE(last) &&
		last - first < INT64CONST(330) * USECS_PER_DAY)
	{
		int start = event_month(first);
		int end = event_month(last - 1);

		bounds[0] = start;
		bounds[1] = start <= end ? end : MONTHS_PER_YEAR;
		bounds[2] = start <= end ? 0 : 1;
		bounds[3] = start <= end ? 0 : end;
	}
	for (int i = 0; i < MONTH_ARGUMENTS; i++)
		months[i] = gate_datum(Int16GetDatum(bounds[i]));
}

static int
compare_events(const void *a, const void *b)
{
	const UsageEvent *one = *(const UsageEvent *const *) a;
	const UsageEvent *other = *(const UsageEvent *const *) b;
	int tenants = memcmp(one->tenant.data, other->tenant.data, UUID_LEN);

	return tenants != 0 ? tenants : memcmp(one->id_hash.data, other->id_hash.data, UUID_LEN);
}

static bool
claim(GateInsert *keys, const UsageEvent *event)
{
	static const bool nulls[KEY_COLUMNS] = {false};
	Datum values[KEY_COLUMNS] = {
		[KEY_TENANT_ID] = UUIDPGetDatum(&event->tenant),
		[KEY_ID_HASH] = UUIDPGetDatum(&event->id_hash),
		[KEY_PAYLOAD_HASH] = UUIDPGetDatum(&event->payload_hash),
		[KEY_OCCURRED_AT] = TimestampTzGetDatum(event->occurred_at),
	};

	return gate_insert_row(keys, values, nulls);
}

static void
fill_row(const UsageEvent *event, Datum *values, bool *nulls)
{
	memset(nulls, 0, sizeof(bool) * EVENT_COLUMNS);
	values[EVENT_TENANT_ID] = UUIDPGetDatum(&event->tenant);
	values[EVENT_EVENT_ID] = CStringGetTextDatum(event->event_id);
	values[EVENT_METRIC] = CStringGetTextDatum(event->metric);
	values[EVENT_QUANTITY] = NumericGetDatum(event->quantity);
	values[EVENT_OCCURRED_AT] = TimestampTzGetDatum(event->occurred_at);
	values[EVENT_RECORDED_AT] = TimestampTzGetDatum(event->recorded_at);
	values[EVENT_PROPERTIES] = JsonbPGetDatum(event->properties);
	values[EVENT_MONTH_OF_YEAR] = Int16GetDatum(event_month(event->occurred_at));
	nulls[EVENT_RECORDED_AT] = !event->is_new;
	nulls[EVENT_CANCELLED_AT] = true;
}

static void
write_row(GateInsert **months, const UsageEvent *event)
{
	int month = event_month(event->occurred_at);
	Datum values[EVENT_COLUMNS];
	bool nulls[EVENT_COLUMNS];

	if (months[month] == NULL)
	{
		char table[NAMEDATALEN];

		snprintf(table, sizeof(table), "usage_event_%02d", month);
		months[month] = gate_insert_begin(table);
	}
	fill_row(event, values, nulls);
	(void) gate_insert_row(months[month], values, nulls);
}

/* Columns of tenancy.usage_late. */
enum
{
	LATE_TENANT_ID,
	LATE_NOTED_AT,
	LATE_ID_HASH,
	LATE_METRIC,
	LATE_OCCURRED_AT,
	LATE_COLUMNS
};

static void
note_late(GateInsert **late, const UsageEvent *event)
{
	static const bool nulls[LATE_COLUMNS] = {false};
	Datum values[LATE_COLUMNS] = {
		[LATE_TENANT_ID] = UUIDPGetDatum(&event->tenant),
		[LATE_NOTED_AT] = TimestampTzGetDatum(event->recorded_at),
		[LATE_ID_HASH] = UUIDPGetDatum(&event->id_hash),
		[LATE_METRIC] = CStringGetTextDatum(event->metric),
		[LATE_OCCURRED_AT] = TimestampTzGetDatum(event->occurred_at),
	};

	if (*late == NULL)
		*late = gate_insert_begin("usage_late");
	(void) gate_insert_row(*late, values, nulls);
}

/* Of those that were there before, or are there twice among these, all must be the same. */
static void
require_same(UsageEvent *const *events, int count)
{
	Datum *tenants = palloc(sizeof(Datum) * count);
	Datum *ids = palloc(sizeof(Datum) * count);
	Datum *payloads = palloc(sizeof(Datum) * count);
	const UsageEvent **repeated = palloc(sizeof(UsageEvent *) * count);
	const UsageEvent *other;
	GateRows *rows;
	int n = 0;

	for (int i = 0; i < count; i++)
	{
		if (events[i]->is_new)
			continue;
		tenants[n] = UUIDPGetDatum(&events[i]->tenant);
		ids[n] = UUIDPGetDatum(&events[i]->id_hash);
		payloads[n] = UUIDPGetDatum(&events[i]->payload_hash);
		repeated[n++] = events[i];
	}
	rows = gate_run(&usage_event_other, EXPECT_AT_MOST_ONE, gate_array(tenants, n, UUIDOID),
					gate_array(ids, n, UUIDOID), gate_array(payloads, n, UUIDOID));
	if (rows->count == 0)
		return;
	other = repeated[row_int32(rows, 0, 0) - 1];
	/* Taken after the snapshot of this transaction was. */
	if (row_is_null(rows, 0, 1))
		ereport(ERROR, errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				errmsg("could not serialize access due to concurrent update"));
	ereport(ERROR, errcode(ERRCODE_UNIQUE_VIOLATION),
			errmsg("usage event \"%s\" was recorded with another content", other->event_id),
			errdetail("Digest of the recorded content: %s; of this one: %s.",
					  digest_short_hex(row_uuid(rows, 0, 1)),
					  digest_short_hex(&other->payload_hash)),
			errhint("An event is corrected by usage_cancel() and a new event."));
}

/* The table of identities, then of late events, then the partitions by month, from 1. */
enum
{
	TABLE_KEYS,
	TABLE_LATE,
	TABLE_MONTHS,
	TABLES = TABLE_MONTHS + MONTHS_PER_YEAR + 1
};

void
event_write(UsageEvent **events, int count)
{
	TimestampTz now = clock_wall();
	GateInsert *tables[TABLES] = {NULL};
	int repeated = 0;

	if (count == 0)
		return;
	if (count > 1)
		qsort(events, count, sizeof(UsageEvent *), compare_events);
	tables[TABLE_KEYS] = gate_insert_begin("usage_event_key");
	for (int i = 0; i < count; i++)
	{
		UsageEvent *event = events[i];

		CHECK_FOR_INTERRUPTS();
		event->recorded_at = now;
		event->is_new = claim(tables[TABLE_KEYS], event);
		if (!event->is_new)
		{
			repeated++;
			continue;
		}
		write_row(&tables[TABLE_MONTHS], event);
		if (now - event->occurred_at > SOON)
			note_late(&tables[TABLE_LATE], event);
	}
	for (int i = TABLES - 1; i >= 0; i--)
		if (tables[i] != NULL)
			gate_insert_end(tables[i]);
	if (repeated > 0)
		require_same(events, count);
	if (repeated < count)
		rollup_add(events, count);
	for (int i = 0; i < count; i++)
		if (events[i]->is_new)
			event_tell(events[i]);
}

Datum
event_make_row(const UsageEvent *event)
{
	TupleDesc desc = lookup_rowtype_tupdesc(get_rel_type_id(extension_relation("usage_event")), -1);
	Datum values[EVENT_COLUMNS];
	bool nulls[EVENT_COLUMNS];
	HeapTuple tuple;

	if (desc->natts != EVENT_COLUMNS)
		elog(ERROR, "table \"usage_event\" has %d columns", desc->natts);
	fill_row(event, values, nulls);
	tuple = heap_form_tuple(desc, values, nulls);
	ReleaseTupleDesc(desc);
	return HeapTupleGetDatum(tuple);
}

Datum
event_get_row(const UsageEvent *event)
{
	GateRows *rows =
		gate_run(&usage_event_get, EXPECT_AT_MOST_ONE, gate_uuid(&event->tenant),
				 gate_uuid(&event->id_hash), gate_text(event->event_id), gate_text(event->metric));

	UsageEvent known = *event;

	if (rows->count == 1)
		return row_datum(rows, 0, 0);
	/* All that was said is the same, but for a time that was left out. */
	rows = gate_run(&usage_event_known, EXPECT_ONE, gate_uuid(&event->tenant),
					gate_uuid(&event->id_hash));
	known.occurred_at = row_timestamptz(rows, 0, 0);
	return event_make_row(&known);
}

void
event_hash_id(const char *event_id, pg_uuid_t *hash)
{
	Digest digest;

	digest_begin(&digest);
	digest_add_text(&digest, event_id);
	digest_end_short(&digest, hash);
}

GateRows *
event_cancel(const pg_uuid_t *tenant, const char *event_id)
{
	GateRows *rows;
	pg_uuid_t id_hash;

	event_hash_id(event_id, &id_hash);
	rollup_lock(tenant);
	(void) gate_run(&usage_event_cancel, EXPECT_AT_MOST_ONE, gate_uuid(tenant), gate_uuid(&id_hash),
					gate_text(event_id), gate_null(), gate_timestamptz(clock_wall()));
	rows = gate_run(&usage_event_get, EXPECT_AT_MOST_ONE, gate_uuid(tenant), gate_uuid(&id_hash),
					gate_text(event_id), gate_null());
	if (rows->count == 0 &&
		gate_run(&usage_event_known, EXPECT_AT_MOST_ONE, gate_uuid(tenant), gate_uuid(&id_hash))
				->count == 0)
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("usage event \"%s\" does not exist", event_id));
	if (rows->count == 0)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("usage event \"%s\" is not kept any more", event_id));
	rollup_renew(tenant, row_text(rows, 0, 1), row_timestamptz(rows, 0, 2));
	return rows;
}
