/*
 * subscription/ending.c
 *		Cancelling, reactivating, pausing and resuming subscriptions.
 *
 * A pause of the service ends the items and a resumption begins them again, on the same anchor:
 * nothing accrues in between, and what was paid in advance for it is credited.  The other
 * pauses say what becomes of the invoices (as Stripe's pause of collection has it).
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "context/context.h"
#include "core/clock.h"
#include "core/function.h"
#include "core/id.h"
#include "subscription/subscription.h"

#include "utils/builtins.h"

GATE_STATEMENT(
	subscription_set_end,
	"UPDATE tenancy.subscription SET ends_at = $2, cancelled_at = $3, cancel_reason = $4,"
	"       bills_at = least(bills_at, $2)"
	" WHERE id = $1",
	UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID);
GATE_STATEMENT(subscription_clear_end,
			   "UPDATE tenancy.subscription SET ends_at = NULL, cancelled_at = NULL,"
			   "       cancel_reason = NULL,"
			   "       bills_at = CASE WHEN bills_at = ends_at THEN period_end ELSE bills_at END"
			   " WHERE id = $1",
			   UUIDOID);
GATE_STATEMENT(subscription_set_pause,
			   "UPDATE tenancy.subscription SET state = $5, pause_mode = $2, paused_at = $3,"
			   "       resumes_at = $4, bills_at = least(bills_at, $4)"
			   " WHERE id = $1",
			   UUIDOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID);
GATE_STATEMENT(subscription_clear_pause,
			   "UPDATE tenancy.subscription SET state = $2, pause_mode = NULL, paused_at = NULL,"
			   "       resumes_at = NULL"
			   " WHERE id = $1",
			   UUIDOID, TEXTOID);
GATE_STATEMENT(subscription_pause_mode,
			   "SELECT s.pause_mode FROM tenancy.subscription s WHERE s.id = $1", UUIDOID);
GATE_STATEMENT(
	subscriptions_resuming,
	"SELECT s.id, s.resumes_at FROM tenancy.subscription s"
	" WHERE s.state = 'paused' AND s.resumes_at <= $1"
	"   AND ($2 IS NULL OR s.tenant_id = $2)"
	" ORDER BY s.id FOR UPDATE",
	TIMESTAMPTZOID, UUIDOID);

/* The first end of a period that is not before "at". */
static TimestampTz
end_of_period(const Subscription *subscription, TimestampTz at)
{
	int32 number;
	TimestampTz end;

	if (at <= subscription->period_end)
		return subscription->period_end;
	/* Billing lags behind. */
	subscription_period_at(subscription, at - 1, &number, &end);
	return end;
}

static void
cancel(Subscription *subscription, TimestampTz ends_at, const char *reason)
{
	const pg_uuid_t *id = &subscription->id;
	bool has_begun =
		strcmp(subscription->state, "pending") != 0 || ends_at > subscription->starts_at;

	if (!has_begun)
		ends_at = subscription->starts_at;
	item_end(subscription, NULL, ends_at, "cancelled");
	if (has_begun && strcmp(subscription->state, "paused") == 0)
		gate_run(&subscription_clear_pause, EXPECT_ONE, gate_uuid(id),
				 gate_text(subscription_after(subscription, "cancel")));
	else if (has_begun)
		subscription_move(subscription, "cancel");
	gate_run(&subscription_set_end, EXPECT_ONE, gate_uuid(id), gate_timestamptz(ends_at),
			 gate_timestamptz(clock_now()), gate_text(reason));
	if (!has_begun)
		subscription_move(subscription, "end");
}

void
subscription_cancel_now(Subscription *subscription, TimestampTz at, const char *reason)
{
	cancel(subscription, Max(at, subscription->period_start), reason);
}

/*
 * subscription_cancel(subscription uuid, reason text, at_period_end boolean, at timestamptz)
 *     → tenancy.subscription
 */
TENANCY_FUNCTION(subscription_cancel)
{
	pg_uuid_t *id = required_uuid(fcinfo, 0, "subscription");
	Subscription *subscription;
	TimestampTz now = clock_now();
	TimestampTz ends_at;

	require_argument(fcinfo, 2, "at_period_end");
	context_require_none("billing");
	subscription = subscription_lock(id);
	if (!PG_ARGISNULL(3))
	{
		ends_at = required_timestamptz(fcinfo, 3, "at");
		if (ends_at < subscription->period_start)
			ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("a subscription cannot end in a period that has been billed"),
					errdetail("The open period is from %s.",
							  timestamptz_to_str(subscription->period_start)));
	}
	else if (PG_GETARG_BOOL(2))
		ends_at = end_of_period(subscription, now);
	else
		ends_at = Max(now, subscription->period_start);
	cancel(subscription, ends_at, optional_text(fcinfo, 1));
	PG_RETURN_DATUM(subscription_row(id));
}

/* subscription_reactivate(subscription uuid) → tenancy.subscription */
TENANCY_FUNCTION(subscription_reactivate)
{
	pg_uuid_t *id = required_uuid(fcinfo, 0, "subscription");
	Subscription *subscription;

	context_require_none("billing");
	subscription = subscription_lock(id);
	if (strcmp(subscription->state, "cancelled") == 0 && subscription->ends_at <= clock_now())
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("subscription \"%s\" has ended", id_text(id)),
				errhint("subscription_create() makes a new one."));
	subscription_move(subscription, subscription->trial_ends_at > clock_now() ? "reactivate trial"
																			  : "reactivate");
	items_continue(subscription, subscription->ends_at, "reactivated");
	gate_run(&subscription_clear_end, EXPECT_ONE, gate_uuid(id));
	PG_RETURN_DATUM(subscription_row(id));
}

/*
 * subscription_pause(subscription uuid, mode text, resumes_at timestamptz, reason text)
 *     → tenancy.subscription
 */
TENANCY_FUNCTION(subscription_pause)
{
	static const char *const modes[] = {"draft", "service", "uncollectible", "void"};
	pg_uuid_t *id = required_uuid(fcinfo, 0, "subscription");
	char *mode = required_text(fcinfo, 1, "mode");
	char *reason = optional_text(fcinfo, 3);
	Subscription *subscription;
	TimestampTz now;
	bool is_mode = false;

	context_require_none("billing");
	for (int i = 0; i < lengthof(modes); i++)
		is_mode = is_mode || strcmp(modes[i], mode) == 0;
	if (!is_mode)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("invalid mode \"%s\"", mode),
				errhint("Possible: \"service\", \"draft\", \"void\", \"uncollectible\"."));
	subscription = subscription_lock(id);
	now = Max(clock_now(), subscription->period_start);
	if (!PG_ARGISNULL(2) && required_timestamptz(fcinfo, 2, "resumes_at") <= now)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"resumes_at\" must be later than now"));
	gate_run(&subscription_set_pause, EXPECT_ONE, gate_uuid(id), gate_text(mode),
			 gate_timestamptz(now), PG_ARGISNULL(2) ? gate_null() : gate_argument(2),
			 gate_text(subscription_after(subscription, "pause")));
	if (strcmp(mode, "service") == 0)
		item_end(subscription, NULL, now, reason != NULL ? reason : "paused");
	PG_RETURN_DATUM(subscription_row(id));
}

static void
resume(const pg_uuid_t *id, TimestampTz at)
{
	Subscription *subscription = subscription_lock(id);
	char *mode = row_text(gate_run(&subscription_pause_mode, EXPECT_ONE, gate_uuid(id)), 0, 0);

	gate_run(&subscription_clear_pause, EXPECT_ONE, gate_uuid(id),
			 gate_text(subscription_after(subscription, subscription->trial_ends_at > at
															? "resume trial"
															: "resume")));
	if (strcmp(mode, "service") == 0)
		items_restart(subscription, subscription->paused_at, Max(at, subscription->paused_at),
					  "resumed");
}

/* subscription_resume(subscription uuid) → tenancy.subscription */
TENANCY_FUNCTION(subscription_resume)
{
	pg_uuid_t *id = required_uuid(fcinfo, 0, "subscription");

	context_require_none("billing");
	resume(id, clock_now());
	PG_RETURN_DATUM(subscription_row(id));
}

void
subscriptions_resume_due(const pg_uuid_t *tenant, TimestampTz at)
{
	GateRows *rows =
		gate_run(&subscriptions_resuming, EXPECT_ANY, gate_timestamptz(at), gate_uuid(tenant));

	for (int64 i = 0; i < rows->count; i++)
	{
		resume(row_uuid(rows, i, 0), row_timestamptz(rows, i, 1));
		subscription_set_bills_at(row_uuid(rows, i, 0), row_timestamptz(rows, i, 1));
	}
}
