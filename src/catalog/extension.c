/*
 * catalog/extension.c
 *		Whether the extension exists in this database, and where.
 *
 * There is no syscache on pg_extension, so the answer hangs on the schema of our
 * tables: it is asked again when any schema changes.
 */
#include "postgres.h"

#include "catalog/extension.h"
#include "core/hot.h"

#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_namespace.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

ExtensionPresence extension_presence HOT_DATA = EXTENSION_UNKNOWN;
static Oid self;
static Oid tables_schema;
static Oid public_schema;
static Oid owner HOT_DATA;

static void
forget(Datum arg, int cache_id, uint32 hash)
{
	extension_presence = EXTENSION_UNKNOWN;
}

void
extension_init(void)
{
	CacheRegisterSyscacheCallback(NAMESPACEOID, forget, (Datum) 0);
}

/* The schema that CREATE EXTENSION was given; core has this function, but keeps it to itself. */
static Oid
find_public_schema(Oid extension)
{
	Relation relation = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	Oid schema = InvalidOid;

	ScanKeyInit(&key, Anum_pg_extension_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(extension));
	scan = systable_beginscan(relation, ExtensionOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		schema = ((Form_pg_extension) GETSTRUCT(tuple))->extnamespace;
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	return schema;
}

bool
extension_look(void)
{
	Oid extension;

	if (!IsTransactionState() || !OidIsValid(MyDatabaseId))
		return false;

	/* The lookups below accept invalidations, which may come back to forget(). */
	extension = get_extension_oid("pg_tenancy", true);
	tables_schema = get_namespace_oid(TENANCY_SCHEMA, true);
	if (!OidIsValid(extension) || !OidIsValid(tables_schema) ||
		getExtensionOfObject(NamespaceRelationId, tables_schema) != extension)
	{
		extension_presence = EXTENSION_ABSENT;
		return false;
	}

	/* While the install script runs it is half there: ask again the next time. */
	if (creating_extension && CurrentExtensionObject == extension)
		return false;
	self = extension;
	public_schema = find_public_schema(extension);
	owner = get_role_oid(TENANCY_OWNER, false);
	extension_presence = EXTENSION_PRESENT;
	return true;
}

bool
extension_hold(void)
{
	return !extension_is_ready() ||
		   ConditionalLockDatabaseObject(ExtensionRelationId, self, 0, AccessShareLock);
}

void
extension_require(void)
{
	if (!extension_is_ready())
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("extension \"pg_tenancy\" is not created in this database"),
				errhint("Run CREATE EXTENSION pg_tenancy."));
}

Oid
extension_public_schema(void)
{
	return extension_is_ready() ? public_schema : InvalidOid;
}

Oid
extension_tables_schema(void)
{
	return extension_is_ready() ? tables_schema : InvalidOid;
}

pg_attribute_hot Oid
extension_owner(void)
{
	return extension_is_ready() ? owner : InvalidOid;
}

Oid
extension_relation(const char *name)
{
	return extension_is_ready() ? get_relname_relid(name, tables_schema) : InvalidOid;
}
