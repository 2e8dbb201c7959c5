/*
 * provision/provision.h
 *		What tenants have outside of the database.
 */
#pragma once

#include "postgres.h"

#include "catalog/gate.h"
#include "catalog/registry.h"
#include "core/json.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

/* Of a component that a tenant has once. */
#define MAIN_NAME "main"

/* A row of tenancy.provision, locked with all others of its tenant. */
typedef struct Provision
{
	pg_uuid_t tenant;
	char *component;
	char *name;
	char *state;
	Jsonb *spec;
	Jsonb *input;        /* NULL: no command */
	Jsonb *holdings;     /* NULL: nothing in the database */
	Jsonb *evidence;     /* NULL for none */
	pg_uuid_t *job;      /* NULL for none */
	bool has_job;        /* and it is not finished */
	pg_uuid_t *workflow; /* NULL for none */
	char *step;
} Provision;

typedef enum Progress
{
	PROGRESS_WAITING,
	PROGRESS_DONE
} Progress;

/* What is asked for. */
typedef struct ProvisionRequest
{
	const TenantEntry *tenant;
	const struct Component *component;
	const char *name;
	const Jsonb *spec;
	const pg_uuid_t *workflow; /* NULL for none, as is step */
	const char *step;
	Jsonb *holdings; /* those that there are already, or NULL; prepare() brings them up to date */
	Jsonb *evidence; /* of what is in the database; prepare() puts it there */
} ProvisionRequest;

/* The parts that can be provisioned; in this order they build on each other. */
typedef struct Component
{
	const char *name;
	const char *command;     /* in tenancy.command_file; NULL for none */
	const JsonRule *members; /* of its specification */
	bool is_of_domain;       /* a tenant may have several, by domain */
	bool is_renewed;         /* looking after it means to do it again */
	/* Do what is to be done in the database; the input of the command, or NULL for none. */
	Jsonb *(*prepare)(ProvisionRequest *request);
	/* Undo that; NULL where there is nothing to do. */
	void (*release)(const Provision *row);
	/* Of what other jobs of the library do: is it done, or still right?  Raises where it is not. */
	Progress (*await)(Provision *row, bool is_check, Jsonb **evidence);
} Component;

extern const Component *component_find(const char *name); /* raises 22023 */
extern const Component *component_get(int index);         /* NULL behind the last */
extern int component_order(const char *name);

/* The domain that the specification names or, below tenancy.base_domain, the tenant's own; NULL. */
extern char *component_domain(const TenantEntry *tenant, const Jsonb *spec);

/*
 * Ask for it.  The job that does it; NULL where it is there already as asked for, or needs no
 * job.  55000: it is being worked on, the tenant is not active, or there is no such command.
 */
extern pg_uuid_t *provision_put(ProvisionRequest *request);

/*
 * Undo what fits, the last first; NULL fits all.  The number of rows; 55000: one is being
 * worked on.
 */
extern int provision_take_back(const pg_uuid_t *tenant, const char *component, const char *name);

/* Undo what a step of a workflow has asked for; the job that does it, or NULL. */
extern pg_uuid_t *provision_take_back_step(const pg_uuid_t *tenant, const pg_uuid_t *workflow,
										   const char *step);

/* Look whether what fits is as it should be; with "repair" do it again. */
extern int provision_look_after(const pg_uuid_t *tenant, const char *component, bool repair);

/* What is held in the database has changed. */
extern void provision_hold(Provision *row, Jsonb *holdings);

/* The row; NULL where there is none. */
extern Datum provision_row(const pg_uuid_t *tenant, const char *component, const char *name);

/* Whose a host name is: by who has verified it, or by its slug below tenancy.base_domain. */
typedef enum HostOwner
{
	HOST_OWN,
	HOST_OF_NOBODY,
	HOST_OF_ANOTHER
} HostOwner;

extern HostOwner host_owner(const TenantEntry *tenant, const char *name);

/* An array of host names that were validated, as hostname_read() writes them. */
extern Jsonb *host_list(const Jsonb *hosts);

/* The first of such a list that is not the tenant's, and whose it is; NULL for none. */
extern char *host_not_own(const TenantEntry *tenant, const Jsonb *hosts, HostOwner *owner);

/* Does tenancy.upstreams have it? */
extern bool upstream_is_allowed(const char *address);

extern void provision_steps_init(void);

/* In the postmaster, from _PG_init. */
extern void provision_init(void);
