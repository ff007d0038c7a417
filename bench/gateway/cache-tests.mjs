// Counts what http-cache-tests found: `node cache-tests.mjs FOLDER-OF-THE-SUITE RESULTS.json [--failed]`.
import { existsSync, readFileSync } from 'node:fs'
import { pathToFileURL } from 'node:url'

const [folder, file, option] = process.argv.slice(2)
const load = async name => (await import(pathToFileURL(`${folder}/tests/${name}.mjs`))).default
const suites = await load('index')
// Older releases have this one beside the others.
if (existsSync(`${folder}/tests/surrogate-control.mjs`)) suites.push(await load('surrogate-control'))
const results = JSON.parse(readFileSync(file, 'utf8'))
const counts = { required: [0, 0], optimal: [0, 0], check: [0, 0] }
for (const test of suites.flatMap(suite => suite.tests)) {
  if (test.browser_only) continue
  const kind = test.kind ?? 'required'
  const result = results[test.id]
  counts[kind][1] += 1
  if (result === true) counts[kind][0] += 1
  else if (option === '--failed' && kind !== 'check') console.log(`${kind} ${test.id}: ${result}`)
}
for (const [kind, [passed, all]] of Object.entries(counts)) console.log(`${kind} ${passed} ${all}`)
