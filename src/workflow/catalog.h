/*
 * workflow/catalog.h
 *		Importing entities in the form of Backstage's catalog.
 */
#pragma once

#include "postgres.h"

#include "utils/jsonb.h"
#include "utils/uuid.h"

/* An entity of a text or an array, and what became of it. */
typedef struct CatalogRow
{
	Jsonb *entity;     /* NULL where it could not be read */
	char *reference;   /* kind:namespace/name in lower case; NULL where it has none */
	const char *fault; /* NULL: it was imported */
} CatalogRow;

typedef struct CatalogRows
{
	CatalogRow *rows;
	int count;
	int imported;
} CatalogRows;

/*
 * The entities of a JSON array, or of a text: an array, a document a line, or documents one
 * after another.  22023 for more than can be imported at once.
 */
extern CatalogRows *catalog_read_array(const Jsonb *array);
extern CatalogRows *catalog_read_text(const char *text);

/*
 * Import what has no fault yet: into tenancy.catalog_entity, or with the tenant's rights into the
 * table of that name in its schema.  "workflow" may be NULL.  Errors: 42P01 no such table; 22023
 * it has no column for an entity; those of a tenant that cannot be entered.
 */
extern void catalog_import(const pg_uuid_t *tenant, const pg_uuid_t *workflow, CatalogRows *rows,
						   const char *table);

/* Remove what a workflow has brought to tenancy.catalog_entity. */
extern void catalog_remove(const pg_uuid_t *tenant, const pg_uuid_t *workflow);
