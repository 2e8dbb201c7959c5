/*
 * catalog/extension.h
 *		Whether the extension exists in this database, and where.
 */
#pragma once

#include "postgres.h"

/* Nobody outside of the library has them: their addresses need not be looked up. */
#pragma GCC visibility push(hidden)

/* The schema of our tables, and the role that owns them. */
#define TENANCY_SCHEMA "tenancy"
#define TENANCY_OWNER "tenancy_owner"

/*
 * SQL: (name) of the roles that may create in a schema, without superusers.  What they place there
 * could be called in place of our functions.  Everybody is not among them.
 */
#define CREATORS_IN(schema)                                                                        \
	"SELECT DISTINCT r.rolname AS name FROM pg_catalog.pg_namespace n, LATERAL ("                  \
	"    SELECT n.nspowner AS role UNION ALL"                                                      \
	"    SELECT a.grantee FROM pg_catalog.aclexplode(n.nspacl) a"                                  \
	"     WHERE a.privilege_type OPERATOR(pg_catalog.=) 'CREATE') g,"                              \
	" pg_catalog.pg_roles r"                                                                       \
	" WHERE n.oid OPERATOR(pg_catalog.=) " schema " AND NOT r.rolsuper"                            \
	"   AND r.oid OPERATOR(pg_catalog.=) CASE pg_catalog.pg_get_userbyid(g.role)"                  \
	"       WHEN 'pg_database_owner'::pg_catalog.name THEN (SELECT d.datdba"                       \
	"           FROM pg_catalog.pg_database d WHERE d.datname"                                     \
	"               OPERATOR(pg_catalog.=) pg_catalog.current_database())"                         \
	"       ELSE g.role END"

/*
 * Is the extension created here?  Cached, so that hooks may ask for every
 * statement; false outside of a transaction.
 */
typedef enum ExtensionPresence
{
	EXTENSION_UNKNOWN,
	EXTENSION_ABSENT,
	EXTENSION_PRESENT
} ExtensionPresence;

extern ExtensionPresence extension_presence; /* of extension.c alone */
extern bool extension_look(void);

static inline bool
extension_is_ready(void)
{
	if (likely(extension_presence != EXTENSION_UNKNOWN))
		return extension_presence == EXTENSION_PRESENT;
	return extension_look();
}

/*
 * Keep it until this transaction ends.  DROP EXTENSION takes one object after another, and could meet
 * a long transaction in the middle, each waiting for the other; but it begins with the extension
 * itself, which is held here.  Never waits: false where somebody has it, who may be dropping it, but
 * others than its owner can have it, too.  Whoever works then should wait for no lock long.
 */
extern bool extension_hold(void);

/* Raise 55000 unless it is. */
extern void extension_require(void);

/* The schema of the public functions, valid while extension_is_ready(). */
extern Oid extension_public_schema(void);

/* The schema "tenancy", valid while extension_is_ready(). */
extern Oid extension_tables_schema(void);

/* The table tenancy.<name>; InvalidOid when the extension is not created. */
extern Oid extension_relation(const char *name);

/* The role tenancy_owner, valid while extension_is_ready(). */
extern Oid extension_owner(void);

extern void extension_init(void);

#pragma GCC visibility pop
