-- Ids are UUIDs of version 7 (RFC 9562).
SELECT * FROM no_plan();
CREATE TABLE made AS SELECT n, tenancy.id_new() AS id FROM generate_series(1, 10000) n;
SELECT is((SELECT count(DISTINCT id) FROM made), 10000::bigint, 'no two are equal');
SELECT is((SELECT count(*) FROM made WHERE id::text !~ '^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$'), 0::bigint, 'all are of version 7 and variant 10');
SELECT is((SELECT count(*) FROM made a JOIN made b ON b.n = a.n + 1 WHERE b.id <= a.id), 0::bigint, 'those of a session ascend');
SELECT is((SELECT count(*) FROM made WHERE abs(extract(epoch FROM clock_timestamp()) * 1000 - ('x' || replace(left(id::text, 13), '-', ''))::bit(48)::bigint) > 60000), 0::bigint, 'their first 48 bits are milliseconds since 1970');
SELECT is((SELECT count(DISTINCT right(id::text, 12)) FROM made), 10000::bigint, 'their last are random');
SELECT * FROM finish();
