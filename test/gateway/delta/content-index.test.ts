import { mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ContentIndex } from '../../../gateway/delta/content-index.ts';
import { LayoutStore } from '../../../gateway/layout/layout-store.ts';
import { digestHex, sha256 } from '../../../shared/digest.ts';
import { makeDelta } from '../../support/made-delta.ts';
import { noise } from '../../support/sample-layer-delta.ts';
import { putTinyImage } from '../../support/tiny-image.ts';

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'snapgate-index-'));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

const LAYER = sha256(Buffer.from('a layer'));
const FACTS = new Map([
  [0, { sha256: 'ab'.repeat(32), isPacked: true, sketch: new Uint32Array([1, 2, 2 ** 32 - 1]) }],
  [7, { sha256: 'cd'.repeat(32), isPacked: false, sketch: new Uint32Array() }],
]);

describe('a content index', () => {
  it('gives back what was put in', async () => {
    const index = new ContentIndex(join(dir, 'index'));
    expect(await index.get(LAYER)).toEqual(new Map());
    await index.put(LAYER, FACTS);
    expect(await index.get(LAYER)).toEqual(FACTS);
  });

  it('takes what is damaged for absent', async () => {
    const index = new ContentIndex(dir);
    await index.put(LAYER, FACTS);
    const path = join(dir, digestHex(LAYER));
    const text = await readFile(path, 'utf8');
    for (const bad of [text.replace('abab', 'abac'), text.slice(0, 100), '', 'x\n[1,[]]']) {
      await writeFile(path, bad);
      expect(await index.get(LAYER)).toEqual(new Map());
    }
  });

  it('lets go of what was used longest ago', async () => {
    const layers = ['one', 'two', 'three'].map((text) => sha256(Buffer.from(text)));
    const index = new ContentIndex(dir, 700);
    for (const [i, layer] of layers.entries()) {
      await index.put(layer, FACTS);
      await utimes(join(dir, digestHex(layer)), i, i).catch(() => {});
    }
    const kept = (await readdir(dir)).sort();
    expect(kept).not.toContain(digestHex(layers[0] as typeof LAYER));
    expect(kept).toContain(digestHex(layers[2] as typeof LAYER));
  });

  it('changes nothing about a delta, and is used for the next', async () => {
    const store = await LayoutStore.create(join(dir, 'images'));
    const indexFolder = join(dir, 'index');
    const [app, library] = [noise(50_000, 1), noise(30_000, 2)];
    const hidden = { 'gone/a': noise(9000, 3), empty: '' };
    await putTinyImage(store, [hidden, { app, library, '.wh.gone': '' }], { tag: 'v1' });
    await putTinyImage(store, [{ app: Buffer.concat([app, library]), library }], { tag: 'v2' });
    const format = { kind: 'snapgate' } as const;
    const without = await makeDelta(store, dir, { format });
    for (let run = 0; run < 2; run += 1) {
      const made = await makeDelta(store, dir, { format, indexFolder });
      expect(made.manifest.digest).toBe(without.manifest.digest);
    }
    // The upper layer of the source, of which something is left, and the target's.
    expect(await readdir(indexFolder)).toHaveLength(2);
  });
});
