import { describe, expect, it } from 'vitest';
import type { LayerDeltaHeader } from '../../../../shared/delta/layer-delta/header.ts';
import type { Checkpoint } from '../../../../shared/delta/layer-delta/segment-reader.ts';
import { applyInMemory } from '../../../support/layer-delta.ts';
import { sampleLayerDelta, sampleOptions } from '../../../support/sample-layer-delta.ts';
import { simpleApply } from '../../../support/simple-layer-delta-reader.ts';

type Found = { readonly checkpoint: Checkpoint; readonly header: LayerDeltaHeader };

/** A delta with checkpoints, and those that the reader meets. */
async function scene() {
  const sample = await sampleLayerDelta(true);
  const found: Found[] = [];
  const whole = await applyInMemory(sample.delta, sample.source, {
    ...sampleOptions,
    onCheckpoint: (checkpoint, header) => found.push({ checkpoint, header }),
  });
  const goOn = (resume: Found, delta = sample.delta) =>
    applyInMemory(delta.subarray(resume.checkpoint.deltaOffset), sample.source, {
      ...sampleOptions,
      resume,
    });
  return { ...sample, found, whole, goOn };
}

describe('checkpoints', () => {
  it('change nothing about what comes out, for either reader', async () => {
    const { delta, whole, target, simple, found } = await scene();
    expect(whole.equals(target)).toBe(true);
    expect(simpleApply(delta, simple).equals(target)).toBe(true);
    // None where a part lives, and none in the place of another.
    expect(found.map(({ checkpoint }) => checkpoint.outputPosition)).toEqual(
      [...new Set(found.map(({ checkpoint }) => checkpoint.outputPosition))].sort((a, b) => a - b),
    );
    expect(found).toHaveLength(6);
  });

  it('let a reader go on at each of them', async () => {
    const { found, goOn, target } = await scene();
    for (const one of found) {
      const rest = await goOn(one);
      expect(rest.equals(target.subarray(one.checkpoint.outputPosition))).toBe(true);
    }
  });

  it('let a reader that was cut off go on with what it had', async () => {
    const { delta, source, goOn, target } = await scene();
    for (let cut = 100; cut < delta.length; cut += 97) {
      let last: Found | undefined;
      const reading = applyInMemory(delta.subarray(0, cut), source, {
        ...sampleOptions,
        onCheckpoint: (checkpoint, header) => {
          last = { checkpoint, header };
        },
      });
      await expect(reading).rejects.toMatchObject({ code: 'DELTA_INVALID' });
      if (last === undefined) continue;
      const { outputPosition } = last.checkpoint;
      expect((await goOn(last)).equals(target.subarray(outputPosition))).toBe(true);
    }
  });

  it('are refused where they are not what the reader wrote down', async () => {
    const { found, goOn, delta } = await scene();
    const [, second] = found as [Found, Found];
    const wrong = (change: Partial<Checkpoint>): Found => ({
      ...second,
      checkpoint: { ...second.checkpoint, ...change },
    });
    const { outputPosition, deltaOffset } = second.checkpoint;
    for (const one of [
      wrong({ outputPosition: outputPosition + 512 }),
      wrong({ deltaOffset: deltaOffset + 1 }),
    ]) {
      await expect(goOn(one)).rejects.toMatchObject({ code: 'DELTA_INVALID' });
    }
    const greedy = { ...second, header: { ...second.header, outputSize: 2 ** 50 } };
    await expect(goOn(greedy)).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' });
    await expect(goOn(second, Buffer.concat([delta, Buffer.of(0)]))).rejects.toMatchObject({
      code: 'DELTA_INVALID',
    });
  });
});
