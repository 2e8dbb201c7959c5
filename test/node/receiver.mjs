// A receiver of webhooks, for test/tap/webhook.t: verifies each with the official library of
// Standard Webhooks (v1) or Node's own Ed25519 (v1a), and answers as its path says.
//
//   node receiver.mjs DIRECTORY   # writes DIRECTORY/port; reads DIRECTORY/key.<path>; logs to DIRECTORY/log
import { createServer } from 'node:http'
import { appendFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { createPublicKey, verify } from 'node:crypto'
import { createRequire } from 'node:module'

const directory = process.argv[2]
const { Webhook } = createRequire(`${process.argv[3]}/`)('standardwebhooks')
const seen = {}

// RFC 8410: the DER of an Ed25519 public key is this prefix and 32 bytes
const ed25519 = raw => createPublicKey({ key: Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), raw]), format: 'der', type: 'spki' })

function isGenuine(name, headers, body) {
  const keys = existsSync(`${directory}/key.${name}`) ? readFileSync(`${directory}/key.${name}`, 'utf8').trim().split('\n') : []
  return keys.map(key => {
    if (key.startsWith('whpk_')) {
      const content = Buffer.from(`${headers['webhook-id']}.${headers['webhook-timestamp']}.${body}`)
      return headers['webhook-signature'].split(' ').some(s =>
        s.startsWith('v1a,') && verify(null, content, ed25519(Buffer.from(key.slice(5), 'base64')), Buffer.from(s.slice(4), 'base64')))
    }
    try { new Webhook(key).verify(body, headers); return true } catch { return false }
  })
}

const answers = {
  gone: () => [410], fail: () => [500], redirect: () => [302, { location: '/ok' }], slow: () => null,
  busy: n => n === 1 ? [503, { 'retry-after': '2' }] : [200]
}

const server = createServer((request, response) => {
  const chunks = []
  request.on('data', chunk => chunks.push(chunk))
  request.on('end', () => {
    const name = request.url.slice(1)
    const body = Buffer.concat(chunks).toString()
    seen[name] = (seen[name] ?? 0) + 1
    appendFileSync(`${directory}/log`, JSON.stringify({
      name, id: request.headers['webhook-id'], genuine: isGenuine(name, request.headers, body), type: JSON.parse(body).type, body: JSON.parse(body)
    }) + '\n')
    const answer = (answers[name] ?? (() => [200]))(seen[name])
    if (answer === null) return
    response.writeHead(...answer)
    response.end('thank you')
  })
})
server.listen(0, '127.0.0.1', () => writeFileSync(`${directory}/port`, String(server.address().port)))
