/*
 * usage/event.c
 *		Usage events: what the application reports, once and for ever.
 *
 * An event is known by tenant and id.  The same event again returns the row that is there;
 * another event under the same id is an error, never silence.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "catalog/registry.h"
#include "context/context.h"
#include "context/regtenant.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/id.h"
#include "core/json.h"
#include "core/money.h"
#include "crypto/digest.h"
#include "usage/event.h"
#include "usage/filter.h"
#include "usage/metric.h"
#include "usage/store.h"

#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"

/* How far the clock of a reporter may be ahead (Stripe's limit for meter events). */
#define MAX_FUTURE (5 * USECS_PER_MINUTE)

#define MAX_EVENT_ID_BYTES 255

/*
 * In canonical form: numeric and jsonb print one text for one value.  A time that is the
 * transaction's own is the default of the argument, and another one when the event comes
 * again; it is not part of what was said.
 */
static void
hash_payload(UsageEvent *event)
{
	Digest digest;
	Datum normalized = DirectFunctionCall1(numeric_trim_scale, NumericGetDatum(event->quantity));

	digest_begin(&digest);
	digest_add_text(&digest, event->metric);
	digest_add_text(&digest, DatumGetCString(DirectFunctionCall1(numeric_out, normalized)));
	if (event->occurred_at == GetCurrentTransactionStartTimestamp())
		digest_add_text(&digest, NULL);
	else
		digest_add(&digest, &event->occurred_at, sizeof(event->occurred_at));
	digest_add_text(&digest,
					JsonbToCString(NULL, &event->properties->root, VARSIZE(event->properties)));
	digest_end_short(&digest, &event->payload_hash);
}

static UsageEventListener listener = NULL;

void
usage_set_event_listener(UsageEventListener wants)
{
	listener = wants;
}

static void
require_measurable(const UsageEvent *event, const Metric *metric, const char *place)
{
	/* Who is in its tenant by login is the tenant itself, and would lower its own bill. */
	if (numeric_compare(event->quantity, numeric_zero()) < 0 && context_tenant() != NULL &&
		!context_is_entered())
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("argument \"%squantity\" must not be negative in a session of the tenant",
					   place),
				errhint("The application takes usage back, or an administrator does."));
	if (numeric_compare(event->quantity, numeric_zero()) < 0 &&
		metric->aggregation != AGGREGATION_SUM && metric->aggregation != AGGREGATION_WEIGHTED_SUM)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"%squantity\" must not be negative for metric \"%s\"", place,
					   metric->name),
				errdetail("Its aggregation is \"%s\"; only a sum can be taken back from.",
						  aggregation_name(metric->aggregation)));
	if (metric->property != NULL && !json_has(event->properties, metric->property))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"%sproperties\" must have the member \"%s\" for metric \"%s\"",
					   place, metric->property, metric->name));
}

void
event_tell(const UsageEvent *event)
{
	const MetricList *list = metric_list_latest();

	if (listener == NULL)
		return;
	for (int i = 0; i < list->count; i++)
	{
		const Metric *metric = &list->metrics[i];

		if (metric->event != NULL && strcmp(metric->event, event->metric) == 0 &&
			filter_matches(metric->filters, event->properties))
			listener(&event->tenant, metric->name, aggregation_name(metric->aggregation),
					 event->quantity, event->occurred_at);
	}
}

void
event_prepare(UsageEvent *event, const char *place)
{
	tenant_require_visible(&event->tenant);
	if (!registry_exists(&event->tenant))
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("tenant \"%s\" does not exist", id_text(&event->tenant)));
	if (event->event_id != NULL &&
		(*event->event_id == '\0' || strlen(event->event_id) > MAX_EVENT_ID_BYTES))
		ereport(
			ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("argument \"%sevent_id\" must have 1 to %d bytes", place, MAX_EVENT_ID_BYTES));
	if (event->occurred_at > clock_wall() + MAX_FUTURE)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("usage event lies in the future"),
				errdetail("%soccurred_at is %s; at most 5 minutes ahead are taken.", place,
						  timestamptz_to_str(event->occurred_at)));
	if (event->properties == NULL || !JB_ROOT_IS_OBJECT(event->properties))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"%sproperties\" must be a JSON object", place));
	require_measurable(event, metric_require_events(event->metric), place);
	if (event->event_id == NULL)
		event->event_id = id_text(id_new());
	event_hash_id(event->event_id, &event->id_hash);
	hash_payload(event);
}

/*
 * usage_record(tenant regtenant, metric text, quantity numeric, event_id text,
 *     occurred_at timestamptz, properties jsonb) → tenancy.usage_event
 */
TENANCY_FUNCTION(usage_record)
{
	UsageEvent event = {
		.tenant = *required_uuid(fcinfo, 0, "tenant"),
		.metric = required_text(fcinfo, 1, "metric"),
		.quantity = required_numeric(fcinfo, 2, "quantity"),
		.event_id = optional_text(fcinfo, 3),
		.occurred_at = required_timestamptz(fcinfo, 4, "occurred_at"),
		.properties = optional_jsonb(fcinfo, 5),
	};
	UsageEvent *pointer = &event;

	event_prepare(&event, "");
	event_write(&pointer, 1);

	/* What is billed is on disk when the caller hears of it. */
	ForceSyncCommit();
	PG_RETURN_DATUM(event.is_new ? event_make_row(&event) : event_get_row(&event));
}

/* usage_cancel(tenant regtenant, event_id text) → tenancy.usage_event */
TENANCY_FUNCTION(usage_cancel)
{
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");
	char *event_id = required_text(fcinfo, 1, "event_id");
	GateRows *rows;

	(void) registry_get(tenant);
	rows = event_cancel(tenant, event_id);
	if (listener != NULL)
		listener(tenant, row_text(rows, 0, 1), NULL, NULL, 0);
	ForceSyncCommit();
	PG_RETURN_DATUM(row_datum(rows, 0, 0));
}
