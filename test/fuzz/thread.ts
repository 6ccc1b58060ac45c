import { parentPort, workerData } from 'node:worker_threads';
import { readCorpus } from './corpus.ts';
import { Dice, mutate } from './mutate.ts';
import { type Outcome, outcomeOf, type Target } from './target.ts';
import { TARGETS } from './targets.ts';

/** Feeds one parser, in a thread of its own, so that one that hangs or eats all memory is noticed. */

/** What the thread is to do. */
export type FuzzTask = {
  readonly name: string;
  readonly seconds: number;
  readonly seed: number;
  /** Holds the length of the input under way, and the input. */
  readonly current: SharedArrayBuffer;
};
export type FuzzMessage =
  | { readonly kind: 'alive' }
  | { readonly kind: 'new'; readonly input: Uint8Array }
  | { readonly kind: 'failed'; readonly input: Uint8Array; readonly message: string }
  | { readonly kind: 'done'; readonly inputs: number; readonly ends: number };

/** Most inputs that are changed further. */
const MAX_POOL = 300;
const MAX_INPUT = 64 * 1024;
/** Longest time for one input, in milliseconds. */
const SLOW_MS = 10_000;
const { name, seconds, seed, current } = workerData as FuzzTask;
const say = (message: FuzzMessage) => parentPort?.postMessage(message);

async function read(target: Target, input: Buffer): Promise<Outcome> {
  const shared = Buffer.from(current);
  const part = input.subarray(0, shared.length - 4);
  shared.writeUInt32LE(part.length);
  part.copy(shared, 4);
  const start = performance.now();
  const outcome = await outcomeOf(target, input);
  if (performance.now() - start < SLOW_MS) return outcome;
  return { end: 'slow', failure: new Error('one input took over ten seconds') };
}

/** Takes pieces out as long as the input fails in the same way. */
async function minimise(target: Target, input: Buffer, end: string): Promise<Buffer> {
  let found = input;
  const until = performance.now() + SLOW_MS;
  for (let size = input.length >> 1; size > 0; size >>= 1) {
    for (let at = 0; at < found.length && performance.now() < until; ) {
      const shorter = Buffer.concat([found.subarray(0, at), found.subarray(at + size)]);
      if ((await read(target, shorter)).end === end) found = shorter;
      else at += size;
    }
  }
  return found;
}

async function run(target: Target): Promise<void> {
  const dice = new Dice(seed);
  const words = (target.words ?? []).map((word) =>
    typeof word === 'string' ? Buffer.from(word, 'latin1') : Buffer.from(word),
  );
  const ends = new Set<string>();
  let inputs = 0;
  const take = async (input: Buffer, pool: Buffer[], isOld = false) => {
    inputs += 1;
    const { end, failure } = await read(target, input);
    if (failure !== undefined) {
      const smallest = await minimise(target, input, end);
      const { stack, message } = failure as Error;
      say({ kind: 'failed', input: smallest, message: stack ?? message });
      return false;
    }
    if (ends.has(end) || ends.size >= MAX_POOL) return true;
    ends.add(end);
    pool.push(input);
    if (!isOld) say({ kind: 'new', input });
    return true;
  };
  const pool: Buffer[] = [];
  for (const bytes of [...(await target.samples()), ...readCorpus(name)]) {
    const input = Buffer.from(bytes);
    pool.push(input);
    if (!(await take(input, [], true))) return;
  }
  const deadline = performance.now() + seconds * 1000;
  let told = performance.now();
  while (performance.now() < deadline) {
    const base = pool[dice.below(pool.length)] ?? Buffer.alloc(0);
    const input = mutate(base, dice, words);
    if (input.length > MAX_INPUT) continue;
    if (!(await take(input, pool))) return;
    if (performance.now() - told < 500) continue;
    told = performance.now();
    say({ kind: 'alive' });
    // Sync parsers leave no room for anything else.
    await new Promise((resolve) => setImmediate(resolve));
  }
  say({ kind: 'done', inputs, ends: ends.size });
}

const target = TARGETS.find((one) => one.name === name);
if (target === undefined) throw new Error(`no parser is called ${name}`);
await run(target);
