/*
 * privacy/policy.h
 *		Retention policies: how long rows of which table are kept.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/nodes.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

typedef enum RetentionAction
{
	RETENTION_ANONYMISE,
	RETENTION_DELETE,
	RETENTION_DROP_PARTITION
} RetentionAction;

typedef struct Policy
{
	pg_uuid_t id;
	char *template; /* NULL for a table that is itself */
	char *schema;   /* of the template, for one of those */
	char *table;
	char *time_expression;
	RetentionAction action;
	char *legal_basis;
	int batch_rows;
	Jsonb *anonymise; /* NULL for other actions */
	char *filter;     /* NULL for none */
} Policy;

/* A table that a policy is for, whose rows of one tenant are overdue before a time. */
typedef struct Target
{
	Oid relid;
	pg_uuid_t *tenant;    /* whose rows; NULL for a table that is no tenant's, or a whole one */
	bool is_shared;       /* the tenant's rows among those of others */
	bool may_be_entered;  /* the tenant is active */
	TimestampTz cutoff;
} Target;

extern const char *retention_action_name(RetentionAction action);

/* All policies, those for tables that refer to others first; palloc'd. */
extern Policy *retention_policies(int *count);

/*
 * The targets of a policy, ordered by the tenant, from one on (NULL: the first), at most so many;
 * of one tenant alone where "only" is not NULL.  Tenants that have no period are left out.
 */
extern Target *retention_targets(const Policy *policy, const pg_uuid_t *only, const pg_uuid_t *from,
							  int limit, int *count);

/*
 * The boundary that a partition of the target ends at, as a time; false where it has none, or the
 * table is not partitioned by the time of the policy.
 */
extern bool retention_partition_end(Oid partition, TimestampTz *end);

/* SQL of what the policy does to a row "t" of the table. */
typedef struct PolicySql
{
	char *time;          /* the time of the row */
	AttrNumber column;   /* where that is one column; 0 */
	Oid time_type;
	char *condition;     /* rows that it is for; "true" for all */
	char *assignments;   /* of UPDATE; NULL for a policy that deletes */
} PolicySql;

extern PolicySql retention_sql(const Policy *policy, Oid relid);
