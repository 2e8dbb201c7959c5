// Serves requests for some seconds, one after the other, and prints how many a second: "here"
// asks rate_limit_enforce and reads a row in one statement; "there" asks Redis, then reads.
import { createRequire } from 'node:module';
import net from 'node:net';
const require = createRequire(`${process.env.NODE_MODULES}/package.json`);
const pg = require('pg');

// GCRA as redis-cell has it, in Lua: key, interval ns, tolerance ns, cost
const script = `local now = redis.call('TIME')
local t = now[1] * 1000000 + now[2]
local tat = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), t)
local new = tat + ARGV[1] * ARGV[3]
if t < new - ARGV[2] then return {1, new - ARGV[2] - t} end
redis.call('SET', KEYS[1], string.format('%d', new), 'PX', math.ceil((new - t) / 1000) + 1)
return {0, math.floor((ARGV[2] - (new - t)) / ARGV[1])}`;
const encode = (...parts) => `*${parts.length}\r\n${parts.map((p) => `$${Buffer.byteLength(String(p))}\r\n${p}\r\n`).join('')}`;

const client = new pg.Client({ host: process.env.PGHOST, port: Number(process.env.PGPORT), user: 'app', database: 'app' });
await client.connect();
const where = process.argv[2];
let ask;
if (where === 'there') {
  const socket = net.connect(process.env.REDIS);
  const reply = () => new Promise((resolve) => socket.once('data', resolve));
  socket.write(encode('SCRIPT', 'LOAD', script));
  const sha = (await reply()).toString().split('\r\n')[1];
  ask = async () => {
    socket.write(encode('EVALSHA', sha, 1, 'bench:/api/items', 1, 1000000000, 1));
    return (await reply()).toString().startsWith('*2\r\n:0');
  };
}
const read = { name: 'read', text: 'SELECT id, body FROM item WHERE id = $1' };
const both = { name: 'both', text: `SELECT i.id, i.body, r.limited, r.retry_after FROM rate_limit_enforce('bench', '/api/items') r
  LEFT JOIN item i ON NOT r.limited AND i.id = $1` };
let served = 0;
const end = process.hrtime.bigint() + BigInt(process.env.SECONDS_PER_ROUND) * 1000000000n;
const started = process.hrtime.bigint();
while (process.hrtime.bigint() < end) {
  const id = 1 + (served * 7919) % 10000;
  let row;
  if (where === 'here') row = (await client.query({ ...both, values: [id] })).rows[0];
  else if (await ask()) row = (await client.query({ ...read, values: [id] })).rows[0];
  if (row?.id !== id) throw new Error('no row');
  served++;
}
console.log(served / (Number(process.hrtime.bigint() - started) / 1e9));
await client.end();
process.exit(0);
