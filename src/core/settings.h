/*
 * core/settings.h
 *		The settings of the extension, as variables of the backend.
 *
 * The table in settings.c says what each does; nothing else writes to them.
 */
#pragma once

#include "postgres.h"

/* Nobody outside of the library has them: their addresses need not be looked up. */
#pragma GCC visibility push(hidden)

typedef enum MeteringLevel
{
	METERING_OFF,      /* nothing is counted */
	METERING_COUNTERS, /* what costs a subtraction: calls, rows, blocks, WAL, elapsed time */
	METERING_FULL      /* and the CPU time of the process */
} MeteringLevel;

typedef enum TokenReplay
{
	TOKEN_ONCE, /* a token enters one transaction */
	TOKEN_TTL   /* a token enters any number of transactions until it expires */
} TokenReplay;

typedef enum SuspendedAccess
{
	SUSPENDED_NOTHING, /* a suspended tenant is not entered */
	SUSPENDED_DELETES  /* it reads and deletes */
} SuspendedAccess;

extern char *setting_allowed_functions; /* not parsed */
extern char *setting_backup_directory;
extern char *setting_base_domain;
extern int setting_billing_grace; /* seconds */
extern char *setting_compatible_settings;
extern char *setting_current_tenant; /* for show: the context is in C */
extern char *setting_command_file;
extern int setting_event_retention;  /* seconds */
extern int setting_health_max_delay; /* seconds */
extern char *setting_http_database;
extern char *setting_http_listen;
extern int setting_http_refresh_interval; /* milliseconds */
extern int setting_job_history;
extern int setting_job_retention;          /* seconds */
extern int setting_latency_hour_retention; /* minutes */
extern int setting_max_databases;
extern int setting_max_domains;
extern int setting_max_job_workers;
extern int setting_max_rate_subjects;
extern int setting_max_runners;
extern int setting_max_tenants;
extern int setting_metering;                /* a MeteringLevel */
extern int setting_metering_flush_interval; /* milliseconds */
extern int setting_metrics_tenants;
extern char *setting_reserved_domains;
extern char *setting_reserved_slugs;
extern int setting_retention_log_retention; /* seconds */
extern int setting_runner_idle_timeout; /* milliseconds */
extern int setting_storage_budget;      /* milliseconds */
extern int setting_suspended_access;    /* a SuspendedAccess */
extern char *setting_test_clock;
extern int setting_token_clock_skew; /* seconds */
extern int setting_token_replay;     /* a TokenReplay */
extern int setting_token_replay_capacity;
extern bool setting_trusted_entry;
extern char *setting_upstreams;
extern int setting_usage_event_retention;      /* minutes; 0 for ever */
extern int setting_usage_hour_retention;       /* minutes; 0 for ever */
extern int setting_usage_minute_retention;     /* minutes; 0: none are kept */
extern char *setting_webhook_allowed_networks; /* not parsed */
extern int setting_webhook_timeout;            /* seconds */
extern bool setting_workers;

/* Define them all and reserve the prefix; in the postmaster, from _PG_init. */
extern void settings_define(void);

#pragma GCC visibility pop
