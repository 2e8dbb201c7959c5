/*
 * observe/metrics.c
 *		The metrics of a database in the text format of Prometheus.
 *
 * https://prometheus.io/docs/instrumenting/exposition_formats/ (0.0.4), names by
 * https://prometheus.io/docs/practices/naming/.  Statements give samples, {metric, labels,
 * value}; the table of metrics gives their order, type and help.  A sample of no metric of the
 * table is an internal error, and so none is without them.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "context/context.h"
#include "core/function.h"
#include "core/settings.h"
#include "domain/domain.h"
#include "observe/door_state.h"
#include "observe/observe.h"

#include "lib/stringinfo.h"
#include "utils/timestamp.h"

#define PREFIX "pg_tenancy_"

typedef enum MetricType
{
	COUNTER,
	GAUGE
} MetricType;

typedef struct Metric
{
	const char *name; /* without the prefix */
	MetricType type;
	const char *help;
} Metric;

/* Sorted; a counter ends in _total. */
static const Metric metrics[] = {
	{"backup_age_seconds", GAUGE,
	 "The age of the last backup, of the tenant with a policy for which it is oldest."},
	{"backups", GAUGE, "Backups of tenants by state."},
	{"build_info", GAUGE, "The version of the extension and of the server; always 1."},
	{"database_tenants", GAUGE, "Tenants by state."},
	{"deliveries", GAUGE, "Deliveries of events that have not arrived, by state."},
	{"domain_memory_names", GAUGE, "Host names that shared memory knows, of all databases."},
	{"domain_memory_refused_total", COUNTER, "How often there was no room for a host name."},
	{"domains", GAUGE, "Domains that tenants claim, by state."},
	{"door_connections", GAUGE, "Open connections to the door."},
	{"door_cut_off_total", COUNTER, "Connections that the door has ended for being too slow."},
	{"door_requests_total", COUNTER, "Requests that the door has answered."},
	{"jobs", GAUGE, "Queued jobs that are not finished, by kind and state."},
	{"metering_evicted_total", COUNTER, "Entries of metering that have made room for others."},
	{"metering_memory_entries", GAUGE, "Entries of metering in shared memory."},
	{"metering_memory_entry_limit", GAUGE, "How many entries of metering there is room for."},
	{"metering_overflow_total", COUNTER, "How often counts went by way of a file."},
	{"metering_refused_total", COUNTER, "How often counts went to no tenant for want of room."},
	{"oldest_delivery_age_seconds", GAUGE, "How long the first delivery in line has been due."},
	{"oldest_job_age_seconds", GAUGE, "How long the first job in line has been due."},
	{"schedule_delay_seconds", GAUGE, "By how much the next periodic work is late."},
	{"schedule_failures", GAUGE, "Failures of periodic work since its last success."},
	{"tenant_block_hits_total", COUNTER, "Blocks found in the buffers."},
	{"tenant_block_reads_total", COUNTER, "Blocks read from outside of the buffers."},
	{"tenant_cpu_seconds_total", COUNTER, "CPU time."},
	{"tenant_io_seconds_total", COUNTER, "Time of reading and writing blocks, if measured."},
	{"tenant_latency_seconds", GAUGE,
	 "Time of statements in this hour and the one before, by percentile, within 2 percent."},
	{"tenant_lock_wait_seconds_total", COUNTER, "Time of waiting for locks, sampled."},
	{"tenant_planning_seconds_total", COUNTER, "Time of planning."},
	{"tenant_quota_limit", GAUGE, "The hard limit of a resource, else the soft one, in its unit."},
	{"tenant_quota_used", GAUGE, "What is used of a resource that has a limit, in its unit."},
	{"tenant_received_bytes_total", COUNTER, "Bytes received from clients."},
	{"tenant_refusals_total", COUNTER, "What limits have refused, denied, warned of or delayed."},
	{"tenant_rows_total", COUNTER, "Rows read or written by statements."},
	{"tenant_sent_bytes_total", COUNTER, "Bytes sent to clients."},
	{"tenant_sessions_total", COUNTER, "Sessions that have worked for the tenant."},
	{"tenant_statement_seconds_total", COUNTER, "Time of statements."},
	{"tenant_statements_total", COUNTER, "Statements of clients, by command."},
	{"tenant_transactions_total", COUNTER, "Transactions, by outcome."},
	{"tenant_wal_bytes_total", COUNTER, "Bytes of the write-ahead log."},
	{"workers", GAUGE, "Background workers by role and state, of all databases."},
};

static const char *const type_names[] = {[COUNTER] = "counter", [GAUGE] = "gauge"};

/* Sample statements: metric, names and values of labels by turns, value. */
#define AGE(time)                                                                                  \
	"greatest(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - " time "), 0)"
GATE_STATEMENT(metric_database_samples,
			   "SELECT 'build_info', ARRAY['version', e.extversion, 'server_version',"
			   "       pg_catalog.current_setting('server_version')], '1'"
			   "  FROM pg_catalog.pg_extension e WHERE e.extname = 'pg_tenancy'"
			   " UNION ALL"
			   " SELECT 'database_tenants', ARRAY['state', t.state], pg_catalog.count(*)::text"
			   "   FROM tenancy.tenant t GROUP BY t.state"
			   " UNION ALL"
			   " SELECT 'domains', ARRAY['state', d.state], pg_catalog.count(*)::text"
			   "   FROM tenancy.domain d GROUP BY d.state"
			   " UNION ALL"
			   " SELECT 'backups', ARRAY['state', b.state], pg_catalog.count(*)::text"
			   "   FROM tenancy.backup b GROUP BY b.state"
			   " UNION ALL"
			   " SELECT 'backup_age_seconds', '{}', " AGE(
				   "pg_catalog.min(l.at)") "::text"
										   "   FROM tenancy.backup_policy p CROSS JOIN LATERAL ("
										   "        SELECT pg_catalog.max(b.finished_at) AS at "
										   "FROM tenancy.backup b"
										   "         WHERE b.tenant_id = p.tenant_id AND b.state = "
										   "'succeeded') l"
										   " HAVING pg_catalog.min(l.at) IS NOT NULL");
GATE_STATEMENT(metric_queue_samples,
			   "WITH job AS MATERIALIZED (SELECT j.kind, j.lane,"
			   "      CASE WHEN j.lease_until IS NULL THEN j.state ELSE 'running' END AS state,"
			   "      pg_catalog.count(*) AS jobs, pg_catalog.min(j.run_at) AS due"
			   "   FROM tenancy.job_pending j GROUP BY 1, 2, 3)"
			   " (SELECT 'jobs', ARRAY['kind', j.kind, 'state', j.state], j.jobs::text"
			   "    FROM job j ORDER BY j.jobs DESC, j.kind, j.state LIMIT 500)"
			   " UNION ALL"
			   " SELECT 'deliveries', ARRAY['state', j.state], j.jobs::text"
			   "   FROM job j WHERE j.kind = 'webhook.deliver'"
			   " UNION ALL"
			   " SELECT 'oldest_delivery_age_seconds', '{}',"
			   "        coalesce(" AGE(
				   "pg_catalog.min(j.due)") ", 0)::text"
											"   FROM job j WHERE j.state = 'ready' AND j.lane = "
											"'webhook.deliver'"
											" UNION ALL"
											" SELECT 'oldest_job_age_seconds', '{}',"
											"        coalesce(" AGE(
												"pg_catalog.min(j.due)") ", 0)::text"
																		 "   FROM job j WHERE "
																		 "j.state = 'ready' AND "
																		 "j.lane IN ('', '*')"
																		 " UNION ALL"
																		 " SELECT "
																		 "'schedule_delay_seconds',"
																		 " '{}',"
																		 "        coalesce(" AGE(
																			 "pg_catalog.min(s."
																			 "next_run_at)") ", "
																							 "0)::"
																							 "text"
																							 "   "
																							 "FROM "
																							 "tenan"
																							 "cy."
																							 "sched"
																							 "ule "
																							 "s "
																							 "WHERE"
																							 " s."
																							 "enabl"
																							 "ed "
																							 "AND "
																							 "s."
																							 "lease"
																							 "_unti"
																							 "l IS "
																							 "NULL"
																							 " UNIO"
																							 "N ALL"
																							 " ("
																							 "SELEC"
																							 "T "
																							 "'sche"
																							 "dule_"
																							 "failu"
																							 "res',"
																							 " ARRA"
																							 "Y['"
																							 "name'"
																							 ", "
																							 "s."
																							 "name]"
																							 ", "
																							 "s."
																							 "failu"
																							 "res::"
																							 "text"
																							 "    "
																							 "FROM "
																							 "tenan"
																							 "cy."
																							 "sched"
																							 "ule "
																							 "s "
																							 "WHERE"
																							 " s."
																							 "enabl"
																							 "ed "
																							 "ORDER"
																							 " BY "
																							 "s."
																							 "name "
																							 "LIMIT"
																							 " 500"
																							 ")");
GATE_STATEMENT(metric_cluster_samples,
			   "SELECT v.name, '{}'::text[], v.value::text FROM tenancy.meter_read() m"
			   " CROSS JOIN LATERAL (VALUES ('metering_memory_entries', m.used),"
			   "     ('metering_memory_entry_limit', m.capacity),"
			   "     ('metering_evicted_total', m.evicted),"
			   "     ('metering_overflow_total', m.overflow),"
			   "     ('metering_refused_total', m.refused)) v (name, value)"
			   " UNION ALL"
			   " SELECT 'workers', ARRAY['role', w.role, 'state', w.state],"
			   "        pg_catalog.count(*)::text"
			   "   FROM tenancy.worker_read() w GROUP BY w.role, w.state");

/* Who has a series of its own: those that have used the most time. */
#define RANKED                                                                                     \
	"WITH stat AS MATERIALIZED (SELECT * FROM tenancy.tenant_stat_read()),"                        \
	" ranked AS MATERIALIZED (SELECT t.id, t.slug FROM tenancy.tenant t"                           \
	"    LEFT JOIN stat s ON s.tenant_id = t.id WHERE t.state <> 'purged'"                         \
	"   ORDER BY s.elapsed_us DESC NULLS LAST, t.id LIMIT $1) "
#define LABEL(id)                                                                                  \
	"coalesce(r.slug, CASE WHEN " id " = '00000000-0000-0000-0000-000000000000' THEN '_none'"      \
	" ELSE '_other' END)"

GATE_STATEMENT(
	metric_tenant_samples,
	RANKED ", summed AS (SELECT " LABEL(
		"s.tenant_id") " AS tenant,"
					   "    pg_catalog.sum(s.selects) AS selects, pg_catalog.sum(s.inserts) AS "
					   "inserts,"
					   "    pg_catalog.sum(s.updates) AS updates, pg_catalog.sum(s.deletes) AS "
					   "deletes,"
					   "    pg_catalog.sum(s.merges) AS merges, pg_catalog.sum(s.utilities) AS "
					   "utilities,"
					   "    pg_catalog.sum(s.rows) AS rows, pg_catalog.sum(s.elapsed_us) AS "
					   "elapsed_us,"
					   "    pg_catalog.sum(s.planning_us) AS planning_us, pg_catalog.sum(s.cpu_us) "
					   "AS cpu_us,"
					   "    pg_catalog.sum(s.commits) AS commits, pg_catalog.sum(s.rollbacks) AS "
					   "rollbacks,"
					   "    pg_catalog.sum(s.bytes_received) AS bytes_received,"
					   "    pg_catalog.sum(s.bytes_sent) AS bytes_sent,"
					   "    pg_catalog.sum(s.blocks_hit) AS blocks_hit,"
					   "    pg_catalog.sum(s.blocks_read) AS blocks_read,"
					   "    pg_catalog.sum(s.io_us + s.temp_io_us) AS io_us,"
					   "    pg_catalog.sum(s.wal_bytes) AS wal_bytes,"
					   "    pg_catalog.sum(s.connections) AS connections,"
					   "    pg_catalog.sum(s.lock_wait_us) AS lock_wait_us"
					   "   FROM stat s LEFT JOIN ranked r ON r.id = s.tenant_id GROUP BY 1)"
					   " SELECT v.name, ARRAY['tenant', s.tenant] || v.labels,"
					   "        pg_catalog.trim_scale(v.value)::text"
					   "   FROM summed s CROSS JOIN LATERAL (VALUES"
					   "    ('tenant_statements_total', ARRAY['command', 'select'], s.selects),"
					   "    ('tenant_statements_total', ARRAY['command', 'insert'], s.inserts),"
					   "    ('tenant_statements_total', ARRAY['command', 'update'], s.updates),"
					   "    ('tenant_statements_total', ARRAY['command', 'delete'], s.deletes),"
					   "    ('tenant_statements_total', ARRAY['command', 'merge'], s.merges),"
					   "    ('tenant_statements_total', ARRAY['command', 'utility'], s.utilities),"
					   "    ('tenant_transactions_total', ARRAY['outcome', 'commit'], s.commits),"
					   "    ('tenant_transactions_total', ARRAY['outcome', 'rollback'], "
					   "s.rollbacks),"
					   "    ('tenant_rows_total', '{}'::text[], s.rows),"
					   "    ('tenant_statement_seconds_total', '{}', s.elapsed_us / 1000000.0),"
					   "    ('tenant_planning_seconds_total', '{}', s.planning_us / 1000000.0),"
					   "    ('tenant_cpu_seconds_total', '{}', s.cpu_us / 1000000.0),"
					   "    ('tenant_received_bytes_total', '{}', s.bytes_received),"
					   "    ('tenant_sent_bytes_total', '{}', s.bytes_sent),"
					   "    ('tenant_block_hits_total', '{}', s.blocks_hit),"
					   "    ('tenant_block_reads_total', '{}', s.blocks_read),"
					   "    ('tenant_io_seconds_total', '{}', s.io_us / 1000000.0),"
					   "    ('tenant_wal_bytes_total', '{}', s.wal_bytes),"
					   "    ('tenant_sessions_total', '{}', s.connections),"
					   "    ('tenant_lock_wait_seconds_total', '{}', s.lock_wait_us / 1000000.0))"
					   "   v (name, labels, value)",
	INT4OID);
GATE_STATEMENT(
	metric_limit_samples,
	RANKED
	"SELECT 'tenant_latency_seconds', ARRAY['tenant', r.slug, 'percentile', v.percentile],"
	"       pg_catalog.round((v.us / 1000000)::numeric, 6)::text"
	"  FROM tenancy.tenant_latency_read() l JOIN ranked r ON r.id = l.tenant_id"
	"  CROSS JOIN LATERAL (VALUES ('50', l.p50_us), ('95', l.p95_us), ('99', l.p99_us))"
	"       v (percentile, us)"
	" WHERE v.us IS NOT NULL"
	" UNION ALL"
	" SELECT v.name, ARRAY['tenant', r.slug, 'resource', q.resource],"
	"        pg_catalog.trim_scale(v.value)::text"
	"   FROM ranked r CROSS JOIN LATERAL tenancy.quota_read(r.id) q"
	"  CROSS JOIN LATERAL (VALUES ('tenant_quota_used', q.used),"
	"       ('tenant_quota_limit', coalesce(q.hard, q.soft))) v (name, value)"
	"  WHERE coalesce(q.hard, q.soft) IS NOT NULL"
	" UNION ALL"
	" SELECT 'tenant_refusals_total',"
	"        ARRAY['tenant', " LABEL("f.tenant_id") ", 'limit', f.kind, 'result', f.what],"
													"        pg_catalog.sum(f.refusals)::text"
													"   FROM tenancy.refusal_count_read() f LEFT "
													"JOIN ranked r ON r.id = f.tenant_id"
													"  GROUP BY 2",
	INT4OID);

typedef struct Samples
{
	StringInfoData texts[lengthof(metrics)]; /* the lines of each metric */
} Samples;

/* The lines of the metric; only made where there is one. */
static StringInfo
lines_of(Samples *samples, const char *name)
{
	for (int i = 0; i < lengthof(metrics); i++)
	{
		if (strcmp(metrics[i].name, name) != 0)
			continue;
		if (samples->texts[i].data == NULL)
			initStringInfo(&samples->texts[i]);
		return &samples->texts[i];
	}
	elog(ERROR, "metric \"%s\" is not in the table", name);
}

static void
append_label_value(StringInfo to, const char *value)
{
	for (const char *c = value; *c != '\0'; c++)
	{
		if (*c == '\n')
			appendStringInfoString(to, "\\n");
		else
		{
			if (*c == '\\' || *c == '"')
				appendStringInfoChar(to, '\\');
			appendStringInfoChar(to, *c);
		}
	}
}

/* Labels are names and values by turns. */
static void
add_sample(Samples *samples, const char *name, char *const *labels, int label_count,
		   const char *value)
{
	StringInfo to = lines_of(samples, name);

	appendStringInfo(to, PREFIX "%s", name);
	for (int i = 0; i + 1 < label_count; i += 2)
	{
		appendStringInfo(to, "%c%s=\"", i == 0 ? '{' : ',', labels[i]);
		append_label_value(to, labels[i + 1]);
		appendStringInfoChar(to, '"');
	}
	appendStringInfo(to, "%s %s\n", label_count > 0 ? "}" : "", value);
}

static void
add_rows(Samples *samples, const GateRows *rows)
{
	for (int64 i = 0; i < rows->count; i++)
	{
		int count;
		char **labels = row_text_array(rows, i, 1, &count);

		add_sample(samples, row_text(rows, i, 0), labels, count, row_text(rows, i, 2));
	}
}

static void
add_number(Samples *samples, const char *name, int64 value)
{
	add_sample(samples, name, NULL, 0, psprintf(INT64_FORMAT, value));
}

static void
add_door(Samples *samples)
{
	static const char *const pages[DOOR_PAGES] = {
		[DOOR_ASK] = "/ask",    [DOOR_HEALTH] = "/healthz", [DOOR_METRICS] = "/metrics",
		[DOOR_TARGETS] = "/sd", [DOOR_OTHER] = "other",
	};

	add_number(samples, "door_connections", pg_atomic_read_u32(&door_state->connections));
	add_number(samples, "door_cut_off_total", pg_atomic_read_u64(&door_state->cut_off));
	for (int page = 0; page < DOOR_PAGES; page++)
	{
		for (int i = 0; i < DOOR_STATUSES; i++)
		{
			uint64 count = pg_atomic_read_u64(&door_state->served[page][i]);
			char *labels[] = {"page", (char *) pages[page], "code",
							  psprintf("%d", door_statuses[i])};

			if (count > 0)
				add_sample(samples, "door_requests_total", labels, lengthof(labels),
						   psprintf(UINT64_FORMAT, count));
		}
	}
}

char *
metrics_text(void)
{
	Samples *samples = palloc0(sizeof(Samples));
	NullableDatum tenants = gate_int32(setting_metrics_tenants);
	StringInfoData text;

	add_rows(samples, gate_run_array(&metric_database_samples, EXPECT_ANY, NULL, 0));
	add_rows(samples, gate_run_array(&metric_queue_samples, EXPECT_ANY, NULL, 0));
	add_rows(samples, gate_run_array(&metric_cluster_samples, EXPECT_ANY, NULL, 0));
	add_rows(samples, gate_run(&metric_tenant_samples, EXPECT_ANY, tenants));
	add_rows(samples, gate_run(&metric_limit_samples, EXPECT_ANY, tenants));
	add_number(samples, "domain_memory_names", domain_known_count());
	add_number(samples, "domain_memory_refused_total", domain_refused_count());
	add_door(samples);

	initStringInfo(&text);
	for (int i = 0; i < lengthof(metrics); i++)
	{
		if (samples->texts[i].data == NULL)
			continue;
		appendStringInfo(&text, "# HELP " PREFIX "%s %s\n# TYPE " PREFIX "%s %s\n", metrics[i].name,
						 metrics[i].help, metrics[i].name, type_names[metrics[i].type]);
		appendBinaryStringInfo(&text, samples->texts[i].data, samples->texts[i].len);
	}
	return text.data;
}

/* metrics_prometheus() → text */
TENANCY_FUNCTION(metrics_prometheus)
{
	context_require_none("reading the metrics of all tenants");
	PG_RETURN_TEXT_P(cstring_to_text(metrics_text()));
}
