import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { json } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { tufAddCommand } from '../../../gateway/cli/tuf/add.ts';
import { tufInitCommand } from '../../../gateway/cli/tuf/init.ts';
import { tufPublishCommand } from '../../../gateway/cli/tuf/publish.ts';
import { tufRotateCommand } from '../../../gateway/cli/tuf/rotate.ts';
import { tufSignCommand } from '../../../gateway/cli/tuf/sign.ts';
import { tufStatusCommand } from '../../../gateway/cli/tuf/status.ts';
import { LayoutStore } from '../../../gateway/layout/layout-store.ts';
import { TufFolder } from '../../../gateway/tuf/folder.ts';
import { type Program, runProgram } from '../../../shared/cli/command.ts';
import { listMetadata, TUF_TAG } from '../../../shared/tuf/artifact.ts';
import { snapgate } from '../../support/run-program.ts';
import { putTinyImage, putTinyIndex, type TinyImage } from '../../support/tiny-image.ts';
import { keyFiles, TufClient } from '../../support/tuf.ts';

const PATH = 'os/server/stable';
let dir: string;
let home: string;
let image: TinyImage;
let keys: Record<
  'root1' | 'root2' | 'targets' | 'online' | 'next',
  Awaited<ReturnType<typeof keyFiles>>
>;

const program: Program = {
  ...{ name: 'snapgate', version: '0', summary: '' },
  commands: [
    ...[tufInitCommand, tufAddCommand, tufSignCommand, tufRotateCommand],
    ...[tufPublishCommand, tufStatusCommand],
  ],
};

/** Runs `snapgate tuf ...` inside of this process, and gives what it prints as JSON. */
// biome-ignore lint/suspicious/noExplicitAny: tests look into whatever a command prints.
async function tuf(command: string, place: string, ...args: string[]): Promise<any> {
  const out = new PassThrough();
  const argv = ['tuf', command, place, ...args, '--json'];
  await runProgram(program, argv, { out, err: out }, new AbortController().signal);
  return json(out.end());
}
const signWith = (place: string, { place: { key, passwordFile } }: (typeof keys)['root1']) =>
  tuf('sign', place, '--key', key, '--password-file', passwordFile);
const publish = (...more: string[]) => {
  const { key, passwordFile } = keys.online.place;
  const online = ['snapshot', 'timestamp'].flatMap((role) => [
    ...[`--${role}-key`, key, `--${role}-password-file`, passwordFile],
  ]);
  return tuf('publish', home, ...online, ...more);
};

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'snapgate-tuf-'));
  home = join(dir, 'tuf');
  const made = await Promise.all(
    ['root1', 'root2', 'targets', 'online', 'next'].map(
      async (name) => [name, await keyFiles(dir, name)] as const,
    ),
  );
  keys = Object.fromEntries(made) as typeof keys;
  const layout = await LayoutStore.create(join(dir, 'layout'));
  image = await putTinyImage(layout, [{ 'etc/os': '1' }], { tag: 'v1' });
  for (const tag of ['all', 'stable']) await putTinyIndex(layout, { amd64: image }, tag);
});
afterAll(() => rm(dir, { recursive: true, force: true }));

describe('snapgate tuf', () => {
  it('makes a repository and says who must sign', async () => {
    const { root1, root2, targets, online } = keys;
    const report = await tuf(
      'init',
      home,
      ...[
        ...['--root-key', root1.publicFile, '--root-key', root2.publicFile],
        ...['--targets-key', targets.publicFile],
        ...['--snapshot-key', online.publicFile, '--timestamp-key', online.publicFile],
      ],
    );
    expect(report.staged).toMatchObject([
      { role: 'root', version: 1, complete: false, demands: [{ threshold: 2, signed: [] }] },
      { role: 'targets', version: 1, complete: false },
    ]);
    expect(report.next.join('\n')).toMatch(/root 1 has too few signatures: 0 of 2 by root 1/);
    expect(await tuf('init', home)).toMatchObject({ error: { code: 'USAGE' } });
  });

  it('takes signatures that were made on another machine', async () => {
    const other = join(dir, 'other');
    await signWith(home, keys.root1);
    expect(await publish()).toMatchObject({
      error: { code: 'METADATA_UNSIGNED', message: 'root 1: 1 of 2 signatures' },
    });
    await cp(home, other, { recursive: true });
    await signWith(other, keys.root2);
    await cp(join(other, 'staged'), join(home, 'staged'), { recursive: true });
    const { next } = await signWith(home, keys.targets);
    expect(next).toEqual([`Publish it: snapgate tuf publish ${home}`]);
    const { roles } = await publish();
    expect(
      roles.map(({ role, version }: { role: string; version: number }) => [role, version]),
    ).toEqual([
      ['root', 1],
      ['targets', 1],
      ['snapshot', 1],
      ['timestamp', 1],
    ]);
  });

  it('states what a tag means, and what images that is', async () => {
    const stated = await tuf(
      'add',
      home,
      `oci:${dir}/layout:all`,
      ...[...['--as', 'os/server:stable', '--version', '2026.1']],
    );
    expect(stated.next.join('\n')).toMatch(/targets 2 has too few/);
    await signWith(home, keys.targets);
    const { channels } = await publish();
    expect(channels).toMatchObject([{ path: PATH, role: 'targets', version: '2026.1' }]);
    const client = await clientOf('client');
    expect((await client.find(PATH)).statement).toMatchObject({
      images: [{ platform: 'linux/amd64', config: image.config }],
    });
  });

  it('gives a role another key by a new root', async () => {
    const status = await tuf('status', home);
    const old = status.roles.find(({ role }: { role: string }) => role === 'targets').keyIDs[0];
    const { publicFile } = keys.next;
    await tuf(
      'rotate',
      home,
      ...[...['--role', 'targets', '--add-key', publicFile, '--remove-key', old.slice(0, 10)]],
    );
    await signWith(home, keys.root1);
    await signWith(home, keys.root2);
    expect(await signWith(home, keys.targets)).toMatchObject({ error: { code: 'KEY_INVALID' } });
    await signWith(home, keys.next);
    expect((await publish()).done).toContain('published root 2');
    expect(await (await clientOf('client')).find(PATH)).toMatchObject({ version: 3 });
  });

  it('is explained by policy test', async () => {
    const policy = join(dir, 'policy.json');
    const root = JSON.parse(await readFile(join(home, 'metadata/1.root.json'), 'utf8'));
    const pem = await readFile(keys.root1.publicFile, 'utf8');
    const rule = { repository: 'a.test/*', images: { signers: ['a'] }, channel: { root: 'os' } };
    await writeFile(
      policy,
      JSON.stringify({
        version: 1,
        keys: { a: { pem } },
        channelRoots: { os: root },
        rules: [rule],
      }),
    );
    const explain = async (repository: string, ...more: string[]) => {
      const named = ['--policy', policy, '--repository', repository, '--tuf', home];
      return (await snapgate(['policy', 'test', `oci:${dir}/layout:stable`, ...named, ...more]))
        .stdout;
    };
    expect(await explain('a.test/os/server')).toMatch(
      /channel os\/server\/stable\n {2}trust begins with root os\n {2}means sha256:.*, version 2026\.1\n {2}stated by targets, statement 3\n {2}confirmed at .*Z\n {2}accepted\n/,
    );
    expect(JSON.parse(await explain('a.test/os/other', '--json'))).toMatchObject({
      ...{ accepted: false, channel: { digest: null, refusal: { code: 'CHANNEL_UNKNOWN' } } },
    });
  });

  it('writes the metadata as one artifact', async () => {
    await publish('--to', `oci:${dir}/pushed`);
    const store = await LayoutStore.open(join(dir, 'pushed'));
    expect([...(await listMetadata(store, TUF_TAG)).keys()].sort()).toEqual([
      ...['1.root.json', '2.root.json', '3.snapshot.json', '3.targets.json', 'timestamp.json'],
    ]);
  });

  it('says it to people', async () => {
    const { stdout } = await snapgate(['tuf', 'status', home]);
    expect(stdout).toMatch(/root +2 +\d{4}-/);
    expect(stdout).toMatch(/os\/server\/stable +targets +2026\.1 +sha256:/);
    expect(stdout).toMatch(/Next:\n {2}Machines need .*1\.root\.json in channelRoots/);
  });

  it('refuses what makes no sense', async () => {
    const cases = [
      [tuf('status', join(dir, 'nothing')), 'METADATA_MISSING'],
      [tuf('add', home, `oci:${dir}/layout:v1`), 'USAGE'],
      [tuf('add', home, `oci:${dir}/layout:v1`, '--as', 'os:a', '--role', 'team'), 'USAGE'],
      [tuf('add', home, '--as', 'os/server:none', '--remove'), 'CHANNEL_UNKNOWN'],
      [tuf('rotate', home, '--role', 'root', '--threshold', '3'), 'USAGE'],
      [tuf('rotate', home, '--role', 'root', '--remove-key', '00000000'), 'USAGE'],
      [tuf('sign', home), 'USAGE'],
      [tuf('publish', home), 'NOTHING_TO_DO'],
    ] as const;
    for (const [run, code] of cases) expect(await run).toMatchObject({ error: { code } });
    const spoilt = join(home, 'staged/root.json');
    await writeFile(spoilt, '{"signed":{},"signed":{}}');
    expect(await tuf('status', home)).toMatchObject({ error: { code: 'METADATA_INVALID' } });
    await rm(spoilt);
  });
});

async function clientOf(name: string) {
  const folder = await TufFolder.open(home);
  const anchor = await readFile(join(home, 'metadata/1.root.json'));
  return TufClient.over(folder, join(dir, name), anchor);
}
