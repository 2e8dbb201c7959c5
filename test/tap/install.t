#!/bin/bash
# Who may create in the schema that the extension is put into.
. "$(dirname "$0")/lib.sh"
cluster_start --set tenancy.workers=off
create() { sql "CREATE EXTENSION pg_tenancy" "$1"; }

sql "CREATE ROLE landlord" postgres >/dev/null
sql "CREATE ROLE guest" postgres >/dev/null
sql "CREATE DATABASE open" postgres >/dev/null
sql "GRANT CREATE ON SCHEMA public TO PUBLIC" open >/dev/null
like "$(create open)" '42501.*everybody may create' "not everybody"
sql "CREATE DATABASE closed" postgres >/dev/null
is "$(create closed)" "" "superusers are not warned of"
sql "CREATE DATABASE rented OWNER landlord" postgres >/dev/null
sql "GRANT CREATE ON SCHEMA public TO guest" rented >/dev/null
said=$(create rented)
like "$said" 'WARNING.*role "guest" may create' "somebody is"
like "$said" 'WARNING.*role "landlord" may create' "and so is the owner of the database"
is "$(sql "SELECT count(*) FROM pg_extension WHERE extname = 'pg_tenancy'" rented)" 1 "which is no obstacle"
done_testing
