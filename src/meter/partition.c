/*
 * meter/partition.c
 *		The tables of counters by time: making parts ahead, and dropping those that are old.
 *
 * usage_minute has a part a day, usage_hour and latency_hour one a month, in UTC.  The tables
 * are members of the extension; the parts are not.  That is what makes them dump: of a member
 * pg_dump writes no definition, and of a partitioned table no rows, so that a part that the
 * install script did not make would be lost if it were a member, and one that it made could
 * never be dropped.  Parts that are plain tables are dumped with definition, rows and the
 * ATTACH, and go with their table when the extension is dropped.  The primary key is theirs
 * and not the table's: one of the table would come back with the extension, give each part a
 * key as it is attached, and make the restore of the part's own fail.  They carry no grants:
 * they are read through the table, whose policies apply.
 *
 * A row whose part is missing is never refused: who writes makes the part (partition_ensure),
 * and the periodic job makes the next one ahead, so that this is rare.
 *
 * Lock rules.  Parts are made and dropped under meter_lock_hours().  A part is attached under
 *ShareUpdateExclusiveLock on its table, which readers and writers do not notice.  Dropping one
 *needs the table for itself; where it cannot be had at once the next run tries again, for who waits
 *for it makes everybody wait.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "catalog/gate.h"
#include "core/clock.h"
#include "core/compat.h"
#include "core/function.h"
#include "core/settings.h"
#include "job/kind.h"
#include "meter/meter.h"
#include "meter/partition.h"

#include "funcapi.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

typedef enum PartLength
{
	PART_DAY,
	PART_MONTH
} PartLength;

static const struct
{
	const char *name;
	const char *time_column;
	PartLength length;
	const int *retention_minutes;
} tables[PARTITIONED_TABLES] = {
	[USAGE_MINUTE] = {"usage_minute", "minute", PART_DAY, &setting_usage_minute_retention},
	[USAGE_HOUR] = {"usage_hour", "hour", PART_MONTH, &setting_usage_hour_retention},
	[LATENCY_HOUR] = {"latency_hour", "hour", PART_MONTH, &setting_latency_hour_retention},
};

GATE_STATEMENT(parts_of,
			   "SELECT c.relname FROM pg_catalog.pg_inherits i"
			   "  JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid"
			   " WHERE i.inhparent = $1 ORDER BY c.relname",
			   OIDOID);

static void
to_civil(TimestampTz time, struct pg_tm *tm)
{
	fsec_t fraction;

	if (timestamp2tm(time, NULL, tm, &fraction, NULL, NULL) != 0)
		ereport(ERROR, errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				errmsg("timestamp out of range"));
}

static TimestampTz
from_date(int year, int month, int day)
{
	return (date2j(year, month, day) - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY;
}

/* The part that a time lies in, or the one after it. */
static TimestampTz
part_start(PartLength length, TimestampTz time)
{
	struct pg_tm tm;

	to_civil(time, &tm);
	return from_date(tm.tm_year, tm.tm_mon, length == PART_DAY ? tm.tm_mday : 1);
}

static TimestampTz
part_end(PartLength length, TimestampTz start)
{
	struct pg_tm tm;

	if (length == PART_DAY)
		return start + USECS_PER_DAY;
	to_civil(start, &tm);
	return tm.tm_mon == MONTHS_PER_YEAR ? from_date(tm.tm_year + 1, 1, 1)
										: from_date(tm.tm_year, tm.tm_mon + 1, 1);
}

/* usage_minute_20261125, usage_hour_202611 */
static char *
part_name(PartitionedTable table, TimestampTz start)
{
	struct pg_tm tm;

	to_civil(start, &tm);
	if (tables[table].length == PART_DAY)
		return psprintf("%s_%04d%02d%02d", tables[table].name, tm.tm_year, tm.tm_mon, tm.tm_mday);
	return psprintf("%s_%04d%02d", tables[table].name, tm.tm_year, tm.tm_mon);
}

/* False where the name is none of those above. */
static bool
parse_name(PartitionedTable table, const char *name, TimestampTz *start)
{
	const char *digits = name + strlen(tables[table].name) + 1;
	int day = 1;
	int date;

	if (strncmp(name, tables[table].name, strlen(tables[table].name)) != 0)
		return false;
	if (strspn(digits, "0123456789") != strlen(digits) ||
		strlen(digits) != (tables[table].length == PART_DAY ? 8 : 6))
		return false;
	date = atoi(digits);
	if (tables[table].length == PART_DAY)
	{
		day = date % 100;
		date /= 100;
	}
	*start = from_date(date / 100, date % 100, day);
	return true;
}

static char *
utc_literal(TimestampTz time)
{
	struct pg_tm tm;

	to_civil(time, &tm);
	return psprintf("'%04d-%02d-%02d 00:00:00+00'", tm.tm_year, tm.tm_mon, tm.tm_mday);
}

/* As the owner of our tables. */
static void
run_definitions(const char *const *definitions, int count)
{
	GateScope scope;

	gate_enter(&scope, extension_owner(), "pg_catalog");
	for (int i = 0; i < count; i++)
		gate_run_text(definitions[i]);
	gate_leave(&scope);
}

static void
make_part(PartitionedTable table, TimestampTz start, const char *name)
{
	const char *definitions[] = {
		psprintf("CREATE TABLE tenancy.%s (LIKE tenancy.%s INCLUDING ALL,"
				 " CONSTRAINT %s_pkey PRIMARY KEY (tenant_id, %s))",
				 name, tables[table].name, name, tables[table].time_column),
		psprintf("ALTER TABLE tenancy.%s ENABLE ROW LEVEL SECURITY", name),
		psprintf("REVOKE ALL ON tenancy.%s FROM PUBLIC", name),
		psprintf("ALTER TABLE tenancy.%s ATTACH PARTITION tenancy.%s FOR VALUES FROM (%s) TO (%s)",
				 tables[table].name, name, utc_literal(start),
				 utc_literal(part_end(tables[table].length, start))),
	};

	run_definitions(definitions, lengthof(definitions));
}

/* Was there none? */
static bool
ensure(PartitionedTable table, TimestampTz time)
{
	TimestampTz start = part_start(tables[table].length, time);
	char *name = part_name(table, start);

	if (likely(OidIsValid(extension_relation(name))))
		return false;
	extension_require();
	LockRelationOid(extension_relation(tables[table].name), ShareUpdateExclusiveLock);
	if (OidIsValid(extension_relation(name)))
		return false;
	make_part(table, start, name);
	return true;
}

void
partition_ensure(PartitionedTable table, TimestampTz time)
{
	(void) ensure(table, time);
}

static bool
is_expired(PartitionedTable table, const char *name, TimestampTz now)
{
	int retention = *tables[table].retention_minutes;
	TimestampTz start;

	return retention > 0 && parse_name(table, name, &start) &&
		   part_end(tables[table].length, start) <= now - retention * USECS_PER_MINUTE;
}

static int
drop_expired(PartitionedTable table, TimestampTz now)
{
	Oid relation = extension_relation(tables[table].name);
	GateRows *parts = gate_run(&parts_of, EXPECT_ANY, gate_oid(relation));
	int dropped = 0;

	for (int64 i = 0; i < parts->count; i++)
	{
		const char *name = row_text(parts, i, 0);
		const char *definition = psprintf("DROP TABLE tenancy.%s", quote_identifier(name));

		if (!is_expired(table, name, now))
			continue;
		if (!ConditionalLockRelationOid(relation, AccessExclusiveLock))
			break;
		run_definitions(&definition, 1);
		dropped++;
	}
	return dropped;
}

typedef struct Maintained
{
	int made;
	int dropped;
} Maintained;

static Maintained
maintain(void)
{
	TimestampTz now = clock_now();
	Maintained done = {0};

	extension_require();
	meter_lock_hours();
	for (int i = 0; i < PARTITIONED_TABLES; i++)
	{
		TimestampTz next;

		done.dropped += drop_expired(i, now);
		if (i == USAGE_MINUTE && setting_usage_minute_retention == 0)
			continue;
		next = part_end(tables[i].length, part_start(tables[i].length, now));
		done.made += ensure(i, now) + ensure(i, next);
	}
	return done;
}

static char *
run_partition_job(void)
{
	Maintained done = maintain();

	return psprintf("{\"made\": %d, \"dropped\": %d}", done.made, done.dropped);
}

static const JobKind partition_job = {
	.name = "metering.partitions",
	.run = run_partition_job,
	.every_seconds = SECS_PER_HOUR,
	.timeout_seconds = 5 * SECS_PER_MINUTE,
	.description = "makes the parts of tables of counters ahead, and drops those that are too old",
};

void
meter_partition_init(void)
{
	job_kind_register(&partition_job);
}

/* usage_partition_maintain() → (made integer, dropped integer) */
TENANCY_FUNCTION(usage_partition_maintain)
{
	Maintained done = maintain();
	Datum values[2] = {Int32GetDatum(done.made), Int32GetDatum(done.dropped)};
	bool nulls[2] = {false};
	TupleDesc desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
