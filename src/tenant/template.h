/*
 * tenant/template.h
 *		Template schemas: their structure, captured once and rebuilt for each tenant.
 */
#pragma once

#include "postgres.h"

/*
 * Rebuild the structure of a template in an empty schema, as its owner, and open it
 * to the tenant's role.  Errors are those of the DDL.
 */
extern void template_instantiate(const char *template, const char *schema, const char *owner,
								 const char *role);
