// Signs a tenant token with Node's standard library: doc/token.md shows this file.
//
//   node test/token/sign.mjs PRIVATE_KEY.pem KEY_ID SYSTEM_IDENTIFIER DATABASE TENANT [ACTOR]
import { createPrivateKey, randomBytes, sign } from 'node:crypto';
import { readFileSync } from 'node:fs';

export function tenantToken({ privateKey, keyId, audience, tenant, actor = '', ttl = 60,
                              readOnly = false, noDdl = false, support = false }) {
  const name = Buffer.from(actor, 'utf8');
  const payload = Buffer.alloc(61 + name.length);
  payload.writeUInt8(1, 0);                                       // version
  payload.writeUInt32BE(keyId, 1);
  payload.writeBigUInt64BE(BigInt(audience.system_identifier), 5);
  payload.writeUInt32BE(audience.database, 13);
  Buffer.from(tenant.replaceAll('-', ''), 'hex').copy(payload, 17);
  payload.writeUInt8(readOnly * 1 + noDdl * 2 + support * 4, 33); // flags
  payload.writeBigInt64BE(BigInt(Date.now()), 34);                // issued
  payload.writeUInt16BE(ttl, 42);
  randomBytes(16).copy(payload, 44);                              // id
  payload.writeUInt8(name.length, 60);
  name.copy(payload, 61);
  const signed = 't1.' + payload.toString('base64url');
  return signed + '.' + sign(null, Buffer.from(signed), privateKey).toString('base64url');
}

if (import.meta.url === `file://${process.argv[1]}`) {
  const [key, keyId, system_identifier, database, tenant, actor] = process.argv.slice(2);
  console.log(tenantToken({
    privateKey: createPrivateKey(readFileSync(key)), keyId: Number(keyId),
    audience: { system_identifier, database: Number(database) }, tenant, actor,
  }));
}
