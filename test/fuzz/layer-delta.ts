import { argv, stdout } from 'node:process';
import { sha256 } from '../../shared/digest.ts';
import { SnapgateError } from '../../shared/errors.ts';
import { applyInMemory } from '../support/layer-delta.ts';
import {
  NOT_TRIED,
  sampleLayerDelta,
  sampleOptions,
  streamsOf,
  withHeader,
  withStreams,
} from '../support/sample-layer-delta.ts';
import { simpleApply } from '../support/simple-layer-delta-reader.ts';

/**
 * Mutates a real delta, its bytes and its unpacked streams, and applies what comes out:
 * `node test/fuzz/layer-delta.ts [ROUNDS] [SEED]`. Whatever a delta says, the reader must end in
 * bytes or in an error that is meant for it, and agree with the simple reader about the bytes.
 */
const MEANT = [
  ...['DELTA_INVALID', 'DELTA_SOURCE_MISMATCH', 'LIMIT_EXCEEDED', 'UNSUPPORTED'],
  'ENCODER_MISMATCH',
];

class Dice {
  #state: number;
  constructor(seed: number) {
    this.#state = seed | 0;
  }
  below(count: number): number {
    this.#state = (Math.imul(this.#state, 1_664_525) + 1_013_904_223) | 0;
    return Math.floor(((this.#state >>> 8) / 2 ** 24) * count);
  }
}

function mutate(bytes: Buffer, dice: Dice): Buffer {
  let found = Buffer.from(bytes);
  for (let count = 1 + dice.below(3); count > 0; count -= 1) {
    const at = dice.below(found.length + 1);
    switch (dice.below(5)) {
      case 0:
        if (at < found.length) found[at] = dice.below(256);
        break;
      case 1:
        if (at < found.length) found[at] = (found[at] ?? 0) ^ (1 << dice.below(8));
        break;
      case 2:
        found = Buffer.concat([found.subarray(0, at), found.subarray(at + 1 + dice.below(4))]);
        break;
      case 3: {
        const more = Buffer.from(Array.from({ length: 1 + dice.below(4) }, () => dice.below(256)));
        found = Buffer.concat([found.subarray(0, at), more, found.subarray(at)]);
        break;
      }
      default: {
        const from = dice.below(found.length + 1);
        const copy = found.subarray(from, from + dice.below(12));
        found = Buffer.concat([found.subarray(0, at), copy, found.subarray(at)]);
      }
    }
  }
  return found;
}

/** Runs so many rounds and says how many deltas were still accepted. Throws where one is not as it must be. */
export async function fuzzLayerDelta(rounds: number, seed: number): Promise<number> {
  const { delta, source, simple } = await sampleLayerDelta();
  const streams = await streamsOf(delta);
  const { delta: checkpoints } = await sampleLayerDelta(true);
  let accepted = 0;
  for (let round = 0; round < rounds; round += 1) {
    const dice = new Dice(seed + round);
    let bad: Buffer;
    if (dice.below(4) === 0) bad = mutate(dice.below(2) === 0 ? delta : checkpoints, dice);
    else {
      const which = dice.below(streams.length);
      const changed = streams.map((bytes, i) => (i === which ? mutate(bytes, dice) : bytes));
      bad = withStreams(delta, changed);
    }
    accepted += (await check(bad, round + seed, source, simple)) ? 1 : 0;
  }
  return accepted;
}

async function check(
  bad: Buffer,
  seed: number,
  source: Parameters<typeof applyInMemory>[1],
  simple: Parameters<typeof simpleApply>[1],
): Promise<boolean> {
  let found: Buffer | undefined;
  let failure: unknown;
  let simpleFailure: unknown;
  try {
    found = await applyInMemory(bad, source, sampleOptions);
  } catch (error) {
    failure = error;
    const isMeant = error instanceof SnapgateError && MEANT.includes(error.code);
    if (!isMeant) throw new Error(`seed ${seed} ends in an error of its own`, { cause: error });
  }
  let other: Buffer | undefined;
  // With the digest that came out the simple reader, which checks it, may accept as well.
  const judged = found === undefined ? bad : withHeader(bad, { outputDigest: sha256(found) });
  try {
    other = simpleApply(judged, simple);
  } catch (error) {
    simpleFailure = error;
  }
  if (simpleFailure instanceof Error && simpleFailure.message === NOT_TRIED)
    return found !== undefined;
  const agree = found === undefined ? other === undefined : other?.equals(found) === true;
  if (!agree) {
    const who =
      found === undefined
        ? `the simple one (not: ${failure})`
        : `the real one (not: ${simpleFailure})`;
    throw new Error(`seed ${seed}: the readers disagree; accepted by ${who}`);
  }
  return found !== undefined;
}

if (argv[1]?.endsWith('fuzz/layer-delta.ts')) {
  const rounds = Number(argv[2] ?? 20_000);
  const accepted = await fuzzLayerDelta(rounds, Number(argv[3] ?? Date.now() % 1e9));
  stdout.write(
    `${rounds} mutated deltas: ${accepted} accepted, the others refused as they must be\n`,
  );
}
