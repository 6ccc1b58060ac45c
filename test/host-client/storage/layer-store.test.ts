import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Journal } from '../../../host-client/storage/journal.ts';
import { LayerStore, layerIds } from '../../../host-client/storage/layer-store.ts';
import { sha256 } from '../../../shared/digest.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';

const ID = 'a'.repeat(64);
const DIFF = sha256('x');

type Finish = Parameters<typeof temporaryFolder>[0];

async function storeWith(ctx: Finish, layers: string): Promise<[LayerStore, string]> {
  const root = await temporaryFolder(ctx);
  mkdirSync(join(root, 'btrfs-layers'));
  const path = join(root, 'btrfs-layers/layers.json');
  writeFileSync(path, layers);
  return [new LayerStore(root), path];
}

describe('ids of layers', () => {
  it('are those of containers/storage', () => {
    const first = sha256('one');
    const second = sha256('two');
    const [base, next] = layerIds([first, second]);
    expect(base).toBe(first.slice(7));
    expect(next).toBe(sha256(`${first.slice(7)}+${second.slice(7)}`).slice(7));
  });
});

describe('Podman’s record of layers', () => {
  it('keeps what is not known here', async (ctx) => {
    const unknown = { id: ID, 'toc-digest': 'x', future: { deep: [1, null] }, 'diff-digest': DIFF };
    const [store, path] = await storeWith(ctx, JSON.stringify([unknown]));
    using locked = await store.lock(0);
    locked.records.push({ id: 'b'.repeat(64), parent: ID });
    await locked.write();
    expect(JSON.parse(readFileSync(path, 'utf8'))).toEqual([
      unknown,
      { id: 'b'.repeat(64), parent: ID },
    ]);
  });

  it('is announced to others by a new token', async (ctx) => {
    const [store, path] = await storeWith(ctx, '[]');
    const tokens: string[] = [];
    for (let i = 0; i < 2; i += 1) {
      using locked = await store.lock(0);
      await locked.write();
      tokens.push(readFileSync(path.replace('.json', '.lock')).toString('hex'));
    }
    expect(tokens.map((token) => token.length)).toEqual([128, 128]);
    expect(tokens[0]).not.toBe(tokens[1]);
  });

  it('passes over layers that Podman has not finished', async (ctx) => {
    const layers = [
      { id: ID, 'diff-digest': DIFF, flags: { incomplete: true } },
      { id: 'b'.repeat(64), 'diff-digest': DIFF },
    ];
    const [store] = await storeWith(ctx, JSON.stringify(layers));
    expect([...(await store.read()).keys()]).toEqual(['b'.repeat(64)]);
  });

  it.each(['', '{', '{}', '[1]', '[{"id":"../x"}]', '[{"id":7}]'])(
    'is refused when it is %j',
    async (text) => {
      const finished: (() => Promise<void>)[] = [];
      const [store] = await storeWith({ onTestFinished: (done) => finished.push(done) }, text);
      await expect(store.read()).rejects.toMatchObject({ code: 'STORAGE_INVALID' });
      await expect(store.lock(0)).rejects.toMatchObject({ code: 'STORAGE_INVALID' });
      // The lock was given back.
      await expect(store.lock(0)).rejects.toMatchObject({ code: 'STORAGE_INVALID' });
      for (const done of finished) await done();
    },
  );

  it('is empty where there is none', async (ctx) => {
    expect((await new LayerStore(await temporaryFolder(ctx)).read()).size).toBe(0);
  });
});

describe('the journal', () => {
  it('remembers layers until it is emptied', async (ctx) => {
    const path = join(await temporaryFolder(ctx), 'journal.json');
    const journal = new Journal(path);
    expect(await journal.read()).toEqual([]);
    await journal.write([ID]);
    expect(await new Journal(path).read()).toEqual([ID]);
    await journal.write([]);
    expect(await journal.read()).toEqual([]);
  });

  it('names no path outside of the storage', async (ctx) => {
    const path = join(await temporaryFolder(ctx), 'journal.json');
    writeFileSync(path, JSON.stringify({ layers: ['../../etc'] }));
    await expect(new Journal(path).read()).rejects.toMatchObject({ code: 'STORAGE_INVALID' });
  });
});
