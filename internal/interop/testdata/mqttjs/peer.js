// MQTT.js as a counterpart of the interop matrix: commands come on standard
// input and answers go to standard output, one JSON object a line. See
// counterpart_test.go for what they hold.
'use strict'

const { createHash } = require('node:crypto')
const { createInterface } = require('node:readline')
const mqtt = require('mqtt')
const { version } = require('mqtt/package.json')

const clients = new Map() // by name: { client, open: ends what still waits, failed }

const say = (line) => process.stdout.write(JSON.stringify(line) + '\n')

// payload is what payloadOf in the tests makes of a size.
function payload ({ size, utf8 }) {
  const block = utf8
    ? Buffer.from(Array.from({ length: 95 }, (_, i) => 32 + i))
    : Buffer.from(Array.from({ length: 251 }, (_, i) => i))
  return Buffer.alloc(size, block)
}

// pairs gives user properties as MQTT.js has them, an object of names, as a list.
const pairs = (user) => Object.entries(user ?? {}).flatMap(
  ([name, values]) => [values].flat().map((value) => [name, value]))

function properties (m) {
  const p = {}
  if (m.utf8) p.payloadFormatIndicator = true
  if (m.expiry) p.messageExpiryInterval = m.expiry
  if (m.contentType) p.contentType = m.contentType
  if (m.responseTopic) p.responseTopic = m.responseTopic
  if (m.correlation !== null) p.correlationData = Buffer.from(m.correlation, 'base64')
  if (m.alias) p.topicAlias = m.alias
  for (const [name, value] of m.user ?? []) {
    p.userProperties ??= {}
    const values = (p.userProperties[name] ??= [])
    values.push(value)
  }
  return p
}

function received (name, topic, body, packet) {
  const p = packet.properties ?? {}
  say({
    client: name,
    message: {
      topic,
      qos: packet.qos,
      retain: packet.retain,
      dup: packet.dup,
      size: body.length,
      sha256: createHash('sha256').update(body).digest('hex'),
      utf8: Boolean(p.payloadFormatIndicator),
      expiry: p.messageExpiryInterval ?? 0,
      contentType: p.contentType ?? '',
      responseTopic: p.responseTopic ?? '',
      correlation: p.correlationData === undefined ? null : p.correlationData.toString('base64'),
      user: pairs(p.userProperties),
      subscriptionIds: p.subscriptionIdentifier === undefined ? [] : [p.subscriptionIdentifier].flat()
    }
  })
}

const commands = {
  connect (c) {
    return new Promise((resolve, reject) => {
      const p = {}
      if (c.topicAliasMaximum) p.topicAliasMaximum = c.topicAliasMaximum
      if (c.maximumPacketSize) p.maximumPacketSize = c.maximumPacketSize
      const client = mqtt.connect({
        protocol: 'mqtt',
        host: c.host,
        port: c.port,
        protocolVersion: 5,
        clientId: c.client,
        clean: true,
        reconnectPeriod: 0,
        properties: p
      })
      const entry = { client, open: new Set(), failed: false }
      const fail = (why) => {
        entry.failed = true
        reject(new Error(why))
        for (const waiting of entry.open) waiting(new Error(why))
      }
      client.on('message', (topic, body, packet) => received(c.client, topic, body, packet))
      client.on('error', (e) => fail(e.message))
      client.on('disconnect', (d) => fail(`DISCONNECT 0x${d.reasonCode.toString(16)}`))
      client.on('close', () => fail('the connection is closed'))
      client.on('connect', () => {
        client.stream.setNoDelay?.(true)
        resolve()
      })
      clients.set(c.client, entry)
    })
  },

  subscribe (c) {
    const options = { qos: c.qos, rap: c.retainAsPublished }
    if (c.subscriptionId) options.properties = { subscriptionIdentifier: c.subscriptionId }
    return new Promise((resolve, reject) => {
      clients.get(c.client).client.subscribe(c.filter, options, (e) => e ? reject(e) : resolve())
    })
  },

  publish (c) {
    const { client, open } = clients.get(c.client)
    return Promise.all(c.messages.map((m) => new Promise((resolve, reject) => {
      const done = (e) => {
        open.delete(done)
        e ? reject(e) : resolve()
      }
      open.add(done)
      client.publish(m.topic, payload(m), { qos: m.qos, retain: m.retain, properties: properties(m) }, done)
    })))
  },

  end (c) {
    const { client, failed } = clients.get(c.client)
    clients.delete(c.client)
    return client.endAsync(failed) // otherwise it would wait for acknowledgements that cannot come
  }
}

say({ hello: `MQTT.js ${version} on Node.js ${process.versions.node}` })
const lines = createInterface({ input: process.stdin })
lines.on('line', (line) => {
  const c = JSON.parse(line)
  new Promise((resolve) => resolve(commands[c.do](c))).then(
    () => say({ id: c.id }),
    (e) => say({ id: c.id, error: e.message || String(e) }))
})
lines.on('close', () => process.exit(0))
