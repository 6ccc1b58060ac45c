import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ContentIndex } from '../../../gateway/delta/content-index.ts';
import { KeptRecipes, type KnownRecipe } from '../../../gateway/delta/kept-recipes.ts';
import { openPacked } from '../../../gateway/delta/open-packed.ts';
import { ScratchFile } from '../../../gateway/delta/scratch-file.ts';
import { sha256 } from '../../../shared/digest.ts';
import { createEncoders, type Encoders } from '../../../shared/recompress/encoders.ts';
import { gnuGzipEncoder } from '../../../shared/recompress/gzip/encoder.ts';
import { bytesSource } from '../../../shared/recompress/part.ts';
import { contentIn } from '../../support/bytes.ts';
import { noise } from '../../support/sample-layer-delta.ts';
import { collectBytes } from '../../support/tiny-image.ts';

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'snapgate-recipes-'));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

const LAYER = sha256(Buffer.from('a layer'));
const MEMORY = 64 * 1024 ** 2;
const content = noise(200_000, 1);
const RECIPE = { encoder: 'gnu-gzip', settings: { level: 9 }, frame: gzipHeader() };

function gzipHeader(): Uint8Array {
  return Buffer.from('1f8b0800000000000203', 'hex');
}

/** Opens what GNU gzip made of the content, and says how often the encoder ran. */
async function opened(known: readonly KnownRecipe[], maxMemoryBytes = MEMORY) {
  const packed = await collectBytes(gnuGzipEncoder.pack(RECIPE, contentIn(content)));
  let runs = 0;
  const counted = {
    ...gnuGzipEncoder,
    pack(...args: Parameters<typeof gnuGzipEncoder.pack>) {
      runs += 1;
      return gnuGzipEncoder.pack(...args);
    },
  };
  const encoders: Encoders = new Map([...createEncoders(), ['gnu-gzip', counted]]);
  const scratch = new ScratchFile(join(dir, `scratch-${runs}-${known.length}`));
  const proving = { encoders, maxMemoryBytes, known };
  const parts = await openPacked(bytesSource(packed), { scratch, proving, maxBytes: 2 ** 24 });
  return { parts: parts ?? [], runs };
}

describe('kept recipes', () => {
  it('spare proving the file that they were proved for, now and later', async () => {
    const index = new ContentIndex(dir);
    const first = await KeptRecipes.of(index, LAYER);
    const proved = await opened(first.get('a'));
    expect(proved).toMatchObject({ parts: [{ kind: 'packed' }], runs: 1 });
    first.add('a', proved.parts);
    await first.save();
    const later = await KeptRecipes.of(index, LAYER);
    expect(later.get('a')).toEqual(first.get('a'));
    const again = await opened(later.get('a'));
    expect(again).toMatchObject({ parts: [{ kind: 'packed' }], runs: 0 });
    expect(later.get('b')).toEqual([]);
  });

  it('are proved anew for another content, another place, and less memory', async () => {
    const kept = await KeptRecipes.of(undefined, LAYER);
    kept.add('a', (await opened([])).parts);
    const [recipe] = kept.get('a') as [KnownRecipe];
    expect((await opened([{ ...recipe, sha256: 'ab'.repeat(32) }])).runs).toBe(1);
    expect((await opened([{ ...recipe, offset: 1 }])).runs).toBe(1);
    const dear = { ...recipe, memoryBytes: MEMORY + 1 };
    expect((await opened([dear])).runs).toBe(1);
    const absent = { ...recipe, text: 'zstd-0.0.1 level=3 workers=0' };
    expect((await opened([absent])).runs).toBe(1);
  });

  it('count as absent when something else was kept under the name', async () => {
    const index = new ContentIndex(dir);
    const kept = await KeptRecipes.of(index, LAYER);
    kept.add('a', (await opened([])).parts);
    await kept.save();
    expect(await index.getNotes(LAYER, 'of another kind')).toBeUndefined();
    await index.putNotes(LAYER, 'of another kind', []);
    expect((await KeptRecipes.of(index, LAYER)).get('a')).toEqual([]);
  });
});
