// The steps of ../rust/wire/src/bench.rs, through the same calls.
import { base64 } from "./wire.mjs"

export const sizes = [2, 10, 100, 500, 1000]

const budgetMillis = 1500

class Row {
  samples = []
  cpu = 0
  started = performance.now()

  more() {
    const n = this.samples.length
    return n < 3 || (n < 100 && performance.now() - this.started < budgetMillis)
  }

  async time(f) {
    const used = process.cpuUsage()
    const start = process.hrtime.bigint()
    const out = await f()
    this.samples.push(Number(process.hrtime.bigint() - start))
    const { user, system } = process.cpuUsage(used)
    this.cpu += 1000 * (user + system)
    return out
  }

  print(peer, suite, op, members) {
    this.samples.sort((a, b) => a - b)
    const { name, version, crypto } = peer.capabilities()
    const rounds = this.samples.length
    const row = { peer: name, version, crypto, suite, op, members, rounds }
    const cpu_ns = Math.round(this.cpu / rounds)
    console.log(JSON.stringify({ ...row, cpu_ns, min_ns: this.samples[0], median_ns: this.samples[rounds >> 1] }))
  }
}

export async function bench(p, suite, members) {
  const name = (i) => `member-${i}`
  for (let i = 0; i <= members; i++) {
    await p.new_client({ client: name(i), suite, tree_extension: true })
  }
  const founder = name(0)
  const group = (text) => base64(Buffer.from(text))

  const adds = []
  for (let i = 1; i < members; i++) {
    adds.push({ kind: "add", key_package: (await p.key_package({ client: name(i) })).message })
  }
  let row = new Row()
  while (row.more()) {
    p.forget({ client: founder })
    await row.time(async () => {
      await p.create_group({ client: founder, group_id: group(`group-${row.samples.length}`) })
      await p.commit({ client: founder, proposals: adds })
      p.merge({ client: founder })
    })
  }
  row.print(p, suite, "create_add", members)

  row = new Row()
  const second = name(1)
  while (row.more()) {
    p.forget({ client: founder })
    adds[0] = { kind: "add", key_package: (await p.key_package({ client: second })).message }
    await p.create_group({ client: founder, group_id: group(`joined-${row.samples.length}`) })
    const { welcome } = await p.commit({ client: founder, proposals: adds })
    p.merge({ client: founder })
    await row.time(() => p.join({ client: second, message: welcome }))
    p.forget({ client: second })
  }
  row.print(p, suite, "join_after_add", members)

  row = new Row()
  while (row.more()) {
    await row.time(() => p.commit({ client: founder }))
    p.discard({ client: founder })
  }
  row.print(p, suite, "commit_after_add", members)

  p.forget({ client: founder })
  await p.create_group({ client: founder, group_id: group("full") })
  for (let i = 1; i < members - 1; i++) await enter(p, founder, name(i))
  const last = name(members - 1)
  row = new Row()
  while (row.more()) {
    const add = { kind: "add", key_package: (await p.key_package({ client: last })).message }
    const out = await p.commit({ client: founder, proposals: [add] })
    await row.time(() => p.join({ client: last, message: out.welcome }))
    p.forget({ client: last })
    p.discard({ client: founder })
  }
  row.print(p, suite, "join", members)
  await enter(p, founder, last)

  const [commits, processes] = [new Row(), new Row()]
  while (commits.more()) {
    const { commit } = await commits.time(async () => {
      const out = await p.commit({ client: founder })
      p.merge({ client: founder })
      return out
    })
    await processes.time(() => p.process({ client: last, message: commit }))
  }
  commits.print(p, suite, "commit_full", members)
  processes.print(p, suite, "process", members)

  const [sends, receives] = [new Row(), new Row()]
  const data = base64(Buffer.alloc(100, 0x5a))
  while (sends.more()) {
    const { message } = await sends.time(() => p.encrypt({ client: founder, data }))
    await receives.time(() => p.process({ client: last, message }))
  }
  sends.print(p, suite, "send", members)
  receives.print(p, suite, "receive", members)
}

async function enter(p, founder, joiner) {
  const info = await p.group_info({ client: founder })
  const out = await p.join_external({ client: joiner, message: info.group_info, ratchet_tree: info.ratchet_tree })
  await p.process({ client: founder, message: out.message })
}
