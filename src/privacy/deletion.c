/*
 * privacy/deletion.c
 *		Deleting a tenant so that it can come back, and what the floor sets up.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "catalog/own_call.h"
#include "context/context.h"
#include "core/clock.h"
#include "core/function.h"
#include "privacy/privacy.h"
#include "privacy/purge.h"
#include "privacy/retention.h"
#include "tenant/tenant.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

/* What a subscription says that was cancelled for this, so that it can be taken back. */
#define CANCEL_REASON "tenant deleted"

GATE_STATEMENT(deletion_insert,
			   "INSERT INTO tenancy.tenant_deletion (tenant_id, requested_at, requested_by, reason,"
			   "    purge_after) VALUES ($1, $2, $3, $4, $2 + $5)",
			   UUIDOID, TIMESTAMPTZOID, NAMEOID, TEXTOID, INTERVALOID);
GATE_STATEMENT(deletion_delete, "DELETE FROM tenancy.tenant_deletion d WHERE d.tenant_id = $1",
			   UUIDOID);

/*
 * As whoever calls, by the functions that he would call.  Before the tenant's row is locked: a
 * billing run locks subscriptions and then, for its documents, the tenant.
 */
static void
change_subscriptions(const pg_uuid_t *tenant, const char *call, const char *condition)
{
	(void) gate_query_text(psprintf("SELECT (%s).id FROM tenancy.subscription s"
									" WHERE s.tenant_id = $1 AND %s",
									call, condition),
						   3, (Oid[]){UUIDOID, TEXTOID, TIMESTAMPTZOID},
						   (NullableDatum[]){gate_uuid(tenant), gate_text(CANCEL_REASON),
											 gate_timestamptz(clock_now())});
}

/* tenant_delete(tenant regtenant, grace interval, reason text) → tenancy.tenant */
TENANCY_FUNCTION(tenant_delete)
{
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");
	char *reason = optional_text(fcinfo, 2);
	Interval none = {0};

	context_require_none("deleting a tenant");
	require_argument(fcinfo, 1, "grace");
	if (DatumGetBool(DirectFunctionCall2(interval_lt, PG_GETARG_DATUM(1), IntervalPGetDatum(&none))))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("argument \"grace\" must not be negative"));
	change_subscriptions(tenant,
						 own_call("subscription_cancel", 2, (const char *[]){"s.id", "$2"}),
						 "s.state IN ('pending', 'trialing', 'active', 'past_due', 'paused')");
	(void) tenant_move(tenant, "delete", reason);
	gate_run(&deletion_insert, EXPECT_ONE, gate_uuid(tenant), gate_timestamptz(clock_now()),
			 gate_name(GetUserNameFromId(GetSessionUserId(), false)), gate_text(reason),
			 gate_argument(1));
	PG_RETURN_DATUM(tenant_row(tenant));
}

/* tenant_undelete(tenant regtenant) → tenancy.tenant */
TENANCY_FUNCTION(tenant_undelete)
{
	pg_uuid_t *tenant = required_uuid(fcinfo, 0, "tenant");

	context_require_none("deleting a tenant");
	change_subscriptions(tenant,
						 own_call("subscription_reactivate", 1, (const char *[]){"s.id"}),
						 "s.state = 'cancelled' AND s.cancel_reason = $2"
						 " AND s.ends_at > $3");
	(void) tenant_move(tenant, "undelete", NULL);
	gate_run(&deletion_delete, EXPECT_ANY, gate_uuid(tenant));
	PG_RETURN_DATUM(tenant_row(tenant));
}

void
privacy_init(void)
{
	retention_init();
	purge_init();
}
