import { execFileSync, spawnSync } from 'node:child_process';
import { beforeAll, describe, expect, it } from 'vitest';
import { findEncoders } from '../../../gateway/delta/zstd-program.ts';
import { type Encoders, encoderFor, repack } from '../../../shared/recompress/encoders.ts';
import { bytesSource } from '../../../shared/recompress/part.ts';
import { findRecipe } from '../../../shared/recompress/prove.ts';
import { parseZstdVersion } from '../../../shared/recompress/zstd/program.ts';
import { collect, contentIn, inChunks } from '../../support/bytes.ts';

const printed = spawnSync('zstd', ['--version'], { encoding: 'utf8' });
const missing = printed.status !== 0;
const name = `zstd-${parseZstdVersion(printed.stdout ?? '')}`;
let encoders: Encoders;

beforeAll(async () => {
  encoders = await findEncoders();
});

/** More than two jobs of the multi-threaded mode at level 1, which are of 2 MiB each. */
const content = Buffer.from(
  Array.from({ length: 400_000 }, (_, line) => `${line * 7919} of ${line % 811}\n`).join(''),
);

describe('the zstd program', () => {
  it('packs again what it packed, in both modes', async (ctx) => {
    ctx.skip(missing, 'zstd is not installed');
    for (const [mode, workers] of [['-T2', 1] as const, ['--single-thread', 0] as const]) {
      const original = execFileSync('zstd', ['-q', '-c', '-1', mode], {
        input: content,
        maxBuffer: 1 << 28,
      });
      const part = { kind: 'packed', offset: 0, size: original.length, format: 'zstd' } as const;
      const again = { size: content.length, open: () => inChunks(content, 300_000) };
      const only = new Map([
        [name, encoderFor(encoders, { encoder: name, settings: {}, frame: content })],
      ]);
      const budget = { maxMemoryBytes: 2 ** 30 };
      const recipe = await findRecipe(only, bytesSource(original), part, again, budget);
      expect(recipe).toMatchObject({ encoder: name, settings: { level: 1, workers } });
    }
  });

  it('is ended when the consumer stops early, and passes on what reading throws', async (ctx) => {
    ctx.skip(missing, 'zstd is not installed');
    const frame = Buffer.from('28b52ffd0448', 'hex');
    const recipe = { encoder: name, settings: { level: 1, workers: 1 }, frame };
    for await (const bytes of repack(encoders, recipe, contentIn(content, 1000))) {
      expect(bytes.length).toBeGreaterThan(0);
      break;
    }
    async function* broken() {
      yield content;
      throw new Error('the disk is gone');
    }
    await expect(
      collect(repack(encoders, recipe, { size: content.length, open: broken })),
    ).rejects.toMatchObject({
      code: 'COMMAND_FAILED',
      cause: { message: 'the disk is gone' },
    });
  });
});
