// Drives a pool in transaction mode as applications do: many clients, few connections, tenants
// mixed, with every protocol that the drivers have, errors, cancels and clients that vanish.
// Prints TAP.  Each client sees whose rows it gets; one foreign row is a failure.
//
//   NODE_MODULES=DIRECTORY node test/node/interleave.mjs
//
// PGHOST, PGPORT: the pooler.  Logins: pool (of tenancy_app), owners (naive design, for control).
import { createRequire } from 'node:module';
const require = createRequire(`${process.env.NODE_MODULES}/package.json`);
const pg = require('pg');
const postgres = require('postgres');
const knexOf = require('knex');
const { Kysely, PostgresDialect, sql: ksql } = require('kysely');

const host = process.env.PGHOST, port = Number(process.env.PGPORT), database = 'app';
const tenants = ['acme', 'globex'];
const clients = 8, rounds = 40;

let number = 0, failures = 0;
function ok(good, name, detail) {
  console.log(`${good ? 'ok' : 'not ok'} ${++number} - ${name}`);
  if (!good) { failures++; if (detail !== undefined) console.log(`# ${JSON.stringify(detail)}`); }
}
// Reproducible: the same choices in every run.
let seed = 42;
const random = (n) => { seed = (seed * 1103515245 + 12345) & 0x7fffffff; return seed % n; };

// What a transaction of a tenant sees: its own schema, the shared table, and who it is.
const LOOK = `SELECT current_tenant()::text AS who, (SELECT array_agg(DISTINCT owner) FROM note) AS own,
  (SELECT array_agg(DISTINCT owner) FROM shared.note) AS shared`;
const stats = () => ({ good: 0, foreign: [], errors: {} });
function judge(result, tenant, row) {
  const seen = [row.who, ...(row.own ?? []), ...(row.shared ?? [])];
  if (seen.every((who) => who === tenant)) result.good++; else result.foreign.push({ tenant, seen });
}
function note(result, error) { const code = error.code ?? error.message; result.errors[code] = (result.errors[code] ?? 0) + 1; }
async function mixed(work) {
  const result = stats();
  await Promise.all(Array.from({ length: clients }, async (_, client) => {
    for (let round = 0; round < rounds; round++) {
      const tenant = tenants[(client + random(2)) % 2];
      try { await work(tenant, result, client, round); } catch (error) { note(result, error); }
    }
  }));
  return result;
}
function report(name, result, expected = {}) {
  ok(result.foreign.length === 0, `${name}: no foreign row`, result.foreign.slice(0, 3));
  ok(result.good > 0, `${name}: ${result.good} transactions looked`);
  const unknown = Object.keys(result.errors).filter((code) => !(code in expected));
  ok(unknown.length === 0, `${name}: no error but those that were caused`, result.errors);
}

const config = { host, port, database, user: 'pool' };
const insert = (tenant) => [`INSERT INTO note (owner) VALUES ('${tenant}')`, `INSERT INTO shared.note (owner) VALUES ('${tenant}')`];

// pg, one client per connection to the pooler
const pgPool = new pg.Pool({ ...config, max: clients });
pgPool.on('error', () => {});
report('pg, extended protocol', await mixed(async (tenant, result) => {
  const client = await pgPool.connect();
  try {
    await client.query('BEGIN');
    await client.query('SELECT tenant_context_set($1)', [tenant]);
    for (const statement of insert(tenant)) await client.query(statement);
    judge(result, tenant, (await client.query(LOOK, [])).rows[0]);
    await client.query(random(3) === 0 ? 'ROLLBACK' : 'COMMIT');
    client.release();
  } catch (error) { client.release(true); throw error; }
}));
report('pg, several statements in one message', await mixed(async (tenant, result) => {
  const results = await pgPool.query(`BEGIN; SELECT tenant_context_set('${tenant}'); ${insert(tenant).join('; ')}; ${LOOK}; COMMIT`);
  judge(result, tenant, results.find((r) => r.fields.some((f) => f.name === 'who')).rows[0]);
}));
report('pg, errors and savepoints', await mixed(async (tenant, result, client_, round) => {
  const client = await pgPool.connect();
  try {
    await client.query('BEGIN');
    await client.query('SELECT tenant_context_set($1)', [tenant]);
    await client.query('SAVEPOINT s');
    await client.query('SELECT 1/0').catch((e) => note(result, e));
    await client.query('ROLLBACK TO s');
    judge(result, tenant, (await client.query(LOOK)).rows[0]);
    // what a client leaves behind: an aborted transaction, settings, a table, a lock
    await client.query('SET search_path = public; SET LOCAL work_mem = \'1MB\'; CREATE TEMP TABLE IF NOT EXISTS left_behind (x int)');
    if (round % 2) await client.query('SELECT 1/0').catch((e) => note(result, e));
  } finally {
    await client.query('COMMIT').catch(() => {});
    client.release();
  }
}), { 22012: true });
report('pg, clients that vanish', await mixed(async (tenant, result, client_, round) => {
  const client = new pg.Client(config);
  client.on('error', () => {});
  await client.connect();
  await client.query('BEGIN');
  await client.query('SELECT tenant_context_set($1)', [tenant]);
  judge(result, tenant, (await client.query(LOOK)).rows[0]);
  if (round % 2) client.connection.stream.destroy(); else await client.end();
}));
const naked = await mixed(async (tenant, result) => { await pgPool.query('SELECT owner FROM note'); result.good++; });
ok(naked.good === 0 && Object.keys(naked.errors).join() === '42P01', 'pg: without entering, the tables are not there', naked);
const bare = await mixed(async (tenant, result) => { await pgPool.query('SELECT owner FROM shared.note'); result.good++; });
ok(bare.good === 0 && Object.keys(bare.errors).join() === '42501', 'pg: nor is a shared table readable', bare);
await pgPool.end();

// postgres.js pipelines what is awaited together
const sql = postgres({ ...config, max: clients, prepare: false, onnotice: () => {} });
report('postgres.js, pipelined', await mixed(async (tenant, result) => {
  const [, , , rows] = await sql.begin((tx) => [
    tx`SELECT tenant_context_set(${tenant}::text)`,
    tx`INSERT INTO note (owner) VALUES (${tenant})`,
    tx`INSERT INTO shared.note (owner) VALUES (${tenant})`,
    tx.unsafe(LOOK),
  ]);
  judge(result, tenant, rows[0]);
}));
report('postgres.js, cancelled', await mixed(async (tenant, result) => {
  await sql.begin(async (tx) => {
    await tx`SELECT tenant_context_set(${tenant}::text)`;
    judge(result, tenant, (await tx.unsafe(LOOK))[0]);
    const slow = tx`SELECT pg_sleep(0.2)`;
    setTimeout(() => slow.cancel(), 5 + random(20));
    await slow;
  });
}), { 57014: true, CONNECTION_CLOSED: true });
await sql.end();

// query builders
const knex = knexOf({ client: 'pg', connection: config, pool: { min: 0, max: clients } });
report('knex', await mixed(async (tenant, result) => knex.transaction(async (trx) => {
  await trx.raw('SELECT tenant_context_set(?)', [tenant]);
  await trx('note').insert({ owner: tenant });
  await trx.withSchema('shared').table('note').insert({ owner: tenant });
  judge(result, tenant, (await trx.raw(LOOK)).rows[0]);
  if (random(4) === 0) throw Object.assign(new Error('rollback'), { code: 'rollback' });
})), { rollback: true });
await knex.destroy();
const kysely = new Kysely({ dialect: new PostgresDialect({ pool: new pg.Pool({ ...config, max: clients }) }) });
report('kysely', await mixed(async (tenant, result) => kysely.transaction().execute(async (trx) => {
  await ksql`SELECT tenant_context_set(${tenant})`.execute(trx);
  await trx.insertInto('note').values({ owner: tenant }).execute();
  judge(result, tenant, (await ksql.raw(LOOK).execute(trx)).rows[0]);
})));
await kysely.destroy();

// The control: the usual design through the same pooler does leak.
const control = new pg.Pool({ ...config, user: 'owners', max: clients });
const leak = await mixed(async (tenant, result, client_, round) => {
  const client = await control.connect();
  try {
    if (round % 2) await client.query(`SET app.tenant = '${tenant}'`);
    const { rows } = await client.query("SELECT current_setting('app.tenant', true) AS who, array_agg(DISTINCT owner) AS own FROM usual.note");
    if (round % 2 === 0 && rows[0].own) result.foreign.push(rows[0]);
    judge(result, tenant, rows[0]);
  } finally { client.release(); }
});
ok(leak.foreign.length > 0, `control: a plain SET does leak through this pooler (${leak.foreign.length} times)`);
await control.end();

console.log(`1..${number}`);
process.exit(failures > 0 ? 1 : 0);
