/*
 * init.c
 *		The order in which the floors of the house are set up, and nothing else.
 */
#include "postgres.h"

#include "backup/backup.h"
#include "billing/billing.h"
#include "catalog/extension.h"
#include "catalog/registry.h"
#include "context/context.h"
#include "context/token.h"
#include "core/compat.h"
#include "core/settings.h"
#include "credit/credit.h"
#include "domain/domain.h"
#include "hook/hook.h"
#include "job/schedule.h"
#include "limit/quota.h"
#include "limit/rate_limit.h"
#include "resource/resource.h"
#include "meter/meter.h"
#include "observe/door_state.h"
#include "payment/payment.h"
#include "privacy/privacy.h"
#include "provision/provision.h"
#include "revenue/revenue.h"
#include "tenant/tenant.h"
#include "usage/prune.h"
#include "usage/rollup.h"
#include "worker/worker.h"
#include "workflow/workflow.h"

#include "fmgr.h"
#include "miscadmin.h"

#include <sodium.h>

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("pg_tenancy must be loaded via shared_preload_libraries"));
	if (sodium_init() < 0)
		ereport(ERROR, errmsg("could not initialize libsodium"));
	if (atoi(GetConfigOption("server_version_num", false, false)) < SAFE_SERVER_VERSION)
		ereport(WARNING,
				errmsg("this minor release of PostgreSQL has known ways around row security"),
				errhint("Upgrade it to the latest minor release."));

	settings_define();
	extension_init();
	registry_init();
	context_init();
	token_init();
	job_init();
	tenant_init();
	meter_init();
	rollup_init();
	prune_init();
	rate_limit_init();
	quota_init();
	resource_init();
	domain_init();
	credit_init();
	billing_init();
	payment_init();
	revenue_init();
	workflow_init();
	privacy_init();
	observe_init();
	backup_init();
	provision_init();
	worker_init();
	hooks_install();
}
