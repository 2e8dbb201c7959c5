/*
 * tenant/isolation_queries.h
 *		What isolation_lint() looks for: a query each, over the catalogs and the registry.
 *
 * A query returns a row per fault: (tenant_id uuid, object text, finding text, repair text,
 * run_as oid, relation oid).  "repair" is SQL, run as role "run_as", or as the superuser for
 * roles and schemas where that is 0; "relation" is a shared table to be registered again,
 * or one that is gone.  Without either nothing but an operator can repair it.  $1 is the tenant
 * asked for; null for all and for what belongs to none.
 */
#pragma once

#include "catalog/extension.h"
#include "core/compat.h"
#include "tenant/shared_table.h"

#define STRINGIFY_(x) #x
#define STRINGIFY(x) STRINGIFY_(x)

/* SQL: the tenants asked for, as t. */
#define TENANTS                                                                                    \
	"(SELECT * FROM tenancy.tenant x WHERE x.state <> 'purged' AND ($1 IS NULL OR x.id = $1)) t"

/* SQL: their schemas, as s (tenant_id, role_name, owner_name, schema_oid, schema_name). */
#define SCHEMAS                                                                                    \
	"(SELECT t.id AS tenant_id, t.role_name, t.owner_name, n.oid AS schema_oid, n.nspname AS "     \
	"schema_name, n.nspacl, n.nspowner FROM " TENANTS                                              \
	" JOIN tenancy.tenant_schema y ON y.tenant_id = t.id"                                          \
	" JOIN pg_catalog.pg_namespace n ON n.nspname = y.schema_name) s"

/* SQL: schemas that are the users', as n; without those of tenants. */
#define OTHER_SCHEMAS                                                                              \
	"(SELECT n.oid, n.nspname, n.nspacl FROM pg_catalog.pg_namespace n"                            \
	" WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname NOT IN ('information_schema', 'tenancy')"    \
	" AND NOT EXISTS (SELECT FROM tenancy.tenant_schema y WHERE y.schema_name = n.nspname)) n"

/* SQL: is the object a member of an extension? */
#define OF_EXTENSION(class, oid)                                                                   \
	"EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.classid = 'pg_catalog." class              \
		"'::pg_catalog.regclass AND e.objid = " oid " AND e.deptype = 'e')"

/* SQL: logins of pools, as p. */
#define POOL_LOGINS                                                                                \
	"(SELECT r.* FROM pg_catalog.pg_roles r WHERE r.rolcanlogin"                                   \
	" AND pg_catalog.pg_has_role(r.oid, 'tenancy_app', 'MEMBER')"                                  \
	" AND EXISTS (SELECT FROM pg_catalog.pg_auth_members m WHERE m.member = r.oid)) p"

#define HAS_ATTRIBUTE(role)                                                                        \
	"(" role ".rolsuper OR " role ".rolcreaterole OR " role ".rolbypassrls OR " role               \
	".rolreplication)"

/* SQL: who must have no right on a tenant's things, as g: everybody, other tenants, pools. */
#define STRANGER(grantee)                                                                          \
	"(" grantee " = 0 OR EXISTS (SELECT FROM tenancy.tenant o JOIN pg_catalog.pg_roles r"          \
	"   ON r.rolname IN (o.role_name, o.owner_name) WHERE r.oid = " grantee                        \
	"  AND o.id <> s.tenant_id)"                                                                   \
	" OR EXISTS (SELECT FROM " POOL_LOGINS " WHERE p.oid = " grantee ")"                           \
	" OR " grantee " IN (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname IN "              \
	"('tenancy_app', 'tenancy_tenant')))"

#define GRANTEE_NAME(grantee)                                                                      \
	"CASE " grantee " WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident("                           \
	"pg_catalog.pg_get_userbyid(" grantee ")) END"

#define NO_REPAIR "NULL::text, 0::pg_catalog.oid, 0::pg_catalog.oid"

#define QUERY_ROLES_EXIST                                                                          \
	"SELECT t.id, 'role ' || n.name, 'it does not exist', " NO_REPAIR " FROM " TENANTS             \
	", LATERAL (SELECT DISTINCT x FROM (VALUES (t.role_name), (t.owner_name)) v (x)) n (name)"     \
	" WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = n.name)"

#define QUERY_ROLE_ATTRIBUTES                                                                      \
	"SELECT t.id, 'role ' || r.rolname,"                                                           \
	" 'it is ' || pg_catalog.concat_ws(', ', CASE WHEN r.rolsuper THEN 'SUPERUSER' END,"           \
	"  CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END, CASE WHEN r.rolcreatedb THEN 'CREATEDB' "  \
	"END,"                                                                                         \
	"  CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END, CASE WHEN r.rolreplication THEN "            \
	"'REPLICATION' END,"                                                                           \
	"  CASE WHEN r.rolcanlogin THEN 'LOGIN' END),"                                                 \
	" pg_catalog.format('ALTER ROLE %I NOSUPERUSER NOCREATEROLE NOCREATEDB NOBYPASSRLS"            \
	" NOREPLICATION NOLOGIN', r.rolname), 0::pg_catalog.oid, 0::pg_catalog.oid"                    \
	" FROM " TENANTS " JOIN pg_catalog.pg_roles r ON r.rolname IN (t.role_name, t.owner_name)"     \
	" WHERE " HAS_ATTRIBUTE("r") " OR r.rolcreatedb OR r.rolcanlogin"

#define QUERY_ROLE_MEMBERSHIPS                                                                     \
	"SELECT t.id, 'role ' || r.rolname, 'it is a member of ' || g.rolname,"                        \
	" pg_catalog.format('REVOKE %I FROM %I', g.rolname, r.rolname), 0::pg_catalog.oid, "           \
	"0::pg_catalog.oid"                                                                            \
	" FROM " TENANTS " JOIN pg_catalog.pg_roles r ON r.rolname IN (t.role_name, t.owner_name)"     \
	" JOIN pg_catalog.pg_auth_members m ON m.member = r.oid"                                       \
	" JOIN pg_catalog.pg_roles g ON g.oid = m.roleid"                                              \
	" WHERE NOT (g.rolname = 'tenancy_tenant' AND r.rolname = t.role_name)"                        \
	" UNION ALL SELECT t.id, 'role ' || r.rolname, 'it is no member of tenancy_tenant',"           \
	" pg_catalog.format('GRANT tenancy_tenant TO %I', r.rolname), 0::pg_catalog.oid, "             \
	"0::pg_catalog.oid"                                                                            \
	" FROM " TENANTS " JOIN pg_catalog.pg_roles r ON r.rolname = t.role_name"                      \
	" WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles g"       \
	"  ON g.oid = m.roleid WHERE m.member = r.oid AND g.rolname = 'tenancy_tenant')"

#define QUERY_ROLE_MEMBERS                                                                         \
	"SELECT t.id, 'role ' || g.rolname, r.rolname || ' is a member, and is not bound to it',"      \
	" pg_catalog.format('REVOKE %I FROM %I', g.rolname, r.rolname), 0::pg_catalog.oid, "           \
	"0::pg_catalog.oid"                                                                            \
	" FROM " TENANTS " JOIN pg_catalog.pg_roles g ON g.rolname IN (t.role_name, t.owner_name)"     \
	" JOIN pg_catalog.pg_auth_members m ON m.roleid = g.oid"                                       \
	" JOIN pg_catalog.pg_roles r ON r.oid = m.member"                                              \
	" WHERE NOT r.rolsuper AND NOT EXISTS (SELECT FROM tenancy.tenant_login l"                     \
	"  WHERE l.role_name = r.rolname AND l.tenant_id = t.id AND g.rolname = t.role_name)"

#define QUERY_SCHEMAS_EXIST                                                                        \
	"SELECT t.id, 'schema ' || y.schema_name, 'it does not exist', " NO_REPAIR " FROM " TENANTS    \
	" JOIN tenancy.tenant_schema y ON y.tenant_id = t.id"                                          \
	" WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_namespace n WHERE n.nspname = y.schema_name)"

#define QUERY_OWNERS                                                                               \
	"SELECT s.tenant_id, o.object, 'its owner is ' || "                                            \
	"pg_catalog.pg_get_userbyid(o.owner), " NO_REPAIR " FROM " SCHEMAS ", LATERAL ("               \
	"  SELECT 'schema ' || s.schema_name, s.nspowner"                                              \
	"  UNION ALL SELECT 'relation ' || c.oid::pg_catalog.regclass, c.relowner"                     \
	"    FROM pg_catalog.pg_class c WHERE c.relnamespace = s.schema_oid AND c.relkind NOT IN "     \
	"('i', 'I', 't', 'c')"                                                                         \
	"  UNION ALL SELECT 'function ' || f.oid::pg_catalog.regprocedure, f.proowner"                 \
	"    FROM pg_catalog.pg_proc f WHERE f.pronamespace = s.schema_oid"                            \
	" ) o (object, owner)"                                                                         \
	" WHERE pg_catalog.pg_get_userbyid(o.owner) NOT IN (s.owner_name, s.role_name)"

#define QUERY_GRANTS                                                                                   \
	"SELECT s.tenant_id, 'schema ' || s.schema_name, a.privilege_type || ' is granted to ' "           \
	"|| " GRANTEE_NAME(                                                                                \
		"a.grantee") ","                                                                               \
					 " pg_catalog.format('REVOKE ALL ON SCHEMA %I FROM %s', "                          \
					 "s.schema_name, " GRANTEE_NAME(                                                   \
						 "a.grantee") "), 0::pg_catalog.oid, 0::pg_catalog.oid"                        \
									  " FROM " SCHEMAS                                                 \
									  ", LATERAL pg_catalog.aclexplode(s.nspacl) a "                   \
									  "WHERE " STRANGER(                                               \
										  "a.grantee") " UNION ALL SELECT s.tenant_id, 'relation "     \
													   "' || c.oid::pg_catalog.regclass,"              \
													   " pg_catalog.string_agg(a.privilege_type, "     \
													   "', ' ORDER BY a.privilege_type) || ' is "      \
													   "granted "                                      \
													   "to ' || " GRANTEE_NAME(                        \
														   "a.grantee") ","                            \
																		" pg_catalog.format('"         \
																		"REVOKE ALL ON %s %s "         \
																		"FROM %s',"                    \
																		"  CASE c.relkind WHEN "       \
																		"'S' THEN 'SEQUENCE' "         \
																		"ELSE 'TABLE' END, "           \
																		"c.oid::pg_catalog."           \
																		"regclass, " GRANTEE_NAME(     \
																			"a.grantee") "), "         \
																						 "c."          \
																						 "relowne"     \
																						 "r, "         \
																						 "0::pg_"      \
																						 "catalog"     \
																						 ".oid"        \
																						 " FROM"       \
																						 " " SCHEMAS   \
																						 " JOIN "      \
																						 "pg_"         \
																						 "catalog"     \
																						 ".pg_"        \
																						 "class "      \
																						 "c ON "       \
																						 "c."          \
																						 "relname"     \
																						 "space "      \
																						 "= "          \
																						 "s."          \
																						 "schema_"     \
																						 "oid,"        \
																						 " LATERA"     \
																						 "L "          \
																						 "pg_"         \
																						 "catalog"     \
																						 ".aclexp"     \
																						 "lode(c."     \
																						 "relacl)"     \
																						 " a "         \
																						 "WHERE"       \
																						 " " STRANGER( \
																							 "a."      \
																							 "gra"     \
																							 "nte"     \
																							 "e") " GROUP BY s.tenant_id, c.oid, c.relkind, c.relowner, a.grantee"

#define QUERY_BACKUP_ROW_SECURITY                                                                  \
	"SELECT s.tenant_id, 'table ' || c.oid::pg_catalog.regclass,"                                  \
	" 'it has a tenant_id and lacks the policy tenancy_isolation',"                                \
	" pg_catalog.format('DROP POLICY IF EXISTS tenancy_isolation ON %1$s;"                         \
	"DROP POLICY IF EXISTS tenancy_access ON %1$s;"                                                \
	"CREATE POLICY tenancy_isolation ON %1$s AS RESTRICTIVE USING (tenant_id "                     \
	"OPERATOR(pg_catalog.=) %2$s);%3$s"                                                            \
	"ALTER TABLE %1$s ENABLE ROW LEVEL SECURITY%4$s',"                                             \
	"  c.oid::pg_catalog.regclass, " CURRENT_TENANT_CALL ","                                       \
	"  CASE WHEN NOT EXISTS (SELECT FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid AND "     \
	"p.polpermissive AND p.polname <> 'tenancy_access')"                                           \
	"   THEN pg_catalog.format('CREATE POLICY tenancy_access ON %s USING (true);', "               \
	"c.oid::pg_catalog.regclass) ELSE '' END,"                                                     \
	"  CASE WHEN s.owner_name = s.role_name THEN ', FORCE ROW LEVEL SECURITY' ELSE '' END),"       \
	" c.relowner, 0::pg_catalog.oid"                                                               \
	" FROM " SCHEMAS                                                                               \
	" JOIN pg_catalog.pg_class c ON c.relnamespace = s.schema_oid AND c.relkind IN ('r', 'p')"     \
	" JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'"            \
	"  AND a.atttypid = 'pg_catalog.uuid'::pg_catalog.regtype AND NOT a.attisdropped"              \
	" WHERE NOT c.relrowsecurity OR (s.owner_name = s.role_name AND NOT c.relforcerowsecurity)"    \
	"  OR NOT EXISTS (SELECT FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid"                 \
	"   AND p.polname = 'tenancy_isolation' AND NOT p.polpermissive AND p.polcmd = '*' AND "       \
	"p.polroles = '{0}'"                                                                           \
	"   AND pg_catalog.pg_get_expr(p.polqual, c.oid) = '(tenant_id = ' || " CURRENT_TENANT_CALL    \
	" || ')')"

#define QUERY_SHARED_TABLES                                                                        \
	"SELECT NULL::uuid, 'table ' || c.oid::pg_catalog.regclass, f.fault, NULL::text, "             \
	"0::pg_catalog.oid, c.oid"                                                                     \
	" FROM tenancy.tenant_table t JOIN pg_catalog.pg_class c ON c.oid = "                          \
	"t.relation::pg_catalog.oid,"                                                                  \
	" LATERAL (SELECT " SHARED_TABLE_FAULT ") f (fault)"                                           \
	" WHERE $1::uuid IS NULL AND f.fault IS NOT NULL"                                              \
	" UNION ALL SELECT NULL, 'table ' || t.relation::pg_catalog.oid, 'it is registered and does "  \
	"not exist', NULL, 0, t.relation::pg_catalog.oid FROM tenancy.tenant_table t"                  \
	" WHERE $1 IS NULL AND NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = "           \
	"t.relation::pg_catalog.oid)"

#define QUERY_SHARED_CHILDREN                                                                      \
	"WITH RECURSIVE child (oid) AS ("                                                              \
	" SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tenancy.tenant_table t"                 \
	"  ON i.inhparent = t.relation::pg_catalog.oid"                                                \
	" UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN child ON i.inhparent = "          \
	"child.oid)"                                                                                   \
	" SELECT NULL::uuid, 'table ' || c.oid::pg_catalog.regclass,"                                  \
	" 'it is a partition or child of a shared table and is not registered', NULL::text, "          \
	"0::pg_catalog.oid, c.oid FROM child c"                                                        \
	" WHERE $1::uuid IS NULL AND NOT EXISTS (SELECT FROM tenancy.tenant_table t WHERE "            \
	"t.relation = c.oid)"

#define QUERY_SHARED_KEYS                                                                          \
	"SELECT NULL::uuid, 'index ' || i.indexrelid::pg_catalog.regclass,"                            \
	" 'it is unique or excludes without tenant_id', " NO_REPAIR                                    \
	" FROM tenancy.tenant_table t JOIN pg_catalog.pg_index i ON i.indrelid = "                     \
	"t.relation::pg_catalog.oid"                                                                   \
	" WHERE $1::uuid IS NULL AND (i.indisunique OR i.indisexclusion)"                              \
	" AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = i.indrelid"         \
	"  AND a.attname = 'tenant_id' AND a.attnum = ANY "                                            \
	"((i.indkey::int2[])[0:i.indnkeyatts - 1]))"

#define QUERY_SHARED_REFERENCES                                                                    \
	"SELECT NULL::uuid, 'foreign key ' || k.conname || ' of ' || "                                 \
	"k.conrelid::pg_catalog.regclass,"                                                             \
	" 'it refers to rows of other tenants', " NO_REPAIR " FROM pg_catalog.pg_constraint k"         \
	" JOIN tenancy.tenant_table t ON k.conrelid = t.relation::pg_catalog.oid"                      \
	" JOIN tenancy.tenant_table u ON k.confrelid = u.relation::pg_catalog.oid"                     \
	" WHERE $1::uuid IS NULL AND k.contype = 'f' AND k.conparentid = 0"                            \
	" AND NOT EXISTS (SELECT FROM pg_catalog.generate_subscripts(k.conkey, 1) n"                   \
	"  JOIN pg_catalog.pg_attribute f ON f.attrelid = k.conrelid AND f.attnum = k.conkey[n]"       \
	"  JOIN pg_catalog.pg_attribute p ON p.attrelid = k.confrelid AND p.attnum = k.confkey[n]"     \
	"  WHERE f.attname = 'tenant_id' AND p.attname = 'tenant_id')"

#define QUERY_SHARED_VIEWS                                                                         \
	"SELECT DISTINCT NULL::uuid, CASE v.relkind WHEN 'm' THEN 'materialized view ' ELSE 'view ' "  \
	"END || v.oid::pg_catalog.regclass,"                                                           \
	" CASE v.relkind WHEN 'm' THEN 'it keeps rows of ' ELSE 'its owner reads past row security "   \
	"of ' END || d.refobjid::pg_catalog.regclass, " NO_REPAIR                                      \
	" FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid"                 \
	" JOIN pg_catalog.pg_class v ON v.oid = r.ev_class"                                            \
	" JOIN pg_catalog.pg_roles o ON o.oid = v.relowner"                                            \
	" WHERE $1::uuid IS NULL AND d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass"         \
	" AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass"                               \
	" AND EXISTS (SELECT FROM tenancy.tenant_table t WHERE t.relation = d.refobjid)"               \
	" AND (v.relkind = 'm' OR v.relkind = 'v' AND (o.rolsuper OR o.rolbypassrls)"                  \
	"  AND NOT coalesce(v.reloptions::text[] && '{security_invoker=true,security_invoker=on,"      \
	"security_invoker=1,security_invoker=yes}', false))"

#define QUERY_UNREGISTERED                                                                         \
	"SELECT NULL::uuid, 'table ' || c.oid::pg_catalog.regclass,"                                   \
	" CASE WHEN c.relrowsecurity THEN 'it has a tenant_id and policies of its own, and is not "    \
	"registered'"                                                                                  \
	"  ELSE 'it has a tenant_id, and nothing tells its rows apart' END, " NO_REPAIR                \
	" FROM pg_catalog.pg_class c JOIN " OTHER_SCHEMAS " ON n.oid = c.relnamespace"                 \
	" WHERE $1::uuid IS NULL AND c.relkind IN ('r', 'p') AND NOT c.relispartition"                 \
	" AND c.relpersistence <> 't' AND NOT " OF_EXTENSION(                                          \
		"pg_class",                                                                                \
		"c.oid") " AND EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid "    \
				 "AND a.attname "                                                                  \
				 "= 'tenant_id' AND NOT a.attisdropped)"                                           \
				 " AND NOT EXISTS (SELECT FROM tenancy.tenant_table t WHERE t.relation = c.oid)"   \
				 " AND NOT EXISTS (SELECT FROM tenancy.template e WHERE e.schema_name = "          \
				 "n.nspname)"

#define QUERY_INERT_POLICIES                                                                       \
	"SELECT s.tenant_id, 'table ' || c.oid::pg_catalog.regclass,"                                  \
	" 'it has ' || pg_catalog.count(*) || ' policies, and row security is not "                    \
	"enabled', " NO_REPAIR                                                                         \
	" FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_class c ON c.oid = p.polrelid"                \
	" LEFT JOIN " SCHEMAS " ON s.schema_oid = c.relnamespace"                                      \
	" WHERE NOT c.relrowsecurity AND ($1 IS NULL OR s.tenant_id IS NOT NULL)"                      \
	" AND NOT EXISTS (SELECT FROM pg_catalog.pg_namespace n JOIN tenancy.template e ON "           \
	"e.schema_name = n.nspname WHERE n.oid = c.relnamespace)"                                      \
	" GROUP BY s.tenant_id, c.oid"

#define QUERY_POOL_LOGINS                                                                          \
	"SELECT NULL::uuid, 'login ' || p.rolname, 'it is superuser, CREATEROLE, BYPASSRLS or "        \
	"REPLICATION', " NO_REPAIR " FROM " POOL_LOGINS                                                \
	" WHERE $1::uuid IS NULL AND NOT p.rolsuper AND " HAS_ATTRIBUTE(                               \
		"p") " UNION ALL SELECT NULL, 'login ' || p.rolname, 'it is superuser', " NO_REPAIR        \
			 " FROM " POOL_LOGINS " WHERE $1 IS NULL AND p.rolsuper AND EXISTS (SELECT FROM "      \
			 "pg_catalog.pg_auth_members m WHERE m.member = p.oid AND m.roleid = "                 \
			 "'tenancy_app'::pg_catalog.regrole)"                                                  \
			 " UNION ALL SELECT NULL, 'login ' || p.rolname, 'it is a member of ' || "             \
			 "g.rolname, " NO_REPAIR " FROM " POOL_LOGINS ", pg_catalog.pg_roles g"                \
			 " WHERE $1 IS NULL AND NOT p.rolsuper AND (g.rolname LIKE 'pg\\_%' OR g.rolname IN "  \
			 "('tenancy_owner', 'tenancy_admin'))"                                                 \
			 " AND g.rolname <> 'pg_database_owner' AND pg_catalog.pg_has_role(p.oid, g.oid, "     \
			 "'MEMBER')"

#define QUERY_POOL_OWNERS                                                                          \
	"SELECT NULL::uuid, 'table ' || c.oid::pg_catalog.regclass,"                                   \
	" 'login ' || p.rolname || ' owns it, and can enter tenants', " NO_REPAIR " FROM " POOL_LOGINS \
	" JOIN pg_catalog.pg_class c ON pg_catalog.pg_has_role(p.oid, "                                \
	"c.relowner, 'MEMBER')"                                                                        \
	" WHERE $1::uuid IS NULL AND NOT p.rolsuper AND c.relkind IN ('r', 'p')"                       \
	" AND (EXISTS (SELECT FROM tenancy.tenant_table t WHERE t.relation = c.oid)"                   \
	"  OR c.relrowsecurity AND NOT c.relforcerowsecurity"                                          \
	"  OR EXISTS (SELECT FROM tenancy.tenant_schema y JOIN pg_catalog.pg_namespace n"              \
	"    ON n.nspname = y.schema_name WHERE n.oid = c.relnamespace))"

#define QUERY_BOUND_LOGINS                                                                         \
	"SELECT l.tenant_id, 'login ' || l.role_name, f.fault, " NO_REPAIR                             \
	" FROM tenancy.tenant_login l JOIN " TENANTS " ON t.id = l.tenant_id"                          \
	" LEFT JOIN pg_catalog.pg_roles r ON r.rolname = l.role_name,"                                 \
	" LATERAL (SELECT 'it does not exist' WHERE r.oid IS NULL"                                     \
	"  UNION ALL SELECT 'it is superuser, CREATEROLE, BYPASSRLS or REPLICATION' "                  \
	"WHERE " HAS_ATTRIBUTE(                                                                        \
		"r") "  UNION ALL SELECT 'it is a member of ' || g.rolname FROM "                          \
			 "pg_catalog.pg_auth_members m"                                                        \
			 "   JOIN pg_catalog.pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid AND "       \
			 "g.rolname <> "                                                                       \
			 "t.role_name"                                                                         \
			 "  UNION ALL SELECT 'it is no member of ' || t.role_name WHERE r.oid IS NOT NULL "    \
			 "AND NOT "                                                                            \
			 "EXISTS (SELECT FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles g ON "     \
			 "g.oid = "                                                                            \
			 "m.roleid WHERE m.member = r.oid AND g.rolname = t.role_name)"                        \
			 "  UNION ALL SELECT 'its settings in this database do not make it ' || t.role_name"   \
			 "   WHERE r.oid IS NOT NULL AND NOT EXISTS (SELECT FROM "                             \
			 "pg_catalog.pg_db_role_setting d"                                                     \
			 "    WHERE d.setrole = r.oid AND d.setdatabase = (SELECT b.oid FROM "                 \
			 "pg_catalog.pg_database "                                                             \
			 "b WHERE b.datname = pg_catalog.current_database())"                                  \
			 "     AND 'role=' || pg_catalog.quote_ident(t.role_name) = ANY (d.setconfig)"         \
			 "     AND EXISTS (SELECT FROM pg_catalog.unnest(d.setconfig) x WHERE x LIKE "         \
			 "'search_path=%'))) f (fault)"

#define QUERY_SECURITY_DEFINER                                                                     \
	"SELECT s.tenant_id, 'function ' || f.oid::pg_catalog.regprocedure,"                           \
	" 'it is SECURITY DEFINER and does not pin search_path', " NO_REPAIR                           \
	" FROM pg_catalog.pg_proc f JOIN pg_catalog.pg_namespace n ON n.oid = f.pronamespace"          \
	" LEFT JOIN " SCHEMAS " ON s.schema_oid = n.oid"                                               \
	" WHERE f.prosecdef AND ($1 IS NULL OR s.tenant_id IS NOT NULL)"                               \
	" AND n.nspname NOT IN ('pg_catalog', 'information_schema')"                                   \
	" AND NOT EXISTS (SELECT FROM pg_catalog.unnest(f.proconfig) c WHERE c LIKE "                  \
	"'search_path=%') AND NOT " OF_EXTENSION("pg_proc", "f.oid")

#define QUERY_OPEN_SCHEMAS                                                                         \
	"SELECT NULL::uuid, 'schema ' || n.nspname, 'CREATE is granted to ' || " GRANTEE_NAME(         \
		"a.grantee") ", " NO_REPAIR " FROM " OTHER_SCHEMAS                                         \
					 ", LATERAL pg_catalog.aclexplode(n.nspacl) a WHERE $1::uuid IS NULL"          \
					 " AND a.privilege_type = 'CREATE' AND (a.grantee = 0 OR "                     \
					 "pg_catalog.pg_get_userbyid(a.grantee)"                                       \
					 " = 'tenancy_tenant')"                                                        \
					 " UNION ALL SELECT NULL, 'database ' || d.datname, 'CREATE is granted to "    \
					 "PUBLIC', " NO_REPAIR                                                         \
					 " FROM pg_catalog.pg_database d, LATERAL pg_catalog.aclexplode(d.datacl) a"   \
					 " WHERE $1 IS NULL AND d.datname = pg_catalog.current_database() AND "        \
					 "a.grantee = 0"                                                               \
					 " AND a.privilege_type = 'CREATE'"

#define QUERY_OWN_SCHEMA                                                                           \
	"SELECT NULL::uuid, 'schema ' || e.extnamespace::pg_catalog.regnamespace, 'role ' ||"          \
	" pg_catalog.quote_ident(c.name) || ' may create in it, and what it creates there can be"      \
	" called with the rights of others', " NO_REPAIR                                               \
	" FROM pg_catalog.pg_extension e, LATERAL (" CREATORS_IN(                                      \
		"e.extnamespace") ") c WHERE $1::uuid IS NULL AND e.extname = 'pg_tenancy'"                \
						  " AND c.name <> 'tenancy_tenant'"

#define QUERY_DEFAULT_GRANTS                                                                       \
	"SELECT NULL::uuid, 'default privileges of ' || pg_catalog.pg_get_userbyid(d.defaclrole),"     \
	" a.privilege_type || ' on new ' || CASE d.defaclobjtype WHEN 'r' THEN 'tables' WHEN 'S' "     \
	"THEN 'sequences' ELSE 'schemas' END || ' goes to PUBLIC', " NO_REPAIR                         \
	" FROM pg_catalog.pg_default_acl d, LATERAL pg_catalog.aclexplode(d.defaclacl) a"              \
	" WHERE $1::uuid IS NULL AND a.grantee = 0 AND d.defaclobjtype IN ('r', 'S', 'n')"

#define QUERY_DRIFTED_GRANTS                                                                       \
	"WITH member AS (SELECT d.classid, d.objid FROM pg_catalog.pg_depend d"                        \
	" JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid AND e.extname = 'pg_tenancy'"           \
	" WHERE d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.deptype = 'e'),"   \
	" now AS ("                                                                                    \
	" SELECT m.classid, m.objid, a.grantee, a.privilege_type FROM member m JOIN "                  \
	"pg_catalog.pg_proc f ON f.oid = m.objid AND m.classid = "                                     \
	"'pg_catalog.pg_proc'::pg_catalog.regclass,"                                                   \
	"  LATERAL pg_catalog.aclexplode(coalesce(f.proacl, pg_catalog.acldefault('f', "               \
	"f.proowner))) a"                                                                              \
	" UNION ALL SELECT m.classid, m.objid, a.grantee, a.privilege_type FROM member m JOIN "        \
	"pg_catalog.pg_class c ON c.oid = m.objid AND m.classid = "                                    \
	"'pg_catalog.pg_class'::pg_catalog.regclass,"                                                  \
	"  LATERAL pg_catalog.aclexplode(c.relacl) a"                                                  \
	" UNION ALL SELECT m.classid, m.objid, a.grantee, a.privilege_type FROM member m JOIN "        \
	"pg_catalog.pg_namespace n ON n.oid = m.objid AND m.classid = "                                \
	"'pg_catalog.pg_namespace'::pg_catalog.regclass,"                                              \
	"  LATERAL pg_catalog.aclexplode(n.nspacl) a),"                                                \
	" installed AS (SELECT m.classid, m.objid, a.grantee, a.privilege_type FROM member m"          \
	"  JOIN pg_catalog.pg_init_privs i ON i.classoid = m.classid AND i.objoid = m.objid AND "      \
	"i.objsubid = 0, LATERAL pg_catalog.aclexplode(i.initprivs) a"                                 \
	"  UNION ALL SELECT m.classid, m.objid, a.grantee, a.privilege_type FROM member m JOIN "       \
	"pg_catalog.pg_proc f ON f.oid = m.objid AND m.classid = "                                     \
	"'pg_catalog.pg_proc'::pg_catalog.regclass AND NOT EXISTS (SELECT FROM "                       \
	"pg_catalog.pg_init_privs i WHERE i.classoid = m.classid AND i.objoid = m.objid),"             \
	"  LATERAL pg_catalog.aclexplode(pg_catalog.acldefault('f', f.proowner)) a)"                   \
	" SELECT NULL::uuid, pg_catalog.pg_describe_object(x.classid, x.objid, 0),"                    \
	" x.privilege_type || ' is granted to ' || " GRANTEE_NAME(                                     \
		"x.grantee") " || ' since it was "                                                         \
					 "installed', " NO_REPAIR                                                      \
					 " FROM (SELECT * FROM now EXCEPT SELECT * FROM installed) x"                  \
					 " WHERE $1::uuid IS NULL AND x.grantee <> "                                   \
					 "'tenancy_owner'::pg_catalog.regrole"

#define QUERY_FOREIGN_SERVERS                                                                      \
	"SELECT NULL::uuid, 'foreign server ' || v.srvname, 'USAGE is granted to ' || " GRANTEE_NAME(  \
		"a.grantee") ", " NO_REPAIR " FROM pg_catalog.pg_foreign_server v, LATERAL "               \
					 "pg_catalog.aclexplode(v.srvacl) a"                                           \
					 " WHERE $1::uuid IS NULL AND (a.grantee = 0 OR "                              \
					 "pg_catalog.pg_get_userbyid(a.grantee) = "                                    \
					 "'tenancy_tenant' OR EXISTS (SELECT FROM tenancy.tenant t WHERE "             \
					 "pg_catalog.pg_get_userbyid(a.grantee) IN (t.role_name, t.owner_name)))"      \
					 " UNION ALL SELECT NULL, 'foreign server ' || u.srvname, 'everybody is "      \
					 "mapped to a user of "                                                        \
					 "it', " NO_REPAIR                                                             \
					 " FROM pg_catalog.pg_user_mappings u WHERE $1 IS NULL AND u.umuser = 0"

#define QUERY_SERVER_VERSION                                                                       \
	"SELECT NULL::uuid, 'server ' || pg_catalog.current_setting('server_version'),"                \
	" 'this minor release has known ways around row security', " NO_REPAIR                         \
	" WHERE $1::uuid IS NULL AND pg_catalog.current_setting('server_version_num')::integer "       \
	"< " STRINGIFY(SAFE_SERVER_VERSION)
