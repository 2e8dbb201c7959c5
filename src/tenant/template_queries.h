/*
 * tenant/template_queries.h
 *		The statements that read a schema's structure from the catalogs as DDL.
 *
 * They run with pg_catalog alone in the search path, while the schema bears a name
 * that occurs nowhere else: so every reference to it is qualified with that name.
 * $1 is the oid of the schema.  Included by template_capture.c alone.
 */
#pragma once

/* Functions that somebody created, and not the constructors that come with a range type. */
#define BY_HAND                                                                                    \
	" AND NOT EXISTS (SELECT FROM pg_depend i WHERE i.classid = 'pg_proc'::regclass"               \
	"                 AND i.objid = p.oid AND i.deptype = 'i')"

/* From 18 on it is a constraint with a name. */
#define NOT_NULL                                                                                   \
	"coalesce((SELECT ' CONSTRAINT ' || quote_ident(k.conname) FROM pg_constraint k"               \
	" WHERE k.conrelid = c.oid AND k.contype = 'n' AND k.conkey[1] = a.attnum), '') || ' NOT "     \
	"NULL'"

/* What a schema may hold that cannot be cloned: (description) of the first. */
#define QUERY_UNSUPPORTED                                                                          \
	"SELECT pg_catalog.pg_describe_object(o.classid, o.objid, 0) FROM ("                           \
	" SELECT 'pg_class'::regclass AS classid, c.oid AS objid FROM pg_class c"                      \
	"  WHERE c.relnamespace = $1 AND c.relkind = 'f'"                                              \
	" UNION ALL SELECT 'pg_type'::regclass, t.oid FROM pg_type t"                                  \
	"  WHERE t.typnamespace = $1 AND (t.typtype = 'p' OR (t.typtype = 'b' AND t.typelem = 0))"     \
	" UNION ALL SELECT 'pg_type'::regclass, t.oid FROM pg_type t WHERE t.typnamespace = $1"        \
	"    AND t.typtype = 'b' AND t.typelem <> 0 AND t.typcategory <> 'A'"                          \
	" UNION ALL SELECT 'pg_proc'::regclass, p.oid FROM pg_proc p"                                  \
	"  WHERE p.pronamespace = $1 AND (p.prokind = 'a'"                                             \
	"    OR p.prolang IN (SELECT l.oid FROM pg_language l WHERE l.lanname IN ('c', "               \
	"'internal')))" BY_HAND " UNION ALL SELECT 'pg_operator'::regclass, x.oid FROM pg_operator x " \
	"WHERE x.oprnamespace = $1"                                                                    \
	" UNION ALL SELECT 'pg_opclass'::regclass, x.oid FROM pg_opclass x WHERE x.opcnamespace = $1"  \
	" UNION ALL SELECT 'pg_opfamily'::regclass, x.oid FROM pg_opfamily x WHERE x.opfnamespace = "  \
	"$1"                                                                                           \
	" UNION ALL SELECT 'pg_collation'::regclass, x.oid FROM pg_collation x WHERE x.collnamespace " \
	"= $1"                                                                                         \
	" UNION ALL SELECT 'pg_conversion'::regclass, x.oid FROM pg_conversion x WHERE "               \
	"x.connamespace = $1"                                                                          \
	" UNION ALL SELECT 'pg_ts_config'::regclass, x.oid FROM pg_ts_config x WHERE x.cfgnamespace "  \
	"= $1"                                                                                         \
	" UNION ALL SELECT 'pg_ts_dict'::regclass, x.oid FROM pg_ts_dict x WHERE x.dictnamespace = $1" \
	" UNION ALL SELECT 'pg_ts_parser'::regclass, x.oid FROM pg_ts_parser x WHERE x.prsnamespace "  \
	"= $1"                                                                                         \
	" UNION ALL SELECT 'pg_ts_template'::regclass, x.oid FROM pg_ts_template x WHERE "             \
	"x.tmplnamespace = $1"                                                                         \
	" UNION ALL SELECT d.classid, d.objid FROM pg_depend d"                                        \
	"  WHERE d.deptype = 'e' AND d.classid = 'pg_class'::regclass"                                 \
	"    AND d.objid IN (SELECT c.oid FROM pg_class c WHERE c.relnamespace = $1)"                  \
	" ) o LIMIT 1"

#define SEQUENCE_OPTIONS                                                                           \
	"pg_catalog.format('AS %s INCREMENT BY %s MINVALUE %s MAXVALUE %s START WITH %s CACHE %s%s',"  \
	" format_type(s.seqtypid, NULL), s.seqincrement, s.seqmin, s.seqmax, s.seqstart, s.seqcache,"  \
	" CASE WHEN s.seqcycle THEN ' CYCLE' ELSE '' END)"

/*
 * The units: objects that depend on each other.  (classid, objid, phase, kind, ddl);
 * the order within a phase is that of the oids.
 */
#define QUERY_UNITS                                                                                          \
	/* enums, composites, domains, ranges */                                                                 \
	"SELECT 'pg_type'::regclass::oid, t.oid, 1, 'type',"                                                     \
	"  CASE t.typtype"                                                                                       \
	"  WHEN 'e' THEN format('CREATE TYPE %s AS ENUM (%s)', t.oid::regtype,"                                  \
	"    (SELECT string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder)"                      \
	"       FROM pg_enum e WHERE e.enumtypid = t.oid))"                                                      \
	"  WHEN 'c' THEN format('CREATE TYPE %s AS (%s)', t.oid::regtype,"                                       \
	"    (SELECT string_agg(format('%I %s%s', a.attname, format_type(a.atttypid, a.atttypmod),"              \
	"         CASE WHEN a.attcollation <> at.typcollation"                                                   \
	"              THEN ' COLLATE ' || a.attcollation::regcollation ELSE '' END), ', ' ORDER BY "            \
	"a.attnum)"                                                                                              \
	"       FROM pg_attribute a JOIN pg_type at ON at.oid = a.atttypid"                                      \
	"      WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped))"                          \
	"  WHEN 'd' THEN format('CREATE DOMAIN %s AS %s%s%s%s%s', t.oid::regtype,"                               \
	"    format_type(t.typbasetype, t.typtypmod),"                                                           \
	"    CASE WHEN t.typcollation <> bt.typcollation"                                                        \
	"         THEN ' COLLATE ' || t.typcollation::regcollation ELSE '' END,"                                 \
	"    CASE WHEN t.typdefaultbin IS NOT NULL"                                                              \
	"         THEN ' DEFAULT ' || pg_get_expr(t.typdefaultbin, 0)"                                           \
	"         WHEN t.typdefault IS NOT NULL THEN ' DEFAULT ' || quote_literal(t.typdefault)"                 \
	"         ELSE '' END,"                                                                                  \
	"    CASE WHEN t.typnotnull THEN ' NOT NULL' ELSE '' END,"                                               \
	"    (SELECT coalesce(string_agg(format(' CONSTRAINT %I %s', k.conname,"                                 \
	"            pg_get_constraintdef(k.oid)), '' ORDER BY k.conname), '')"                                  \
	"       FROM pg_constraint k WHERE k.contypid = t.oid AND k.contype = 'c' AND "                          \
	"k.convalidated))"                                                                                       \
	"  WHEN 'r' THEN (SELECT format('CREATE TYPE %s AS RANGE (SUBTYPE = %s, SUBTYPE_OPCLASS = "              \
	"%s%s%s%s, MULTIRANGE_TYPE_NAME = %s)',"                                                                 \
	"      t.oid::regtype, format_type(r.rngsubtype, NULL),"                                                 \
	"      (SELECT format('%I.%I', n.nspname, o.opcname) FROM pg_opclass o"                                  \
	"         JOIN pg_namespace n ON n.oid = o.opcnamespace WHERE o.oid = r.rngsubopc),"                     \
	"      CASE WHEN r.rngcollation <> 0 THEN ', COLLATION = ' || r.rngcollation::regcollation "             \
	"ELSE '' END,"                                                                                           \
	"      CASE WHEN r.rngcanonical <> 0 THEN ', CANONICAL = ' || r.rngcanonical::regproc ELSE "             \
	"'' END,"                                                                                                \
	"      CASE WHEN r.rngsubdiff <> 0 THEN ', SUBTYPE_DIFF = ' || r.rngsubdiff::regproc ELSE '' "           \
	"END,"                                                                                                   \
	"      r.rngmultitypid::regtype)"                                                                        \
	"      FROM pg_range r WHERE r.rngtypid = t.oid) END"                                                    \
	"  FROM pg_type t LEFT JOIN pg_type bt ON bt.oid = t.typbasetype"                                        \
	"  LEFT JOIN pg_class tc ON tc.oid = t.typrelid"                                                         \
	" WHERE t.typnamespace = $1 AND t.typtype IN ('e', 'c', 'd', 'r')"                                       \
	"   AND (t.typtype <> 'c' OR tc.relkind = 'c')" /* functions and procedures; C re-targets the            \
													   body */                                               \
	" UNION ALL SELECT 'pg_proc'::regclass, p.oid, 2, 'function', pg_get_functiondef(p.oid)"                 \
	"  FROM pg_proc p WHERE p.pronamespace = $1 AND p.prokind <> 'a'" BY_HAND /* sequences, but              \
																				 for those of                \
																				 identity columns            \
																			   */                            \
	" UNION ALL SELECT 'pg_class'::regclass, c.oid, 3, 'sequence',"                                          \
	"  format('CREATE %sSEQUENCE %s ', CASE c.relpersistence WHEN 'u' THEN 'UNLOGGED ' ELSE '' "             \
	"END,"                                                                                                   \
	"         c.oid::regclass) || " SEQUENCE_OPTIONS                                                         \
	"  FROM pg_class c JOIN pg_sequence s ON s.seqrelid = c.oid"                                             \
	" WHERE c.relnamespace = $1 AND c.relkind = 'S'"                                                         \
	"   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass"                      \
	"                   AND d.objid = c.oid AND d.deptype = 'i')" /* tables, with their columns,             \
																	 generated columns and checks            \
																   */                                        \
	" UNION ALL SELECT 'pg_class'::regclass, c.oid, 4, 'table',"                                             \
	"  format('CREATE %sTABLE %s %s(%s)%s%s%s%s%s',"                                                         \
	"    CASE c.relpersistence WHEN 'u' THEN 'UNLOGGED ' ELSE '' END, c.oid::regclass,"                      \
	"    CASE WHEN c.reloftype <> 0 THEN 'OF ' || c.reloftype::regtype || ' ' ELSE '' END,"                  \
	"    (SELECT coalesce(string_agg(x.item, ', ' ORDER BY x.place, x.name), '') FROM ("                     \
	"       SELECT a.attnum::int AS place, '' AS name,"                                                      \
	"         CASE WHEN c.reloftype <> 0 THEN format('%I WITH OPTIONS%s%s', a.attname,"                      \
	"             CASE WHEN a.attgenerated <> '' THEN format(' GENERATED ALWAYS AS (%s) STORED',"            \
	"                  pg_get_expr(ad.adbin, ad.adrelid)) ELSE '' END,"                                      \
	"             CASE WHEN a.attnotnull THEN " NOT_NULL " ELSE ' NULL' END)"                                \
	"         ELSE format('%I %s%s%s%s%s', a.attname,"                                                       \
	"           format_type(a.atttypid, a.atttypmod),"                                                       \
	"           CASE a.attcompression WHEN 'p' THEN ' COMPRESSION pglz'"                                     \
	"                                 WHEN 'l' THEN ' COMPRESSION lz4' ELSE '' END,"                         \
	"           CASE WHEN a.attcollation <> at.typcollation"                                                 \
	"                THEN ' COLLATE ' || a.attcollation::regcollation ELSE '' END,"                          \
	"           CASE WHEN a.attgenerated <> '' THEN format(' GENERATED ALWAYS AS (%s) STORED',"              \
	"                pg_get_expr(ad.adbin, ad.adrelid)) ELSE '' END,"                                        \
	"           CASE WHEN a.attnotnull THEN " NOT_NULL " ELSE '' END) END AS item"                           \
	"       FROM pg_attribute a JOIN pg_type at ON at.oid = a.atttypid"                                      \
	"       LEFT JOIN pg_attrdef ad ON ad.adrelid = a.attrelid AND ad.adnum = a.attnum"                      \
	"      WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"                                 \
	"        AND (a.attislocal OR c.relispartition)"                                                         \
	"       UNION ALL"                                                                                       \
	"       SELECT 10000, k.conname, format('CONSTRAINT %I %s', k.conname, "                                 \
	"pg_get_constraintdef(k.oid))"                                                                           \
	"         FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'c'"                             \
	"          AND k.convalidated AND (k.conislocal OR c.relispartition)) x),"                               \
	"    (SELECT coalesce(' INHERITS (' || string_agg(i.inhparent::regclass::text, ', '"                     \
	"            ORDER BY i.inhseqno) || ')', '')"                                                           \
	"       FROM pg_inherits i WHERE i.inhrelid = c.oid AND NOT c.relispartition),"                          \
	"    CASE WHEN c.relkind = 'p' THEN ' PARTITION BY ' || pg_get_partkeydef(c.oid) ELSE '' END,"           \
	"    CASE WHEN am.amname <> 'heap' THEN ' USING ' || quote_ident(am.amname) ELSE '' END,"                \
	"    (SELECT coalesce(' WITH (' || string_agg(w.item, ', ') || ')', '') FROM ("                          \
	"       SELECT unnest(c.reloptions) AS item UNION ALL"                                                   \
	"       SELECT 'toast.' || unnest(tc.reloptions) FROM pg_class tc WHERE tc.oid = "                       \
	"c.reltoastrelid) w),"                                                                                   \
	"    CASE WHEN ts.spcname IS NOT NULL THEN ' TABLESPACE ' || quote_ident(ts.spcname) ELSE '' "           \
	"END)"                                                                                                   \
	"  FROM pg_class c LEFT JOIN pg_am am ON am.oid = c.relam"                                               \
	"  LEFT JOIN pg_tablespace ts ON ts.oid = c.reltablespace"                                               \
	" WHERE c.relnamespace = $1 AND c.relkind IN ('r', 'p')" /* defaults of plain columns, also of           \
																views */                                     \
	" UNION ALL SELECT 'pg_attrdef'::regclass, d.oid, 5, 'default',"                                         \
	"  format('ALTER TABLE ONLY %s ALTER COLUMN %I SET DEFAULT %s', c.oid::regclass, a.attname,"             \
	"         pg_get_expr(d.adbin, d.adrelid))"                                                              \
	"  FROM pg_attrdef d JOIN pg_class c ON c.oid = d.adrelid"                                               \
	"  JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum"                                 \
	" WHERE c.relnamespace = $1 AND a.attgenerated = '' AND c.relkind IN ('r', 'p', 'v')" /* checks          \
																							 that            \
																							 are             \
																							 not             \
																							 valid,          \
																							 keys            \
																							 and             \
																							 exclusions,     \
																							 then            \
																							 foreign         \
																							 keys            \
																						   */                \
	" UNION ALL SELECT 'pg_constraint'::regclass, k.oid,"                                                    \
	"  CASE k.contype WHEN 'c' THEN 6 WHEN 'f' THEN 10 ELSE 7 END, 'constraint',"                            \
	"  format('ALTER TABLE %s%s ADD CONSTRAINT %I %s%s',"                                                    \
	"         CASE WHEN k.contype = 'f' AND c.relkind = 'p' THEN '' ELSE 'ONLY ' END,"                       \
	"         c.oid::regclass, k.conname, pg_get_constraintdef(k.oid),"                                      \
	"         (SELECT coalesce(' USING INDEX TABLESPACE ' || quote_ident(ts.spcname), '')"                   \
	"            FROM pg_class ic LEFT JOIN pg_tablespace ts ON ts.oid = ic.reltablespace"                   \
	"           WHERE ic.oid = k.conindid AND k.contype IN ('p', 'u')))"                                     \
	"  FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid"                                           \
	" WHERE c.relnamespace = $1 AND (k.contype IN ('p', 'u', 'x')"                                           \
	"    OR (k.contype = 'f' AND k.conparentid = 0)"                                                         \
	"    OR (k.contype = 'c' AND NOT k.convalidated AND k.conislocal))"                                      \
	" UNION ALL SELECT 'pg_constraint'::regclass, k.oid, 6, 'constraint',"                                   \
	"  format('ALTER DOMAIN %s ADD CONSTRAINT %I %s', t.oid::regtype, k.conname, "                           \
	"pg_get_constraintdef(k.oid))"                                                                           \
	"  FROM pg_constraint k JOIN pg_type t ON t.oid = k.contypid"                                            \
	" WHERE t.typnamespace = $1 AND k.contype = 'c' AND NOT k.convalidated" /* indexes without a             \
																			   constraint */                 \
	" UNION ALL SELECT 'pg_class'::regclass, c.oid, 8, 'index', pg_get_indexdef(c.oid) ||"                   \
	"  CASE WHEN ts.spcname IS NOT NULL AND i.indpred IS NULL"                                               \
	"       THEN ' TABLESPACE ' || quote_ident(ts.spcname) ELSE '' END"                                      \
	"  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"                                              \
	"  LEFT JOIN pg_tablespace ts ON ts.oid = c.reltablespace"                                               \
	" WHERE c.relnamespace = $1 AND NOT EXISTS (SELECT FROM pg_constraint k"                                 \
	"   WHERE k.conindid = c.oid AND k.contype IN ('p', 'u', 'x'))"                                          \
	"   AND i.indrelid IN (SELECT r.oid FROM pg_class r WHERE r.relkind IN ('r', 'p', 'm'))" /* views,       \
																								materialized \
																								views,       \
																								rules        \
																							  */             \
	" UNION ALL SELECT 'pg_class'::regclass, c.oid, 9,"                                                      \
	"  CASE c.relkind WHEN 'v' THEN 'view' ELSE 'materialized view' END,"                                    \
	"  CASE c.relkind WHEN 'v' THEN format('CREATE VIEW %s%s AS %s', c.oid::regclass,"                       \
	"       coalesce(' WITH (' || array_to_string(c.reloptions, ', ') || ')', ''),"                          \
	"       rtrim(pg_get_viewdef(c.oid), ';'))"                                                              \
	"  ELSE format('CREATE MATERIALIZED VIEW %s%s%s AS %s WITH %sDATA', c.oid::regclass,"                    \
	"       coalesce(' WITH (' || array_to_string(c.reloptions, ', ') || ')', ''),"                          \
	"       coalesce(' TABLESPACE ' || quote_ident(ts.spcname), ''),"                                        \
	"       rtrim(pg_get_viewdef(c.oid), ';'), CASE WHEN c.relispopulated THEN '' ELSE 'NO ' "               \
	"END) END"                                                                                               \
	"  FROM pg_class c LEFT JOIN pg_tablespace ts ON ts.oid = c.reltablespace"                               \
	" WHERE c.relnamespace = $1 AND c.relkind IN ('v', 'm')"                                                 \
	" UNION ALL SELECT 'pg_rewrite'::regclass, r.oid, 11, 'rule', rtrim(pg_get_ruledef(r.oid), "             \
	"';')"                                                                                                   \
	"  FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class"                                              \
	" WHERE c.relnamespace = $1 AND r.rulename <> '_RETURN'" /* extended statistics */                       \
	" UNION ALL SELECT 'pg_statistic_ext'::regclass, s.oid, 12, 'statistics', "                              \
	"pg_get_statisticsobjdef(s.oid)"                                                                         \
	"  FROM pg_statistic_ext s WHERE s.stxnamespace = $1" /* triggers, but for the clones on                 \
															 partitions */                                   \
	" UNION ALL SELECT 'pg_trigger'::regclass, t.oid, 13, 'trigger', pg_get_triggerdef(t.oid)"               \
	"  FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"                                               \
	" WHERE c.relnamespace = $1 AND NOT t.tgisinternal AND t.tgparentid = 0" /* policies */                  \
	" UNION ALL SELECT 'pg_policy'::regclass, p.oid, 14, 'policy',"                                          \
	"  format('CREATE POLICY %I ON %s%s%s TO %s%s%s', p.polname, c.oid::regclass,"                           \
	"    CASE WHEN p.polpermissive THEN '' ELSE ' AS RESTRICTIVE' END,"                                      \
	"    CASE p.polcmd WHEN 'r' THEN ' FOR SELECT' WHEN 'a' THEN ' FOR INSERT'"                              \
	"      WHEN 'w' THEN ' FOR UPDATE' WHEN 'd' THEN ' FOR DELETE' ELSE '' END,"                             \
	"    (SELECT string_agg(CASE WHEN u.r = 0 THEN 'PUBLIC'"                                                 \
	"         WHEN u.r = 'tenancy_tenant'::regrole THEN '@tenant_role@'"                                     \
	"         WHEN u.r = c.relowner THEN '@tenant_owner@' ELSE u.r::regrole::text END, ', ')"                \
	"       FROM unnest(p.polroles) AS u(r)),"                                                               \
	"    coalesce(' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')', ''),"                             \
	"    coalesce(' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')', ''))"                   \
	"  FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid WHERE c.relnamespace = $1"                     \
	" ORDER BY 3, 2"

/*
 * Which unit (classid, objid) needs which other.  An object that is no unit itself
 * stands for the one that makes it: a view's rule for the view, a row type for its
 * table, a key's index for the constraint.
 */
#define QUERY_EDGES                                                                                \
	"WITH maker AS MATERIALIZED ("                                                                 \
	" SELECT 'pg_class'::regclass::oid AS classid, c.oid AS objid,"                                \
	"        'pg_class'::regclass::oid AS uclass, c.oid AS uobj"                                   \
	"   FROM pg_class c WHERE c.relnamespace = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'S', "     \
	"'i', 'I')"                                                                                    \
	"    AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = c.oid AND k.contype IN "   \
	"('p', 'u', 'x'))"                                                                             \
	" UNION ALL SELECT 'pg_class'::regclass, k.conindid, 'pg_constraint'::regclass, k.oid"         \
	"   FROM pg_constraint k WHERE k.connamespace = $1 AND k.contype IN ('p', 'u', 'x')"           \
	" UNION ALL SELECT 'pg_constraint'::regclass, k.oid,"                                          \
	"        CASE WHEN k.contype = 'c' AND k.convalidated"                                         \
	"             THEN CASE WHEN k.conrelid <> 0 THEN 'pg_class'::regclass ELSE "                  \
	"'pg_type'::regclass END"                                                                      \
	"             ELSE 'pg_constraint'::regclass END,"                                             \
	"        CASE WHEN k.contype = 'c' AND k.convalidated"                                         \
	"             THEN greatest(k.conrelid, k.contypid) ELSE k.oid END"                            \
	"   FROM pg_constraint k WHERE k.connamespace = $1"                                            \
	" UNION ALL SELECT 'pg_type'::regclass, t.oid,"                                                \
	"        CASE WHEN c.relkind <> 'c' THEN 'pg_class'::regclass ELSE 'pg_type'::regclass END,"   \
	"        CASE WHEN c.relkind <> 'c' THEN c.oid ELSE t.oid END"                                 \
	"   FROM pg_type t LEFT JOIN pg_class c ON c.oid = t.typrelid"                                 \
	"  WHERE t.typnamespace = $1 AND t.typtype IN ('e', 'c', 'd', 'r')"                            \
	" UNION ALL SELECT 'pg_type'::regclass, t.oid,"                                                \
	"        CASE WHEN c.relkind <> 'c' THEN 'pg_class'::regclass ELSE 'pg_type'::regclass END,"   \
	"        CASE WHEN c.relkind <> 'c' THEN c.oid ELSE e.oid END"                                 \
	"   FROM pg_type t JOIN pg_type e ON e.oid = t.typelem LEFT JOIN pg_class c ON c.oid = "       \
	"e.typrelid"                                                                                   \
	"  WHERE t.typnamespace = $1 AND t.typcategory = 'A'"                                          \
	" UNION ALL SELECT 'pg_type'::regclass, r.rngmultitypid, 'pg_type'::regclass, r.rngtypid"      \
	"   FROM pg_range r JOIN pg_type t ON t.oid = r.rngtypid WHERE t.typnamespace = $1"            \
	" UNION ALL SELECT 'pg_proc'::regclass, p.oid, 'pg_proc'::regclass, p.oid"                     \
	"   FROM pg_proc p WHERE p.pronamespace = $1" BY_HAND                                          \
	" UNION ALL SELECT 'pg_proc'::regclass, p.oid, 'pg_type'::regclass, i.refobjid"                \
	"   FROM pg_proc p JOIN pg_depend i ON i.classid = 'pg_proc'::regclass AND i.objid = p.oid"    \
	"    AND i.deptype = 'i' AND i.refclassid = 'pg_type'::regclass WHERE p.pronamespace = $1"     \
	" UNION ALL SELECT 'pg_attrdef'::regclass, d.oid,"                                             \
	"        CASE WHEN a.attgenerated <> '' THEN 'pg_class'::regclass ELSE "                       \
	"'pg_attrdef'::regclass END,"                                                                  \
	"        CASE WHEN a.attgenerated <> '' THEN d.adrelid ELSE d.oid END"                         \
	"   FROM pg_attrdef d JOIN pg_class c ON c.oid = d.adrelid"                                    \
	"   JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum WHERE "               \
	"c.relnamespace = $1"                                                                          \
	" UNION ALL SELECT 'pg_rewrite'::regclass, r.oid,"                                             \
	"        CASE WHEN r.rulename = '_RETURN' THEN 'pg_class'::regclass ELSE "                     \
	"'pg_rewrite'::regclass END,"                                                                  \
	"        CASE WHEN r.rulename = '_RETURN' THEN r.ev_class ELSE r.oid END"                      \
	"   FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class WHERE c.relnamespace = $1"         \
	" UNION ALL SELECT 'pg_trigger'::regclass, t.oid, 'pg_trigger'::regclass, t.oid"               \
	"   FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE c.relnamespace = $1"          \
	" UNION ALL SELECT 'pg_policy'::regclass, p.oid, 'pg_policy'::regclass, p.oid"                 \
	"   FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid WHERE c.relnamespace = $1"          \
	" UNION ALL SELECT 'pg_statistic_ext'::regclass, s.oid, 'pg_statistic_ext'::regclass, s.oid"   \
	"   FROM pg_statistic_ext s WHERE s.stxnamespace = $1)"                                        \
	" SELECT DISTINCT a.uclass, a.uobj, b.uclass, b.uobj"                                          \
	"   FROM pg_depend d JOIN maker a ON a.classid = d.classid AND a.objid = d.objid"              \
	"   JOIN maker b ON b.classid = d.refclassid AND b.objid = d.refobjid"                         \
	"  WHERE (a.uclass, a.uobj) <> (b.uclass, b.uobj)" /* an owned sequence is made before its     \
														  table, and handed over afterwards */     \
	"    AND NOT (d.deptype IN ('a', 'i') AND d.classid = 'pg_class'::regclass"                    \
	"             AND EXISTS (SELECT FROM pg_class s WHERE s.oid = d.objid AND s.relkind = 'S'))"

/* What follows when all units stand: (phase, kind, ddl). */
#define ACL_ROLE(owner)                                                                            \
	"CASE WHEN x.grantee = 0 THEN 'PUBLIC' WHEN x.grantee = 'tenancy_tenant'::regrole"             \
	" THEN '@tenant_role@' ELSE x.grantee::regrole::text END"

#define QUERY_FINISH                                                                               \
	"SELECT f.phase, f.kind, f.ddl FROM ("                                                         \
	" SELECT 20 AS phase, i.inhrelid AS place, 'attach' AS kind,"                                  \
	"  format('ALTER TABLE ONLY %s ATTACH PARTITION %s %s', i.inhparent::regclass,"                \
	"         i.inhrelid::regclass, pg_get_expr(c.relpartbound, c.oid)) AS ddl"                    \
	"  FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"                                   \
	" WHERE c.relnamespace = $1 AND c.relkind IN ('r', 'p') AND c.relispartition"                  \
	" UNION ALL SELECT 21, a.attrelid, 'identity',"                                                \
	"  format('ALTER TABLE %s ALTER COLUMN %I ADD GENERATED %s AS IDENTITY (SEQUENCE NAME %s ',"   \
	"    a.attrelid::regclass, a.attname,"                                                         \
	"    CASE a.attidentity WHEN 'a' THEN 'ALWAYS' ELSE 'BY DEFAULT' END, s.seqrelid::regclass) "  \
	"||"                                                                                           \
	"  replace(" SEQUENCE_OPTIONS ", 'AS ' || format_type(s.seqtypid, NULL) || ' ', '') || ')'"    \
	"  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"                                  \
	"  JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.refclassid = "                   \
	"'pg_class'::regclass"                                                                         \
	"   AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum AND d.deptype = 'i'"              \
	"  JOIN pg_sequence s ON s.seqrelid = d.objid"                                                 \
	" WHERE c.relnamespace = $1 AND a.attidentity <> ''"                                           \
	" UNION ALL SELECT 22, s.seqrelid, 'owned by',"                                                \
	"  format('ALTER SEQUENCE %s OWNED BY %s.%I', s.seqrelid::regclass, a.attrelid::regclass, "    \
	"a.attname)"                                                                                   \
	"  FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid"                                   \
	"  JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = s.seqrelid"              \
	"   AND d.refclassid = 'pg_class'::regclass AND d.deptype = 'a'"                               \
	"  JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid"                \
	" WHERE c.relnamespace = $1"                                                                   \
	" UNION ALL SELECT 23, i.inhrelid, 'attach',"                                                  \
	"  format('ALTER INDEX %s ATTACH PARTITION %s', i.inhparent::regclass, i.inhrelid::regclass)"  \
	"  FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"                                   \
	" WHERE c.relnamespace = $1 AND c.relkind IN ('i', 'I')" /* what a column, a table or an index \
																is told afterwards */              \
	" UNION ALL SELECT 24, a.attrelid, 'column',"                                                  \
	"  format('ALTER %s %s ALTER COLUMN %s SET STATISTICS %s',"                                    \
	"    CASE WHEN c.relkind IN ('i', 'I') THEN 'INDEX' WHEN c.relkind = 'm' THEN 'MATERIALIZED "  \
	"VIEW'"                                                                                        \
	"         ELSE 'TABLE ONLY' END, a.attrelid::regclass,"                                        \
	"    CASE WHEN c.relkind IN ('i', 'I') THEN a.attnum::text ELSE quote_ident(a.attname) END, "  \
	"a.attstattarget)"                                                                             \
	"  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"                                  \
	" WHERE c.relnamespace = $1 AND a.attnum > 0 AND NOT a.attisdropped AND a.attstattarget >= 0"  \
	"   AND c.relkind IN ('r', 'p', 'm', 'i', 'I')"                                                \
	" UNION ALL SELECT 24, a.attrelid, 'column',"                                                  \
	"  format('ALTER %s %s ALTER COLUMN %I SET STORAGE %s',"                                       \
	"    CASE WHEN c.relkind = 'm' THEN 'MATERIALIZED VIEW' ELSE 'TABLE ONLY' END, "               \
	"a.attrelid::regclass,"                                                                        \
	"    a.attname, CASE a.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL'"              \
	"               WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END)"                                     \
	"  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_type t ON t.oid = "       \
	"a.atttypid"                                                                                   \
	" WHERE c.relnamespace = $1 AND a.attnum > 0 AND NOT a.attisdropped"                           \
	"   AND a.attstorage <> t.typstorage AND c.relkind IN ('r', 'p', 'm')"                         \
	" UNION ALL SELECT 24, a.attrelid, 'column',"                                                  \
	"  format('ALTER TABLE ONLY %s ALTER COLUMN %I SET (%s)', a.attrelid::regclass, a.attname,"    \
	"         array_to_string(o.items, ', '))"                                                     \
	"  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid," /* pg_attver is the server's    \
																	  own mark on a column of a    \
																	  composite type */            \
	"  LATERAL (SELECT array_agg(i) AS items FROM unnest(a.attoptions) AS i WHERE i NOT LIKE "     \
	"'pg\\_%') o"                                                                                  \
	" WHERE c.relnamespace = $1 AND a.attnum > 0 AND NOT a.attisdropped"                           \
	"   AND o.items IS NOT NULL AND c.relkind IN ('r', 'p')"                                       \
	" UNION ALL SELECT 25, c.oid, 'table',"                                                        \
	"  format('ALTER TABLE ONLY %s REPLICA IDENTITY %s', c.oid::regclass,"                         \
	"    CASE c.relreplident WHEN 'f' THEN 'FULL' WHEN 'n' THEN 'NOTHING' ELSE"                    \
	"      'USING INDEX ' || (SELECT quote_ident(ic.relname) FROM pg_index i"                      \
	"        JOIN pg_class ic ON ic.oid = i.indexrelid WHERE i.indrelid = c.oid AND "              \
	"i.indisreplident) END)"                                                                       \
	"  FROM pg_class c WHERE c.relnamespace = $1 AND c.relkind IN ('r', 'p') AND c.relreplident "  \
	"<> 'd'"                                                                                       \
	" UNION ALL SELECT 25, i.indrelid, 'table',"                                                   \
	"  format('ALTER TABLE %s CLUSTER ON %I', i.indrelid::regclass, c.relname)"                    \
	"  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"                                    \
	" WHERE c.relnamespace = $1 AND i.indisclustered"                                              \
	" UNION ALL SELECT 26, c.oid, 'row security',"                                                 \
	"  format('ALTER TABLE ONLY %s %s', c.oid::regclass, concat_ws(', ',"                          \
	"    CASE WHEN c.relrowsecurity THEN 'ENABLE ROW LEVEL SECURITY' END,"                         \
	"    CASE WHEN c.relforcerowsecurity THEN 'FORCE ROW LEVEL SECURITY' END))"                    \
	"  FROM pg_class c WHERE c.relnamespace = $1 AND c.relkind IN ('r', 'p')"                      \
	"   AND (c.relrowsecurity OR c.relforcerowsecurity)"                                           \
	" UNION ALL SELECT 27, t.tgrelid, 'trigger',"                                                  \
	"  format('ALTER TABLE %s %s TRIGGER %I', t.tgrelid::regclass, CASE t.tgenabled"               \
	"    WHEN 'D' THEN 'DISABLE' WHEN 'A' THEN 'ENABLE ALWAYS' ELSE 'ENABLE REPLICA' END, "        \
	"t.tgname)"                                                                                    \
	"  FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"                                     \
	"  LEFT JOIN pg_trigger pt ON pt.oid = t.tgparentid"                                           \
	" WHERE c.relnamespace = $1 AND NOT t.tgisinternal AND t.tgenabled <> coalesce(pt.tgenabled, " \
	"'O')"                                                                                         \
	" UNION ALL SELECT 27, r.ev_class, 'rule',"                                                    \
	"  format('ALTER TABLE %s %s RULE %I', r.ev_class::regclass, CASE r.ev_enabled"                \
	"    WHEN 'D' THEN 'DISABLE' WHEN 'A' THEN 'ENABLE ALWAYS' ELSE 'ENABLE REPLICA' END, "        \
	"r.rulename)"                                                                                  \
	"  FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class"                                    \
	" WHERE c.relnamespace = $1 AND r.ev_enabled <> 'O'"                                           \
	" UNION ALL SELECT 27, s.oid, 'statistics',"                                                   \
	"  format('ALTER STATISTICS %I.%I SET STATISTICS %s', n.nspname, s.stxname, s.stxstattarget)"  \
	"  FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace"                      \
	" WHERE s.stxnamespace = $1 AND s.stxstattarget >= 0" /* comments */                           \
	" UNION ALL SELECT 30, o.objoid, 'comment',"                                                   \
	"  format('COMMENT ON %s %s%s IS %L', CASE WHEN i.type LIKE '%column' THEN 'COLUMN'"           \
	"      WHEN i.type LIKE '%constraint' THEN 'CONSTRAINT' WHEN i.type = 'statistics object' "    \
	"THEN 'STATISTICS'"                                                                            \
	"      WHEN i.type = 'composite type' THEN 'TYPE' WHEN i.type = 'partitioned table' THEN "     \
	"'TABLE'"                                                                                      \
	"      WHEN t.typtype = 'd' THEN 'DOMAIN' ELSE upper(i.type) END,"                             \
	"    CASE WHEN i.type = 'domain constraint'"                                                   \
	"         THEN replace(i.identity, ' on ', ' ON DOMAIN ') ELSE i.identity END, '', "           \
	"o.description)"                                                                               \
	"  FROM pg_description o"                                                                      \
	"  LEFT JOIN pg_type t ON o.classoid = 'pg_type'::regclass AND t.oid = o.objoid,"              \
	"  pg_identify_object(o.classoid, o.objoid, o.objsubid) i"                                     \
	" WHERE (o.classoid, o.objoid) IN ("                                                           \
	"   SELECT 'pg_class'::regclass::oid, c.oid FROM pg_class c WHERE c.relnamespace = $1"         \
	"   UNION ALL SELECT 'pg_type'::regclass, x.oid FROM pg_type x WHERE x.typnamespace = $1"      \
	"   UNION ALL SELECT 'pg_proc'::regclass, x.oid FROM pg_proc x WHERE x.pronamespace = $1"      \
	"   UNION ALL SELECT 'pg_constraint'::regclass, x.oid FROM pg_constraint x WHERE "             \
	"x.connamespace = $1"                                                                          \
	"   UNION ALL SELECT 'pg_statistic_ext'::regclass, x.oid FROM pg_statistic_ext x WHERE "       \
	"x.stxnamespace = $1"                                                                          \
	"   UNION ALL SELECT 'pg_trigger'::regclass, x.oid FROM pg_trigger x JOIN pg_class c ON "      \
	"c.oid = x.tgrelid WHERE c.relnamespace = $1"                                                  \
	"   UNION ALL SELECT 'pg_rewrite'::regclass, x.oid FROM pg_rewrite x JOIN pg_class c ON "      \
	"c.oid = x.ev_class WHERE c.relnamespace = $1"                                                 \
	"   UNION ALL SELECT 'pg_policy'::regclass, x.oid FROM pg_policy x JOIN pg_class c ON c.oid "  \
	"= x.polrelid WHERE c.relnamespace = $1"                                                       \
	"   UNION ALL SELECT 'pg_namespace'::regclass, $1)" /* grants, to others as they are, to the   \
														   group of tenants as to the one tenant   \
														 */                                        \
	" UNION ALL SELECT 31, q.objid, 'grant', format('REVOKE ALL ON %s %s FROM PUBLIC', q.what, "   \
	"q.name)"                                                                                      \
	"  FROM (SELECT p.oid AS objid, CASE p.prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END " \
	"AS what,"                                                                                     \
	"               p.oid::regprocedure::text AS name, p.proacl AS acl FROM pg_proc p WHERE "      \
	"p.pronamespace = $1"                                                                          \
	"        UNION ALL SELECT t.oid, CASE t.typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END,"       \
	"               t.oid::regtype::text, t.typacl FROM pg_type t"                                 \
	"         WHERE t.typnamespace = $1 AND t.typtype IN ('e', 'c', 'd', 'r')) q"                  \
	" WHERE q.acl IS NOT NULL AND NOT EXISTS (SELECT FROM aclexplode(q.acl) x WHERE x.grantee = "  \
	"0)"                                                                                           \
	" UNION ALL SELECT 32, q.objid, CASE WHEN q.role = '@tenant_role@' THEN 'tenant grant' ELSE "  \
	"'grant' END,"                                                                                 \
	"  format('GRANT %s ON %s %s TO %s%s', q.privileges, q.what, q.name, q.role,"                  \
	"         CASE WHEN q.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)"                     \
	"  FROM (SELECT o.objid, o.what, o.name, x.is_grantable, " ACL_ROLE(                           \
		o.owner) " AS role,"                                                                       \
				 "               string_agg(x.privilege_type || CASE WHEN o.attname IS NULL THEN " \
				 "''"                                                                              \
				 "                          ELSE format(' (%I)', o.attname) END, ', ' ORDER BY "   \
				 "x.privilege_type) AS privileges"                                                 \
				 "          FROM (SELECT n.oid AS objid, 'SCHEMA' AS what, "                       \
				 "quote_ident(n.nspname) AS name,"                                                 \
				 "                       n.nspacl AS acl, n.nspowner AS owner, NULL::name AS "     \
				 "attname"                                                                         \
				 "                  FROM pg_namespace n WHERE n.oid = $1"                          \
				 "                UNION ALL SELECT c.oid, CASE c.relkind WHEN 'S' THEN "           \
				 "'SEQUENCE' ELSE 'TABLE' END,"                                                    \
				 "                       c.oid::regclass::text, c.relacl, c.relowner, NULL"        \
				 "                  FROM pg_class c WHERE c.relnamespace = $1 AND c.relkind IN "   \
				 "('r', 'p', 'v', 'm', 'S')"                                                       \
				 "                UNION ALL SELECT c.oid, 'TABLE', c.oid::regclass::text, "        \
				 "a.attacl, c.relowner, a.attname"                                                 \
				 "                  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"     \
				 "                 WHERE c.relnamespace = $1 AND NOT a.attisdropped AND a.attacl " \
				 "IS NOT NULL"                                                                     \
				 "                UNION ALL SELECT p.oid, CASE p.prokind WHEN 'p' THEN "           \
				 "'PROCEDURE' ELSE 'FUNCTION' END,"                                                \
				 "                       p.oid::regprocedure::text, p.proacl, p.proowner, NULL"    \
				 "                  FROM pg_proc p WHERE p.pronamespace = $1"                      \
				 "                UNION ALL SELECT t.oid, CASE t.typtype WHEN 'd' THEN 'DOMAIN' "  \
				 "ELSE 'TYPE' END,"                                                                \
				 "                       t.oid::regtype::text, t.typacl, t.typowner, NULL"         \
				 "                  FROM pg_type t WHERE t.typnamespace = $1 AND t.typtype IN "    \
				 "('e', 'c', 'd', 'r')) o,"                                                        \
				 "               aclexplode(o.acl) x"                                              \
				 "         WHERE x.grantee <> o.owner"                                             \
				 "         GROUP BY o.objid, o.what, o.name, o.attname, o.owner, x.is_grantable, " \
				 "x.grantee) q" /* where the template grants the group nothing, the tenant uses    \
								   what it holds */                                                \
				 " UNION ALL SELECT 33, c.oid, 'tenant grant',"                                    \
				 "  format('GRANT %s ON %s %s TO @tenant_role@',"                                  \
				 "    CASE c.relkind WHEN 'S' THEN 'USAGE, SELECT' WHEN 'm' THEN 'SELECT'"         \
				 "         ELSE 'SELECT, INSERT, UPDATE, DELETE' END,"                             \
				 "    CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.oid::regclass)"  \
				 "  FROM pg_class c WHERE c.relnamespace = $1 AND c.relkind IN ('r', 'p', 'v', "   \
				 "'m', 'S')"                                                                       \
				 "   AND NOT EXISTS (SELECT FROM aclexplode(c.relacl) x WHERE x.grantee = "        \
				 "'tenancy_tenant'::regrole)"                                                      \
				 "   AND NOT EXISTS (SELECT FROM pg_attribute a, aclexplode(a.attacl) x"           \
				 "                    WHERE a.attrelid = c.oid AND x.grantee = "                   \
				 "'tenancy_tenant'::regrole)"                                                      \
				 " UNION ALL SELECT 34, d.oid, 'default privileges',"                              \
				 "  format('ALTER DEFAULT PRIVILEGES IN SCHEMA %s GRANT %s ON %s TO %s%s', "       \
				 "$1::regnamespace,"                                                               \
				 "    string_agg(x.privilege_type, ', ' ORDER BY x.privilege_type),"               \
				 "    CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES'"       \
				 "         WHEN 'f' THEN 'FUNCTIONS' ELSE 'TYPES' END, " ACL_ROLE(                 \
					 d.defaclrole) ","                                                             \
								   "    CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE "  \
								   "'' END)"                                                       \
								   "  FROM pg_default_acl d JOIN pg_namespace n ON n.oid = "       \
								   "d.defaclnamespace"                                             \
								   "   AND n.nspowner = d.defaclrole, aclexplode(d.defaclacl) x"   \
								   " WHERE d.defaclnamespace = $1 AND x.grantee <> d.defaclrole"   \
								   " GROUP BY d.oid, d.defaclobjtype, d.defaclrole, x.grantee, "   \
								   "x.is_grantable"                                                \
								   ") AS f(phase, place, kind, ddl) ORDER BY f.phase, f.place, "   \
								   "f.ddl"
