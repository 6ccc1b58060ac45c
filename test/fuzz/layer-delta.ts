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
import { Dice, mutate } from './mutate.ts';

/**
 * Mutates a real delta, its bytes and its unpacked streams, and applies what comes out:
 * `node test/fuzz/layer-delta.ts [ROUNDS] [SEED]`. Whatever a delta says, the reader must end in
 * bytes or in an error that is meant for it, and agree with the simple reader about the bytes.
 */
const MEANT = [
  ...['DELTA_INVALID', 'DELTA_SOURCE_MISMATCH', 'LIMIT_EXCEEDED', 'UNSUPPORTED'],
  // A recipe that was changed asks for other bytes than the encoder makes.
  'ENCODER_MISMATCH',
];

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
    accepted += (await checkLayerDelta(bad, round + seed, source, simple)) ? 1 : 0;
  }
  return accepted;
}

/** Whether a delta is accepted. Throws where it ends in an error of its own, or the readers disagree. */
export async function checkLayerDelta(
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
