// Runs the migrations of Backstage's catalog, as its backend does, as one login.
//
//   NODE_MODULES=DIRECTORY node test/node/migrate.mjs MIGRATIONS up|down|status
//
// PGHOST, PGPORT, PGUSER, PGDATABASE say where.
import { createRequire } from 'node:module';
const require = createRequire(`${process.env.NODE_MODULES}/package.json`);
const [directory, what] = process.argv.slice(2);
const knex = require('knex')({
  client: 'pg',
  connection: { host: process.env.PGHOST, port: Number(process.env.PGPORT), user: process.env.PGUSER, database: process.env.PGDATABASE },
  pool: { min: 0, max: 2 },
  migrations: { directory },
});
try {
  if (what === 'up') console.log((await knex.migrate.latest())[1].length);
  else if (what === 'down') console.log((await knex.migrate.rollback())[1].length);
  else console.log((await knex.migrate.list())[0].length);
} catch (error) {
  console.log(`failed: ${error.message}`);
  process.exitCode = 1;
}
await knex.destroy();
