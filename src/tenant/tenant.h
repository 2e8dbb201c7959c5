/*
 * tenant/tenant.h
 *		Tenants: their life, their names, and what other floors hang on to it.
 */
#pragma once

#include "postgres.h"

#include "catalog/registry.h"
#include "datatype/timestamp.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

/* Raise 22023 or 23505-free reasons why a text cannot be a slug; reserved names included. */
extern void slug_validate(const char *slug);

/* The states of tenancy.tenant and the moves between them; see doc. */
extern const char *tenant_move(const pg_uuid_t *id, const char *event, const char *reason);

/* The row tenancy.tenant as a composite datum in the caller's context. */
extern Datum tenant_row(const pg_uuid_t *id);

/* A tenant to be filled by the caller. */
typedef struct TenantDraft
{
	char *slug;
	char *name;
	char *template; /* whose structure it has; NULL for none, or where there is none any more */
	bool has_schema;
	bool owns_ddl;
	Jsonb *configuration;
	Jsonb *metadata;
	char **labels; /* of its further schemas */
	int label_count;
} TenantDraft;

/*
 * Its row, roles and schemas, which are empty; it is being provisioned until tenant_move().
 * 22023, 42939 and 23505 as tenant_create().
 */
extern pg_uuid_t *tenant_make_empty(const TenantDraft *draft);

/* Called within tenant_create() when a plan was given; set by the billing floor. */
typedef void (*TenantSubscriber)(const pg_uuid_t *tenant, const char *plan, TimestampTz starts_at);
extern void tenant_set_subscriber(TenantSubscriber subscriber);

/* The same for a domain; set by the domain floor. */
typedef void (*TenantClaimer)(const pg_uuid_t *tenant, const char *domain);
extern void tenant_set_claimer(TenantClaimer claimer);

/*
 * Undo that a tenant was made: called where an onboarding is rolled back; set by the privacy
 * floor.  Nothing of it stays, unless something was issued or booked.
 */
typedef void (*TenantEraser)(const pg_uuid_t *tenant, const char *reason);
extern void tenant_set_eraser(TenantEraser eraser);
extern void tenant_erase(const pg_uuid_t *tenant, const char *reason);

/* In the postmaster, from _PG_init. */
extern void tenant_init(void);
