// `node main.mjs` serves; `node main.mjs bench [suite [size…]]` measures.
import { bench, sizes } from "./bench.mjs"
import { Peer } from "./peer.mjs"
import { serve } from "./wire.mjs"

const [command, suite, ...wanted] = process.argv.slice(2)
if (command === undefined) {
  await serve(new Peer())
} else if (command === "bench") {
  for (const members of wanted.length > 0 ? wanted : sizes) {
    await bench(new Peer(), Number(suite ?? 1), Number(members))
  }
} else {
  console.error(`unknown command ${command}: want nothing, or bench [suite [size…]]`)
  process.exit(2)
}
