import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { collectMetadata } from '../../../gateway/tuf/collect.ts';
import { delegate } from '../../../gateway/tuf/edit.ts';
import { rotate } from '../../../gateway/tuf/rotate.ts';
import { SnapgateError } from '../../../shared/errors.ts';
import type { MetadataFiles } from '../../../shared/tuf/artifact.ts';
import { verifyFiles } from '../../../shared/tuf/verify-files.ts';
import { findStatement } from '../../../shared/tuf/view.ts';
import { storedManifest } from '../../support/tiny-image.ts';
import { newSigner, roleOf, TestTuf } from '../../support/tuf.ts';

const PATHS = ['os/image/stable', 'apps/a/stable'];
let dir: string;
let files: Map<string, Uint8Array>;
let anchor: Uint8Array;

/** What each path means by some files. */
const meanings = (served: MetadataFiles) => {
  const view = verifyFiles(anchor, served, 'test');
  return PATHS.map((path) => findStatement(view, path)?.statement);
};

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'snapgate-verify-'));
  const tuf = await TestTuf.create(join(dir, 'tuf'));
  const team = newSigner();
  const time = { now: tuf.now };
  const asked = { ...roleOf([team], 1), pattern: 'apps/*' };
  await delegate(tuf.folder, await tuf.state(), 'apps', asked, time);
  await tuf.publish([team]);
  await tuf.stateChannel('os/image/stable', storedManifest({ a: 1 }), { version: '1' });
  await tuf.stateChannel('apps/a/stable', storedManifest({ a: 2 }), {}, 'apps');
  const renewal = { add: [], remove: [], threshold: undefined };
  await rotate(tuf.folder, await tuf.state(), 'root', renewal, time);
  await tuf.publish([team]);
  const collected = await collectMetadata((name) => tuf.folder.metadata(name), 'test');
  files = new Map(collected);
  anchor = files.get('1.root.json') ?? Buffer.alloc(0);
});
afterAll(() => rm(dir, { recursive: true, force: true }));

describe('files of metadata', () => {
  it('lead from the root to what each channel means', () => {
    expect([...files.keys()].sort()).toContain('2.root.json');
    expect(meanings(files)).toMatchObject([{ version: '1' }, { path: 'apps/a/stable' }]);
  });

  it('are refused without any one of them, but for a root that nobody knows of', () => {
    for (const name of files.keys()) {
      const rest = new Map(files);
      rest.delete(name);
      const isRoot = name.endsWith('.root.json');
      if (isRoot) expect(meanings(rest)).toEqual(meanings(files));
      else
        expect(() => meanings(rest)).toThrow(expect.objectContaining({ code: 'METADATA_MISSING' }));
    }
  });

  it('never mean anything else when they are changed', () => {
    const good = meanings(files);
    const names = [...files.keys()].filter((name) => name !== '1.root.json');
    const change = fc.record({
      name: fc.constantFrom(...names),
      at: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
      bytes: fc.uint8Array({ minLength: 0, maxLength: 6 }),
      drop: fc.nat(6),
    });
    fc.assert(
      fc.property(change, ({ name, at, bytes, drop }) => {
        const before = files.get(name) ?? Buffer.alloc(0);
        const start = Math.floor(at * before.length);
        const parts = [before.subarray(0, start), bytes, before.subarray(start + drop)];
        const served = new Map(files).set(name, Buffer.concat(parts));
        try {
          expect(meanings(served)).toEqual(good);
        } catch (thrown) {
          if (!(thrown instanceof SnapgateError)) throw thrown;
          expect(thrown.exitStatus).toBeGreaterThanOrEqual(3);
        }
      }),
      { numRuns: 500 },
    );
  });
});
