import { writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Catalogue } from '../../../gateway/store/catalogue.ts';
import type { ImageFacts } from '../../../gateway/store/facts.ts';
import { sha256 } from '../../../shared/digest.ts';

let dir: string;
let path: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'snapgate-catalogue-'));
  path = join(dir, 'sub', 'catalogue.sqlite');
});
afterEach(() => rm(dir, { recursive: true, force: true }));

const IMAGE: ImageFacts = {
  ...{ manifest: sha256('m'), manifestSize: 1, config: sha256('c'), configSize: 2 },
  platform: 'linux/amd64',
  layers: [{ diffId: sha256('d'), digest: sha256('l'), size: 3 }],
};
const JOB = {
  ...{ id: 'a', repository: 'r', target: sha256('t'), sourceConfig: sha256('c'), format: 'f' },
  finishedAt: 5,
};

it('keeps what it was told, by repository, when opened again', () => {
  const first = Catalogue.open(path);
  first.addManifest('r', IMAGE.manifest, IMAGE.config);
  expect(first.image('r', IMAGE.manifest)).toBeUndefined();
  first.addImage('r', IMAGE);
  first.addManifest('r', IMAGE.manifest, IMAGE.config);
  first.addReferrer('r', sha256('x'), undefined);
  first.addJob(JOB);
  first.close();
  const second = Catalogue.open(path);
  expect(second.image('r', IMAGE.manifest)).toEqual(IMAGE);
  expect(second.manifestsOf('r', IMAGE.config)).toEqual([IMAGE.manifest]);
  expect(second.manifestsOf('other', IMAGE.config)).toEqual([]);
  expect(second.referrer('r', sha256('x'))).toBe('other');
  expect(second.referrer('r', sha256('y'))).toBeUndefined();
  expect(second.job('a')).toEqual(JOB);
  second.removeJob('a');
  expect(second.job('a')).toBeUndefined();
  second.removeManifest('r', IMAGE.manifest);
  expect(second.hasManifest('r', IMAGE.manifest)).toBe(false);
  second.close();
});

it('starts anew when the file is damaged', () => {
  Catalogue.open(path).close();
  writeFileSync(path, 'this is no database, whatever its name says'.repeat(100));
  const again = Catalogue.open(path);
  again.addImage('r', IMAGE);
  expect(again.image('r', IMAGE.manifest)).toEqual(IMAGE);
  again.close();
});

it('starts anew when the file has another schema', () => {
  const first = Catalogue.open(path);
  first.addImage('r', IMAGE);
  first.close();
  const db = new DatabaseSync(path);
  db.exec('PRAGMA user_version = 999');
  db.close();
  const again = Catalogue.open(path);
  expect(again.image('r', IMAGE.manifest)).toBeUndefined();
  again.close();
});
