/*
 * core/settings.c
 *		The settings of the extension: one row each, sorted by name.
 *
 * POSTMASTER where it sizes shared memory, SIGHUP where it governs what all
 * backends do, SUSET where it can weaken isolation, USERSET never.
 */
#include "postgres.h"

#include "core/address.h"
#include "core/clock.h"
#include "core/hostname.h"
#include "core/hot.h"
#include "core/settings.h"

#include <limits.h>

#include "utils/guc.h"

#define ONE_HOUR_MS (3600 * 1000)
#define SECONDS_PER_DAY (24 * 3600)
#define MINUTES_PER_DAY (24 * 60)

char *setting_allowed_functions;
char *setting_backup_directory;
char *setting_base_domain;
int setting_billing_grace;
char *setting_compatible_settings;
char *setting_current_tenant;
char *setting_command_file;
int setting_event_retention;
int setting_health_max_delay;
char *setting_http_database;
char *setting_http_listen;
int setting_http_refresh_interval;
int setting_job_history;
int setting_job_retention;
int setting_latency_hour_retention;
int setting_max_databases;
int setting_max_domains;
int setting_max_job_workers;
int setting_max_rate_subjects;
int setting_max_runners;
int setting_max_tenants;
int setting_metering HOT_DATA;
int setting_metering_flush_interval;
int setting_metrics_tenants;
char *setting_reserved_domains;
char *setting_reserved_slugs;
int setting_retention_log_retention;
int setting_runner_idle_timeout;
int setting_storage_budget;
int setting_suspended_access;
char *setting_test_clock;
int setting_token_clock_skew;
int setting_token_replay;
int setting_token_replay_capacity;
bool setting_trusted_entry;
char *setting_upstreams;
int setting_usage_event_retention;
int setting_usage_hour_retention;
int setting_usage_minute_retention;
char *setting_webhook_allowed_networks;
int setting_webhook_timeout;
bool setting_workers;

static const struct config_enum_entry metering_levels[] = {
	{"off", METERING_OFF, false},
	{"counters", METERING_COUNTERS, false},
	{"full", METERING_FULL, false},
	{NULL, 0, false},
};

static const struct config_enum_entry token_replays[] = {
	{"once", TOKEN_ONCE, false},
	{"ttl", TOKEN_TTL, false},
	{NULL, 0, false},
};

static const struct config_enum_entry suspended_accesses[] = {
	{"none", SUSPENDED_NOTHING, false},
	{"delete", SUSPENDED_DELETES, false},
	{NULL, 0, false},
};

static bool
check_directory(char **value, void **extra, GucSource source)
{
	if (**value == '\0' || (is_absolute_path(*value) && strlen(*value) < MAXPGPATH / 2))
		return true;
	GUC_check_errdetail("It is the whole path of a directory.");
	return false;
}

typedef enum SettingType
{
	SETTING_BOOL,
	SETTING_ENUM,
	SETTING_INT,
	SETTING_STRING
} SettingType;

typedef struct Setting
{
	const char *name;
	SettingType type;
	void *variable;
	GucContext context;
	int flags; /* unit and visibility */
	union
	{
		bool boolean;
		int integer;
		const char *string;
	} boot;
	int minimum;
	int maximum;
	const struct config_enum_entry *options;
	GucStringCheckHook check;
	GucStringAssignHook assign;
	const char *what;
	const char *when;
} Setting;

static const Setting settings[] = {
	{
		.name = "tenancy.allowed_functions",
		.type = SETTING_STRING,
		.variable = &setting_allowed_functions,
		.context = PGC_SIGHUP,
		.flags = GUC_LIST_INPUT,
		.boot.string = "",
		.what =
			"Groups of system functions that tenants may call although they reach past the tenant.",
		.when = "Of activity, advisory_locks, large_objects, notify, sequences, session, "
				"signal, sizes and statistics. An application that needs advisory locks or NOTIFY "
				"in a tenant "
				"context needs them here; tenants then share their keys and channels.",
	},
	{
		.name = "tenancy.backup_directory",
		.type = SETTING_STRING,
		.variable = &setting_backup_directory,
		.context = PGC_SIGHUP,
		.boot.string = "",
		.check = check_directory,
		.what = "The directory that backups of tenants go to, by its whole path.",
		.when = "It belongs to the server's user, and nobody else can read it. On another disk "
				"than the database, at least.",
	},
	{
		.name = "tenancy.base_domain",
		.type = SETTING_STRING,
		.variable = &setting_base_domain,
		.context = PGC_SIGHUP,
		.boot.string = "",
		.check = hostname_check_base,
		.what = "The domain of the platform: each tenant has its slug below it.",
		.when = "Where tenants are served as acme.example.com. domain_allowed() then allows those "
				"names, and no tenant can claim the domain or what is below it.",
	},
	{
		.name = "tenancy.billing_grace",
		.type = SETTING_INT,
		.variable = &setting_billing_grace,
		.context = PGC_SIGHUP,
		.flags = GUC_UNIT_S,
		.boot.integer = 3600,
		.minimum = 0,
		.maximum = 30 * SECONDS_PER_DAY,
		.what = "How long after its end a period is billed by the periodic run.",
		.when = "Usage that applications report later than this does not reach its invoice.",
	},
	{
		.name = "tenancy.command_file",
		.type = SETTING_STRING,
		.variable = &setting_command_file,
		.context = PGC_SIGHUP,
		.boot.string = "",
		.what = "A file with the commands that jobs of the kind command.run may run, as JSON.",
		.when = "For what is outside of the database: DNS, certificates, deployments. They run as "
				"the server's user; nobody but who writes this file decides what.",
	},
	{
		.name = "tenancy.compatible_settings",
		.type = SETTING_STRING,
		.variable = &setting_compatible_settings,
		.context = PGC_POSTMASTER,
		.flags = GUC_LIST_INPUT,
		.boot.string = "",
		.what = "Names of settings that show the id of the current tenant.",
		.when = "For applications whose policies read current_setting('app.current_tenant_id'): "
				"the names listed here cannot be SET by anybody and follow the tenant context.",
	},
	{
		.name = "tenancy.current_tenant",
		.type = SETTING_STRING,
		.variable = &setting_current_tenant,
		.context = PGC_INTERNAL,
		.flags = GUC_REPORT | GUC_NOT_IN_SAMPLE | GUC_DISALLOW_IN_FILE,
		.boot.string = "",
		.what = "Reports the id of the tenant that the session is in to the client.",
		.when =
			"Nobody can set it, and nothing is decided by it: current_tenant_id() is the tenant. "
			"The protocol reports each change, so that a driver or a pooler can see it.",
	},
	{
		.name = "tenancy.event_retention",
		.type = SETTING_INT,
		.variable = &setting_event_retention,
		.context = PGC_SIGHUP,
		.flags = GUC_UNIT_S,
		.boot.integer = 30 * SECONDS_PER_DAY,
		.minimum = 4 * SECONDS_PER_DAY,
		.maximum = 3650 * SECONDS_PER_DAY,
		.what = "How long events are kept.",
		.when = "Receivers can have them delivered again for as long. The last attempt to deliver "
				"one is made within four days.",
	},
	{
		.name = "tenancy.health_max_delay",
		.type = SETTING_INT,
		.variable = &setting_health_max_delay,
		.context = PGC_SIGHUP,
		.flags = GUC_UNIT_S,
		.boot.integer = 300,
		.minimum = 1,
		.maximum = SECONDS_PER_DAY,
		.what = "By how much work may be late until /healthz says 503.",
		.when =
			"Of periodic work; and of jobs and deliveries that are due, where none was worked on "
			"for as long.",
	},
	{
		.name = "tenancy.http_database",
		.type = SETTING_STRING,
		.variable = &setting_http_database,
		.context = PGC_SIGHUP,
		.boot.string = "",
		.what = "The database that the door for HTTP answers for.",
		.when = "Without it /ask, /metrics and /sd say 503.",
	},
	{
		.name = "tenancy.http_listen",
		.type = SETTING_STRING,
		.variable = &setting_http_listen,
		.context = PGC_SIGHUP,
		.boot.string = "",
		.check = address_check_listen,
		.what = "Where the door for HTTP listens: 127.0.0.1:port, or the path of a socket; empty "
				"for nowhere.",
		.when = "For Prometheus, for Caddy's on-demand TLS and for load balancers on the same "
				"machine. Whoever reaches it reads the metrics of all tenants. Takes two of "
				"max_worker_processes.",
	},
	{
		.name = "tenancy.http_refresh_interval",
		.type = SETTING_INT,
		.variable = &setting_http_refresh_interval,
		.context = PGC_SIGHUP,
		.flags = GUC_UNIT_MS,
		.boot.integer = 10000,
		.minimum = 500,
		.maximum = ONE_HOUR_MS,
		.what = "How often what the door serves at /metrics and /sd is read from the database.",
		.when = "Not more often than it is scraped. What takes longer to read than this is given "
				"up.",
	},
	{
		.name = "tenancy.job_history",
		.type = SETTING_INT,
		.variable = &setting_job_history,
		.context = PGC_SIGHUP,
		.boot.integer = 10000,
		.minimum = 0,
		.maximum = 100000000,
		.what = "How many jobs of a kind that have succeeded are kept.",
		.when = "Those that have failed for good are kept by their age alone.",
	},
	{
		.name = "tenancy.job_retention",
		.type = SETTING_INT,
		.variable = &setting_job_retention,
		.context = PGC_SIGHUP,
		.flags = GUC_UNIT_S,
		.boot.integer = 7 * SECONDS_PER_DAY,
		.minimum = 60,
		.maximum = 3650 * SECONDS_PER_DAY,
		.what =
			"How long finished jobs are kept; those that have failed for good four times as long.",
		.when = "An idempotency key is known as long as its job.",
	},
	{
		.name = "tenancy.latency_hour_retention",
		.type = SETTING_INT,
		.variable = &setting_latency_hour_retention,
		.context = PGC_SIGHUP,
		.flags = GUC_UNIT_MIN,
		.boot.integer = 400 * MINUTES_PER_DAY,
		.minimum = 0,
		.maximum = INT_MAX,
		.what = "How long the histograms of latencies are kept; 0 for ever.",
		.when = "A month is dropped as a whole, when all of it is older. Costs about 1 kB a tenant "
				"and hour in which it was active.",
	},
	{
		.name = "tenancy.max_databases",
		.type = SETTING_INT,
		.variable = &setting_max_databases,
		.context = PGC_POSTMASTER,
		.boot.integer = 64,
		.minimum = 1,
		.maximum = 10000,
		.what = "How many databases with the extension the launcher looks after.",
		.when = "Costs about 100 bytes of shared memory each.",
	},
	{
		.name = "tenancy.max_domains",
		.type = SETTING_INT,
		.variable = &setting_max_domains,
		.context = PGC_POSTMASTER,
		.boot.integer = 20000,
		.minimum = 64,
		.maximum = 10000000,
		.what = "How many host names of tenants shared memory knows, in all databases together.",
		.when = "Each active tenant has one, and one more for each verified domain; costs about "
				"100 bytes of shared memory each. Beyond it domain_allowed() looks into the "
				"tables.",
	},
	{
		.name = "tenancy.max_job_workers",
		.type = SETTING_INT,
		.variable = &setting_max_job_workers,
		.context = PGC_SIGHUP,
		.boot.integer = 4,
		.minimum = 0,
		.maximum = 1000,
		.what = "How many background workers do queued jobs at the same time.",
		.when = "Each takes one worker of max_worker_processes while it has work, and a second "
				"one is started only while more jobs are ready.",
	},
	{
		.name = "tenancy.max_rate_subjects",
		.type = SETTING_INT,
		.variable = &setting_max_rate_subjects,
		.context = PGC_POSTMASTER,
		.boot.integer = 100000,
		.minimum = 1024,
		.maximum = 100000000,
		.what = "How many subjects of rate limits are counted at the same time.",
		.when = "Tenants and users that were active within the period of a limit; costs about 150 "
				"bytes of shared memory each. Beyond it a limit lets through or denies, as its "
				"on_full says.",
	},
	{
		.name = "tenancy.max_runners",
		.type = SETTING_INT,
		.variable = &setting_max_runners,
		.context = PGC_SIGHUP,
		.boot.integer = 4,
		.minimum = 1,
		.maximum = 1000,
		.what = "How many databases have a runner at the same time.",
		.when = "Each takes one worker of max_worker_processes, which parallel queries want too. "
				"Databases that are busy beyond it take turns.",
	},
	{
		.name = "tenancy.max_tenants",
		.type = SETTING_INT,
		.variable = &setting_max_tenants,
		.context = PGC_POSTMASTER,
		.boot.integer = 10000,
		.minimum = 16,
		.maximum = 1000000,
		.what = "How many tenants of the cluster are metered in shared memory.",
		.when = "Raise it above the number of tenants that are active within a flush interval; "
				"costs about 3 kB of shared memory each. Beyond it tenants whose counts are in the "
				"tables make room, and where none are, counts go by way of files.",
	},
	{
		.name = "tenancy.metering",
		.type = SETTING_ENUM,
		.variable = &setting_metering,
		.context = PGC_SUSET,
		.boot.integer = METERING_FULL,
		.options = metering_levels,
		.what = "What is metered per statement.",
		.when = "\"counters\" saves the system call that reads the CPU time of the process.",
	},
	{
		.name = "tenancy.metering_flush_interval",
		.type = SETTING_INT,
		.variable = &setting_metering_flush_interval,
		.context = PGC_SIGHUP,
		.flags = GUC_UNIT_MS,
		.boot.integer = 1000,
		.minimum = 100,
		.maximum = ONE_HOUR_MS,
		.what = "How often statement counters move from shared memory to tables.",
		.when = "A crash of the server loses at most this much of them. Usage events are rows "
				"and are never lost.",
	},
	{
		.name = "tenancy.metrics_tenants",
		.type = SETTING_INT,
		.variable = &setting_metrics_tenants,
		.context = PGC_SIGHUP,
		.boot.integer = 100,
		.minimum = 0,
		.maximum = 100000,
		.what = "How many tenants have metrics of their own for Prometheus.",
		.when = "Those that have used the most time since the server started; the others together "
				"are one. Each has about 40 series.",
	},
	{
		.name = "tenancy.reserved_domains",
		.type = SETTING_STRING,
		.variable = &setting_reserved_domains,
		.context = PGC_SIGHUP,
		.boot.string = "alt, arpa, internal, invalid, local, localhost, onion",
		.check = hostname_check_reserved,
		.what = "Domains that no tenant may claim, nor what is below them.",
		.when = "Add the domains of your own that serve something else. The default has the names "
				"that are no public ones (RFC 6761, 6762, 7686, 9476).",
	},
	{
		.name = "tenancy.reserved_slugs",
		.type = SETTING_STRING,
		.variable = &setting_reserved_slugs,
		.context = PGC_SIGHUP,
		.flags = GUC_LIST_INPUT,
		.boot.string = "admin, api, app, assets, auth, billing, blog, cdn, console, dashboard, "
					   "default, dev, docs, ftp, help, imap, internal, localhost, login, mail, "
					   "media, metrics, mx, none, ns, ns1, ns2, null, oauth, pop, portal, "
					   "postmaster, public, root, secure, signup, smtp, sso, staging, static, "
					   "status, support, system, tenancy, tenant, test, undefined, webmail, www",
		.what = "Slugs that no tenant may have.",
		.when = "Add the host names that your product uses beside its tenants.",
	},
	{
		.name = "tenancy.retention_log_retention",
		.type = SETTING_INT,
		.variable = &setting_retention_log_retention,
		.context = PGC_SIGHUP,
		.flags = GUC_UNIT_S,
		.boot.integer = 3650 * SECONDS_PER_DAY,
		.minimum = 30 * SECONDS_PER_DAY,
		.maximum = 18250 * SECONDS_PER_DAY,
		.what = "How long it is kept what retention has deleted, and when.",
		.when = "It proves that periods are kept to, and has no data but counts, times and hashes.",
	},
	{
		.name = "tenancy.runner_idle_timeout",
		.type = SETTING_INT,
		.variable = &setting_runner_idle_timeout,
		.context = PGC_SIGHUP,
		.flags = GUC_UNIT_MS,
		.boot.integer = 5000,
		.minimum = 0,
		.maximum = ONE_HOUR_MS,
		.what = "How long a runner without work stays connected to its database.",
		.when = "A connected runner holds one worker of max_worker_processes; coming back costs "
				"it a few milliseconds.",
	},
	{
		.name = "tenancy.storage_budget",
		.type = SETTING_INT,
		.variable = &setting_storage_budget,
		.context = PGC_SIGHUP,
		.flags = GUC_UNIT_MS,
		.boot.integer = 1000,
		.minimum = 1,
		.maximum = ONE_HOUR_MS,
		.what = "How long one run of storage.measure measures.",
		.when =
			"The next run goes on where it ended. Flushing of counters waits meanwhile: raise it "
			"where "
			"tenancy.storage_rotation shows measurements that are too old, for very many tables.",
	},
	{
		.name = "tenancy.suspended_access",
		.type = SETTING_ENUM,
		.variable = &setting_suspended_access,
		.context = PGC_SIGHUP,
		.boot.integer = SUSPENDED_DELETES,
		.options = suspended_accesses,
		.what = "What the sessions of a suspended tenant may do.",
		.when = "\"delete\" is reading and deleting, so that it can take out its data and make "
				"room; \"none\" keeps it out altogether.",
	},
	{
		.name = "tenancy.test_clock",
		.type = SETTING_STRING,
		.variable = &setting_test_clock,
		.context = PGC_SUSET,
		.flags = GUC_NOT_IN_SAMPLE,
		.boot.string = "",
		.check = clock_check_setting,
		.assign = clock_assign_setting,
		.what = "The time that the extension takes for now; empty for the real one.",
		.when = "For tests and rehearsals only.",
	},
	{
		.name = "tenancy.token_clock_skew",
		.type = SETTING_INT,
		.variable = &setting_token_clock_skew,
		.context = PGC_SIGHUP,
		.flags = GUC_UNIT_S,
		.boot.integer = 10,
		.minimum = 0,
		.maximum = 300,
		.what = "How far in the future a tenant token may have been issued.",
		.when = "Raise it where the clocks of the signers run ahead of the server's.",
	},
	{
		.name = "tenancy.token_replay",
		.type = SETTING_ENUM,
		.variable = &setting_token_replay,
		.context = PGC_SIGHUP,
		.boot.integer = TOKEN_ONCE,
		.options = token_replays,
		.what = "Whether a tenant token can be used again: \"once\" or until its \"ttl\" ends.",
		.when =
			"\"ttl\" saves the application a signature per transaction, and the server its check; "
			"who reads such a token off a log can use it while it lives.",
	},
	{
		.name = "tenancy.token_replay_capacity",
		.type = SETTING_INT,
		.variable = &setting_token_replay_capacity,
		.context = PGC_POSTMASTER,
		.boot.integer = 131072,
		.minimum = 1024,
		.maximum = 100000000,
		.what = "How many used tokens are remembered until they expire.",
		.when = "Tokens a second times their time to live; where it is reached, further tokens are "
				"refused. Costs about 70 bytes of shared memory each.",
	},
	{
		.name = "tenancy.trusted_entry",
		.type = SETTING_BOOL,
		.variable = &setting_trusted_entry,
		.context = PGC_SUSET,
		.boot.boolean = true,
		.what = "Whether tenant_context_set() may be used.",
		.when = "It guards against mistakes of the application, not against SQL injected into it.",
	},
	{
		.name = "tenancy.upstreams",
		.type = SETTING_STRING,
		.variable = &setting_upstreams,
		.context = PGC_SIGHUP,
		.boot.string = "",
		.what = "Addresses, as host:port, that may be named as upstreams and targets of tenants.",
		.when = "Where tenants have applications of their own. What is provisioned may come from "
				"who signs up, and must not reach other services: by default no address may be "
				"named, and all have those of the command file.",
	},
	{
		.name = "tenancy.usage_event_retention",
		.type = SETTING_INT,
		.variable = &setting_usage_event_retention,
		.context = PGC_SIGHUP,
		.flags = GUC_UNIT_MIN,
		.boot.integer = 0,
		.minimum = 0,
		.maximum = INT_MAX,
		.what = "How long the rows of usage events are kept; 0 for ever.",
		.when =
			"What they add up to, and which ids were taken, is kept for ever. Rows that a bill "
			"may still need stay whatever their age. Of a time whose rows are gone reports know "
			"full hours alone.",
	},
	{
		.name = "tenancy.usage_hour_retention",
		.type = SETTING_INT,
		.variable = &setting_usage_hour_retention,
		.context = PGC_SIGHUP,
		.flags = GUC_UNIT_MIN,
		.boot.integer = 3650 * MINUTES_PER_DAY,
		.minimum = 0,
		.maximum = INT_MAX,
		.what = "How long statement counters are kept by the hour; 0 for ever.",
		.when = "Usage that is billed is read from them: keep them at least until the last invoice "
				"of their time is final. A month is dropped as a whole, when all of it is older.",
	},
	{
		.name = "tenancy.usage_minute_retention",
		.type = SETTING_INT,
		.variable = &setting_usage_minute_retention,
		.context = PGC_SIGHUP,
		.flags = GUC_UNIT_MIN,
		.boot.integer = 2 * MINUTES_PER_DAY,
		.minimum = 0,
		.maximum = INT_MAX,
		.what = "How long statement counters are kept by the minute; 0 keeps none.",
		.when = "A day is dropped as a whole, when all of it is older. Costs about 400 bytes a "
				"tenant and minute in which it was active.",
	},
	{
		.name = "tenancy.webhook_allowed_networks",
		.type = SETTING_STRING,
		.variable = &setting_webhook_allowed_networks,
		.context = PGC_SIGHUP,
		.boot.string = "",
		.check = address_check_networks,
		.what = "Networks that webhooks may go to although they are not public, or unencrypted.",
		.when = "Whoever may create endpoints then reaches what listens there, as the server does.",
	},
	{
		.name = "tenancy.webhook_timeout",
		.type = SETTING_INT,
		.variable = &setting_webhook_timeout,
		.context = PGC_SIGHUP,
		.flags = GUC_UNIT_S,
		.boot.integer = 20,
		.minimum = 1,
		.maximum = 60,
		.what = "How long a receiver of a webhook may take to answer.",
		.when = "Standard Webhooks recommends 15 to 30 seconds.",
	},
	{
		.name = "tenancy.workers",
		.type = SETTING_BOOL,
		.variable = &setting_workers,
		.context = PGC_SIGHUP,
		.boot.boolean = true,
		.what = "Whether background workers do the periodic work.",
		.when = "Off where pg_cron or another scheduler calls job_run_due() itself.",
	},
};

void
settings_define(void)
{
	for (int i = 0; i < lengthof(settings); i++)
	{
		const Setting *s = &settings[i];

		switch (s->type)
		{
			case SETTING_BOOL:
				DefineCustomBoolVariable(s->name, s->what, s->when, s->variable, s->boot.boolean,
										 s->context, s->flags, NULL, NULL, NULL);
				break;
			case SETTING_ENUM:
				DefineCustomEnumVariable(s->name, s->what, s->when, s->variable, s->boot.integer,
										 s->options, s->context, s->flags, NULL, NULL, NULL);
				break;
			case SETTING_INT:
				DefineCustomIntVariable(s->name, s->what, s->when, s->variable, s->boot.integer,
										s->minimum, s->maximum, s->context, s->flags, NULL, NULL,
										NULL);
				break;
			case SETTING_STRING:
				DefineCustomStringVariable(s->name, s->what, s->when, s->variable, s->boot.string,
										   s->context, s->flags, s->check, s->assign, NULL);
				break;
		}
	}
	MarkGUCPrefixReserved("tenancy");
}
