// Calls the official SDK as told by JSON lines on standard input, one answer line each.
//   node driver.mjs PATH_TO_THE_SDK
import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'

const { OpenMeter } = await import(pathToFileURL(`${process.argv[2]}/dist/index.js`))

async function call({ url, token, events }) {
  const client = new OpenMeter({ baseUrl: url, apiKey: token })
  try {
    const result = await client.events.ingest(events)
    return { ok: true, result: result ?? null }
  } catch (error) {
    const { name, message, status, title } = error
    return { ok: false, name, message, status, title, cause: error.cause?.code }
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await call(JSON.parse(line))))
}
