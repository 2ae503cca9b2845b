// The pipe protocol of ../README.md: one JSON object a line in, one out, one at a time.
import { createInterface } from "node:readline"

export const OPAQUE_EXTENSION = 0xf0a1
export const OPAQUE_PROPOSAL = 0xf0a2
export const APP_DATA_DICTIONARY = 0x0006

export const bytes = (text) => new Uint8Array(Buffer.from(text ?? "", "base64"))
export const base64 = (octets) => Buffer.from(octets).toString("base64")

export async function serve(peer) {
  for await (const line of createInterface({ input: process.stdin })) {
    let request = {}
    let answer
    try {
      request = JSON.parse(line)
      if (typeof peer[request.op] !== "function") throw new Error(`unknown op ${request.op}`)
      answer = { id: request.id, result: (await peer[request.op](request)) ?? {} }
    } catch (error) {
      answer = { id: request.id ?? 0, error: String(error?.stack ?? error).split("\n").slice(0, 4).join(" | ") }
    }
    process.stdout.write(JSON.stringify(answer) + "\n")
  }
}
