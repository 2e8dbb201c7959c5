/*
 * privacy/certificate.c
 *		The certificate of a purge: what was removed, what was kept and why.
 *
 * While the purge is at work it adds to tenancy.deletion_item; in the end that becomes one
 * document.  Its hash is BLAKE2b-256 of the document's text and nothing else, so that anybody
 * can compute it.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "core/clock.h"
#include "core/id.h"
#include "privacy/purge.h"

#include "miscadmin.h"
#include "utils/builtins.h"

#include <sodium.h>

#define HASH_BYTES 32

GATE_STATEMENT(certificate_insert,
			   "INSERT INTO tenancy.deletion_certificate (id, tenant_id, requested_by, started_at)"
			   " VALUES ($1, $2, $3, $4) ON CONFLICT (tenant_id) DO NOTHING",
			   UUIDOID, UUIDOID, NAMEOID, TIMESTAMPTZOID);
GATE_STATEMENT(certificate_of_tenant,
			   "SELECT c.id FROM tenancy.deletion_certificate c WHERE c.tenant_id = $1", UUIDOID);
GATE_STATEMENT(item_add,
			   "INSERT INTO tenancy.deletion_item AS i (certificate_id, kind, object, rows, bytes)"
			   " VALUES ($1, $2, $3, $4, $5) ON CONFLICT (certificate_id, kind, object) DO UPDATE"
			   "    SET rows = i.rows + excluded.rows, bytes = i.bytes + excluded.bytes",
			   UUIDOID, TEXTOID, TEXTOID, INT8OID, INT8OID);
GATE_STATEMENT(item_keep,
			   "INSERT INTO tenancy.deletion_item AS i"
			   "    (certificate_id, kind, object, rows, kept)"
			   " VALUES ($1, $2, 'kept: ' || $3, $4, $5)"
			   " ON CONFLICT (certificate_id, kind, object) DO UPDATE"
			   "    SET rows = excluded.rows, kept = excluded.kept",
			   UUIDOID, TEXTOID, TEXTOID, INT8OID, TEXTOID);
GATE_STATEMENT(
	certificate_document,
	"SELECT pg_catalog.jsonb_build_object('certificate', c.id, 'tenant_id', t.id, 'slug', t.slug,"
	"    'name', t.name, 'isolation', t.isolation, 'requested_by', c.requested_by,"
	"    'started_at', c.started_at, 'finished_at', $2,"
	"    'deletion', (SELECT pg_catalog.to_jsonb(d) - 'tenant_id' FROM tenancy.tenant_deletion d"
	"                  WHERE d.tenant_id = t.id),"
	"    'removed', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_strip_nulls("
	"        pg_catalog.jsonb_build_object('kind', i.kind, 'object', i.object, 'rows', i.rows,"
	"        'bytes', i.bytes)) ORDER BY i.kind, i.object), '[]')"
	"        FROM tenancy.deletion_item i WHERE i.certificate_id = c.id AND i.kept IS NULL),"
	"    'kept', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_strip_nulls("
	"        pg_catalog.jsonb_build_object('kind', i.kind, 'object',"
	"        pg_catalog.substr(i.object, 7), 'rows', i.rows, 'why', i.kept))"
	"        ORDER BY i.kind, i.object), '[]')"
	"        FROM tenancy.deletion_item i WHERE i.certificate_id = c.id AND i.kept IS NOT NULL))"
	"  FROM tenancy.deletion_certificate c JOIN tenancy.tenant t ON t.id = c.tenant_id"
	" WHERE c.id = $1",
	UUIDOID, TIMESTAMPTZOID);
GATE_STATEMENT(certificate_put,
			   "UPDATE tenancy.deletion_certificate SET document = $2, hash = $3, finished_at = $4"
			   " WHERE id = $1",
			   UUIDOID, JSONBOID, BYTEAOID, TIMESTAMPTZOID);
GATE_STATEMENT(items_delete, "DELETE FROM tenancy.deletion_item i WHERE i.certificate_id = $1",
			   UUIDOID);

pg_uuid_t *
certificate_begin(const pg_uuid_t *tenant)
{
	gate_run(&certificate_insert, EXPECT_ANY, gate_uuid(id_new()), gate_uuid(tenant),
			 gate_name(GetUserNameFromId(GetSessionUserId(), false)),
			 gate_timestamptz(clock_now()));
	return row_uuid(gate_run(&certificate_of_tenant, EXPECT_ONE, gate_uuid(tenant)), 0, 0);
}

static NullableDatum
known(int64 count)
{
	return count < 0 ? gate_null() : gate_int64(count);
}

void
certificate_note(const Purge *purge, const char *kind, const char *object, int64 rows, int64 bytes)
{
	if (purge->certificate != NULL)
		gate_run(&item_add, EXPECT_ANY, gate_uuid(purge->certificate), gate_text(kind),
				 gate_text(object), known(rows), known(bytes));
}

void
certificate_note_kept(const Purge *purge, const char *kind, const char *object, int64 rows,
					  const char *why)
{
	if (purge->certificate != NULL)
		gate_run(&item_keep, EXPECT_ANY, gate_uuid(purge->certificate), gate_text(kind),
				 gate_text(object), known(rows), gate_text(why));
}

static bytea *
hash_of(const Jsonb *document)
{
	char *text = JsonbToCString(NULL, (JsonbContainer *) &document->root, VARSIZE(document));
	bytea *hash = palloc(VARHDRSZ + HASH_BYTES);

	SET_VARSIZE(hash, VARHDRSZ + HASH_BYTES);
	crypto_generichash((unsigned char *) VARDATA(hash), HASH_BYTES, (unsigned char *) text,
					   strlen(text), NULL, 0);
	return hash;
}

void
certificate_finish(const Purge *purge)
{
	TimestampTz now = clock_now();
	Jsonb *document = row_jsonb(gate_run(&certificate_document, EXPECT_ONE,
										 gate_uuid(purge->certificate), gate_timestamptz(now)),
								0, 0);

	gate_run(&certificate_put, EXPECT_ONE, gate_uuid(purge->certificate), gate_jsonb(document),
			 gate_datum(PointerGetDatum(hash_of(document))), gate_timestamptz(now));
	gate_run(&items_delete, EXPECT_ANY, gate_uuid(purge->certificate));
}
